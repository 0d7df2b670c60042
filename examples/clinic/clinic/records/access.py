"""Who may see a record, and the record of who did.

A role (a Django group) says what somebody may do with records at all: a receptionist books, a nurse reads and writes
notes, a physician prescribes. Whose record it may be is another question: those of the patients whom one treats (HIPAA
calls it minimum necessary, 45 CFR 164.502(b)). In an emergency anybody with the role may break the glass: access for an
hour, for a reason that is written down, which somebody else reviews (45 CFR 164.312(a)(2)(ii), emergency access).

Every look at a record is an event of the same transaction as the look, so a reply that was sent was written down.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, NoReturn

from django.contrib.auth.models import AbstractUser
from django.utils import timezone
from rest_framework.exceptions import NotFound, PermissionDenied

from clinic.records.models import BrokenGlass, Patient
from workhorse import sync_unit

__all__ = ["GLASS_TIME", "Ground", "break_glass", "decide", "open_record", "refuse", "tell"]

GLASS_TIME: Final = timedelta(hours=1)


class Ground(Enum):
    """Why somebody may see a record."""

    TEAM = "team"
    BROKEN_GLASS = "broken glass"


def decide(*, in_team: bool, glass_until: datetime | None, now: datetime) -> Ground | None:
    """Why the record may be seen now; None: it may not."""
    if in_team:
        return Ground.TEAM
    if glass_until is not None and now < glass_until:
        return Ground.BROKEN_GLASS
    return None


def open_record(user: AbstractUser, number: str, permission: str) -> Patient:
    """Return the patient whose record `user` may use as `permission` says, and write down that it was opened.

    Raises:
        PermissionDenied: the role or the patient is not theirs; that is written down, too.
        NotFound: there is no such patient, which only those learn whose role may look for patients.
    """
    if not user.has_perm(permission):
        refuse(user, number, f"has no {permission}")
    patient = Patient.objects.filter(number=number).first()
    if patient is None:
        raise NotFound
    glass = BrokenGlass.objects.filter(patient=patient, member=user).order_by("-until").first()
    ground = decide(
        in_team=patient.team.filter(member=user).exists(),
        glass_until=glass.until if glass is not None else None,
        now=timezone.now(),
    )
    if ground is None:
        refuse(user, number, "is not of the care team")
    tell("record.opened", user, number, {"for": permission, "ground": ground.value})
    return patient


def break_glass(user: AbstractUser, number: str, reason: str) -> BrokenGlass:
    """Give `user` the record for an hour.

    Raises:
        PermissionDenied: the role does not work with records at all.
        NotFound: there is no such patient.
    """
    if not user.has_perm("records.view_note"):
        refuse(user, number, "has no records.view_note")
    patient = Patient.objects.filter(number=number).first()
    if patient is None:
        raise NotFound
    glass = BrokenGlass.objects.create(patient=patient, member=user, reason=reason, until=timezone.now() + GLASS_TIME)
    tell("glass.broken", user, number, {"glass": glass.pk, "until": glass.until.isoformat()})
    return glass


def refuse(user: AbstractUser, number: str, why: str) -> NoReturn:
    """Refuse, and have the refusal written down although the request failed.

    Raises:
        PermissionDenied: always.
    """
    tell("record.refused", user, number, {"why": why})
    sync_unit().keep()
    raise PermissionDenied("This record is not yours to see. In an emergency, break the glass.")


def tell(kind: str, user: AbstractUser, number: str, data: Mapping[str, Any]) -> None:
    """Write an event of this request: who (by their number, not their name) did what with whose record.

    Where it is nobody's record in particular, the event is about whoever did it.
    """
    sync_unit().emit(kind, subject=number or f"user/{user.pk}", data={"by": user.pk, **data})
