"""A worker whose sealer stands still or is behind says so where its operator looks."""

import asyncio
from typing import Any

from tests.sealer.kit import Sql, emit, on_log, sealer
from workhorse.service.sealer_health import SealerHealth


def test_a_sealer_that_stands_still_is_not_ready_until_it_is_mended(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await sealer(database).drain()
        one, health = sealer(database), SealerHealth()
        assert await health.keeps_up() is None
        health.watch(one, 1.0)
        running = asyncio.create_task(one.run())
        try:
            await until(health, well=True)
            ((root,),) = sql(
                "UPDATE workhorse.audit_log l SET root = sha256('x') FROM workhorse.audit_log o RETURNING o.root"
            )
            await until(health, well=False)
            sql("UPDATE workhorse.audit_log SET root = %s", root)
            await until(health, well=True)
        finally:
            running.cancel()
            await asyncio.wait([running])
        # One that has ended does not pass for one with nothing to do.
        await until(health, well=False)

    on_log(database_url, script)


def test_an_event_that_waits_for_too_long_is_seen_whoever_seals(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        one = sealer(database)
        await emit(database, 3)
        assert not await one.is_behind(60)
        await asyncio.sleep(0.05)
        assert await one.is_behind(0.01)
        await one.drain()
        assert not await one.is_behind(0.0)
        await emit(database, 1)
        sql("UPDATE workhorse.events SET occurred_at = now() - interval '5 minutes' WHERE subject = 'account:0'")
        assert await one.is_behind(60)

    on_log(database_url, script)


async def until(health: SealerHealth, *, well: bool) -> None:
    async with asyncio.timeout(40):
        while await health.keeps_up() is not well:
            await asyncio.sleep(0.05)
