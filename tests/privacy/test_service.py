"""A service that says what it knows of people: what is sealed, masked, told, forgotten and erased."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from secrets import token_bytes
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from workhorse import Migrations, Service, load_settings, unit
from workhorse.errors import SettingsError, UnitError
from workhorse.jobs import Retries, job
from workhorse.journal import EventType
from workhorse.privacy import (
    HEALTH,
    INTERNAL,
    PERSONAL,
    Blank,
    Delete,
    Draft,
    Erased,
    Keep,
    LocalKeys,
    Place,
    Privacy,
    Purpose,
    Retention,
    SubjectKeys,
    export_page,
    forget_old,
)
from workhorse.testing import service_client
from workhorse.units import Unit, Work

KEY = token_bytes(32)
NAME, PHONE = "Jane Canary-7c1e", "555-CANARY-9b2f"
SCHEMA = """
CREATE TABLE patients (number text PRIMARY KEY, name bytea NOT NULL, phone text UNIQUE);
CREATE TABLE bills (patient text, amount numeric, address text);
CREATE TABLE visits (patient text, seen_at timestamptz NOT NULL);
"""
NEWS = Purpose("newsletter", text="A letter a month.", version=2)


class Patient(BaseModel):
    number: Annotated[str, INTERNAL]
    name: Annotated[str, PERSONAL]
    phone: Annotated[str, PERSONAL] | None = None


class Finding(msgspec.Struct):
    code: Annotated[str, HEALTH]


class Registered(msgspec.Struct):
    name: Annotated[str, PERSONAL]
    findings: list[Finding]
    ward: str
    note: Annotated[str, HEALTH] | None = None


registered = EventType("patient.registered", Registered, person="patient/{subject}")


@job(retries=Retries(attempts=1))
async def greet(number: str) -> None:
    raise ValueError(f"cannot greet {number}: name={NAME!r}")


def privacy() -> Privacy:
    return Privacy(
        SubjectKeys(LocalKeys([KEY])),
        models=[Patient],
        places=[
            Place("patients", person="patient", column="number", erase=Delete(), sealed=["name"]),
            Place("bills", person="patient", column="patient", erase=Keep("tax law: ten years")),
            Place("bills", person="payer", column="patient", erase=Blank({"address": None}), journal="bill:{amount}"),
        ],
        may={"desk": {PERSONAL}},
        retention=[
            Retention("visits", by="seen_at", older_than=timedelta(days=90), erase=Delete(), because="no bill is open")
        ],
    )


def a_service(database_url: str, cache_url: str, folder: Path) -> Service:
    app = FastAPI(openapi_url=None)
    office = privacy()
    keys = office.keys
    assert keys is not None

    @app.post("/patients", status_code=204)
    async def register(patient: Patient) -> None:
        work = await unit()
        cipher = await keys.cipher(work, f"patient/{patient.number}")
        name = cipher.seal("patients.name", patient.name)
        await work.execute(
            "INSERT INTO patients (number, name, phone) VALUES (%s, %s, %s)", (patient.number, name, uuid4().hex)
        )
        said = Registered(name=patient.name, findings=[Finding("J10")], ward="B")
        await work.emit(registered, subject=patient.number, data=said)
        await work.changed(f"patients:{patient.number}", after={"name": patient.name, "ward": "B"})
        await greet.enqueue(patient.number)

    @app.post("/twice")
    async def twice(patient: Patient) -> None:
        work = await unit()
        for number in ("2", "3"):
            values = (number, patient.phone)
            await work.execute("INSERT INTO patients (number, name, phone) VALUES (%s, '', %s)", values)

    @app.post("/broken")
    async def broken(patient: Patient) -> None:
        raise RuntimeError(f"no bed for {patient!r}")

    return Service(
        app,
        events=[registered],
        jobs=[greet],
        privacy=office,
        migrations=[Migrations.inline("surgery", SCHEMA)],
        settings=load_settings(folder, database={"url": database_url}, cache={"url": cache_url}),
    )


@pytest.fixture
def service(database_url: str, servers: Any, tmp_path: Path) -> Service:
    return a_service(database_url, servers.cache_url, tmp_path)


def rows(database_url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []


JANE = {"number": "7", "name": NAME, "phone": PHONE}


async def register_jane(service: Service) -> None:
    async with service_client(service) as client:
        assert (await client.post("/patients", json=JANE)).status_code == 204


def work_on(service: Service) -> Unit:
    return Unit(service.rooms.database, isolation="repeatable read", events=service.events)


def test_what_is_personal_is_in_no_log_trace_metric_error_job_cache_or_dump(
    service: Service, database_url: str, servers: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> str:
        async with service_client(service) as client:
            assert (await client.post("/patients", json=JANE)).status_code == 204
            assert (await client.post("/twice", json=JANE)).status_code == 500
            assert (await client.post("/broken", json=JANE)).status_code == 500
            for _ in range(200):
                if rows(database_url, "SELECT 1 FROM workhorse.jobs WHERE state = 'dead'"):
                    break
                await asyncio.sleep(0.05)
            return (await client.get("/-/metrics")).text

    metrics = asyncio.run(main())
    log = capfd.readouterr().out
    assert "no bed for" in log
    assert "duplicate key" in log
    assert "cannot greet" in json.dumps(rows(database_url, "SELECT failures FROM workhorse.jobs"))
    dump = dumped(database_url)
    keys = str(_valkey(servers.cache_url))
    for place, text in {"log": log, "metrics": metrics, "dump": dump, "cache": keys}.items():
        assert "CANARY" not in text.upper(), f"it is in the {place}"
        assert NAME.encode().hex() not in text
    assert "J10" not in dump, "a member within a sealed one"


def dumped(database_url: str) -> str:
    """Every row of every table, as text."""
    tables = rows(
        database_url,
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables"
        " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')",
    )
    return "".join(str(rows(database_url, f"SELECT t::text FROM {table} AS t")) for (table,) in tables)  # noqa: S608 - of the catalogue


def _valkey(url: str) -> list[bytes]:
    import redis

    with redis.Redis.from_url(url) as client:
        found: list[bytes] = list(client.scan_iter(count=1000))
        with suppress(redis.ResponseError):
            found += [client.get(key) or b"" for key in found[:1000]]
        return found


def test_sealed_members_open_for_who_may_and_not_after_an_erasure(service: Service, database_url: str) -> None:
    async def main() -> None:
        async with service_client(service) as client:
            await client.post("/patients", json=JANE)
            ((data,),) = rows(database_url, "SELECT data FROM workhorse.events WHERE type = 'patient.registered'")
            assert data["ward"] == "B"
            assert "note" in data
            assert data["name"]["$sealed"][:2] == ["patient/7", "patient.registered.name"]
            event = Recorded("patient.registered", data)
            office = service.privacy
            assert office is not None
            async with work_on(service) as work:
                assert (await office.sealing.read(work, registered, event)).name == NAME
                assert (await office.sealing.opened(work, data))["findings"] == [{"code": "J10"}]
            async with work_on(service) as work:
                receipt = await office.erase(work, "patient/7", reason="request of 2026-03-01")
            assert receipt.deleted == {"patients": 1}
            assert receipt.kept == {"bills": "tax law: ten years"}
            assert receipt.text.startswith("workhorse erasure receipt v1\nsubject: patient/7\n")
            async with work_on(service) as work:
                with pytest.raises(Erased):
                    await office.sealing.read(work, registered, event)
                assert (await office.sealing.opened(work, data))["name"] is None
                again = await office.erase(work, "patient/7", reason="another")
                assert (again.reason, again.at) == ("request of 2026-03-01", receipt.at)

    asyncio.run(main())
    assert rows(database_url, "SELECT count(*) FROM workhorse.events WHERE type = 'audit.subject_erased'") == [(2,)]


@dataclass
class Recorded:
    type: str
    data: dict[str, Any]


def test_a_sealed_member_that_was_moved_to_another_event_does_not_open(service: Service) -> None:
    async def main() -> None:
        async with service_client(service) as client:
            for number in ("7", "8"):
                await client.post("/patients", json={**JANE, "number": number})
            office = service.privacy
            assert office is not None
            rows = await service.rooms.database.run(_all_registered())
            (seven, eight) = [json.loads(one[0]) if isinstance(one[0], str) else one[0] for one in rows]
            seven["name"]["$sealed"][2] = eight["name"]["$sealed"][2]
            async with work_on(service) as work:
                with pytest.raises(Exception, match="does not open"):
                    await office.sealing.opened(work, seven)

    asyncio.run(main())


def _all_registered() -> Any:
    from workhorse.contracts import Query

    return Query("SELECT data FROM workhorse.events WHERE type = 'patient.registered' ORDER BY id")


def test_an_export_tells_all_but_what_its_reviewer_withholds(service: Service, database_url: str) -> None:
    async def main() -> Draft:
        async with service_client(service) as client:
            await client.post("/patients", json=JANE)
            await client.post("/patients", json={**JANE, "number": "8"})
            rows(database_url, "INSERT INTO bills VALUES ('7', 12.50, 'Main <b>Street</b> 1')")
            office = service.privacy
            assert office is not None
            async with work_on(service) as work:
                await NEWS.give(work, "patient/7", how="web form")
            async with work_on(service) as work:
                return await office.draft(work, "patient/7")

    draft = asyncio.run(main())
    assert {entry.source for entry in draft.entries} == {"patients", "bills", "consents", "events"}
    (patient,) = [entry for entry in draft.entries if entry.source == "patients"]
    assert patient.facts["name"] == NAME
    (bill,) = [entry for entry in draft.entries if entry.source == "bills"]
    assert Draft.read(draft.as_json()).entries[-1].number == len(draft.entries)
    with pytest.raises(ValueError, match=r"none of the numbers \[999\]"):
        draft.release(reviewed_by="dpo", withhold={999: "x"})
    with pytest.raises(ValueError, match="needs who has reviewed it"):
        draft.release(reviewed_by="")
    whole = draft.release(reviewed_by="dpo")
    assert b"Main &lt;b&gt;Street" in export_page(whole)
    some = draft.release(reviewed_by="dpo", withhold={bill.number: "it names a neighbour"})
    assert b"Street" not in some.as_json() + export_page(some)
    assert b"it names a neighbour" in some.as_json()
    assert len(some.entries) == len(draft.entries) - 1
    with pytest.raises(ValueError, match="no draft of an export"):
        Draft.read(b'{"subject": "x"}')


def test_events_of_a_row_s_own_subject_and_blanked_columns_count(service: Service, database_url: str) -> None:
    async def main() -> None:
        async with service_client(service):
            rows(database_url, "INSERT INTO bills VALUES ('7', 12.50, 'Main Street 1')")
            office = service.privacy
            assert office is not None
            async with Unit(service.rooms.database) as work:
                await work.emit("bill.sent", subject="bill:12.5", data={"by": "post"})
            async with work_on(service) as work:
                draft = await office.draft(work, "payer/7")
                assert [entry.facts.get("type") for entry in draft.entries] == [None, "bill.sent"]
            async with work_on(service) as work:
                assert (await office.erase(work, "payer/7", reason="asked")).blanked == {"bills": 1}

    asyncio.run(main())
    assert rows(database_url, "SELECT amount::text, address FROM bills") == [("12.50", None)]


def test_consent_holds_for_the_text_that_was_shown_until_it_is_taken_back(service: Service, database_url: str) -> None:
    old = Purpose("newsletter", text="A letter a year.", version=1)

    async def said(do: Any) -> Any:
        async with work_on(service) as work:
            return await do(work)

    async def main() -> None:
        async with service_client(service):
            assert not await said(lambda work: NEWS.allowed(work, "patient/7"))
            await said(lambda work: old.give(work, "patient/7", how="paper"))
            assert not await said(lambda work: NEWS.allowed(work, "patient/7"))
            await said(lambda work: NEWS.give(work, "patient/7", how="web form"))
            assert await said(lambda work: NEWS.allowed(work, "patient/7"))
            assert not await said(lambda work: NEWS.allowed(work, "patient/8"))
            await said(lambda work: NEWS.withdraw(work, "patient/7", how="link"))
            assert not await said(lambda work: NEWS.allowed(work, "patient/7"))

            async def malformed(work: Work) -> None:
                with pytest.raises(ValueError, match="has no kind and key"):
                    await NEWS.give(work, "jane", how="web")
                with pytest.raises(ValueError, match="printable characters"):
                    await NEWS.give(work, "patient/7", how="")

            await said(malformed)

    asyncio.run(main())
    kinds = rows(database_url, "SELECT type FROM workhorse.events ORDER BY id")
    assert kinds == [("audit.consent_given",), ("audit.consent_given",), ("audit.consent_withdrawn",)]
    assert rows(database_url, "SELECT count(*) FROM workhorse.consents") == [(3,)]


def test_what_is_old_is_forgotten_and_nothing_else(service: Service, database_url: str) -> None:
    rule = Retention("bills", by="at", older_than=timedelta(days=1), erase=Blank({"address": None}), because="paid")

    async def main() -> None:
        async with service_client(service):
            rows(
                database_url, "INSERT INTO visits SELECT 'x', now() - interval '91 days' FROM generate_series(1, 2500)"
            )
            rows(database_url, "INSERT INTO visits VALUES ('y', now() - '89 days'::interval)")
            rows(database_url, "ALTER TABLE bills ADD at timestamptz")
            rows(
                database_url, "INSERT INTO bills VALUES ('1', 1, 'a', now() - '2 days'::interval), ('2', 1, 'b', now())"
            )
            office = service.privacy
            assert office is not None
            database = service.rooms.database
            assert await asyncio.gather(*(forget_old(database, office.retention[0]) for _ in range(3))) != [0, 0, 0]
            assert await forget_old(database, office.retention[0]) == 0
            assert await forget_old(database, rule) == 1
            assert await forget_old(database, rule) == 0

    asyncio.run(main())
    assert rows(database_url, "SELECT patient FROM visits") == [("y",)]
    assert rows(database_url, "SELECT patient, address FROM bills ORDER BY 1") == [("1", None), ("2", "b")]


def test_a_unit_that_has_nothing_to_seal_with_refuses_a_sealed_event(service: Service) -> None:
    async def main() -> None:
        async with service_client(service), Unit(service.rooms.database) as work:
            said = Registered(name=NAME, findings=[], ward="B")
            with pytest.raises(UnitError, match="nothing to seal it with"):
                await work.emit(registered, subject="7", data=said)

    asyncio.run(main())


def test_what_cannot_be_is_refused_before_anything_is_served() -> None:
    keys = SubjectKeys(LocalKeys([KEY]))

    class Leaks(msgspec.Struct):
        name: Annotated[str, PERSONAL]

    class Says(msgspec.Struct):
        ward: str

    @job
    async def write_to(address: Annotated[str, PERSONAL]) -> None: ...

    office = Privacy(keys)
    with pytest.raises(SettingsError, match=r"says of a person: name \(personal\)"):
        office.check(events=[EventType("a.b", Leaks)], jobs=[], production=False)
    with pytest.raises(SettingsError, match="names a person and says nothing of one"):
        office.check(events=[EventType("a.b", Says, person="p/{subject}")], jobs=[], production=False)
    with pytest.raises(SettingsError, match=r"'.*write_to' takes address, which is of a person"):
        office.check(events=[], jobs=[write_to], production=False)
    with pytest.raises(SettingsError, match="wrapped by LocalKeys"):
        office.check(events=[], jobs=[], production=True)
    Privacy(SubjectKeys(LocalKeys([KEY], dangerously_in_production=True))).check(events=[], jobs=[], production=True)
    with pytest.raises(SettingsError, match="this service has no"):
        Service(FastAPI(), events=[registered])
    with pytest.raises(SettingsError, match="no name of letters"):
        Place('x"; DROP', person="p", column="c", erase=Delete())
    with pytest.raises(SettingsError, match="say why"):
        Place("x", person="p", column="c", erase=Keep(""))
    with pytest.raises(SettingsError, match="not 'c' itself"):
        Place("x", person="p", column="c", erase=Blank({"c": None}))
    with pytest.raises(SettingsError, match="write as patient"):
        Place("x", person="p/q", column="c", erase=Delete())
    with pytest.raises(SettingsError, match="a time above zero"):
        Retention("x", by="at", older_than=timedelta(0), erase=Delete(), because="y")
