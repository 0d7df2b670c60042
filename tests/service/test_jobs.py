"""Jobs that a service enqueues are run by its own process in development, and commit with the request or not at all."""

import asyncio
import time
from typing import Any

from fastapi import FastAPI, HTTPException

from tests.asgi_client import call, running
from workhorse import Service, job, unit
from workhorse.contracts import Query
from workhorse.migrations import Migrations
from workhorse.settings import Settings, load_settings

ADVICES = Migrations.inline("advices", "CREATE TABLE advices (receipt int NOT NULL)")


@job
async def send_advice(receipt: int) -> None:
    work = await unit()
    await work.execute("INSERT INTO advices VALUES (%s)", (receipt,))


def a_service(settings: Settings, **more: Any) -> Service:
    assert settings.database.url is not None
    app = FastAPI(openapi_url=None)

    @app.post("/receipts/{receipt}")
    async def post(receipt: int, fail: bool = False) -> None:  # noqa: FBT001, FBT002
        await unit()
        await send_advice.enqueue(receipt)
        if fail:
            raise HTTPException(409)

    database = {"url": settings.database.url.get_secret_value()}
    chosen = load_settings(settings.project, database=database, log={"access": False}, **more)
    return Service(app, jobs=[send_advice], migrations=[ADVICES], settings=chosen)


async def advices(service: Service) -> list[int]:
    return [row[0] for row in await service.rooms.database.run(Query("SELECT receipt FROM advices ORDER BY 1"))]


def test_a_job_runs_once_if_its_request_committed_and_never_if_not(settings: Settings) -> None:
    service = a_service(settings)

    async def main() -> list[int]:
        async with running(service):
            for receipt in (1, 2, 3):
                path = f"/receipts/{receipt}?fail={receipt == 2}"
                await call(service, "POST", path)
            until = time.monotonic() + 10
            while len(await advices(service)) < 2 and time.monotonic() < until:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            return await advices(service)

    assert asyncio.run(main()) == [1, 3]


def test_no_job_runs_in_the_service_where_the_settings_say_so(settings: Settings) -> None:
    service = a_service(settings, jobs={"in_process": "off"})

    async def main() -> tuple[list[int], Any]:
        async with running(service):
            await call(service, "POST", "/receipts/1")
            await asyncio.sleep(0.5)
            waiting = await service.rooms.database.run(Query("SELECT count(*) FROM workhorse.jobs"))
            return await advices(service), waiting[0][0]

    assert asyncio.run(main()) == ([], 1)
