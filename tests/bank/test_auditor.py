"""The demo's auditor: a real log, a real edit, and the verbs that an auditor types."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from bank.auditor import Auditor, Finding
from tests.sealer.kit import Sql, on_log
from workhorse.sealer.hosting import sealing
from workhorse.settings import load_settings

POSTED = """
INSERT INTO workhorse.events (id, occurred_at, type, subject, data)
SELECT gen_random_uuid(), now(), 'transfer.posted', n::text, jsonb_build_object('transfer', n, 'amount', '12.50')
FROM generate_series(1, 30) AS n
"""


@pytest.mark.slow
def test_an_amount_that_was_changed_in_the_journal_is_named_and_put_back(database_url: str, tmp_path: Path) -> None:
    auditor = Auditor(tmp_path, database_url)
    given = auditor.settings()
    settings = load_settings(
        tmp_path,
        database={"url": database_url},
        audit={"origin": given["WORKHORSE_AUDIT__ORIGIN"], "key_file": given["WORKHORSE_AUDIT__KEY_FILE"]},
    )

    async def script(database: object, sql: Sql) -> Finding:
        sql(POSTED)
        async with sealing(settings, database):  # type: ignore[arg-type]
            return await asyncio.to_thread(auditor.find_an_edit)

    finding = on_log(database_url, script)
    assert finding.found, finding.said
    assert finding.sealed == 31  # with the event that tells of the key
    assert auditor.settings() == given  # the key is made once
    with psycopg.connect(database_url) as connection:
        amounts = connection.execute(
            "SELECT DISTINCT data->>'amount' FROM workhorse.events WHERE type = 'transfer.posted'"
        ).fetchall()
    assert amounts == [("12.50",)]
