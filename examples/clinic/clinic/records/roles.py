"""The roles of the clinic, each a Django group, made by a migration."""

from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["ROLES"]

ROLES: Final[Mapping[str, Sequence[str]]] = {
    "reception": (
        "view_patient",
        "add_patient",
        "change_patient",
        "add_appointment",
        "change_appointment",
        "view_appointment",
    ),
    "nurse": ("view_patient", "view_note", "add_note", "view_observation", "add_appointment", "view_appointment"),
    "physician": (
        "view_patient",
        "view_note",
        "add_note",
        "view_observation",
        "add_prescription",
        "view_prescription",
        "view_appointment",
    ),
    "laboratory": ("add_patient", "add_observation"),
    # Looks at who has looked, and at no record.
    "privacy officer": ("view_brokenglass", "review_brokenglass", "view_careteam"),
}
"""What each may do, as codenames of permissions of the app `records`."""
