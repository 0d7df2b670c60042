"""What every store of API keys promises, whatever it is built on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import pytest

from tests.state.counters_kit import Place, Wire, migrated_place
from workhorse.contracts import ApiKeyRecord, ApiKeyStore
from workhorse.embedded import Attachment
from workhorse.errors import StoreUnavailable
from workhorse.state.memory.api_keys import MemoryApiKeys
from workhorse.state.postgres.api_keys import PostgresApiKeys
from workhorse.state.postgres.database import PostgresDatabase

NOW = 1_800_000_000.000001
DAY = 86_400.0

Script = Callable[[ApiKeyStore], Awaitable[Any]]
Run = Callable[[Script], Any]


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(url, pool_max=4)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture(params=["memory", "postgres"])
def run(request: pytest.FixtureRequest, place: Place) -> Run:
    def run(script: Script) -> Any:
        async def main() -> Any:
            if request.param == "memory":
                return await script(MemoryApiKeys())
            async with opened(place.database_url) as database:
                return await script(PostgresApiKeys(database))

        return asyncio.run(main())

    return run


def key(subject: str = "", **fields: Any) -> ApiKeyRecord:
    prefix = "wh_" + uuid4().hex[:12]
    record = ApiKeyRecord(
        prefix, sha256(prefix.encode()).digest(), subject or uuid4().hex, "batch", (), "", NOW, None, None, None
    )
    return record._replace(**fields)


def test_a_key_is_found_as_it_was_kept(run: Run) -> None:
    record = key(
        name='the "night" batch, \\ {ä,ß} \u2603',
        scopes=("transfers:write", 'a"b', "back\\slash", "{x,y}", "NULL"),
        tenant="bank of {braces}",
        expires=round(NOW + DAY + 0.123456, 6),
        revoked=round(NOW + 0.000007, 6),
        used=NOW + 1,
    )

    async def script(store: ApiKeyStore) -> tuple[bool, ApiKeyRecord | None, ApiKeyRecord | None]:
        return await store.insert(record), await store.find(record.prefix), await store.find("wh_never")

    assert run(script) == (True, record, None)


def test_a_prefix_stands_for_one_key_and_the_same_insert_may_come_twice(run: Run) -> None:
    record = key()
    other = record._replace(digest=bytes(32), subject="mallory")

    async def script(store: ApiKeyStore) -> tuple[list[bool], ApiKeyRecord | None]:
        return [await store.insert(one) for one in (record, record, other)], await store.find(record.prefix)

    assert run(script) == ([True, True, False], record)


def test_a_subject_sees_its_own_keys_those_that_work_and_the_newest_first(run: Run) -> None:
    keys = [key("ann-" + uuid4().hex)]
    keys += [key(keys[0].subject, created=NOW + age) for age in (1, 2, 3)]

    async def script(store: ApiKeyStore) -> list[str]:
        for one in (*keys, key()):
            await store.insert(one)
        await store.revoke(keys[3].prefix, at=NOW + 4)
        assert await store.list("nobody") == []
        return [one.prefix for one in await store.list(keys[0].subject)]

    assert run(script) == [keys[place].prefix for place in (2, 1, 0, 3)]


def test_a_key_ends_once(run: Run) -> None:
    alive, expired = key(), key(expires=NOW + 1)

    async def script(store: ApiKeyStore) -> list[Any]:
        await store.insert(alive)
        await store.insert(expired)
        ended = [await store.revoke(alive.prefix, at=NOW + 2), await store.revoke(alive.prefix, at=NOW + 3)]
        ended += [await store.revoke(prefix, at=NOW + 2) for prefix in (expired.prefix, "wh_never")]
        kept = await store.find(alive.prefix)
        assert kept is not None
        return [*ended, kept.revoked]

    assert run(script) == [True, False, False, False, NOW + 2]


def test_all_keys_of_a_subject_end_at_once_and_nobody_elses(run: Run) -> None:
    first, second, over = (key("ann-1" + uuid4().hex) for _ in range(3))
    second, over = second._replace(subject=first.subject), over._replace(subject=first.subject, expires=NOW)
    other = key()

    async def script(store: ApiKeyStore) -> list[Any]:
        for one in (first, second, over, other):
            await store.insert(one)
        ended = [await store.revoke_all(first.subject, at=NOW + at) for at in (1, 2)]
        found = [await store.find(one.prefix) for one in (first, second, over, other)]
        return [*ended, *(one.revoked if one else "gone" for one in found)]

    assert run(script) == [2, 0, NOW + 1, NOW + 1, None, None]


def test_a_rotated_key_works_on_for_the_overlap(run: Run) -> None:
    old = key(expires=NOW + 100 * DAY)
    fresh = key(old.subject, created=NOW + 1)

    async def script(store: ApiKeyStore) -> tuple[Any, ...]:
        await store.insert(old)
        # The same twice, as after a lost answer, is done once.
        done = [await store.rotate(old.prefix, fresh, ends=NOW + DAY, now=NOW + 1) for _ in range(2)]
        return done[0], await store.find(old.prefix), await store.find(fresh.prefix)

    assert run(script) == (True, old._replace(expires=NOW + DAY), fresh)


def test_an_overlap_never_gives_a_key_more_time(run: Run) -> None:
    old = key(expires=NOW + 60)

    async def script(store: ApiKeyStore) -> Any:
        await store.insert(old)
        assert await store.rotate(old.prefix, key(old.subject), ends=NOW + DAY, now=NOW)
        return await store.find(old.prefix)

    assert run(script) == old


@pytest.mark.parametrize("why", ["unknown", "revoked", "expired"])
def test_a_key_that_has_ended_gives_no_other(run: Run, why: str) -> None:
    old, fresh = key(expires=NOW + 10), key()

    async def script(store: ApiKeyStore) -> tuple[bool, Any]:
        if why != "unknown":
            await store.insert(old)
        if why == "revoked":
            await store.revoke(old.prefix, at=NOW + 1)
        now = NOW + (10 if why == "expired" else 2)
        return await store.rotate(old.prefix, fresh, ends=NOW + DAY, now=now), await store.find(fresh.prefix)

    assert run(script) == (False, None)


def test_rotations_at_the_same_time_give_one_new_key_when_nothing_overlaps(run: Run) -> None:
    old = key()
    fresh = [key(old.subject) for _ in range(6)]

    async def script(store: ApiKeyStore) -> tuple[int, int]:
        await store.insert(old)
        done = await asyncio.gather(*(store.rotate(old.prefix, one, ends=NOW + 1, now=NOW + 1) for one in fresh))
        return sum(done), len(await store.list(old.subject))

    assert run(script) == (1, 2)


def test_the_last_use_never_goes_back(run: Run) -> None:
    one, other = key(), key()

    async def script(store: ApiKeyStore) -> list[float | None]:
        await store.insert(one)
        await store.insert(other)
        seen: list[float | None] = []
        for uses in ({one.prefix: NOW + 5}, {one.prefix: NOW + 3, other.prefix: NOW + 4, "wh_never": NOW}, {}):
            await store.note_use(uses)
            found = [await store.find(record.prefix) for record in (one, other)]
            seen += [record.used if record else -1 for record in found]
        return seen

    assert run(script) == [NOW + 5, None, NOW + 5, NOW + 4, NOW + 5, NOW + 4]


def test_two_processes_that_note_the_same_keys_do_not_block_each_other(place: Place) -> None:
    async def main() -> list[ApiKeyRecord | None]:
        keys = [key() for _ in range(200)]
        async with opened(place.database_url) as one, opened(place.database_url) as other:
            stores = [PostgresApiKeys(one), PostgresApiKeys(other)]
            for record in keys:
                await stores[0].insert(record)
            uses = {record.prefix: NOW + 1 for record in keys}
            backwards = dict.fromkeys(reversed(uses), NOW + 2)
            await asyncio.gather(*(store.note_use(given) for store in stores for given in (uses, backwards) * 3))
            return [await stores[0].find(record.prefix) for record in keys]

    assert {record.used for record in asyncio.run(main()) if record is not None} == {NOW + 2}


def test_more_uses_than_fit_into_one_statement_are_refused(place: Place) -> None:
    async def main() -> None:
        async with opened(place.database_url) as database:
            with pytest.raises(ValueError, match="at most 1000 at once"):
                await PostgresApiKeys(database).note_use({str(number): NOW for number in range(1_001)})

    asyncio.run(main())


def test_a_server_that_falls_silent_is_away_within_the_deadline(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("k")  # short, for a socket's path
    parts = urlsplit(place.database_url)
    socket = Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"
    url = parts._replace(query=urlencode({"host": str(folder)})).geturl()

    async def main() -> float:
        async with Wire(socket, folder / socket.name) as wire:
            database = PostgresDatabase(url, pool_max=2)
            await database.open()
            try:
                store = PostgresApiKeys(database, timeout_seconds=0.3)
                assert await store.find("wh_never") is None
                wire.silence()
                began = asyncio.get_running_loop().time()
                with pytest.raises(StoreUnavailable):
                    await store.find("wh_never")
                return asyncio.get_running_loop().time() - began
            finally:
                await wire.cut()
                await database.close()

    assert asyncio.run(main()) < 2


def test_the_store_in_memory_is_bounded() -> None:
    async def main() -> None:
        store = MemoryApiKeys(max_keys=2)
        first = key()
        for record in (first, key(), first):
            assert await store.insert(record)
        with pytest.raises(StoreUnavailable, match="too many API keys"):
            await store.insert(key())

    asyncio.run(main())
