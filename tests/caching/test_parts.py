"""The parts of the room: chance, circuit, flights, debts, the head of a value; and what is refused at start-up."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.caching import Caches, Near, require
from workhorse.caching.circuit import Circuit
from workhorse.caching.early import due_early, jittered
from workhorse.caching.flights import Flights
from workhorse.caching.owed import Owed
from workhorse.caching.values import codec_of, open_kept, seal
from workhorse.contracts import CacheGuarantee, CacheHit, LeaseGuarantee
from workhorse.errors import SettingsError
from workhorse.state.memory.cache import MemoryCache
from workhorse.state.memory.lease import MemoryLeases
from workhorse.state.redis.cache import RedisCache
from workhorse.state.redis.connection import close_redis, open_redis

seconds = st.floats(0, 1e6)
chances = st.floats(0, 1, exclude_max=True)


@given(seconds, seconds, st.floats(0, 10), chances, st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_value_nearer_its_end_or_dearer_to_make_is_no_less_due(
    left: float, making: float, beta: float, chance: float, nearer: float, dearer: float
) -> None:
    if due_early(left, making, beta=beta, chance=chance):
        assert due_early(left - nearer, making, beta=beta, chance=chance)
        assert due_early(left, making + dearer, beta=beta, chance=chance)
        assert due_early(left, making, beta=beta + nearer, chance=chance)


@given(seconds, st.floats(0, 10), chances)
def test_a_value_that_is_over_is_due_and_one_with_time_left_is_not_without_eagerness(
    making: float, beta: float, chance: float
) -> None:
    assert due_early(0, making, beta=beta, chance=chance)
    assert due_early(-1, making, beta=beta, chance=chance)
    assert not due_early(0.001, making, beta=0, chance=chance)


def test_the_chance_of_being_due_is_that_of_the_paper() -> None:
    # P(due) = exp(-left / (making * beta)): of 10,000 evenly spread chances, as many.
    due = sum(due_early(2.0, 1.0, beta=1.0, chance=n / 10_000) for n in range(10_000))
    assert due == pytest.approx(10_000 * 0.1353, abs=2)


@given(st.floats(0.001, 1e6), st.floats(0, 0.9), chances)
def test_jitter_shortens_and_never_lengthens(ttl: float, jitter: float, chance: float) -> None:
    assert ttl * (1 - jitter) * 0.999 <= jittered(ttl, jitter=jitter, chance=chance) <= ttl


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_circuit_opens_at_the_first_failure_and_lets_one_probe_through_at_a_time() -> None:
    clock = Clock()
    circuit = Circuit(first_seconds=0.5, most_seconds=4, clock=clock)
    assert circuit.admits()
    assert circuit.failed()
    assert not circuit.failed()  # another that was under way
    assert not circuit.admits()
    pauses = []
    for _ in range(6):
        began = clock.now
        while not circuit.admits():
            clock.now += 0.01
        pauses.append(clock.now - began)
        assert not circuit.admits()
        assert not circuit.failed()
    assert pauses == pytest.approx([0.5, 1, 2, 4, 4, 4], abs=0.02)
    clock.now += 4
    assert circuit.admits()
    assert circuit.succeeded()
    assert circuit.closed
    assert circuit.admits()
    assert circuit.admits()
    assert not circuit.succeeded()


def test_a_probe_of_which_nothing_is_heard_is_followed_by_another() -> None:
    clock = Clock()
    circuit = Circuit(clock=clock)
    circuit.failed()
    clock.now += 0.6
    assert circuit.admits()
    clock.now += 0.9
    assert not circuit.admits()
    clock.now += 0.2
    assert circuit.admits()


def shared(*leads: Callable[[], Awaitable[str]], patience: float = 5) -> list[Any]:
    async def main() -> list[Any]:
        flights = Flights[str]()
        tasks = [asyncio.create_task(flights.share("name", lead, patience=patience)) for lead in leads]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(flights) == 0
        return results

    return asyncio.run(main())


def test_one_leads_and_the_others_get_what_it_got() -> None:
    counter = itertools.count()

    async def lead() -> str:
        await asyncio.sleep(0.01)
        return str(next(counter))

    results = shared(*[lead] * 20)
    assert [one[0] for one in results] == ["0"] * 20
    assert [one[1] for one in results] == [True] + [False] * 19


def test_what_the_one_that_leads_raises_all_raise() -> None:
    async def lead() -> str:
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    assert [type(one) for one in shared(*[lead] * 3)] == [ZeroDivisionError] * 3


def test_when_the_one_that_leads_is_cancelled_another_takes_over() -> None:
    async def cancelled() -> str:
        await asyncio.sleep(0.01)
        raise asyncio.CancelledError

    async def lead() -> str:
        return "done"

    first, *others = shared(cancelled, lead, lead, lead)
    assert isinstance(first, asyncio.CancelledError)
    assert [one[0] for one in others] == ["done"] * 3


def test_nobody_waits_for_another_for_longer_than_its_patience() -> None:
    async def slow() -> str:
        await asyncio.sleep(0.3)
        return "done"

    first, second = shared(slow, slow, patience=0.05)
    assert first == ("done", True)
    assert second is None


def test_what_is_owed_again_while_it_is_paid_is_still_owed() -> None:
    owed = Owed(most=5)
    owed.note(["a", "b"], ["t"])
    debt = owed.some()
    owed.note(["b"], [])
    owed.settle(debt)
    assert owed.some() == ({"b": 2}, {})
    owed.settle(owed.some())
    assert len(owed) == 0
    owed.note(map(str, range(9)), [])
    assert list(owed.some().keys) == ["4", "5", "6", "7", "8"]


@given(st.none() | st.binary(max_size=50), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.001, 1e5))
def test_a_sealed_value_is_opened_as_it_was(payload: bytes | None, making: float, stale: float, left: float) -> None:
    kept = open_kept(CacheHit(seal(payload, make_seconds=making, stale_seconds=stale), left))
    assert kept is not None
    assert kept.payload == (payload or b"")
    assert kept.absent == (payload is None)
    assert kept.make_seconds == pytest.approx(making, abs=0.001)
    assert kept.left_seconds == pytest.approx(left - stale, abs=0.001)


@given(st.binary(max_size=30))
def test_bytes_of_somebody_else_are_no_value_or_one_that_is_checked(data: bytes) -> None:
    kept = open_kept(CacheHit(data, 1.0))
    assert kept is None or (data[0] == 1 and data[1] in {0, 1})
    assert open_kept(None) is None


def test_bytes_are_kept_as_they_are_and_unknown_types_are_refused() -> None:
    assert codec_of(bytes).encode(b"x") == b"x"
    assert codec_of(dict[str, int]).decode(codec_of(dict[str, int]).encode({"a": 1})) == {"a": 1}
    with pytest.raises(SettingsError, match="give `open` a codec"):
        codec_of(Circuit)


def test_an_impossible_wish_is_refused_and_the_message_names_it() -> None:
    require(LeaseGuarantee.FENCED, MemoryLeases().guarantees, where="leases in memory")
    wish = LeaseGuarantee.FENCED | LeaseGuarantee.SHARED | LeaseGuarantee.DURABLE
    with pytest.raises(SettingsError, match="leases in memory cannot promise shared, durable; they promise fenced"):
        require(wish, MemoryLeases().guarantees, where="leases in memory")
    with pytest.raises(SettingsError, match="they promise nothing"):
        require(CacheGuarantee.SHARED, CacheGuarantee(0), where="caches")


def test_deletions_within_units_are_refused_of_a_store_that_is_in_no_database() -> None:
    async def main() -> None:
        client = open_redis("redis://127.0.0.1:1")
        for store in (MemoryCache(), RedisCache(client)):
            with pytest.raises(SettingsError, match="cannot delete within a unit"):
                Caches(store, within_units=True)
        await close_redis(client)

    asyncio.run(main())


@pytest.mark.parametrize(
    "wrong",
    [{"ttl": 0}, {"ttl": 1e9}, {"jitter": 1}, {"stale": -1}, {"making": 0}, {"waiting": -1}, {"early": -1}],
    ids=lambda wrong: next(iter(wrong)) + str(next(iter(wrong.values()))),
)
def test_a_time_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Caches(MemoryCache()).open("name", int, **({"ttl": 60} | wrong))


def test_a_name_stands_for_one_kind() -> None:
    caches = Caches(MemoryCache())
    caches.open("prices", int, ttl=60)
    caches.open("prices", int, ttl=10)
    for kind, version in ((str, 1), (int, 2)):
        with pytest.raises(SettingsError, match="another cache named 'prices'"):
            caches.open("prices", kind, ttl=60, version=version)
    for name in ("", "A", "a:b", "1", "a\n", "a" * 65):
        with pytest.raises(SettingsError, match="cannot be named"):
            caches.open(name, int, ttl=60)


@pytest.mark.parametrize("bound", [0, 61])
def test_near_values_live_for_a_moment_only(bound: float) -> None:
    with pytest.raises(SettingsError, match="above 0 and 60 at most"):
        Near(seconds=bound)


def test_a_memory_cache_keeps_within_its_bytes_and_drops_what_was_not_used_the_longest() -> None:
    async def main() -> None:
        with pytest.raises(SettingsError):
            MemoryCache(max_bytes=1000)
        store = MemoryCache(max_bytes=100_000)
        cache = Caches(store).open("name", bytes, ttl=60)
        await cache.set("kept", b"x" * 10_000)
        for number in range(40):
            await cache.set(str(number), b"x" * 10_000)
            assert await cache.get("kept") is not None
            assert store.size_bytes <= 100_000
        assert await cache.get("0") is None
        assert await cache.get("39") is not None
        assert len(store) == 9
        await cache.set("too large", b"x" * 100_000)
        assert await cache.get("too large") is None
        assert await cache.get("39") is not None

    asyncio.run(main())
