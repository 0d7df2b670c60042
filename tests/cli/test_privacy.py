"""What a privacy officer does at a terminal."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

APP = """
import os
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel

from workhorse import Migrations, Service
from workhorse.privacy import INTERNAL, PERSONAL, Delete, LocalKeys, Place, Privacy, SubjectKeys


class Patient(BaseModel):
    number: Annotated[str, INTERNAL]
    phone: Annotated[str, PERSONAL]
    remark: str = ""


class Ward(BaseModel):
    name: Annotated[str, INTERNAL]


PLACES = [Place("patients", person="patient", column="number", erase=Delete())]
SCHEMA = Migrations.inline("surgery", "CREATE TABLE patients (number text, phone text, notes jsonb)")


def a_service(*models):
    keys = SubjectKeys(LocalKeys([bytes(32)]))
    return Service(FastAPI(), privacy=Privacy(keys, models=models, places=PLACES), migrations=[SCHEMA])


service = a_service(Patient)
wards = a_service(Ward)
bare = Service(FastAPI())
"""


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    (tmp_path / "surgery.py").write_text(APP)

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "workhorse.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "DATABASE_URL": database_url, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def sql(database_url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_the_map_is_printed_compared_and_fails_for_what_nobody_has_classified(cli: Cli, tmp_path: Path) -> None:
    done = cli("privacy", "map", "surgery:service")
    assert done.returncode == 1
    assert "surgery.Patient  remark  NOBODY HAS SAID" in done.stdout
    assert "of 1 fields nobody has said" in done.stderr
    kept = cli("privacy", "map", "surgery:wards", "--format", "json")
    assert kept.returncode == 0
    (tmp_path / "map.json").write_text(kept.stdout)
    assert cli("privacy", "map", "surgery:wards", "--against", "map.json", "--format", "markdown").returncode == 0
    changed = cli("privacy", "map", "surgery:service", "--against", "map.json")
    assert changed.returncode == 1
    assert "surgery.Ward.name is gone" in changed.stderr
    assert "surgery.Patient.phone is new (personal)" in changed.stderr
    page = cli("privacy", "map", "surgery:service", "--format", "html")
    assert page.returncode == 1, "the page is made, and a field still unclassified"
    assert "<td>surgery.Patient.phone</td><td>personal</td>" in page.stdout
    assert cli("privacy", "map", "surgery:bare").returncode == 2
    assert "make it with --format json" in cli("privacy", "map", "surgery:wards", "--against", "none").stderr


def test_a_person_is_exported_reviewed_released_and_erased(cli: Cli, database_url: str, tmp_path: Path) -> None:
    assert cli("migrate", "surgery:service").returncode == 0
    sql(database_url, "INSERT INTO patients VALUES ('7', '555-1', '{}'), ('7', '555-2', '{}'), ('8', '555-3', '{}')")
    done = cli("privacy", "export", "surgery:service", "patient/7", "--to", "draft.json")
    assert done.returncode == 0, done.stderr
    assert "2 entries about patient/7 are in draft.json" in done.stdout
    assert stat.S_IMODE((tmp_path / "draft.json").stat().st_mode) == 0o600
    again = cli("privacy", "export", "surgery:service", "patient/7", "--to", "draft.json")
    assert (again.returncode, "name a new file" in again.stderr) == (2, True)
    release = ("privacy", "release", "surgery:service", "draft.json", "--reviewed-by", "dpo", "--to", "answer")
    assert cli(*release, "--withhold", "9=x").returncode == 2
    assert cli(*release, "--withhold", "2").returncode == 2
    released = cli(*release, "--withhold", "2=it is her mother's")
    assert released.returncode == 0, released.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert [entry["facts"]["phone"] for entry in answer["entries"]] == ["555-1"]
    assert "555-2" not in (tmp_path / "answer.html").read_text()
    assert sql(database_url, "SELECT data->>'reviewed_by' FROM workhorse.events") == [("dpo",)]
    assert cli("privacy", "erase", "surgery:service", "jane", "--reason", "asked").returncode == 2
    made = cli("audit", "key", "surgery.example/audit", "key")
    assert made.returncode == 0, made.stderr
    log = {"WORKHORSE_AUDIT__ORIGIN": "surgery.example/audit", "WORKHORSE_AUDIT__KEY_FILE": "key"}
    receipt = cli("privacy", "erase", "surgery:service", "patient/7", "--reason", "asked", **log)
    assert receipt.returncode == 0, receipt.stderr
    assert "deleted from patients: 2\n" in receipt.stdout
    assert "\n\u2014 surgery.example/audit " in receipt.stdout
    assert sql(database_url, "SELECT number FROM patients") == [("8",)]


def test_card_numbers_are_found_in_tables_and_files(cli: Cli, database_url: str, tmp_path: Path) -> None:
    assert cli("migrate", "surgery:service").returncode == 0
    sql(database_url, "INSERT INTO patients VALUES ('1', '1234567890123456', '{\"n\": \"12345\"}')")
    sql(database_url, 'CREATE TABLE "odd %s" ("a%b" text)')
    clean = cli("privacy", "scan")
    assert (clean.returncode, clean.stdout) == (0, ""), clean.stdout
    sql(
        database_url, "INSERT INTO patients VALUES ('2', 'card 4111 1111 1111 1111', '{\"pan\": \"5555555555554444\"}')"
    )
    found = cli("privacy", "scan")
    assert found.returncode == 1
    assert "public.patients.phone (0,2)  411111******1111" in found.stdout
    assert "public.patients.notes (0,2)  555555******4444" in found.stdout
    assert "2 card numbers" in found.stderr
    (tmp_path / "app.log").write_bytes(
        b"x\xff" * 700_000 + b" 378282246310005 \nfine\n4111111111111112 6011111111111117\n"
    )
    in_file = cli("privacy", "scan", "app.log")
    assert in_file.stdout == "app.log:1  378282*****0005\napp.log:3  601111******1117\n"
    assert cli("privacy", "scan", "missing.log").returncode == 2
