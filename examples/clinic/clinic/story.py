"""What happens at the clinic on a day, and what must have come of it: each line is a claim that is checked."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import psycopg
from icalendar import Calendar

from clinic.people import Person

__all__ = ["Clinic", "Line", "play"]

JOBS_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Clinic:
    """Where it is, and how one gets in."""

    host: str
    port: int
    password: str
    database_url: str


class Line(NamedTuple):
    """A claim."""

    told: str
    held: bool


def play(clinic: Clinic) -> Iterator[Line]:
    """The story."""
    with ExitStack() as stack:

        def enter(name: str) -> Person:
            person = stack.enter_context(Person(clinic.host, clinic.port))
            person.log_in(name, clinic.password)
            return person

        stranger = stack.enter_context(Person(clinic.host, clinic.port))
        yield Line("a stranger is shown nothing", stranger.get("/api/patients/MR-1001/").status == 403)
        yield from _reception(enter("rosa"), clinic)
        yield from _laboratory(enter("lab"))
        yield from _treatment(enter("pia"), enter("noor"))
        yield from _emergency(enter("paul"), enter("olga"))
        yield from _records(clinic)


def _reception(rosa: Person, clinic: Clinic) -> Iterator[Line]:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
    booking = {"patient": "MR-1001", "practitioner": "pia", "starts": tomorrow.isoformat(), "minutes": 30}
    key = secrets.token_hex(8)
    first, again = (rosa.post("/api/appointments/", booking, key=key) for _ in range(2))
    yield Line(
        "reception books, loses the reply, sends it again: one appointment",
        first.status == 201 and again.body == first.body and _count(clinic, "records_appointment") == 1,
    )
    yield Line("the same half hour cannot be given twice", rosa.post("/api/appointments/", booking).status == 409)
    yield Line("reception finds a patient by name", len(rosa.get("/api/patients/?name=Am").json()) == 1)
    yield Line("reception opens no record", rosa.get("/api/patients/MR-1001/").status == 403)


def _laboratory(lab: Person) -> Iterator[Line]:
    kind = "application/fhir+json"
    sent = lab.post("/fhir/", _bundle(), kind=kind)
    yield Line(
        "the laboratory sends a FHIR bundle of measurements", (sent.status, sent.json().get("observations")) == (201, 2)
    )
    broken = _bundle()
    broken["entry"][1]["resource"]["subject"]["reference"] = "urn:uuid:nobody"
    refused = lab.post("/fhir/", broken, kind=kind)
    yield Line(
        "a bundle with a measurement of nobody is refused whole, with the entry named",
        refused.status == 422 and "Bundle.entry[1]" in str(refused.json()),
    )


def _treatment(pia: Person, noor: Person) -> Iterator[Line]:
    record = pia.get("/api/patients/MR-1001/")
    exact = [one["value"] for one in record.json().get("observations", [])] == ["5.400000", "0.100000"]
    yield Line("the physician sees the measurements, exact to the last digit", record.status == 200 and exact)
    order = {"medicine": "Amoxicillin 500 mg", "dose": "three times a day, seven days"}
    yield Line("she prescribes", pia.post("/api/patients/MR-1001/prescriptions/", order).status == 201)
    yield Line("a nurse does not", noor.post("/api/patients/MR-1001/prescriptions/", order).status == 403)
    note = noor.post("/api/patients/MR-1001/notes/", {"text": "Took the first dose, no reaction."})
    yield Line("she writes a note", note.status == 201)
    calendar: Any = Calendar.from_ical(pia.get("/api/appointments.ics").body)
    summaries = [str(event["summary"]) for event in calendar.walk("VEVENT")]
    yield Line("the physician's calendar names no patient", summaries == ["Patient MR-1001"])
    exported = pia.get("/fhir/Patient/MR-1001/$everything")
    yield Line("a record goes out as a FHIR bundle", exported.status == 200 and exported.json()["total"] == 3)


def _emergency(paul: Person, olga: Person) -> Iterator[Line]:
    path = "/api/patients/MR-1001/"
    yield Line("a physician of another ward sees nothing", paul.get(path).status == 403)
    broken = paul.post(f"{path}break-glass/", {"reason": "Found unconscious in the hall, team not reachable."})
    yield Line("in an emergency he breaks the glass, and does", broken.status == 201 and paul.get(path).status == 200)
    glass = broken.json().get("glass")
    own = paul.post(f"/api/break-glass/{glass}/review/", {"reason": "Everything was in order."})
    yield Line("he cannot approve that himself", own.status == 403)
    waiting = [one["glass"] for one in olga.get("/api/break-glass/").json()]
    reviewed = olga.post(f"/api/break-glass/{glass}/review/", {"reason": "Called the ward; the emergency was real."})
    yield Line("the privacy officer finds it waiting, and reviews it", waiting == [glass] and reviewed.status == 204)


def _records(clinic: Clinic) -> Iterator[Line]:
    told = _events(clinic)
    opened = [data["ground"] for kind, data in told if kind == "record.opened"]
    yield Line(
        "every look at the record was written down, with its ground",
        opened.count("broken glass") == 1 and "team" in opened,
    )
    yield Line("so was everybody who was refused", sum(kind == "record.refused" for kind, _ in told) == 4)
    yield Line("no event says a name, a reason or a note", not _mentions(clinic, "Amari", "unconscious", "no reaction"))
    jobs = {"review.asked", "appointment.confirmed"}
    yield Line(
        "the jobs have run: a confirmation, and a request for a review",
        _until(lambda: jobs <= {k for k, _ in _events(clinic)}),
    )


def _bundle() -> dict[str, Any]:
    """A bundle as a laboratory sends it."""

    def measured(identifier: str, code: str, name: str, value: float, unit: str) -> dict[str, Any]:
        return {
            "fullUrl": f"urn:uuid:{identifier}",
            "resource": {
                "resourceType": "Observation",
                "identifier": [{"system": "urn:example:laboratory", "value": identifier}],
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": name}]},
                "subject": {"reference": "urn:uuid:lena"},
                "effectiveDateTime": f"2026-03-02T08:{identifier[-2:]}:00Z",
                "valueQuantity": {"value": value, "unit": unit},
            },
        }

    patient = {
        "resourceType": "Patient",
        "identifier": [{"type": {"coding": [{"code": "MR"}]}, "value": "MR-1001"}],
        "name": [{"use": "official", "family": "Amari", "given": ["Lena"]}],
        "gender": "female",
        "birthDate": "1988-02-29",
    }
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"fullUrl": "urn:uuid:lena", "resource": patient},
            measured("glucose-10", "15074-8", "Glucose [Moles/volume] in Blood", 5.4, "mmol/L"),
            measured("crp-11", "1988-5", "C reactive protein", 0.1, "mg/L"),
        ],
    }


def _events(clinic: Clinic) -> list[tuple[str, Any]]:
    with psycopg.connect(clinic.database_url) as connection:
        return connection.execute("SELECT type, data FROM workhorse.events ORDER BY id").fetchall()


def _count(clinic: Clinic, table: str) -> int:
    with psycopg.connect(clinic.database_url) as connection:
        row = connection.execute(
            psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(table))
        ).fetchone()
    return int(row[0]) if row else 0


def _mentions(clinic: Clinic, *words: str) -> bool:
    everything = json.dumps(_events(clinic), default=str)
    return any(word in everything for word in words)


def _until(true: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + JOBS_SECONDS
    while not (done := true()) and time.monotonic() < give_up:
        time.sleep(0.1)
    return done
