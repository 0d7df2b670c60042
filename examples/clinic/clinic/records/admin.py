"""The clinic in Django's admin, as the roles' permissions allow.

Notes, prescriptions and observations are not here: a record is opened through the API, which asks whose patient it is
and writes it down. The admin would show all of them to everybody with the permission.
"""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from clinic.records.access import tell
from clinic.records.models import Appointment, BrokenGlass, CareTeam, Patient

__all__ = ["PatientAdmin", "ReadOnly"]


@admin.register(Patient)
class PatientAdmin(admin.ModelAdmin):
    """Patients, as reception keeps them."""

    list_display = ("number", "family_name", "given_names", "birth_date")
    search_fields = ("number", "family_name")

    def has_delete_permission(self, request: HttpRequest, obj: Patient | None = None) -> bool:
        """Nobody: records are kept as long as the law says."""
        return False

    def save_model(self, request: HttpRequest, obj: Patient, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        """Save, and write down who did, and which fields; not what they say."""
        super().save_model(request, obj, form, change)
        tell(
            "patient.changed" if change else "patient.registered",
            request.user,
            obj.number,
            {"fields": sorted(form.changed_data)},
        )


@admin.register(Appointment)
class AppointmentAdmin(admin.ModelAdmin):
    """Appointments."""

    list_display = ("starts", "practitioner", "patient", "status")
    list_filter = ("status", "practitioner")


@admin.register(CareTeam)
class CareTeamAdmin(admin.ModelAdmin):
    """Who treats whom."""

    list_display = ("patient", "member")


class ReadOnly(admin.ModelAdmin):
    """What is only looked at here."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


@admin.register(BrokenGlass)
class BrokenGlassAdmin(ReadOnly):
    """Emergency accesses."""

    list_display = ("opened_at", "member", "patient", "reviewed_by")
