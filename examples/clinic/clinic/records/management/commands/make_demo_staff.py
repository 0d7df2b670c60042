"""`manage.py make_demo_staff`: people with roles, and the patients whom they treat. A real clinic makes its own."""

import os
from typing import Any, Final

from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand, CommandError

from clinic.records.models import CareTeam, Patient

__all__ = ["PATIENTS", "PEOPLE", "TEAMS", "Command"]

PEOPLE: Final = {
    "rosa": "reception",
    "noor": "nurse",
    "pia": "physician",
    "paul": "physician",
    "lab": "laboratory",
    "olga": "privacy officer",
}
PATIENTS: Final = {"MR-1001": ("Amari", "Lena"), "MR-1002": ("Berg", "Tom"), "MR-1003": ("Cruz", "Ana")}
TEAMS: Final = {"pia": ("MR-1001", "MR-1002"), "noor": ("MR-1001",)}
"""Whom somebody treats. Paul treats nobody of them."""


class Command(BaseCommand):
    """Whoever is there already is left as they are."""

    help = "Make people with roles, and patients. CLINIC_PASSWORD is everybody's password."

    def handle(self, *_: Any, **__: Any) -> None:
        """Make them.

        Raises:
            CommandError: there is no password for them.
        """
        password = os.environ.get("CLINIC_PASSWORD", "")
        if len(password) < 12:
            raise CommandError("set CLINIC_PASSWORD to twelve characters or more: everybody's password")
        for name, role in PEOPLE.items():
            user, made = User.objects.get_or_create(username=name, defaults={"is_staff": True})
            if made:
                user.set_password(password)
                user.save()
            user.groups.set([Group.objects.get(name=role)])
        for number, (family, given) in PATIENTS.items():
            Patient.objects.get_or_create(number=number, defaults={"family_name": family, "given_names": given})
        for name, numbers in TEAMS.items():
            for number in numbers:
                CareTeam.objects.get_or_create(
                    patient=Patient.objects.get(number=number), member=User.objects.get(username=name)
                )
