"""A project's tests get real servers, a migrated database each, and a client of their service in one line."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.testing.shops import TABLES, guarded, right
from workhorse import Migrations
from workhorse.asgi import Receive, Scope, Send
from workhorse.embedded import Attachment, drop_database
from workhorse.errors import StartupError
from workhorse.testing import AsCaller, ServiceClient, copy_database, migrated_database

PAYMENT = {"amount": 5}


@pytest.fixture(scope="module")
def workhorse_migrations() -> tuple[Migrations, ...]:
    return (TABLES,)


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        (found,) = connection.execute("SELECT count(*) FROM payments").fetchone() or (None,)
        assert isinstance(found, int)
        return found


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_fresh_database_with_all_tables(workhorse_database: str, turn: int) -> None:
    with psycopg.connect(workhorse_database) as connection:
        connection.execute("INSERT INTO payments (amount) VALUES (%s)", (turn,))
        assert connection.execute("SELECT to_regclass('workhorse.replies') IS NOT NULL").fetchone() == (True,)
    assert count(workhorse_database) == 1


def test_other_migrations_make_another_template(servers: Attachment) -> None:
    made = [
        migrated_database(servers.database_url, [Migrations.inline("shop", f"CREATE TABLE {name} ()")])
        for name in ("one", "two", "two")
    ]
    for url, name in zip(made, ("one", "two", "two"), strict=True):
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT to_regclass(%s)::text", (name,)).fetchone() == (name,)
        drop_database(url)


def test_a_migration_that_fails_leaves_no_template(servers: Attachment) -> None:
    broken = [Migrations.inline("broken", "CREATE TABLE t (); SELECT 1 / 0")]
    for _ in range(2):
        with pytest.raises(StartupError, match="division by zero"):
            migrated_database(servers.database_url, broken)


def test_a_database_in_use_is_not_copied_and_the_message_says_why(workhorse_database: str) -> None:
    with psycopg.connect(workhorse_database), pytest.raises(StartupError, match="close your connections"):
        copy_database(workhorse_database)
    drop_database(copy_database(workhorse_database))


def test_a_client_serves_requests_on_the_tests_database(service_client: ServiceClient, workhorse_database: str) -> None:
    async def main() -> Any:
        async with service_client(right, headers={"idempotency-key": "one"}) as client:
            replies = [await client.post("/payments", json=PAYMENT) for _ in range(2)]
            assert (await client.get("/-/ready")).json()["database"] is True
            return [(reply.status_code, reply.json(), reply.headers.get("idempotent-replayed")) for reply in replies]

    assert asyncio.run(main()) == [(201, {"id": 1}, None), (201, {"id": 1}, "true")]
    assert count(workhorse_database) == 1


def test_a_guarded_route_opens_for_a_caller_with_the_scope(service_client: ServiceClient, as_caller: AsCaller) -> None:
    async def main() -> list[int]:
        async with service_client(guarded) as client:
            everybody: list[dict[str, str]] = [{}, as_caller("eve"), as_caller("alice", "payments:write", roles=["x"])]
            return [(await client.post("/payments", json=PAYMENT, headers=one)).status_code for one in everybody]

    assert asyncio.run(main()) == [401, 403, 201]


def test_the_settings_of_the_developer_are_out_and_those_of_the_test_in(
    workhorse_environment: dict[str, str], workhorse_database: str
) -> None:
    assert os.environ["DATABASE_URL"] == workhorse_environment["DATABASE_URL"] == workhorse_database
    found = {name for name in os.environ if name.startswith("WORKHORSE_")}
    assert found == {name for name in workhorse_environment if name.startswith("WORKHORSE_")}


def test_an_app_that_fails_to_start_says_why(service_client: ServiceClient) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no coffee"})

    async def main() -> None:
        async with service_client(failing):
            pass

    with pytest.raises(StartupError, match=r"lifespan\.startup: no coffee"):
        asyncio.run(main())


def test_an_app_without_a_lifespan_is_served_and_its_errors_are_shown_where_asked(
    service_client: ServiceClient,
) -> None:
    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/broken":
            raise RuntimeError("only /")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> list[int]:
        async with service_client(plain) as client:
            statuses = [(await client.get(path)).status_code for path in ("/", "/broken")]
        async with service_client(plain, raise_app_exceptions=True) as client:
            with pytest.raises(RuntimeError, match="only /"):
                await client.get("/broken")
        return statuses

    assert asyncio.run(main()) == [204, 500]


def test_the_plugin_loads_neither_drivers_nor_frameworks() -> None:
    program = (
        "import sys, workhorse.testing.plugin; print([n for n in ('psycopg', 'httpx', 'jwt') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_project_needs_nothing_but_the_names_of_the_fixtures(servers: Attachment, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it(workhorse_database, as_caller):\n"
        "    assert workhorse_database.startswith('postgresql://')\n"
        "    assert as_caller('alice')['authorization'].startswith('Bearer ')\n"
    )
    (tmp_path / "conftest.py").write_text(
        "from pathlib import Path\nimport pytest\n"
        "from workhorse.embedded import attach\n"
        "@pytest.fixture(scope='session')\n"
        "def workhorse_servers():\n"
        f"    with attach(Path({str(servers.folder)!r})) as attachment:\n"
        "        yield attachment\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "workhorse.testing.plugin", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
