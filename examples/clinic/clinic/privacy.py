"""What the clinic knows of people, and what becomes of it when one of them asks.

Records of treatment are kept by law, for ten years in Germany (section 630f of the civil code), so an erasure takes the
telephone number and the appointments, and its receipt says what stays and why.
"""

from typing import Final

from clinic.records.models import Appointment, BrokenGlass, Note, Observation, Patient, Prescription
from workhorse.privacy import Blank, Delete, Keep, Place, Privacy

__all__ = ["PRIVACY"]

TREATMENT: Final = Keep("records of treatment are kept for ten years (section 630f BGB)")


def _of_patient(model: type, erase: Delete | Keep) -> Place:
    table: str = model._meta.db_table  # type: ignore[attr-defined] # noqa: SLF001 - Django's own name for it
    return Place(table, person="patient", column="patient_id", erase=erase)


PRIVACY: Final = Privacy(
    models=[Patient, Note, Prescription, Observation, Appointment, BrokenGlass],
    places=[
        Place("records_patient", person="patient", column="id", erase=Blank({"phone": ""}), journal="{number}"),
        _of_patient(Appointment, Delete()),
        *(_of_patient(model, TREATMENT) for model in (Note, Prescription, Observation, BrokenGlass)),
    ],
)
