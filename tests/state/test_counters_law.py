"""The law of the cell rate: in any span of t microseconds at most capacity + t / interval are admitted."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.state.counters_kit import Place, VirtualTime, Watched, migrated_place, worst_excess_us
from workhorse.contracts import Query
from workhorse.embedded import Attachment
from workhorse.rate import Quota
from workhorse.sql import load_queries
from workhorse.state.gcra import settle, take_one
from workhorse.state.lending import LendingCounters
from workhorse.state.memory.counters import MemoryCounters
from workhorse.state.postgres.counters import array, digest
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.redis.connection import close_redis, open_redis
from workhorse.state.redis.counters import TAKE

quotas = st.builds(Quota, st.just("key"), st.one_of(st.integers(1, 20), st.integers(1_000, 90_000)), st.integers(1, 60))


@given(
    interval=st.integers(1, 10**10),
    capacity=st.integers(1, 10**5),
    ahead=st.integers(-(10**12), 10**15),
    cost=st.integers(1, 10**5),
)
def test_what_a_grant_says_comes_true(interval: int, capacity: int, ahead: int, cost: int) -> None:
    now, quota, cost = 10**15, Quota("key", interval, capacity), min(cost, capacity)
    tat, grant = take_one(now + ahead, now, quota, cost)
    if not grant.admitted:
        assert tat == now + ahead
        assert not take_one(tat, now + grant.retry_after_us - 1, quota, cost)[1].admitted
        assert take_one(tat, now + grant.retry_after_us, quota, cost)[1].admitted
    else:
        assert grant.retry_after_us == 0
        assert tat >= max(now + ahead, now) + cost * interval
    assert 0 <= grant.remaining <= capacity
    if grant.remaining:
        assert take_one(tat, now, quota, grant.remaining)[1].admitted
    if grant.remaining < capacity:
        assert not take_one(tat, now, quota, grant.remaining + 1)[1].admitted
    assert take_one(tat, now + grant.reset_us, quota, capacity)[1].admitted
    if grant.reset_us:
        assert not take_one(tat, now + grant.reset_us - 1, quota, capacity)[1].admitted


@given(quotas, st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 4)), max_size=120))
def test_no_history_of_requests_gets_more_than_the_law_allows_nor_is_refused_within_it(
    quota: Quota, history: list[tuple[int, int]]
) -> None:
    async def main() -> None:
        clock = VirtualTime()
        store = MemoryCounters(clock=clock)
        uses: list[tuple[int, int]] = []
        for gap, wished in history:
            clock.now_us += gap
            cost = min(wished, quota.capacity)
            (grant,) = await store.take((quota,), cost=cost)
            with_this = [*uses, (clock.now_us, cost)]
            assert grant.admitted == (worst_excess_us(with_this, quota) <= 0)
            if grant.admitted:
                uses = with_this

    asyncio.run(main())


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 40), st.sets(st.integers(0, 3), min_size=1)), max_size=60),
)
def test_several_counters_are_taken_from_together_or_not_at_all(
    capacities: list[int], history: list[tuple[int, set[int]]]
) -> None:
    async def main() -> None:
        clock = VirtualTime()
        store = MemoryCounters(clock=clock)
        limits = [Quota(str(place), 10 + place, capacity) for place, capacity in enumerate(capacities)]
        uses: list[list[tuple[int, int]]] = [[] for _ in limits]
        for gap, wanted in history:
            clock.now_us += gap
            places = sorted({place % len(limits) for place in wanted})
            grants = await store.take([limits[place] for place in places])
            fits = [worst_excess_us([*uses[place], (clock.now_us, 1)], limits[place]) <= 0 for place in places]
            assert [grant.admitted for grant in grants] == fits
            if all(fits):
                for place in places:
                    uses[place].append((clock.now_us, 1))

    asyncio.run(main())


@given(
    warm=st.integers(2, 40),
    left=st.integers(0, 12),
    aside_us=st.sampled_from([0, 0, 1, 50]),
    held=st.booleans(),
    quota=st.builds(Quota, st.just("key"), st.integers(100, 20_000), st.integers(100, 400)),
)
def test_what_melts_while_it_is_on_loan_or_promised_is_never_handed_out(
    *, warm: int, left: int, aside_us: int, held: bool, quota: Quota
) -> None:
    """The worst that can be done: get a loan, let its charge fill up again for a while, then use all there is."""

    async def main() -> None:
        clock = VirtualTime()
        shared = Watched(clock)
        lender, other = (LendingCounters(shared, clock=clock, life_seconds=5) for _ in range(2))
        uses: list[tuple[int, int]] = []

        async def take(store: LendingCounters) -> bool:
            (grant,) = await store.take((quota,))
            if grant.admitted:
                uses.append((clock.now_us, 1))
            return grant.admitted

        for _ in range(warm):
            await take(lender)
        loan = lender._account(quota.key).loan
        promised = None
        if held and loan is not None and loan.usable(clock.now_us) > 0:
            empty = Quota("empty", 10**9, 1)
            await shared.store.take((empty,))
            shared.pause_seconds = 0.001
            promised = asyncio.create_task(lender.take((quota, empty)))
            await asyncio.sleep(0)
            assert loan.held == 1
        if loan is not None:
            # Until so many of its cells are left, or a little earlier: then the least too many breaks the law.
            clock.now_us = max(clock.now_us, loan.full_us - left * quota.interval_us - aside_us)
        while loan is not None and loan.usable(clock.now_us) > 0 and lender._account(quota.key).loan is loan:
            await take(lender)
        if promised is not None:
            assert [grant.admitted for grant in await promised] == [True, False]
            shared.pause_seconds = 0.0
        while await take(lender):
            pass
        while await take(other):
            pass
        assert worst_excess_us(uses, quota) <= 0

    asyncio.run(main())


steps = st.lists(
    st.tuples(
        st.integers(0, 3),  # whose turn it is
        st.one_of(st.integers(0, 50), st.integers(0, 5_000), st.integers(0, 400_000)),  # time since the last
        st.sampled_from([1, 1, 1, 1, 2, 5]),  # cost
        st.integers(0, 3_000),  # how long the question takes, and the answer
        st.integers(0, 3_000),
    ),
    min_size=40,
    max_size=150,
)


@settings(max_examples=150)
@given(
    quota=st.builds(Quota, st.just("key"), st.integers(1, 60_000), st.integers(8, 400)),
    life=st.sampled_from([0.001, 0.1, 1.0, 5.0]),
    history=steps,
)
def test_however_many_processes_lend_the_law_holds_for_all_together(
    quota: Quota, life: float, history: list[tuple[int, int, int, int, int]]
) -> None:
    async def main() -> None:
        clock = VirtualTime()
        shared = Watched(clock)
        processes = [LendingCounters(shared, clock=clock, life_seconds=life) for _ in range(4)]
        uses: list[tuple[int, int]] = []
        for whose, gap, cost, shared.there_us, shared.back_us in history:
            clock.now_us += gap
            asked_before = len(shared.decided)
            began = clock.now_us
            (grant,) = await processes[whose].take((quota,), cost=cost)
            if grant.admitted:
                uses.append((shared.decided[-1] if len(shared.decided) > asked_before else began, cost))
        assert worst_excess_us(uses, quota) <= 0

    asyncio.run(main())


@pytest.mark.parametrize("moving", [False, True], ids=["in one instant", "over time"])
@settings(max_examples=60)
@given(
    capacity=st.integers(100, 400),
    narrower=st.integers(1, 20),
    interval=st.integers(100, 20_000),
    bursts=st.lists(st.tuples(st.integers(0, 1), st.integers(5, 40), st.integers(0, 100_000)), min_size=4, max_size=20),
)
def test_processes_that_lend_take_from_several_counters_together_or_not_at_all(
    *, moving: bool, capacity: int, narrower: int, interval: int, bursts: list[tuple[int, int, int]]
) -> None:
    """The second counter is the narrower: what it refuses must come back to the first, loan or not."""

    async def main() -> None:
        clock = VirtualTime()
        shared = Watched(clock)
        processes = [LendingCounters(shared, clock=clock) for _ in range(2)]
        wide, narrow = Quota("wide", interval, capacity), Quota("narrow", interval * 7, narrower)
        uses: list[tuple[int, int]] = []
        for whose, many, gap in bursts:
            clock.now_us += gap if moving else 0
            taken = await asyncio.gather(
                *(processes[whose].take((wide, narrow) if one % 2 else (wide,)) for one in range(many))
            )
            # No time passes within a burst.
            uses += [(clock.now_us, 1) for grants in taken if all(grant.admitted for grant in grants)]
        assert worst_excess_us(uses, wide) <= 0
        loans = [account.loan for one in processes for account in one._young.values() if account.loan]
        assert [loan.held for loan in loans] == [0] * len(loans)
        if not moving:
            # Nothing has filled up, and so nothing has melted: each cell that is gone was used, or is on loan.
            (look,) = await shared.store.take((wide,), cost=0)
            lent = sum(account.loan.cells for one in processes for account in [one._account("wide")] if account.loan)
            assert wide.capacity - look.remaining == len(uses) + lent

    asyncio.run(main())


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


histories = st.lists(
    st.tuples(st.sets(st.integers(0, 2), min_size=1), st.integers(1, 3), st.sampled_from([0.0, 0.0, 0.0, 0.002])),
    min_size=10,
    max_size=40,
)
real_quotas = st.lists(
    st.tuples(st.one_of(st.integers(1, 3_000), st.integers(10**6, 10**9)), st.integers(3, 6)), min_size=3, max_size=3
)


@pytest.mark.parametrize("backend", ["redis", "postgres"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=real_quotas, history=histories)
def test_the_script_and_the_function_decide_as_the_arithmetic_here_does(
    backend: str, place: Place, limits: list[tuple[int, int]], history: list[tuple[set[int], int, float]]
) -> None:
    """Each answer holds the times that the server decided on: told the same times, we must have moved to the same."""
    run = uuid4().hex
    known = [Quota(f"{run}{number}", interval, capacity) for number, (interval, capacity) in enumerate(limits)]

    async def replay(ask: Any) -> None:
        tats = {quota.key: 0 for quota in known}
        for places, cost, pause in history:
            await asyncio.sleep(pause)
            asked = sorted((known[number] for number in places), key=lambda quota: digest(quota.key))
            now, found = await ask(asked, cost)
            for quota, tat in zip(asked, found, strict=True):
                if tat == 0:  # new, or expired because it was full again
                    assert tats[quota.key] <= now
                else:
                    assert tat == tats[quota.key]
            moved, _ = settle(found, now, asked, cost)
            if moved:
                tats.update({quota.key: tat for quota, tat in zip(asked, moved, strict=True)})

    async def over_redis() -> None:
        client = open_redis(place.cache_url)

        async def ask(asked: list[Quota], cost: int) -> tuple[int, list[int]]:
            arguments = [cost * quota.interval_us for quota in asked]
            arguments += [quota.capacity * quota.interval_us for quota in asked]
            now, *found = await TAKE.run(client, [quota.key for quota in asked], arguments, timeout_seconds=5)
            return now, found

        try:
            await replay(ask)
        finally:
            await close_redis(client)

    async def over_postgres() -> None:
        database = PostgresDatabase(place.database_url, pool_max=1)
        await database.open()
        sql = load_queries("workhorse.state.postgres", "sql/counters.sql")["take"]

        async def ask(asked: list[Quota], cost: int) -> tuple[int, list[int]]:
            params = (
                array(digest(quota.key) for quota in asked),
                array(cost * quota.interval_us for quota in asked),
                array(quota.capacity * quota.interval_us for quota in asked),
            )
            ((now, found),) = await database.run(Query(sql, params))
            return now, found

        try:
            await replay(ask)
        finally:
            await database.close()

    asyncio.run(over_redis() if backend == "redis" else over_postgres())
