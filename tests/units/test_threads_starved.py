"""Many requests for one row, over blocking connections: those that wait must not keep out the COMMIT that frees it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI

from tests.asgi_client import call
from tests.units.databases import Sql, layered, on
from workhorse import Policy, unit
from workhorse.units.threads import sync_unit

REQUESTS = 24
HOT = "UPDATE notes SET text = (text::int + 1)::text WHERE id = 1"
SECONDS = 20


def test_requests_that_wait_for_a_row_leave_a_thread_to_the_commit_that_frees_it(database_url: str) -> None:
    app = FastAPI(openapi_url=None)

    @app.post("/async")
    async def in_the_loop() -> None:
        await (await unit()).execute(HOT)

    @app.post("/sync")
    def in_a_thread() -> dict[str, str]:
        sync_unit().execute(HOT)
        return {"counted": "once"}

    async def script(database: Any, sql: Sql) -> None:
        sql("INSERT INTO notes (text) VALUES ('0')")
        with ThreadPoolExecutor(2) as few:
            asyncio.get_running_loop().set_default_executor(few)
            layer = layered(app, database, Policy("POST /async"), Policy("POST /sync"))
            for path in ("/async", "/sync"):
                async with asyncio.timeout(SECONDS):
                    replies = await asyncio.gather(*(call(layer, "POST", path) for _ in range(REQUESTS)))
                assert [reply.status for reply in replies] == [200] * REQUESTS
        assert sql("SELECT text FROM notes") == [(str(2 * REQUESTS),)]

    asyncio.run(on("sqlalchemy in threads", database_url, script, size=8, statement_timeout_seconds=5))
