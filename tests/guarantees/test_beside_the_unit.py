"""What no transaction can take back or make up for: effects elsewhere, callbacks, and what has no unit at all."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from fastapi import FastAPI

from tests.asgi_client import call
from tests.guarantees.conftest import Sql
from tests.jobs.kit import opened, until, working
from workhorse import Policy, UnitLayer, unit
from workhorse.asgi import Message, Receive, Scope, Send
from workhorse.errors import NoUnit
from workhorse.jobs import Retries, job
from workhorse.policy import PolicyTable
from workhorse.state.postgres.database import PostgresDatabase

INSERT = "INSERT INTO orders (item) VALUES ('chair')"
CONFLICT = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"

# Dies between its commit and the second of its callbacks.
DYING = f"""
import asyncio, os, signal, sys
from pathlib import Path
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Unit

async def die():
    os.kill(os.getpid(), signal.SIGKILL)

async def note():
    Path(sys.argv[2]).touch()

async def main():
    database = PostgresDatabase(sys.argv[1])
    await database.open()
    async with Unit(database) as work:
        await work.execute("{INSERT}")
        work.after_commit(die)
        work.after_commit(note)

asyncio.run(main())
"""


def test_what_a_handler_does_elsewhere_is_done_again_with_each_run_and_its_rows_are_there_once(
    url: str, sql: Sql
) -> None:
    mails: list[str] = []
    app = FastAPI()

    @app.post("/orders")
    async def order() -> str:
        work = await unit()
        await work.execute(INSERT)
        mails.append("your chair")
        if len(mails) == 1:
            await work.execute(CONFLICT)
        return "ordered"

    async def main() -> None:
        async with opened(url) as database:
            layer = UnitLayer(app, database, policies=PolicyTable([Policy("POST /orders", idempotent=True)]))
            keyed = [("idempotency-key", "k")]
            assert (await call(layer, "POST", "/orders", headers=keyed)).status == 200
            assert (await call(layer, "POST", "/orders", headers=keyed)).header("idempotent-replayed") == "true"

    asyncio.run(main())
    assert mails == ["your chair"] * 2, "one for each run; the retried key ran nothing"
    assert sql("SELECT item FROM orders") == [("chair",)]


def test_without_a_key_a_request_that_is_sent_again_is_another_request(url: str, sql: Sql) -> None:
    app = FastAPI()

    @app.post("/orders")
    async def order() -> None:
        await (await unit()).execute(INSERT)

    async def main() -> None:
        async with opened(url) as database:
            layer = UnitLayer(app, database, policies=PolicyTable([Policy("POST /orders", idempotent=True)]))
            for _ in range(2):
                assert (await call(layer, "POST", "/orders")).status == 200

    asyncio.run(main())
    assert sql("SELECT count(*) FROM orders") == [(2,)]


def test_what_a_job_does_elsewhere_is_done_again_with_each_attempt_and_its_rows_are_there_once(
    url: str, sql: Sql
) -> None:
    mails: list[str] = []

    @job(retries=Retries(attempts=3, first_seconds=0.01))
    async def ship() -> None:
        await (await unit()).execute(INSERT)
        mails.append("your chair")
        if len(mails) < 3:
            raise ConnectionError("the mail server broke off")

    async def main() -> None:
        async with opened(url) as database, working(url, database, [ship]):
            await ship.enqueue_alone(database)
            await until(lambda: sql("SELECT count(*) FROM workhorse.jobs") == [(0,)])

    asyncio.run(main())
    assert len(mails) == 3
    assert sql("SELECT item FROM orders") == [("chair",)]


def test_a_callback_after_the_commit_is_lost_with_its_process_and_the_commit_stands(
    url: str, sql: Sql, tmp_path: Path
) -> None:
    marker = tmp_path / "called"
    done = subprocess.run([sys.executable, "-c", DYING, url, str(marker)], env=os.environ, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert sql("SELECT item FROM orders") == [("chair",)]
    assert not marker.exists()


def test_a_websocket_has_no_unit(database_url: str) -> None:
    said: list[str] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        try:
            await unit()
        except NoUnit as error:
            said.append(str(error))

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(_message: Message) -> None: ...

    scope: Scope = {"type": "websocket", "path": "/live", "headers": []}
    asyncio.run(UnitLayer(app, PostgresDatabase(database_url))(scope, receive, send))
    assert len(said) == 1
