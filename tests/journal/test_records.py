"""What a policy says is audited leaves a record, however the request ends, and nothing else does."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI, HTTPException

from tests.asgi_client import Seen, call, running
from workhorse import Audit, Policy, Rate, Service, unit
from workhorse.context import RequestContext
from workhorse.errors import SettingsError
from workhorse.principal import Kind, Principal
from workhorse.settings import Settings, load_settings

ALICE = ("authorization", "Test alice")


class Names:
    """Believes whoever says who they are."""

    challenge = b'Test realm="tests"'
    cookie_names = ()

    def presents(self, credentials: Any) -> bool:
        return credentials.authorization is not None

    def recall(self, credentials: Any, now: float) -> Principal | None:
        if credentials.authorization is None:
            return None
        name = credentials.authorization.partition(b" ")[2].decode()
        scopes = frozenset({"write"}) if name == "alice" else frozenset[str]()
        return Principal(subject=name, kind=Kind.TOKEN, tenant="acme", scopes=scopes)

    async def verify(self, credentials: Any, now: float) -> Principal:
        principal = self.recall(credentials, now)
        assert principal is not None
        return principal

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Ledger:
    """A served app, and what its journal has."""

    def __init__(self, service: Service, url: str) -> None:
        self.service = service
        self.url = url

    async def call(self, method: str, path: str, **more: Any) -> Seen:
        return await call(self.service, method, path, headers=more.pop("headers", [ALICE]), **more)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    async def records(self, count: int) -> list[tuple[str, str, dict[str, Any], str]]:
        """The records as soon as there are so many, or all after 3 seconds."""
        rows: list[tuple[Any, ...]] = []
        for _ in range(60):
            rows = self.ask(
                "SELECT type, subject, data, principal FROM workhorse.events WHERE type LIKE 'audit.%' ORDER BY id"
            )
            if len(rows) >= count:
                break
            await asyncio.sleep(0.05)
        return [(kind, subject, data, principal) for kind, subject, data, principal in rows]


def an_app() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/transfers/{account}", status_code=201)
    async def transfer(account: str, order: dict[str, Any]) -> dict[str, str]:
        work = await unit()
        await work.execute("CREATE TABLE IF NOT EXISTS moved (account text)")
        await work.execute("INSERT INTO moved VALUES (%s)", (account,))
        if order.get("amount", 0) > 100:
            raise HTTPException(409, "not covered")
        if order.get("kept"):
            work.keep()
            raise HTTPException(422, "kept")
        if order.get("broken"):
            raise RuntimeError("broken")
        return {"id": "t-1"}

    @app.get("/patients/{patient}")
    async def patient(patient: str) -> dict[str, str]:
        return {"name": "x"}

    @app.get("/open")
    async def open_() -> str:
        return "open"

    return app


POLICIES = [
    Policy(
        "POST /transfers/{account}", scope="write", audit=Audit("transfer", subject="{account}>{body.to}:{reply.id}")
    ),
    Policy("GET /patients/{patient}", audit=Audit(subject="patient:{patient}", fail_closed=True)),
    Policy("GET /open", public=True),
]


@asynccontextmanager
async def ledger(settings: Settings, policies: Sequence[Policy] = POLICIES, **more: Any) -> AsyncGenerator[Ledger]:
    assert settings.database.url is not None
    url = settings.database.url.get_secret_value()
    if more:
        settings = load_settings(settings.project, database={"url": url}, log={"access": False}, **more)
    service = Service(an_app(), policies=policies, settings=settings, identity=Names())
    async with running(service):
        yield Ledger(service, url)


def test_a_record_commits_with_the_unit_and_says_who_what_and_about_whom(settings: Settings) -> None:
    async def main() -> None:
        async with ledger(settings) as bank:
            assert (await bank.call("POST", "/transfers/7", as_json={"to": "8", "amount": 5})).status == 201
            rows = bank.ask("SELECT type, subject, data, principal, txid::text FROM workhorse.events")
            ((kind, subject, data, principal, txid),) = rows
            assert (kind, subject, principal) == ("audit.write", "7>8:t-1", "alice")
            assert bank.ask("SELECT xmin::text FROM moved") == [(txid,)]
            assert data == {
                "action": "transfer",
                "route": "POST /transfers/{account}",
                "outcome": "done",
                "status": 201,
                "client": "127.0.0.1",
                "known_by": "token",
                "tenant": "acme",
            }

    asyncio.run(main())


def test_refused_and_failed_requests_are_recorded_although_nothing_of_them_stands(settings: Settings) -> None:
    async def main() -> None:
        async with ledger(settings) as bank:
            assert (await bank.call("POST", "/transfers/1", headers=[], as_json={})).status == 401
            eve = [("authorization", "Test eve")]
            assert (await bank.call("POST", "/transfers/2", headers=eve, as_json={})).status == 403
            assert (await bank.call("POST", "/transfers/3", as_json={"amount": 500})).status == 409
            assert (await bank.call("POST", "/transfers/4", as_json={"broken": True})).status == 500
            assert (await bank.call("POST", "/transfers/5", as_json={"kept": True})).status == 422
            records = await bank.records(5)
            told = [(kind, who, data["outcome"], data["status"], data.get("control")) for kind, _, data, who in records]
            assert sorted(told, key=lambda one: one[3]) == [
                ("audit.denied", None, "denied", 401, "identity.missing"),
                ("audit.denied", "eve", "denied", 403, "identity.scope"),
                ("audit.failed", "alice", "failed", 409, None),
                ("audit.failed", "alice", "kept", 422, None),
                ("audit.failed", "alice", "failed", 500, None),
            ]
            assert bank.ask("SELECT account FROM moved") == [("5",)]

    asyncio.run(main())


def test_a_read_is_recorded_before_its_reply_leaves(settings: Settings) -> None:
    async def main() -> None:
        async with ledger(settings) as clinic:
            assert (await clinic.call("GET", "/patients/9")).status == 200
            rows = clinic.ask("SELECT type, subject, data->>'outcome' FROM workhorse.events")
            assert rows == [("audit.read", "patient:9", "done")]

    asyncio.run(main())


def test_fail_closed_answers_nothing_without_its_record(settings: Settings) -> None:
    async def main() -> None:
        async with ledger(settings, records={"store_timeout_seconds": 0.3}) as clinic:
            clinic.ask("ALTER TABLE workhorse.events RENAME TO gone")
            seen = await clinic.call("GET", "/patients/9")
            assert seen.status == 503
            assert b"record" in seen.body
            assert b'"x"' not in seen.body
            assert seen.header("x-request-id")
            assert (await clinic.call("GET", "/open")).status == 200
            clinic.ask("ALTER TABLE workhorse.gone RENAME TO events")
            assert (await clinic.records(1))[0][1] == "patient:9"

    asyncio.run(main())


def test_a_policy_without_audit_leaves_nothing(settings: Settings) -> None:
    async def main() -> None:
        async with ledger(settings) as bank:
            assert (await bank.call("GET", "/open", headers=[])).status == 200
            assert (await bank.call("GET", "/nowhere")).status == 404
        assert bank.ask("SELECT count(*) FROM workhorse.events") == [(0,)]

    asyncio.run(main())


def test_all_refusals_are_recorded_where_that_is_asked_for(settings: Settings) -> None:
    policies = [Policy("GET /open", public=True, rate=Rate("1/hour"))]

    async def main() -> None:
        async with ledger(settings, policies=[*policies, *POLICIES[:2]], records={"denials": "all"}) as bank:
            assert [(await bank.call("GET", "/open")).status for _ in range(2)] == [200, 429]
            ((kind, subject, data, principal),) = await bank.records(1)
            assert (kind, subject, data["control"], principal) == ("audit.denied", "open", "rate.caller", "alice")

    asyncio.run(main())


def test_a_retried_key_is_no_second_write(settings: Settings) -> None:
    policy = Policy("POST /transfers/{account}", idempotent=True, audit=True)
    headers = [ALICE, ("idempotency-key", "k")]

    async def main() -> None:
        async with ledger(settings, policies=[policy, *POLICIES[1:]]) as bank:
            for _ in range(2):
                assert (await bank.call("POST", "/transfers/7", headers=headers, as_json={})).status == 201
            records = await bank.records(2)
            assert [(kind, subject) for kind, subject, _, _ in records] == [
                ("audit.write", "7"),
                ("audit.repeated", "7"),
            ]

    asyncio.run(main())


def test_records_beyond_the_bound_are_dropped_counted_and_told(settings: Settings) -> None:
    async def main() -> None:
        async with ledger(settings, records={"max_waiting": 2}) as bank:
            bank.ask("ALTER TABLE workhorse.events RENAME TO gone")
            for _ in range(5):
                assert (await bank.call("POST", "/transfers/1", headers=[], as_json={})).status == 401
            bank.ask("ALTER TABLE workhorse.gone RENAME TO events")
            records = await bank.records(3)
            assert [kind for kind, *_ in records].count("audit.denied") == 2
            assert [data["records"] for kind, _, data, _ in records if kind == "audit.dropped"] == [3]
            assert b"workhorse_audit_dropped_total 3" in bank.service.metrics.render()

    asyncio.run(main())


def test_what_waits_is_stored_at_the_end(settings: Settings) -> None:
    async def main() -> Ledger:
        async with ledger(settings) as bank:
            await bank.call("POST", "/transfers/1", headers=[], as_json={})
        return bank

    bank = asyncio.run(main())
    assert bank.ask("SELECT type FROM workhorse.events") == [("audit.denied",)]


@pytest.mark.parametrize("subject", ["{nobody}", "{body}", "a{", "{reply.}", "\n"])
def test_a_malformed_subject_is_refused_with_the_policy(subject: str) -> None:
    with pytest.raises(SettingsError, match="subject"):
        Policy("GET /patients/{patient}", audit=Audit(subject=subject))


def test_a_subject_takes_whatever_the_path_holds() -> None:
    template = Policy("GET /files/{rest:path}", audit=Audit(subject="file:{rest}")).audited_subject
    assert template.fill("/files/a/b") == "file:a/b"
    assert template.fill("/files/a\n\0b") == "file:a%0A%00b"
    assert len(template.fill("/files/" + "x" * 1000)) == 200


def test_a_request_has_no_outcome_before_its_unit() -> None:
    assert RequestContext().audit_outcome == ""
