"""API keys are made, replaced and ended, and it is noted when they were last used."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.identity.keys_kit import Watched, refused, shown
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.identity import ApiKeys, Identity, KeyDesk
from workhorse.identity.key_uses import KeyUses
from workhorse.identity.scheme import Surroundings
from workhorse.identity.texts import TextRefused
from workhorse.migrations import WORKHORSE
from workhorse.settings import load_settings
from workhorse.state.memory.api_keys import MemoryApiKeys
from workhorse.state.postgres.api_keys import PostgresApiKeys
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.telemetry.log import Log

# How keys are made and ended


def test_a_rotated_key_and_the_new_one_work_side_by_side_for_the_overlap() -> None:
    async def main() -> None:
        store = Watched()
        async with Identity(keys := ApiKeys(store)):
            old = await keys.create("payroll", name="batch", scopes=["a"], tenant="bank", expires=time.time() + 9_000)
            await keys.verify(shown(old), time.time())
            new = await keys.rotate(old.record.prefix, overlap_seconds=600)
            assert new is not None
            now = time.time()
            assert (await keys.verify(shown(old), now + 590)).expires == pytest.approx(now + 600, abs=5)
            fresh = await keys.verify(shown(new), now + 590)
            assert (fresh.subject, set(fresh.scopes), fresh.tenant) == ("payroll", {"a"}, "bank")
            assert fresh.expires == pytest.approx(now + 9_000, abs=5)
            assert keys.recall(shown(old), now + 606) is None
            assert await refused(keys, shown(old), now + 606) == "expired"

    asyncio.run(main())


def test_a_key_that_leaked_is_rotated_without_an_overlap() -> None:
    async def main() -> None:
        async with Identity(keys := ApiKeys(Watched())):
            old = await keys.create("payroll", name="batch")
            await keys.verify(shown(old), time.time())
            assert await keys.rotate(old.record.prefix, overlap_seconds=0) is not None
            assert keys.recall(shown(old), time.time()) is None
            assert await refused(keys, shown(old)) == "expired"
            assert await keys.rotate(old.record.prefix) is None

    asyncio.run(main())


def test_nobody_ends_or_replaces_the_key_of_another() -> None:
    async def main() -> None:
        async with Identity(keys := ApiKeys(Watched())):
            key = await keys.create("payroll", name="batch")
            assert not await keys.revoke(key.record.prefix, owner="mallory")
            assert await keys.rotate(key.record.prefix, owner="mallory") is None
            assert (await keys.verify(shown(key), time.time())).subject == "payroll"
            assert await keys.revoke(key.record.prefix, owner="payroll")
            assert not await keys.revoke(key.record.prefix)
            assert not await keys.revoke("wh_never")

    asyncio.run(main())


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["U+0000", "half a pair"])
def test_a_text_that_no_store_can_keep_names_no_key_and_is_the_clients_fault(text: str, database_url: str) -> None:
    async def main() -> None:
        await apply_migrations(database_url, [WORKHORSE])
        database = PostgresDatabase(database_url)
        await database.open()
        keys = KeyDesk(PostgresApiKeys(database))
        for subject, name in ((text, "n"), ("s", text)):
            with pytest.raises(TextRefused) as refused:
                await keys.create(subject, name=name)
            assert refused.value.status == 422
        assert not await keys.revoke(text)
        assert await keys.rotate(text) is None
        assert await keys.list(text) == ()
        assert await keys.revoke_all(text) == 0
        await database.close()

    asyncio.run(main())


def test_all_keys_of_a_subject_end_here_at_once() -> None:
    async def main() -> None:
        async with Identity(keys := ApiKeys(Watched())):
            mine = [await keys.create("payroll", name=str(number)) for number in range(3)]
            other = await keys.create("audit", name="reader")
            for key in (*mine, other):
                await keys.verify(shown(key), time.time())
            assert await keys.revoke_all("payroll") == 3
            assert not any(keys.recall(shown(key), time.time()) for key in mine)
            assert [await refused(keys, shown(key)) for key in mine] == ["revoked"] * 3
            assert (await keys.verify(shown(other), time.time())).subject == "audit"
            assert {record.revoked is not None for record in await keys.list("payroll")} == {True}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subject": ""}, "the subject of an API key"),
        ({"subject": "a\0b"}, "printable"),
        ({"name": ""}, "the name of an API key"),
        ({"name": "\ud800"}, "printable"),
        ({"tenant": "x" * 256}, "256 characters"),
        ({"scopes": ["a b"]}, "no scope"),
        ({"scopes": [str(number) for number in range(101)]}, "101 scopes"),
        ({"expires": 1.0}, "is over"),
        ({"expires": float("nan")}, "is over or no time"),
    ],
)
def test_what_no_key_can_have_is_refused(fields: dict[str, Any], reason: str) -> None:
    keys = ApiKeys(MemoryApiKeys())
    with pytest.raises(ValueError, match=reason):
        asyncio.run(keys.create(**{"subject": "payroll", "name": "batch", **fields}))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"known_seconds": 301}, "a revoked key may still work"),
        ({"known_seconds": -1}, "a revoked key may still work"),
        ({"realm": 'a"b'}, "without quotes"),
        ({"max_known": 0}, "at least 1"),
        ({"flush_seconds": 0}, "above 0"),
        ({"brand": "WH"}, "lower-case"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        ApiKeys(MemoryApiKeys(), **options)


def test_the_services_store_is_taken_where_none_is_named(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)

    async def main() -> None:
        keys = ApiKeys()
        with pytest.raises(SettingsError, match="no store of API keys"):
            keys.bind(Surroundings(settings=settings))
        with pytest.raises(SettingsError, match="no store of API keys"):
            await keys.open()
        keys.bind(Surroundings(settings=settings, api_keys=Watched()))
        async with Identity(keys):
            key = await keys.create("payroll", name="batch")
            assert (await keys.verify(shown(key), time.time())).subject == "payroll"

    asyncio.run(main())


# When a key was last used


def test_uses_are_gathered_and_written_now_and_then_and_at_the_end() -> None:
    async def main() -> None:
        store = Watched()
        keys = ApiKeys(store, flush_seconds=0.05)
        await keys.open()
        key = await keys.create("payroll", name="batch")
        await keys.verify(shown(key), 1_800_000_000.0)
        for later in range(100):
            keys.recall(shown(key), 1_800_000_000.0 + later)
        assert store.noted == []
        async with asyncio.timeout(5):
            while not store.noted:
                await asyncio.sleep(0.01)
        assert store.noted == [{key.record.prefix: 1_800_000_099.0}]
        keys.recall(shown(key), 1_800_000_200.0)
        await keys.close()
        ((kept),) = await store.list("payroll")
        assert kept.used == 1_800_000_200.0

    asyncio.run(main())


def test_uses_are_kept_while_the_store_is_away_and_an_older_one_never_replaces_a_newer() -> None:
    async def main() -> None:
        store = Watched()
        keys = ApiKeys(store, flush_seconds=0.02)
        key = await keys.create("payroll", name="batch")
        await keys.verify(shown(key), 1_800_000_000.0)
        store.away = True
        await asyncio.sleep(0.1)
        keys.recall(shown(key), 1_800_000_007.0)
        store.away = False
        await keys.close()
        assert [noted[key.record.prefix] for noted in store.noted] == [1_800_000_007.0]

    asyncio.run(main())


def test_a_use_during_a_write_that_fails_is_the_one_that_is_kept() -> None:
    async def main() -> None:
        store = Watched()
        uses = KeyUses(lambda: store, capacity=10, every_seconds=60)
        uses.note("wh_a", 1.0)
        uses.note("wh_b", 1.0)
        store.gate.clear()
        store.away = True
        writing = asyncio.create_task(uses.flush())
        await asyncio.sleep(0)
        uses.note("wh_a", 2.0)
        store.gate.set()
        with pytest.raises(StoreUnavailable):
            await writing
        store.away = False
        await uses.flush()
        assert store.noted == [{"wh_a": 2.0, "wh_b": 1.0}]
        assert len(uses) == 0

    asyncio.run(main())


def test_many_uses_are_written_in_portions_and_none_twice() -> None:
    async def main() -> None:
        store = Watched()
        uses = KeyUses(lambda: store, capacity=5_000, every_seconds=60)
        for number in range(2_500):
            uses.note(f"wh_{number}", float(number))
        await uses.flush()
        await uses.flush()
        assert [len(noted) for noted in store.noted] == [1_000, 1_000, 500]
        assert len({prefix for noted in store.noted for prefix in noted}) == 2_500

    asyncio.run(main())


def test_uses_that_cannot_be_written_at_the_end_are_told(tmp_path: Path) -> None:
    async def main(log: Log) -> None:
        store = Watched()
        keys = ApiKeys(store, log=log)
        key = await keys.create("payroll", name="batch")
        await keys.verify(shown(key), time.time())
        store.away = True
        await keys.close()

    path = tmp_path / "log"
    with path.open("wb") as stream:
        log = Log(stream.fileno())
        asyncio.run(main(log))
        log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["event"], line.get("lost")) for line in lines] == [
        ("api_key.created", None),
        ("api_key.uses_not_noted", 1),
    ]


def test_the_uses_that_are_gathered_are_bounded() -> None:
    async def main() -> None:
        store = Watched()
        keys = ApiKeys(store, max_uses=10)
        for _ in range(25):
            await keys.verify(shown(await keys.create("payroll", name="batch")), time.time())
        await keys.close()
        assert [len(noted) for noted in store.noted] == [10]

    asyncio.run(main())
