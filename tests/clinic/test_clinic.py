"""The clinic as its people use it: over HTTP, through the admin's login, on a real database."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg
import pytest

from clinic.demo import environment_of
from clinic.people import Person
from clinic.story import Clinic, play

pytestmark = pytest.mark.slow

# One process serves them all: the story first, as it counts.


def enter(stack: ExitStack, clinic: Clinic, name: str) -> Person:
    person = stack.enter_context(Person(clinic.host, clinic.port))
    person.log_in(name, clinic.password)
    return person


def events(clinic: Clinic, kind: str) -> int:
    with psycopg.connect(clinic.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM workhorse.events WHERE type = %s", (kind,)).fetchone()
    assert row is not None
    return int(row[0])


def test_the_clinic_s_day_goes_as_told_and_what_comes_after_it(clinic: Clinic) -> None:
    told = list(play(clinic))
    assert len(told) == 21
    assert [line.told for line in told if not line.held] == []
    with ExitStack() as stack:
        of_bookings_at_once_one_gets_the_time(stack, clinic)
        a_form_without_its_token_is_refused(stack, clinic)
        the_admin_lets_in_by_permission_and_tells_what_was_changed(stack, clinic)
        a_bundle_that_is_not_one_says_where_it_is_wrong(stack, clinic)
    a_patient_who_asks_is_told_all_and_erased_as_far_as_the_law_lets(clinic)


def of_bookings_at_once_one_gets_the_time(stack: ExitStack, clinic: Clinic) -> None:
    starts = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    wish = {"patient": "MR-1002", "practitioner": "paul", "starts": starts, "minutes": 60}
    people = [enter(stack, clinic, "rosa") for _ in range(6)]
    with ThreadPoolExecutor(len(people)) as pool:
        replies = list(pool.map(lambda person: person.post("/api/appointments/", wish).status, people))
    assert sorted(replies) == [201, 409, 409, 409, 409, 409]


def a_form_without_its_token_is_refused(stack: ExitStack, clinic: Clinic) -> None:
    before = events(clinic, "note.written")
    noor = enter(stack, clinic, "noor")
    evil = {"content-type": "application/json", "x-csrftoken": "of somebody else"}
    assert noor.ask("POST", "/api/patients/MR-1001/notes/", b'{"text":"forged"}', evil).status == 403
    cross = {"content-type": "application/json", "origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert noor.ask("POST", "/api/patients/MR-1001/notes/", b'{"text":"forged"}', cross).status == 403
    assert events(clinic, "note.written") == before


def the_admin_lets_in_by_permission_and_tells_what_was_changed(stack: ExitStack, clinic: Clinic) -> None:
    rosa, olga = enter(stack, clinic, "rosa"), enter(stack, clinic, "olga")
    page = rosa.get("/admin/records/patient/")
    assert page.status == 200
    assert b"MR-1003" in page.body
    assert (
        page.headers["content-security-policy"].startswith("default-src 'none'")
        or "nonce" in page.headers["content-security-policy"]
    )
    assert olga.get("/admin/records/patient/").status == 403
    assert olga.get("/admin/records/brokenglass/").status == 200


def a_bundle_that_is_not_one_says_where_it_is_wrong(stack: ExitStack, clinic: Clinic) -> None:
    lab = enter(stack, clinic, "lab")
    for body in (b"", b"[]", b"\xff", b'{"resourceType":"Bundle"}', b"[" * 60):
        reply = lab.post("/fhir/", body, kind="application/fhir+json")
        assert reply.status in {400, 422}, reply
    wrong = (
        b'{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Patient","birthDate":"x"}}]}'
    )
    reply = lab.post("/fhir/", wrong, kind="application/fhir+json")
    assert reply.status == 422
    assert reply.json()["resourceType"] == "OperationOutcome"
    assert "birthDate" in str(reply.json())


def a_patient_who_asks_is_told_all_and_erased_as_far_as_the_law_lets(clinic: Clinic) -> None:
    with psycopg.connect(clinic.database_url, autocommit=True) as connection:
        row = connection.execute("SELECT id FROM records_patient WHERE number = 'MR-1001'").fetchone()
        assert row is not None
        folder = Path(mkdtemp())
        told = officer(clinic, "export", "clinic.asgi:service", f"patient/{row[0]}", "--to", str(folder / "draft.json"))
        assert told.returncode == 0, told.stderr
        entries = json.loads((folder / "draft.json").read_text())["entries"]
        sources = {entry["source"] for entry in entries}
        assert {"records_patient", "records_note", "records_prescription", "events"} <= sources
        assert phone_in(entries) == "", "sealed, and opened for who asks"
        assert {entry["facts"]["subject"] for entry in entries if entry["source"] == "events"} == {"MR-1001"}
        assert officer(clinic, "map", "clinic.asgi:service").returncode == 0, "a field that nobody has classified"
        erased = officer(clinic, "erase", "clinic.asgi:service", f"patient/{row[0]}", "--reason", "asked")
        assert "kept in records_patient: records of treatment are kept for ten years" in erased.stdout
        assert "kept in records_note: records of treatment are kept for ten years" in erased.stdout
        again = officer(
            clinic, "export", "clinic.asgi:service", f"patient/{row[0]}", "--to", str(folder / "again.json")
        )
        assert again.returncode == 0, again.stderr
        assert phone_in(json.loads((folder / "again.json").read_text())["entries"]) == "(erased)"


def phone_in(entries: list[Any]) -> str:
    (patient,) = (entry["facts"] for entry in entries if entry["source"] == "records_patient")
    return str(patient["phone"])


def officer(clinic: Clinic, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What the privacy officer types."""
    return subprocess.run(
        [sys.executable, "-m", "workhorse.cli", "privacy", *arguments],
        cwd=Path(__file__).parents[2] / "examples" / "clinic",
        env=environment_of(os.environ, clinic.database_url, clinic.password),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
