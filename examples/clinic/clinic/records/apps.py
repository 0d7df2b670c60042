"""The app that stands in INSTALLED_APPS."""

from django.apps import AppConfig

__all__ = ["RecordsConfig"]


class RecordsConfig(AppConfig):
    """Patients' records."""

    name = "clinic.records"
    label = "records"
    verbose_name = "Records"
    default = True
