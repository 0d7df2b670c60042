"""What every store of sessions promises, whatever it is built on."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from secrets import token_bytes, token_hex
from typing import Any
from uuid import uuid4

import pytest

from tests.state.counters_kit import Place, migrated_place
from tests.state.sessions_kit import opened
from workhorse.contracts import Query, SessionRecord, SessionStore
from workhorse.embedded import Attachment
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.state.memory.sessions import MemorySessions
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.sessions import PostgresSessions
from workhorse.state.redis.connection import ask, close_redis, open_redis
from workhorse.state.redis.sessions import RedisSessions

NOW = 1_700_000_000.123456
"""Long ago; but the server of Redis frees memory by its own clock, so there a session begins now."""

Script = Callable[[SessionStore, float], Awaitable[Any]]


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


def running(backend: str, place: Place) -> Callable[[Script], Any]:
    def run(script: Script) -> Any:
        async def main() -> Any:
            async with opened(backend, place) as store:
                return await script(store, time.time() if backend == "redis" else NOW)

        return asyncio.run(main())

    return run


@pytest.fixture(params=["memory", "redis", "postgres"])
def run(request: pytest.FixtureRequest, place: Place) -> Callable[[Script], Any]:
    return running(request.param, place)


@pytest.fixture(params=["memory", "postgres"])
def run_purged(request: pytest.FixtureRequest, place: Place) -> Callable[[Script], Any]:
    """On a store that does not forget by itself."""
    return running(request.param, place)


def record(now: float, **changes: Any) -> SessionRecord:
    usual = SessionRecord(
        digest=token_bytes(32),
        public_id=token_hex(8),
        subject=f"alice-{uuid4().hex}",
        created=now,
        seen=now,
        expires=now + 43_200,
        idle_seconds=1800,
        grants=b"\x80\xff",
        data=b"\x00any\xffbytes",
        version=0,
    )
    return usual._replace(**changes)


def test_a_session_is_found_as_it_was_kept(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        kept = record(now, subject=f"https://id.example|ällice 'x' \"y\" {uuid4()}", data=b"")
        await store.insert(kept)
        assert await store.find(kept.digest, now=now) == pytest.approx(kept)
        assert await store.find(token_bytes(32), now=now) is None

    run(script)


def test_a_session_ends_when_it_idles_and_at_its_end_whatever_is_done(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        kept = record(now, expires=now + 2000)
        await store.insert(kept)
        assert await store.find(kept.digest, now=now + 1799) is not None
        assert await store.find(kept.digest, now=now + 1801) is None
        await store.touch(kept.digest, seen=now + 900)
        assert await store.find(kept.digest, now=now + 1999) is not None
        assert await store.find(kept.digest, now=now + 2001) is None
        assert await store.list(kept.subject, now=now + 2001) == []

    run(script)


def test_a_use_that_is_noted_late_does_not_undo_a_later_one(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        kept = record(now)
        await store.insert(kept)
        await store.touch(kept.digest, seen=now + 100)
        await store.touch(kept.digest, seen=now + 50)
        found = await store.find(kept.digest, now=now + 100)
        assert found is not None
        assert found.seen == pytest.approx(now + 100, abs=1e-5)

    run(script)


def test_of_two_writes_of_one_version_one_is_refused(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        kept = record(now)
        await store.insert(kept)
        # Two of them write the same: that of the one must not pass for that of the other.
        texts = [str(number // 2).encode() for number in range(8)]
        outcomes = await asyncio.gather(*(store.write(kept.digest, data=text, version=0) for text in texts))
        assert sorted(outcomes) == [False] * 7 + [True]
        found = await store.find(kept.digest, now=now)
        assert found is not None
        assert (found.data, found.version) == (texts[outcomes.index(True)], 1)
        assert found.grants == kept.grants
        assert await store.write(kept.digest, data=b"next", version=1)

    run(script)


def test_a_write_or_use_of_an_ended_session_does_not_bring_it_back(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        kept = record(now)
        await store.insert(kept)
        assert await store.delete(kept.digest)
        await store.touch(kept.digest, seen=now + 60)
        assert not await store.write(kept.digest, data=b"back", version=0)
        assert not await store.rotate(kept.digest, record(now, subject=kept.subject, version=1))
        assert await store.find(kept.digest, now=now) is None
        assert await store.list(kept.subject, now=now) == []
        assert not await store.delete(kept.digest)

    run(script)


def test_a_session_that_is_over_is_neither_used_nor_rotated_back_to_life(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        idle, old = record(now), record(now, expires=now + 60)
        for kept, late in ((idle, now + 1801), (old, now + 61)):
            await store.insert(kept)
            await store.touch(kept.digest, seen=late)
            assert await store.find(kept.digest, now=late) is None
            fresh = kept._replace(digest=token_bytes(32), seen=late, expires=late + 60, version=1)
            assert not await store.rotate(kept.digest, fresh)
            assert await store.find(fresh.digest, now=late) is None
            found = await store.find(kept.digest, now=now)
            assert found is not None
            assert found.seen == pytest.approx(now, abs=1e-5)

    run(script)


def test_whatever_is_under_way_when_a_session_ends_does_not_bring_it_back(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        for _ in range(10):
            kept = record(now)
            await store.insert(kept)
            fresh = kept._replace(digest=token_bytes(32), version=1)
            outcomes = await asyncio.gather(
                store.write(kept.digest, data=b"1", version=0),
                store.touch(kept.digest, seen=now + 60),
                store.delete_one(kept.subject, kept.public_id),
                store.write(kept.digest, data=b"2", version=0),
                store.rotate(kept.digest, fresh),
                store.touch(kept.digest, seen=now + 61),
            )
            assert outcomes[2] is True or outcomes[4] is True
            await store.delete_one(kept.subject, kept.public_id)
            assert await store.list(kept.subject, now=now) == []
            assert await store.find(kept.digest, now=now) is None
            assert await store.find(fresh.digest, now=now) is None

    run(script)


def test_a_rotated_session_is_found_by_its_new_secret_only(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        kept = record(now)
        await store.insert(kept)
        fresh = kept._replace(digest=token_bytes(32), grants=b"more", version=1)
        assert await store.rotate(kept.digest, fresh)
        assert await store.find(kept.digest, now=now) is None
        assert await store.find(fresh.digest, now=now) == pytest.approx(fresh)
        assert [one.digest for one in await store.list(kept.subject, now=now)] == [fresh.digest]
        assert await store.delete_one(kept.subject, kept.public_id)
        assert await store.find(fresh.digest, now=now) is None

    run(script)


def test_a_session_that_was_written_meanwhile_is_not_rotated(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        kept = record(now)
        await store.insert(kept)
        await store.write(kept.digest, data=b"meanwhile", version=0)
        fresh = kept._replace(digest=token_bytes(32), version=1)
        assert not await store.rotate(kept.digest, fresh)
        assert await store.find(fresh.digest, now=now) is None
        found = await store.find(kept.digest, now=now)
        assert found is not None
        assert found.data == b"meanwhile"

    run(script)


@pytest.mark.parametrize("backend", ["redis", "postgres"])
def test_what_is_sent_twice_because_an_answer_was_lost_says_the_same_as_once(backend: str, place: Place) -> None:
    async def main() -> None:
        async with opened(backend, place, twice=True) as store:
            now = time.time()
            kept = record(now)
            await store.insert(kept)
            assert len(await store.list(kept.subject, now=now)) == 1
            assert await store.write(kept.digest, data=b"1", version=0)
            assert not await store.write(kept.digest, data=b"1", version=0)
            await store.touch(kept.digest, seen=now + 60)
            fresh = kept._replace(digest=token_bytes(32), version=2)
            assert await store.rotate(kept.digest, fresh)
            assert [one.digest for one in await store.list(kept.subject, now=now)] == [fresh.digest]
            last = record(now, subject=kept.subject)
            await store.insert(last, replaces=fresh.digest)
            assert [one.digest for one in await store.list(kept.subject, now=now)] == [last.digest]
            await store.delete_all(kept.subject)
            assert await store.list(kept.subject, now=now) == []

    asyncio.run(main())


def test_a_login_ends_the_session_that_it_replaces_also_another_subjects(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        before, after = record(now), record(now)
        await store.insert(before)
        await store.insert(after, replaces=before.digest)
        assert await store.find(before.digest, now=now) is None
        assert await store.list(before.subject, now=now) == []
        assert await store.find(after.digest, now=now) is not None
        await store.insert(record(now), replaces=token_bytes(32))

    run(script)


def test_a_subject_lists_its_own_sessions_the_last_used_first_and_a_hundred_at_most(
    run: Callable[[Script], Any],
) -> None:
    async def script(store: SessionStore, now: float) -> None:
        first, other = record(now), record(now)
        await store.insert(other)
        await store.insert(first)
        for age in range(1, 105):
            await store.insert(record(now, subject=first.subject, seen=now - age))
        listed = await store.list(first.subject, now=now)
        assert [round(now - one.seen) for one in listed] == list(range(100))
        await store.touch(listed[40].digest, seen=now + 5)
        assert (await store.list(first.subject, now=now + 5))[0].public_id == listed[40].public_id

    run(script)


def test_all_sessions_of_a_subject_end_but_for_the_one_to_keep(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        mine = record(now)
        others = [record(now, subject=mine.subject) for _ in range(5)]
        stranger = record(now)
        for one in (mine, *others, stranger):
            await store.insert(one)
        assert not await store.delete_one(stranger.subject, mine.public_id)
        assert await store.delete_one(mine.subject, others[0].public_id)
        assert not await store.delete_one(mine.subject, others[0].public_id)
        assert await store.delete_all(mine.subject, keep=mine.public_id) == 4
        assert [one.digest for one in await store.list(mine.subject, now=now)] == [mine.digest]
        assert await store.delete_all(mine.subject) == 1
        assert await store.delete_all(mine.subject) == 0
        assert await store.find(mine.digest, now=now) is None
        assert await store.find(stranger.digest, now=now) is not None

    run(script)


def test_no_rotation_slips_through_while_all_sessions_end(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        for _ in range(20):
            kept = record(now)
            await store.insert(kept)
            fresh = kept._replace(digest=token_bytes(32), version=1)
            await asyncio.gather(store.rotate(kept.digest, fresh), store.delete_all(kept.subject))
            assert await store.find(kept.digest, now=now) is None
            assert await store.find(fresh.digest, now=now) is None

    run(script)


def test_what_has_ended_is_purged_and_what_is_alive_is_not(run_purged: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        idle, over, alive = record(now), record(now, expires=now + 60), record(now, idle_seconds=43_200)
        for one in (idle, over, alive):
            await store.insert(one)
        assert await store.purge(now=now + 30) == 0
        assert await store.purge(now=now + 1800 + 900) >= 2
        assert await store.purge(now=now + 1800 + 900) == 0
        assert await store.find(alive.digest, now=now + 2700) is not None

    run_purged(script)


def test_redis_forgets_a_session_and_its_index_by_itself(place: Place) -> None:
    async def main() -> None:
        client = open_redis(place.cache_url)
        prefix = f"{place.prefix}{uuid4().hex}:"

        async def keys() -> list[bytes]:
            found: list[bytes] = await ask(client, "KEYS", prefix + "*", timeout_seconds=1)
            return sorted(found)

        try:
            store = RedisSessions(client, prefix=prefix)
            now = time.time()
            kept = record(now, expires=now + 500)
            await store.insert(kept)
            index, session = sorted(await keys(), key=lambda key: b"sessions-of" not in key)
            assert 559_000 < await ask(client, "PTTL", session, timeout_seconds=1) <= 560_001
            assert 559_000 < await ask(client, "PTTL", index, timeout_seconds=1) <= 560_001
            await store.insert(record(now, subject=kept.subject, expires=now + 100))
            assert 559_000 < await ask(client, "PTTL", index, timeout_seconds=1) <= 560_001
            assert kept.subject.encode() not in index
            assert await store.purge(now=now + 1_000_000) == 0
            await store.delete_all(kept.subject)
            assert await keys() == []
        finally:
            await close_redis(client)

    asyncio.run(main())


def test_redis_ends_the_sessions_whose_index_it_has_evicted(place: Place) -> None:
    async def main() -> None:
        client = open_redis(place.cache_url)
        prefix = f"{place.prefix}{uuid4().hex}:"
        try:
            store = RedisSessions(client, prefix=prefix)
            kept = record(time.time())
            await store.insert(kept)
            (index,) = await ask(client, "KEYS", prefix + "sessions-of:*", timeout_seconds=1)
            await ask(client, "DEL", index, timeout_seconds=1)
            assert await store.find(kept.digest, now=kept.seen) is None
        finally:
            await close_redis(client)

    asyncio.run(main())


def test_redis_clears_a_subjects_index_of_sessions_that_are_gone(place: Place) -> None:
    async def main() -> None:
        client = open_redis(place.cache_url)
        try:
            store = RedisSessions(client, prefix=place.prefix)
            now = time.time()
            gone = record(now - 500, expires=now - 100)
            idled = record(now, subject=gone.subject)
            await store.insert(gone)
            await store.insert(idled)
            (index,) = [
                key
                for key in await ask(client, "KEYS", place.prefix + "sessions-of:*", timeout_seconds=1)
                if await ask(client, "ZSCORE", key, f"{idled.public_id}:{idled.digest.hex()}", timeout_seconds=1)
            ]
            assert await ask(client, "ZCARD", index, timeout_seconds=1) == 1
            await ask(client, "DEL", f"{place.prefix}session:{idled.digest.hex()}", timeout_seconds=1)
            assert await store.list(gone.subject, now=now) == []
            assert await ask(client, "EXISTS", index, timeout_seconds=1) == 0
        finally:
            await close_redis(client)

    asyncio.run(main())


def test_a_store_in_memory_makes_room_for_the_newest() -> None:
    async def main() -> None:
        store = MemorySessions(max_sessions=16)
        records = [record(NOW, seen=NOW + place) for place in range(17)]
        for one in records:
            await store.insert(one)
        assert len(store) == 15
        assert await store.find(records[1].digest, now=NOW) is None
        assert await store.find(records[2].digest, now=NOW) is not None
        assert await store.find(records[16].digest, now=NOW) is not None
        with pytest.raises(SettingsError, match="keeps nobody logged in"):
            MemorySessions(max_sessions=0)

    asyncio.run(main())


def test_a_use_that_is_noted_leaves_the_indexes_in_postgres_alone(place: Place) -> None:
    async def main() -> None:
        database = PostgresDatabase(place.database_url, pool_max=1)
        await database.open()
        try:
            store = PostgresSessions(database)

            async def updates() -> tuple[int, int]:
                await database.run(Query("SELECT pg_stat_force_next_flush()"))
                ((all_of_them, within_the_page),) = await database.run(
                    Query("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'")
                )
                return all_of_them, within_the_page

            start = NOW - NOW % 900
            kept = record(start)
            await store.insert(kept)
            before = await updates()
            for minute in range(1, 11):
                await store.touch(kept.digest, seen=start + 60 * minute)
            after = await updates()
            assert (after[0] - before[0], after[1] - before[1]) == (10, 10)
        finally:
            await database.close()

    asyncio.run(main())


def test_a_server_that_never_answers_is_given_up_in_time(place: Place) -> None:
    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(16)
            client = open_redis(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", timeout_seconds=0.3)
            try:
                store = RedisSessions(client, timeout_seconds=0.3)
                with pytest.raises(StoreUnavailable):
                    await store.find(token_bytes(32), now=NOW)
                with pytest.raises(StoreUnavailable):
                    await store.insert(record(NOW))
            finally:
                await close_redis(client)
        database, blocker = (PostgresDatabase(place.database_url, pool_max=2) for _ in range(2))
        await database.open()
        await blocker.open()
        try:
            sessions = PostgresSessions(database, timeout_seconds=0.3)
            transaction, _ = await blocker.begin(Query("LOCK TABLE workhorse.sessions"))
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await sessions.find(token_bytes(32), now=NOW)
            assert time.monotonic() - began < 2
            await transaction.rollback()
            assert await sessions.find(token_bytes(32), now=NOW) is None
        finally:
            await database.close()
            await blocker.close()

    asyncio.run(main())


def test_a_subject_with_a_nul_never_becomes_that_of_another(run: Callable[[Script], Any]) -> None:
    async def script(store: SessionStore, now: float) -> None:
        alice = f"alice-{uuid4().hex}"
        kept = record(now, subject=f"{alice}\0mallory")
        with suppress(ValueError):  # of Postgres, which cannot keep it
            await store.insert(kept)
            assert await store.find(kept.digest, now=now) == pytest.approx(kept)
        assert await store.list(alice, now=now) == []

    run(script)
