"""Who made, replaced and ended API keys is in the journal; the keys are not."""

import asyncio

import psycopg
import pytest
from fastapi import FastAPI

from tests.asgi_client import running
from workhorse import Service
from workhorse.errors import Problem
from workhorse.identity import ApiKeys
from workhorse.settings import Settings


def test_each_change_of_a_key_leaves_a_record_without_the_key(settings: Settings, database_url: str) -> None:
    keys, texts = ApiKeys(), list[str]()

    async def main() -> None:
        async with running(Service(FastAPI(openapi_url=None, docs_url=None), identity=keys, settings=settings)):
            first = await keys.create("payroll", name="night batch", scopes=["transfers:write"])
            second = await keys.rotate(first.record.prefix, overlap_seconds=60)
            assert second is not None
            assert await keys.revoke(second.record.prefix)
            assert not await keys.revoke("wh_never")
            assert await keys.revoke_all("payroll") == 1
            assert await keys.revoke_all("payroll") == 0
            texts.extend((first.text, second.text))

    asyncio.run(main())
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT type, subject, data FROM workhorse.events WHERE type LIKE 'audit.api%%' ORDER BY id"
        ).fetchall()
    assert [(kind, subject) for kind, subject, _ in rows] == [
        ("audit.api_key_created", "payroll"),
        ("audit.api_key_rotated", "payroll"),
        ("audit.api_key_revoked", "payroll"),
        ("audit.api_key_revoked", "payroll"),
    ]
    assert rows[0][2]["scopes"] == ["transfers:write"]
    assert rows[1][2]["replaces"] == rows[0][2]["prefix"]
    assert rows[3][2] == {"keys": 1}
    assert not any(text in str(rows) or text.rpartition("_")[2] in str(rows) for text in texts)


def test_where_nothing_goes_without_its_record_nobody_is_given_a_key(settings: Settings, database_url: str) -> None:
    records = settings.records.model_copy(update={"fail_closed": True, "store_timeout_seconds": 0.5})
    keys = ApiKeys()

    async def main() -> None:
        service = Service(
            FastAPI(openapi_url=None, docs_url=None),
            identity=keys,
            settings=settings.model_copy(update={"records": records}),
        )
        async with running(service):
            with psycopg.connect(database_url) as other:
                other.execute("LOCK TABLE workhorse.events IN ACCESS EXCLUSIVE MODE")
                with pytest.raises(Problem, match="could not be stored"):
                    await keys.create("payroll", name="night batch")

    asyncio.run(main())
