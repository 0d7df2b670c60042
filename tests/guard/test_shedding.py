"""The limit finds what the service can do, follows it, and keeps its replies coming under ten times too many requests.

A service of so many slots with a queue before them is simulated event by event, with random numbers from a seed: each
run is the same, and thirty seconds of it take a fraction of one.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.errors import SettingsError
from workhorse.guard.shedding import SHARES, Limiter
from workhorse.policy import Priority

PATIENCE_SECONDS = 1.0


@dataclass
class Outcome:
    """What came of a simulation, second by second, and by priority."""

    good: list[int] = field(default_factory=list)
    """Replies within the clients' patience."""
    limits: list[int] = field(default_factory=list)
    asked: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(SHARES, 0))
    shed: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(SHARES, 0))


def simulate(
    limiter: Limiter,
    *,
    seconds: int,
    rate: Callable[[float], float],
    slots: Callable[[float], int],
    work: Callable[[random.Random, float], float],
    mix: Mapping[Priority, float] | None = None,
    patience: float = PATIENCE_SECONDS,
    seed: int = 7,
) -> Outcome:
    """Requests come at random at `rate` a second, wait for one of `slots`, and hold it for as long as `work` says."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    outcome = Outcome()
    shares: Mapping[Priority, float] = mix if mix is not None else {"normal": 1.0}
    priorities, weights = list(shares), list(shares.values())
    waiting: deque[float] = deque()
    ends: list[tuple[float, int, float]] = []
    number = good = 0
    arrival = rng.expovariate(rate(0.0))
    while True:
        now = min(arrival, ends[0][0]) if ends else arrival
        while now >= len(outcome.good) + 1:
            outcome.good.append(good)
            outcome.limits.append(limiter.limit)
            good = 0
            if len(outcome.good) == seconds:
                return outcome
        if ends and ends[0][0] <= arrival:
            _, _, began = heapq.heappop(ends)
            good += now - began <= patience
            limiter.leave(now - began)
        else:
            arrival = now + rng.expovariate(rate(now))
            priority = rng.choices(priorities, weights)[0]
            outcome.asked[priority] += 1
            if limiter.try_enter(priority):
                waiting.append(now)
            else:
                outcome.shed[priority] += 1
        while waiting and len(ends) < slots(now):
            number += 1
            heapq.heappush(ends, (now + work(rng, now), number, waiting.popleft()))


def exponential(mean: float) -> Callable[[random.Random, float], float]:
    return lambda rng, _: rng.expovariate(1 / mean)


def steady(value: int) -> Callable[[float], int]:
    return lambda _: value


def average(values: list[int]) -> float:
    return sum(values) / len(values)


def test_without_a_limit_ten_times_too_many_requests_end_all_replies_in_time() -> None:
    seen = simulate(Limiter(100_000, 100_000), seconds=20, rate=steady(4_000), slots=steady(40), work=exponential(0.1))
    assert average(seen.good[5:]) < 0.05 * 400


@pytest.mark.parametrize(("slots", "mean"), [(40, 0.1), (10, 0.02), (200, 0.2), (1, 0.005)], ids=str)
def test_under_ten_times_too_many_requests_the_limit_finds_the_capacity_and_replies_keep_coming(
    slots: int, mean: float
) -> None:
    capacity = round(slots / mean)
    seen = simulate(
        Limiter(2, 5_000), seconds=30, rate=steady(10 * capacity), slots=steady(slots), work=exponential(mean)
    )
    assert average(seen.good[10:]) >= 0.85 * capacity
    assert min(seen.good[10:]) >= 0.4 * capacity, "no collapse, not even for a second"
    # What a queue before the slots holds besides: the rule allows half as much again, and something to grow by.
    assert slots <= average(seen.limits[10:]) <= 3 * slots + 15


def test_a_flood_that_sets_in_at_a_limit_from_quiet_times_is_brought_down() -> None:
    limiter = Limiter(4, 1_000)
    limiter._limit = 1_000.0
    limiter._hold(1_000.0, critical=1_000.0)
    seen = simulate(
        limiter,
        seconds=40,
        rate=lambda t: 200 if t < 10 else 4_000,
        slots=steady(40),
        work=exponential(0.1),
    )
    assert limiter.limit < 150
    assert average(seen.good[20:]) >= 0.85 * 400


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_backend_that_becomes_slower_is_told_from_a_queue_and_recovers(seed: int) -> None:
    slow = 5
    seen = simulate(
        Limiter(4, 1_000),
        seconds=60,
        rate=steady(1_200),
        slots=steady(40),
        work=lambda rng, now: rng.expovariate(1 / (0.1 * slow if 10 <= now < 35 else 0.1)),
        patience=4.0,
        seed=seed,
    )
    assert average(seen.good[7:10]) >= 0.8 * 400
    # A queue would have been kept at a third of the slots.
    assert average(seen.good[20:35]) >= 0.7 * 400 / slow
    assert average(seen.good[40:]) >= 0.85 * 400


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_backend_that_does_less_at_a_time_gets_less_and_recovers(seed: int) -> None:
    seen = simulate(
        Limiter(4, 1_000),
        seconds=60,
        rate=steady(1_200),
        slots=lambda t: 8 if 10 <= t < 35 else 40,
        work=exponential(0.1),
        seed=seed,
    )
    assert average(seen.good[18:35]) >= 0.8 * 80
    assert average(seen.limits[18:35]) < 0.5 * average(seen.limits[5:10])
    assert average(seen.good[42:]) >= 0.85 * 400


def test_slow_routes_among_fast_ones_do_not_bring_the_limit_down() -> None:
    seen = simulate(
        Limiter(4, 1_000),
        seconds=40,
        rate=steady(1_000),
        slots=steady(40),
        # One in twenty takes a second and more, the others a twentieth: 0.1 on average.
        work=lambda rng, _: rng.expovariate(1 / 1.05) if rng.random() < 0.05 else rng.expovariate(20),
        patience=5.0,
    )
    assert average(seen.good[10:]) >= 0.8 * 400


def test_below_the_capacity_nothing_is_shed_once_it_is_known() -> None:
    limiter = Limiter(64, 1_000)
    seen = simulate(limiter, seconds=20, rate=steady(200), slots=steady(40), work=exponential(0.1))
    assert sum(seen.shed.values()) == 0


def test_critical_requests_never_starve_and_lower_ones_go_first() -> None:
    seen = simulate(
        Limiter(16, 1_000),
        seconds=40,
        rate=steady(4_000),
        slots=steady(40),
        work=lambda rng, now: rng.expovariate(1 / (0.5 if 15 <= now < 25 else 0.1)),
        mix={"low": 0.49, "normal": 0.25, "high": 0.25, "critical": 0.001},
        patience=4.0,
    )
    kept: dict[Priority, float] = {one: 1 - seen.shed[one] / seen.asked[one] for one in SHARES}
    assert seen.asked["critical"] > 100
    assert kept["critical"] == 1
    assert kept["high"] > 1.5 * kept["normal"] >= 1.5 * kept["low"]


def test_each_priority_fills_its_share_of_a_fixed_limit() -> None:
    limiter = Limiter(100, 100)
    entered: list[int] = []
    for priority in SHARES:
        while limiter.try_enter(priority):
            pass
        entered.append(limiter.in_flight)
    assert entered == [60, 80, 90, 100]
    assert limiter.shed == 4


def test_a_fixed_limit_stays_whatever_the_latency_is() -> None:
    limiter = Limiter(10, 10)
    for number in range(1_000):
        while limiter.try_enter("critical"):
            pass
        limiter.leave(float(number))
    assert limiter.limit == 10


def test_a_hanging_backend_closes_the_door_and_its_end_opens_it() -> None:
    limiter = Limiter(4, 100)
    for _ in range(200):
        assert limiter.try_enter("normal")
        limiter.leave(0.01)
    while limiter.try_enter("normal"):
        pass
    held = limiter.in_flight
    assert not limiter.try_enter("normal")
    for _ in range(held):
        limiter.leave(60.0, dropped=True)
    assert limiter.in_flight == 0
    assert limiter.try_enter("low")


def test_a_dropped_request_counts_as_a_very_slow_one() -> None:
    quick, dropping = Limiter(8, 100), Limiter(8, 100)
    for limiter in (quick, dropping):
        for number in range(2_000):
            while limiter.try_enter("critical"):
                pass
            limiter.leave(0.01, dropped=limiter is dropping and number >= 400)
    assert quick.limit == 100
    assert dropping.limit < 50


def test_who_leaves_unmeasured_makes_room_and_says_nothing_of_the_latency() -> None:
    limiter = Limiter(4, 100)
    for _ in range(500):
        assert limiter.try_enter("critical")
        limiter.leave_unmeasured()
    assert (limiter.in_flight, limiter.baseline_seconds) == (0, 0)


def test_its_repr_tells_the_operator_what_it_does() -> None:
    limiter = Limiter(4, 100)
    assert limiter.try_enter("normal")
    assert repr(limiter) == "<Limiter 1 of 32 under way, 0 shed, 0.0000 s without queues, ordinary>"


@given(
    st.integers(1, 40),
    st.integers(0, 200),
    st.lists(
        st.tuples(st.sampled_from([*SHARES]), st.floats(0, 100, allow_nan=False), st.booleans(), st.integers(0, 60)),
        max_size=200,
    ),
)
def test_the_limit_stays_within_its_bounds_and_the_count_is_right(
    minimum: int, more: int, steps: list[tuple[Priority, float, bool, int]]
) -> None:
    limiter = Limiter(minimum, minimum + more)
    under_way = 0
    for priority, latency, dropped, times in steps:
        for _ in range(times):
            if limiter.try_enter(priority):
                under_way += 1
            elif under_way:
                limiter.leave(latency, dropped=dropped)
                under_way -= 1
        assert limiter.in_flight == under_way <= minimum + more
        assert minimum <= limiter.limit <= minimum + more


@pytest.mark.parametrize(("minimum", "maximum"), [(0, 10), (-1, 10), (11, 10)])
def test_limits_out_of_order_are_refused(minimum: int, maximum: int) -> None:
    with pytest.raises(SettingsError, match=f"min_concurrent_requests is {minimum} and .* {maximum}"):
        Limiter(minimum, maximum)
