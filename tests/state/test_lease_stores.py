"""What every store of leases promises, whatever it is built on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from secrets import token_bytes
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.state.cache_kit import BACKENDS, SHARED_BACKENDS, OwnValkey, opened_leases, postgres_database, redis_client
from tests.state.counters_kit import Place, VirtualTime, migrated_place
from workhorse.contracts import LeaseAnswer, LeaseGuarantee, LeaseStore, Query
from workhorse.embedded import Attachment
from workhorse.errors import StoreUnavailable
from workhorse.state.memory.lease import MAX_LEASES, MemoryLeases
from workhorse.state.postgres.lease import PostgresLeases
from workhorse.state.redis.lease import RedisLeases

Script = Callable[[LeaseStore], Awaitable[Any]]
Run = Callable[[Script], Any]


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


def running(backend: str, place: Place, *, twice: bool = False) -> Run:
    def run(script: Script) -> Any:
        async def main() -> Any:
            async with opened_leases(backend, place, twice=twice) as store:
                return await script(store)

        return asyncio.run(main())

    return run


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest, place: Place) -> Run:
    return running(request.param, place)


@pytest.fixture(params=SHARED_BACKENDS)
def run_twice(request: pytest.FixtureRequest, place: Place) -> Run:
    """On a store that loses each answer, and asks again."""
    return running(request.param, place, twice=True)


def new() -> str:
    return f"läase 'of' {uuid4().hex}"


def test_a_lease_is_one_holders_until_it_is_released(run: Run) -> None:
    async def script(store: LeaseStore) -> None:
        name, first, second = new(), token_bytes(16), token_bytes(16)
        answer = await store.acquire(name, first, seconds=60)
        assert answer.token > 0
        assert 59 <= answer.left_seconds <= 60
        other = await store.acquire(name, second, seconds=60)
        assert other.token == 0
        assert 50 < other.left_seconds <= 60
        assert not await store.renew(name, second, seconds=60)
        assert not await store.release(name, second)
        assert await store.renew(name, first, seconds=120)
        assert 60 < (await store.acquire(name, second, seconds=60)).left_seconds <= 120
        assert await store.release(name, first)
        assert not await store.release(name, first)
        assert not await store.renew(name, first, seconds=60)
        assert (await store.acquire(name, second, seconds=60)).token > answer.token

    run(script)


def test_a_lease_that_is_not_renewed_ends_and_the_next_token_is_larger(run: Run) -> None:
    async def script(store: LeaseStore) -> None:
        name, first, second = new(), token_bytes(16), token_bytes(16)
        token = (await store.acquire(name, first, seconds=0.05)).token
        await asyncio.sleep(0.1)
        assert not await store.renew(name, first, seconds=60)
        assert not await store.release(name, first)
        assert (await store.acquire(name, second, seconds=60)).token > token

    run(script)


def test_names_are_apart(run: Run) -> None:
    async def script(store: LeaseStore) -> None:
        names = [new() for _ in range(5)]
        answers = [await store.acquire(name, token_bytes(16), seconds=60) for name in names]
        assert all(answer.token > 0 for answer in answers)

    run(script)


def test_of_many_that_want_it_at_once_one_gets_it(run: Run) -> None:
    async def script(store: LeaseStore) -> None:
        name = new()
        for _ in range(3):
            holders = [token_bytes(16) for _ in range(16)]
            answers = await asyncio.gather(*(store.acquire(name, holder, seconds=60) for holder in holders))
            assert sum(answer.token > 0 for answer in answers) == 1
            assert sum([await store.release(name, holder) for holder in holders]) == 1

    run(script)


def test_a_second_run_after_a_lost_answer_gives_the_same_token(run_twice: Run) -> None:
    async def script(store: LeaseStore) -> None:
        name, holder = new(), token_bytes(16)
        answer = await store.acquire(name, holder, seconds=60)
        assert answer.token > 0
        assert (await store.acquire(name, holder, seconds=60)).token == answer.token
        assert await store.renew(name, holder, seconds=60)
        await store.release(name, holder)
        assert (await store.acquire(name, token_bytes(16), seconds=60)).token > answer.token

    run_twice(script)


def test_each_store_declares_what_it_promises(place: Place) -> None:
    declared = {}
    for backend in BACKENDS:

        async def script(store: LeaseStore, backend: str = backend) -> None:
            declared[backend] = store.guarantees

        running(backend, place)(script)
    assert declared == {
        "memory": LeaseGuarantee.FENCED,
        "redis": LeaseGuarantee.SHARED | LeaseGuarantee.FENCED,
        "postgres": LeaseGuarantee.SHARED | LeaseGuarantee.FENCED | LeaseGuarantee.DURABLE,
    }


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["acquire", "renew", "release", "wait"]), st.integers(0, 2), st.integers(1, 30)),
        max_size=40,
    )
)
def test_there_is_never_a_second_holder_and_tokens_only_grow(steps: list[tuple[str, int, int]]) -> None:
    async def main() -> None:
        clock = VirtualTime(0)
        store = MemoryLeases(clock=lambda: clock.now_us / 1e6)
        holders = [bytes([number]) * 16 for number in range(3)]
        ends: dict[int, float] = {}
        last = 0
        for what, who, seconds in steps:
            now = clock.now_us / 1e6
            others = [other for other, end in ends.items() if end > now and other != who]
            mine = ends.get(who, 0) > now
            if what == "acquire":
                answer = await store.acquire("name", holders[who], seconds=seconds)
                assert (answer.token > 0) == (not others)
                if answer.token and not mine:
                    assert answer.token > last
                    last, ends = answer.token, {who: now + seconds}
            elif what == "renew":
                assert await store.renew("name", holders[who], seconds=seconds) == mine
                if mine:
                    ends[who] = now + seconds
            elif what == "release":
                assert await store.release("name", holders[who]) == mine
                ends.pop(who, None)
            else:
                clock.now_us += seconds * 1_000_000

    asyncio.run(main())


def test_tokens_of_memory_grow_from_one_process_to_the_next() -> None:
    async def main() -> None:
        tokens = [
            (await store.acquire(name, token_bytes(16), seconds=60)).token
            for store in (MemoryLeases(), MemoryLeases())
            for name in ("a", "b", "c")
        ]
        assert tokens == sorted(set(tokens))

    asyncio.run(main())


def test_tokens_of_redis_grow_even_where_the_last_one_was_forgotten(place: Place) -> None:
    async def main() -> None:
        async with redis_client(place.cache_url) as client:
            store, name = RedisLeases(client, prefix=place.prefix), new()
            tokens = []
            for _ in range(5):
                tokens.append((await store.acquire(name, token_bytes(16), seconds=60)).token)
                for key in await client.execute(["KEYS", place.prefix + "lease:*"]):
                    await client.execute(["DEL", key])
            assert tokens == sorted(set(tokens))

    asyncio.run(main())


def test_leases_and_tokens_of_redis_outlive_a_kill_with_an_append_only_file(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def main() -> None:
        with OwnValkey(tmp_path_factory.mktemp("v"), "--appendonly", "yes") as server:
            async with redis_client(server.url) as client:
                store, holder = RedisLeases(client), token_bytes(16)
                token = (await store.acquire("name", holder, seconds=60)).token
                await asyncio.to_thread(server.kill)
                with pytest.raises(StoreUnavailable):
                    await store.renew("name", holder, seconds=60)
                await asyncio.to_thread(server.start)
                assert (await store.acquire("name", token_bytes(16), seconds=60)).token == 0
                assert await store.release("name", holder)
                assert (await store.acquire("name", token_bytes(16), seconds=60)).token > token

    asyncio.run(main())


def test_names_that_nobody_held_for_a_day_are_forgotten_and_their_tokens_grow_all_the_same(place: Place) -> None:
    async def main() -> None:
        async with postgres_database(place.database_url) as database:
            store, old, recent = PostgresLeases(database), new(), new()
            before = [await store.acquire(name, token_bytes(16), seconds=60) for name in (old, recent)]
            age = "UPDATE workhorse.leases SET ends_at = now() - %s::text::interval WHERE name = %s"
            await database.run(Query(age, ("25 hours", old)))
            await database.run(Query(age, ("23 hours", recent)))
            assert await store.purge() == 1
            assert await store.purge() == 0
            after = await store.acquire(old, token_bytes(16), seconds=60)
            assert after.token > max(answer.token for answer in before)

    asyncio.run(main())


def test_a_process_holds_a_bounded_number_of_leases_and_forgets_those_that_ended() -> None:
    async def main() -> LeaseAnswer:
        clock = VirtualTime(0)
        store = MemoryLeases(clock=lambda: clock.now_us / 1e6)
        for number in range(MAX_LEASES):
            await store.acquire(str(number), b"h", seconds=1)
        with pytest.raises(StoreUnavailable, match="too many leases"):
            await store.acquire("one more", b"h", seconds=1)
        clock.now_us += 2_000_000
        return await store.acquire("one more", b"h", seconds=1)

    assert asyncio.run(main()).token > MAX_LEASES
