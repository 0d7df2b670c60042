"""Counters in one process: bounded, and not undone by whoever makes up keys."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.state.counters_kit import VirtualTime
from workhorse.contracts import Exactness
from workhorse.errors import SettingsError
from workhorse.rate import Quota
from workhorse.state.memory.counters import MemoryCounters

SECOND = 1_000_000


def test_it_promises_for_one_process_only() -> None:
    assert MemoryCounters().exactness is Exactness.PROCESS


@pytest.mark.parametrize("max_keys", [16, 1_000, 5_000])
def test_made_up_keys_never_take_more_room_than_was_given(max_keys: int) -> None:
    async def main() -> None:
        store = MemoryCounters(max_keys=max_keys)
        for number in range(3 * max_keys):
            await store.take((Quota(f"made-up-{number}", SECOND, 5),))
            assert len(store) <= max_keys
        assert len(store) > max_keys // 2

    asyncio.run(main())


def test_a_counter_in_use_outlives_any_number_of_made_up_keys_with_fewer_cells_taken() -> None:
    async def main() -> None:
        clock = VirtualTime()
        store = MemoryCounters(max_keys=4_096, clock=clock)
        victims = [Quota(f"login-{number}", 60 * SECOND, 3) for number in range(64)]
        for _ in range(3):
            for victim in victims:
                assert (await store.take((victim,)))[0].admitted
        for number in range(20_000):
            # A slower limit, so that each is full again long after the victims are: what counts is the cells.
            await store.take((Quota(f"made-up-{number}", 3_600 * SECOND, 10),), cost=1 + number % 2)
        assert [(await store.take((victim,)))[0].admitted for victim in victims] == [False] * 64

    asyncio.run(main())


def test_counters_that_are_full_again_make_room_first() -> None:
    async def main() -> None:
        clock = VirtualTime()
        store = MemoryCounters(max_keys=1_024, clock=clock)
        for number in range(900):
            await store.take((Quota(f"short-{number}", SECOND, 50),), cost=40)
        clock.now_us += 41 * SECOND
        kept = [Quota(f"kept-{number}", 60 * SECOND, 1) for number in range(100)]
        for quota in kept:
            await store.take((quota,))
        for number in range(800):
            await store.take((Quota(f"new-{number}", SECOND, 50),))
        assert len(store) == 900
        assert not any([(await store.take((quota,)))[0].admitted for quota in kept])

    asyncio.run(main())


@given(
    interval_us=st.integers(1, 5_000),
    capacity=st.integers(1, 6),
    pauses_us=st.lists(st.integers(0, 8_000), max_size=60),
)
def test_one_cell_is_what_a_take_of_one_would_be(interval_us: int, capacity: int, pauses_us: list[int]) -> None:
    async def main() -> None:
        clock = VirtualTime()
        store, twin = MemoryCounters(clock=clock), MemoryCounters(clock=clock)
        quota = Quota("key", interval_us, capacity)
        for number, pause_us in enumerate(pauses_us):
            clock.now_us += pause_us
            taken = store.take_cell(*quota)
            (grant,) = await twin.take((quota,))
            assert taken == ((grant.remaining, grant.reset_us) if grant.admitted and number else None)
            if taken is None:  # nothing was taken
                assert (await store.take((quota,)))[0] == grant

    asyncio.run(main())


def test_too_few_keys_are_refused() -> None:
    with pytest.raises(SettingsError, match="keep 16 at least"):
        MemoryCounters(max_keys=8)
