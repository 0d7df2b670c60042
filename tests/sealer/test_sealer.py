"""The sealer seals each event once, signs what is committed, and carries on no log but the one that it signed."""

from pathlib import Path
from typing import Any

from tests.sealer.kit import emit, on_log, sealer, verify_export


def test_what_is_sealed_is_verified_offline_with_the_public_key_alone(database_url: str, tmp_path: Path) -> None:
    async def script(database: Any, sql: Any) -> None:
        one = sealer(database, batch=100)
        await emit(database, 700)
        # The first event of all tells of the key, and is sealed like any other.
        assert await one.drain() == 701
        assert await one.drain() == 0
        report = await verify_export(database, tmp_path / "export")
        assert report.ok, report.findings
        assert (report.size, report.events) == (701, 701)

    on_log(database_url, script)
