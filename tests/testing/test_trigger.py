"""Which moments a process is killed at, and that the kill comes before anything more passes."""

import asyncio
from collections.abc import Iterator

import pytest

from workhorse.testing.conversation import Moment, MomentKind, RoundTrip
from workhorse.testing.crash.trigger import Trigger
from workhorse.testing.faults import Cut

SENT, ANSWERED, COMMIT = MomentKind.ROUND_TRIP_SENT, MomentKind.ROUND_TRIP_ANSWERED, MomentKind.COMMIT_SENT


def a_unit() -> Iterator[Moment]:
    """BEGIN, a statement, and one with COMMIT."""
    first, second, third = (
        RoundTrip(7, ["BEGIN"]),
        RoundTrip(8, ["UPDATE"]),
        RoundTrip(9, ["INSERT", "COMMIT"], commits=1),
    )
    for trip in (first, second):
        yield Moment(SENT, trip)
        yield Moment(MomentKind.MESSAGE_SENT, trip)
        yield Moment(ANSWERED, trip, idle=False)
    yield Moment(SENT, third)
    yield Moment(COMMIT, third)
    yield Moment(MomentKind.COMMIT_ANSWERED, third)
    yield Moment(ANSWERED, third, idle=True)


def met(trigger: Trigger) -> list[Cut | None]:
    async def main() -> list[Cut | None]:
        return [await trigger(moment) for moment in a_unit()]

    return asyncio.run(main())


def test_what_an_open_transaction_would_undo_is_no_point_of_its_own() -> None:
    trigger = Trigger(at=None)
    trigger.arm(lambda: None)
    assert set(met(trigger)) == {None}
    assert [(point.kind, point.trip) for point in trigger.points()] == [(SENT, 1), (SENT, 2), (SENT, 3), (ANSWERED, 3)]
    assert str(trigger.points()[3]) == "after round trip 3 was done (INSERT; COMMIT)"


def test_a_thorough_test_has_them_all() -> None:
    trigger = Trigger(at=None, thorough=True)
    trigger.arm(lambda: None)
    met(trigger)
    assert len(trigger.points()) == 7
    assert str(trigger.points()[5]) == "before the COMMIT in round trip 3 (INSERT; COMMIT)"


def test_a_round_trip_of_two_commits_may_be_parted() -> None:
    trigger = Trigger(at=None)
    trigger.arm(lambda: None)
    assert asyncio.run(trigger(Moment(COMMIT, RoundTrip(1, commits=2)))) is None
    assert len(trigger.points()) == 1


@pytest.mark.parametrize(("at", "first_cut"), [(1, 0), (2, 3), (4, 9)])
def test_from_the_point_on_everything_is_cut(at: int, first_cut: int) -> None:
    kills: list[int] = []
    trigger = Trigger(at=at)
    assert set(met(trigger)) == {None}, "it is not armed yet"
    trigger.arm(lambda: kills.append(at))
    cuts = met(trigger)
    assert cuts == [None] * first_cut + [Cut.BEFORE] * (len(cuts) - first_cut)
    assert kills == [at]
    trigger.disarm()
    assert set(met(trigger)) == {None}
