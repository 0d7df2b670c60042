"""Loans save round trips far from a limit, cost little, and are not given near it."""

import asyncio

import pytest

from tests.state.counters_kit import VirtualTime, Watched
from workhorse.contracts import Exactness
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.rate import Quota
from workhorse.state.lending import LendingCounters
from workhorse.state.memory.counters import MemoryCounters

SECOND = 1_000_000


def test_a_caller_far_from_its_limit_costs_few_round_trips() -> None:
    async def main() -> tuple[int, int]:
        clock = VirtualTime()
        shared = Watched(clock)
        store = LendingCounters(shared, clock=clock)
        quota, admitted = Quota("key", 1_000, 60_000), 0
        for _ in range(3_000):
            clock.now_us += 2_000
            admitted += (await store.take((quota,)))[0].admitted
        return admitted, len(shared.questions)

    admitted, asked = asyncio.run(main())
    assert admitted == 3_000
    assert asked <= 10  # in six seconds, with loans that live for one


def test_a_caller_that_asks_for_a_tenth_of_its_limit_asks_the_store_once_in_the_life_of_a_loan() -> None:
    async def main() -> tuple[int, int]:
        clock = VirtualTime()
        shared = Watched(clock)
        store = LendingCounters(shared, clock=clock, life_seconds=5.0)
        quota, admitted = Quota("key", SECOND // 10, 600), 0
        for _ in range(100):
            clock.now_us += SECOND
            admitted += (await store.take((quota,)))[0].admitted
        return admitted, len(shared.questions)

    admitted, asked = asyncio.run(main())
    assert admitted == 100
    assert asked <= 25


def test_one_cell_of_a_loan_is_what_a_take_of_it_would_be() -> None:
    async def main() -> None:
        clock = VirtualTime()
        stores = [LendingCounters(Watched(clock), clock=clock) for _ in range(2)]
        quota = Quota("key", SECOND // 50, 1_000)
        assert stores[0].take_cell(*quota) is None  # nothing is known of it, and nothing is taken
        at_once = 0
        for _ in range(400):
            clock.now_us += SECOND // 40
            taken = stores[0].take_cell(*quota)
            at_once += taken is not None
            (grant,) = await stores[1].take((quota,))
            if taken is None:
                (other,) = await stores[0].take((quota,))
                taken = (other.remaining, other.reset_us)
            assert taken == (grant.remaining, grant.reset_us)
        assert at_once > 300
        assert stores[0].take_cell("key", 2 * quota.interval_us, 500) is None  # another limit's cells

    asyncio.run(main())


def test_a_caller_near_its_limit_is_never_lent_anything() -> None:
    async def main() -> tuple[list[Quota], int]:
        clock = VirtualTime()
        shared = Watched(clock)
        store = LendingCounters(shared, clock=clock)
        quota = Quota("key", SECOND, 100)
        await shared.store.take((quota,), cost=51)
        return [quota for _ in range(60) if (await store.take((quota,)))[0].admitted], len(shared.questions)

    admitted, asked = asyncio.run(main())
    assert len(admitted) == 49
    assert asked == 60


def test_the_store_refuses_a_loan_that_others_have_made_too_large_and_grants_the_request() -> None:
    async def main() -> None:
        clock = VirtualTime()
        shared = Watched(clock)
        store = LendingCounters(shared, clock=clock)
        quota = Quota("key", SECOND, 100)
        await store.take((quota,))
        await shared.store.take((quota,), cost=60)
        (grant,) = await store.take((quota,))
        assert (grant.admitted, grant.remaining) == (True, 38)
        assert [(asked[0].interval_us, cost) for asked, cost in shared.questions[1:]] == [(2 * SECOND, 1), (SECOND, 1)]
        await store.take((quota,))
        assert len(shared.questions) == 4  # and no loan is asked for again

    asyncio.run(main())


def test_what_is_lost_is_at_most_half_the_capacity_however_many_processes_lend_and_die() -> None:
    async def main() -> int:
        clock = VirtualTime()
        shared = Watched(clock)
        quota = Quota("key", 3_600 * SECOND, 200)
        used = 0
        for _ in range(40):  # each takes twice, gets a loan if it can, and never uses it up
            process = LendingCounters(shared, clock=clock)
            for _ in range(2):
                used += (await process.take((quota,)))[0].admitted
        while (await shared.store.take((quota,)))[0].admitted:
            used += 1
        return used

    assert 100 <= asyncio.run(main()) < 200


def test_a_loan_is_not_handed_out_after_its_life() -> None:
    async def main() -> None:
        clock = VirtualTime()
        shared = Watched(clock)
        store = LendingCounters(shared, clock=clock, life_seconds=0.5)
        quota = Quota("key", SECOND, 1_000)
        for _ in range(11):
            await store.take((quota,))
        loan = store._account("key").loan
        assert loan is not None
        assert loan.usable(clock.now_us) > 0
        asked = len(shared.questions)
        clock.now_us += 499_999
        await store.take((quota,))
        assert len(shared.questions) == asked
        clock.now_us += 1
        await store.take((quota,))
        assert len(shared.questions) == asked + 1

    asyncio.run(main())


def test_requests_at_the_same_time_wait_for_one_loan() -> None:
    async def main() -> tuple[int, int]:
        clock = VirtualTime()
        shared = Watched(clock)
        shared.pause_seconds = 0.001
        store = LendingCounters(shared, clock=clock)
        quota = Quota("key", SECOND, 10_000)
        await store.take((quota,))
        taken = await asyncio.gather(*(store.take((quota,)) for _ in range(100)))
        return sum(grants[0].admitted for grants in taken), len(shared.questions)

    admitted, asked = asyncio.run(main())
    assert admitted == 100
    assert asked <= 4


def test_who_waits_for_a_loan_is_told_at_once_that_the_store_is_away_and_the_next_ask_anew() -> None:
    async def main() -> None:
        clock = VirtualTime()
        shared = Watched(clock)
        store = LendingCounters(shared, clock=clock)
        quota = Quota("key", SECOND, 10_000)
        await store.take((quota,))
        shared.away, shared.pause_seconds = True, 0.001
        outcomes = await asyncio.gather(*(store.take((quota,)) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        assert len(shared.questions) == 2
        shared.away = False
        assert (await store.take((quota,)))[0].admitted

    asyncio.run(main())


def test_a_request_that_is_cancelled_while_it_fetches_a_loan_leaves_the_others_going() -> None:
    async def main() -> None:
        clock = VirtualTime()
        shared = Watched(clock)
        store = LendingCounters(shared, clock=clock)
        quota = Quota("key", SECOND, 10_000)
        await store.take((quota,))
        shared.pause_seconds = 0.01
        leader = asyncio.create_task(store.take((quota,)))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(store.take((quota,)))
        await asyncio.sleep(0)
        leader.cancel()
        assert (await waiting)[0].admitted
        with pytest.raises(asyncio.CancelledError):
            await leader

    asyncio.run(main())


def test_forgetting_drops_the_loan_too() -> None:
    async def main() -> None:
        clock = VirtualTime()
        shared = Watched(clock)
        store = LendingCounters(shared, clock=clock)
        quota = Quota("key", SECOND, 100)
        for _ in range(20):
            await store.take((quota,))
        await store.forget(["key"])
        assert [(await store.take((quota,)))[0].admitted for _ in range(101)].count(True) == 100

    asyncio.run(main())


def test_what_is_known_of_counters_is_bounded() -> None:
    async def main() -> None:
        store = LendingCounters(Watched(VirtualTime()), max_keys=100)
        for number in range(1_000):
            await store.take((Quota(f"made-up-{number}", SECOND, 10),))
            assert len(store._young) + len(store._old) <= 100

    asyncio.run(main())


def test_only_a_shared_store_lends_and_only_within_bounds() -> None:
    shared = Watched(VirtualTime())
    assert LendingCounters(shared).exactness is Exactness.SHARED
    with pytest.raises(SettingsError, match="use one that counts in memory as it is"):
        LendingCounters(MemoryCounters())
    for wrong in ({"life_seconds": 0}, {"life_seconds": 5.1}, {"max_cells": 1}, {"max_keys": 1}):
        with pytest.raises(SettingsError, match="a loan lives for more than 0 s and at most 5 s"):
            LendingCounters(shared, **wrong)
