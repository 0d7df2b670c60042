"""What happens after a request, and commits with it."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db.models import Q

from clinic.records.models import Appointment, BrokenGlass
from workhorse import job, sync_unit
from workhorse.integrations.django import with_orm

__all__ = ["ask_for_review", "confirm_appointment"]


@job
@with_orm
def ask_for_review(glass: int) -> None:
    """Tell those who review emergency accesses that there is one."""
    broken = BrokenGlass.objects.select_related("patient").get(pk=glass)
    review = Permission.objects.get(codename="review_brokenglass")
    reviewers = get_user_model().objects.filter(
        Q(groups__permissions=review) | Q(user_permissions=review), is_active=True
    )
    asked = sorted(set(reviewers.exclude(pk=broken.member_id).values_list("pk", flat=True)))
    sync_unit().emit("review.asked", subject=broken.patient.number, data={"glass": glass, "asked": asked})


@job
@with_orm
def confirm_appointment(appointment: int) -> None:
    """Confirm an appointment to the patient, if it still stands: here, by an event that a relay sends on."""
    booked = Appointment.objects.select_related("patient").get(pk=appointment)
    if booked.status == Appointment.Status.BOOKED:
        sync_unit().emit("appointment.confirmed", subject=booked.patient.number, data={"appointment": appointment})
