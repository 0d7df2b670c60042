"""The data map as a page: all that the declaration says, and what it does not know."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import msgspec

from workhorse.journal.kinds import EventType
from workhorse.privacy import (
    HEALTH,
    INTERNAL,
    PERSONAL,
    Blank,
    Delete,
    Keep,
    LocalKeys,
    Place,
    Privacy,
    Retention,
    SubjectKeys,
    map_page,
)


@dataclass
class Patient:
    number: Annotated[str, INTERNAL]
    phone: Annotated[str, PERSONAL]
    remark: str


class Seen(msgspec.Struct):
    name: Annotated[str, HEALTH]
    ward: str


PRIVACY = Privacy(
    SubjectKeys(LocalKeys([bytes(32)])),
    models=[Patient],
    places=[
        Place("patients", person="patient", column="number", erase=Delete(), sealed=["phone"]),
        Place("visits", person="patient", column="who", erase=Blank({"note": ""})),
        Place("bills", person="patient", column="who", erase=Keep("§ 147 AO <ten years>")),
    ],
    may={"records:read": {HEALTH, PERSONAL}, "desk:read": {PERSONAL}},
    retention=[
        Retention("visits", by="at", older_than=timedelta(days=90), erase=Delete(), because="no bill is open"),
    ],
)


def test_all_that_is_declared_is_on_it() -> None:
    page = map_page(PRIVACY, title="ward:service", events=[EventType("patient.seen", Seen, person="patient/{subject}")])
    told = page.decode()
    for row in (
        ("Patient.phone</td>", "personal"),
        ("Patient.remark</td>",),
        ("desk:read", "personal"),
        ("records:read", "personal, health"),
        ("patients", "patient, by number", "phone", "deleted"),
        ("visits", "patient, by who", "", "emptied: note"),
        ("bills", "patient, by who", "", "kept: § 147 AO &lt;ten years&gt;"),
        ("patient.seen", "patient/{subject}", "name"),
        ("visits", "90 days by at", "deleted", "no bill is open"),
    ):
        assert "</td><td>".join(row).replace("</td></td>", "</td>") in told, row
    assert "wrapped by LocalKeys" in told
    assert "legal grounds" in told
    assert "Patient.number" not in told, "it is of no person"


def test_nothing_is_loaded_and_nothing_runs() -> None:
    told = map_page(Privacy(), title="<script>alert(1)</script>").decode()
    assert "<script" not in told
    assert "src=" not in told
    assert "http" not in told
    assert "Nothing is sealed" in told
