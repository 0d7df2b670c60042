"""A month of the journal that is taken out before it is sealed stops the sealer, with its name and what to do."""

from pathlib import Path
from typing import Any

import pytest

from tests.sealer.kit import Sql, emit, on_log, sealer, verify_export
from workhorse.sealer import SealRefused


def test_a_month_that_is_detached_before_it_is_sealed_is_not_passed_over(database_url: str, tmp_path: Path) -> None:
    async def script(database: Any, sql: Sql) -> None:
        one = sealer(database)
        await emit(database, 5)
        await one.drain()
        await emit(database, 3, first=100)
        ((month, bounds),) = sql(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_class c"
            " WHERE c.oid = (SELECT tableoid FROM workhorse.events LIMIT 1)"
        )
        sql(f"ALTER TABLE workhorse.events DETACH PARTITION workhorse.{month}")
        for _ in range(2):
            with pytest.raises(SealRefused, match=f"{month} was detached from the journal"):
                await one.drain()
        sql(f"ALTER TABLE workhorse.events ATTACH PARTITION workhorse.{month} {bounds}")
        assert await one.drain() == 3
        assert (await verify_export(database, tmp_path / "export")).ok
        # Once it is sealed, it may be taken out and kept elsewhere.
        sql(f"ALTER TABLE workhorse.events DETACH PARTITION workhorse.{month}")
        await one.drain()
        await sealer(database).drain()

    on_log(database_url, script)
