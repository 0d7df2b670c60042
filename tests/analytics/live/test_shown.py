"""Whoever applies the rows that are newer than theirs, however rarely, has what is shown."""

from hypothesis import given
from hypothesis import strategies as st

from workhorse.analytics.live.shown import Change, Shown, Told

BEGAN = 1_000


def told(*changes: Change, since: int = 0, given: int = 1, began: int = BEGAN) -> Told:
    return Told(began, given, since, list(changes))


def change(starts: int, by: str, revision: int) -> Change:
    return Change(starts, by, revision, f"{starts} {by} {revision}")


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc")), max_size=4), st.booleans()),
        max_size=20,
    )
)
def test_a_client_that_looks_now_and_then_has_what_is_shown(steps: list[tuple[list[tuple[int, str]], bool]]) -> None:
    shown, has, revision, number = Shown(60, 1_000), dict[str, str](), -1, 0
    for changed, looks in steps:
        changes = []
        for window, by in dict.fromkeys(changed):
            number += 1
            changes.append(change(window * 60, by, number))
        shown.take(told(*changes, given=number))
        if looks:
            for row in shown.newer(revision):
                starts, by, _ = row.split()
                has[f"{starts} {by}"] = row
            revision = shown.position.revision
            assert sorted(has.values()) == sorted(shown.newer())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60), st.integers(1, 12))
def test_windows_go_whole_and_the_oldest_first_where_there_are_too_many_rows(
    rows: list[tuple[int, int]], at_most: int
) -> None:
    shown = Shown(60, at_most)
    seen: dict[int, set[int]] = {}
    for number, (window, by) in enumerate(rows, start=1):
        seen.setdefault(window, set()).add(by)
        shown.take(told(change(window * 60, str(by), number), given=number))
        assert len(shown) <= at_most
        for kept in {int(row.split()[0]) for row in shown.newer()}:
            assert kept >= shown.since
            assert len([row for row in shown.newer() if row.startswith(f"{kept} ")]) == len(seen[kept // 60])
        assert shown.since % 60 == 0


def test_a_look_that_tells_more_rows_than_are_kept_shows_whole_windows_only() -> None:
    shown = Shown(60, 3)
    # Four came, of perhaps more: the oldest window among them may have others.
    shown.take(told(change(180, "a", 4), change(180, "b", 3), change(120, "a", 2), change(120, "b", 1)))
    assert (shown.since, shown.newer()) == (180, ["180 b 3", "180 a 4"])


def test_what_was_counted_anew_or_is_older_than_it_was_is_told_whole() -> None:
    shown = Shown(60, 10)
    assert shown.take(told(change(60, "a", 7), given=5))
    turn = shown.turn
    assert not shown.take(told(given=5))
    assert shown.take(told(change(60, "a", 3), given=2)), "the database went back to an older state"
    assert (shown.turn, shown.position.revision, shown.newer()) == (turn + 1, 3, ["60 a 3"])
    assert shown.take(told(began=BEGAN + 1, given=0))
    assert (shown.turn, shown.newer()) == (turn + 2, [])
    assert shown.take(None), "its feed is gone"
    assert shown.position == (0, 0)
    assert not shown.take(None)


def test_windows_leave_as_time_passes() -> None:
    shown = Shown(60, 10)
    shown.take(told(change(60, "a", 1), change(120, "a", 2)))
    assert not shown.take(told(since=120)), "nobody is told of it: a client knows its own time"
    assert shown.newer() == ["120 a 2"]
