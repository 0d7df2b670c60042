"""What the clinic knows of people, and what becomes of it when one of them asks.

Records of treatment are kept by law, for ten years in Germany (section 630f of the civil code), so an erasure takes the
appointments, and the patient's key, without which nobody can read the telephone number. Its receipt says what stays
and why.
"""

import os
from typing import Final

from clinic.records.models import Appointment, BrokenGlass, Note, Observation, Patient, Prescription
from workhorse.privacy import Delete, Keep, LocalKeys, Place, Privacy, SubjectKeys

__all__ = ["PRIVACY"]

TREATMENT: Final = Keep("records of treatment are kept for ten years (section 630f BGB)")

# On a developer's machine only: production refuses keys that the process itself holds (docs/privacy.md).
KEYS: Final = SubjectKeys(LocalKeys([bytes.fromhex(os.environ.get("CLINIC_WRAPPING_KEY", "00" * 32))]))


def _of_patient(model: type, erase: Delete | Keep) -> Place:
    table: str = model._meta.db_table  # type: ignore[attr-defined] # noqa: SLF001 - Django's own name for it
    return Place(table, person="patient", column="patient_id", erase=erase)


PRIVACY: Final = Privacy(
    KEYS,
    models=[Patient, Note, Prescription, Observation, Appointment, BrokenGlass],
    places=[
        Place.of(Patient, erase=TREATMENT, journal="{number}"),
        _of_patient(Appointment, Delete()),
        *(_of_patient(model, TREATMENT) for model in (Note, Prescription, Observation, BrokenGlass)),
    ],
)
