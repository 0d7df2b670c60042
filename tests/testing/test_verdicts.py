"""What a history must look like, decided without killing anybody."""

import dataclasses

from workhorse.testing.conversation import MomentKind
from workhorse.testing.crash.effects import Effects, difference
from workhorse.testing.crash.history import CrashTestFailed, History, Point, Report, judge
from workhorse.testing.crash.request import Reply, Request

BEFORE = Effects({"public.t": 0, "public.u": 0}, {"SELECT 1": ((0,),)})
HALF = Effects({"public.t": 1, "public.u": 0}, {"SELECT 1": ((0,),)})
AFTER = Effects({"public.t": 1, "public.u": 1}, {"SELECT 1": ((5,),)})
TWICE = Effects({"public.t": 2, "public.u": 2}, {"SELECT 1": ((10,),)})
DONE, REFUSED, FAILED = Reply(201, b"{}"), Reply(409, b"no"), Reply(500)
POINT = Point(1, MomentKind.ROUND_TRIP_SENT, 1, ("BEGIN", "INSERT INTO t", "", "COMMIT"))
PLAIN = History(point=None, heard=DONE, final=AFTER)
GOOD = History(point=POINT, reached=True, crashed=BEFORE, retries=[DONE, DONE], final=AFTER)


def verdict(history: History, *, atomic: bool = True) -> str:
    return "; ".join(judge(history, before=BEFORE, plain=PLAIN, atomic=atomic))


def test_nothing_done_or_all_done_and_then_done_once_is_well() -> None:
    assert verdict(GOOD) == ""
    assert verdict(dataclasses.replace(GOOD, crashed=AFTER)) == ""
    assert verdict(dataclasses.replace(GOOD, crashed=AFTER, heard=DONE)) == ""
    assert verdict(PLAIN) == ""


def test_half_an_effect_is_none_unless_the_test_allows_it() -> None:
    half = dataclasses.replace(GOOD, crashed=HALF)
    assert verdict(half).startswith("after the crash the effect is half done: public.t: 1 rows instead of 0; and yet")
    assert verdict(half, atomic=False) == ""


def test_a_promise_before_its_effect_is_named_even_where_the_retry_mends_it() -> None:
    told = dataclasses.replace(GOOD, heard=DONE)
    assert verdict(told).startswith("the client was told 201, and after the crash public.t: 0 rows instead of 1")
    assert "the client was told" in verdict(told, atomic=False)
    assert verdict(dataclasses.replace(GOOD, heard=FAILED)) == "", "an error promises nothing"


def test_an_effect_that_is_there_twice_or_lost_in_the_end_is_named() -> None:
    assert "in the end public.t: 2 rows instead of 1" in verdict(dataclasses.replace(GOOD, final=TWICE))
    assert "`SELECT 1`: 10 instead of 5" in verdict(dataclasses.replace(GOOD, final=TWICE))
    assert "in the end public.t: 0 rows instead of 1" in verdict(dataclasses.replace(GOOD, final=BEFORE))


def test_a_request_that_could_not_be_sent_again_may_be_done_or_not() -> None:
    assert verdict(dataclasses.replace(GOOD, retries=[], final=BEFORE)) == ""
    assert verdict(dataclasses.replace(GOOD, retries=[], crashed=AFTER)) == ""


def test_replies_must_be_one_and_the_one_that_no_crash_gives() -> None:
    two = verdict(dataclasses.replace(GOOD, retries=[DONE, Reply(201, b"{2}")]))
    assert two == "the client got different replies: 201 {}, 201 {2}"
    assert "different replies" in verdict(dataclasses.replace(GOOD, crashed=AFTER, heard=DONE, retries=[REFUSED] * 2))
    assert (
        verdict(dataclasses.replace(GOOD, retries=[REFUSED] * 2)) == "the client got 409 no, and without a crash 201 {}"
    )


def test_what_an_invariant_said_is_kept() -> None:
    assert (
        verdict(dataclasses.replace(GOOD, broken=["in the end books are not true"])) == "in the end books are not true"
    )


def test_a_report_counts_and_tells_what_happened_where() -> None:
    lost = dataclasses.replace(GOOD, final=TWICE)
    missed = History(point=dataclasses.replace(POINT, number=2, kind=MomentKind.COMMIT_SENT), heard=DONE, final=AFTER)
    faults = [(lost, judge(lost, before=BEFORE, plain=PLAIN, atomic=True))]
    histories = [PLAIN, lost, missed]
    report = Report("bank, POST /t", before=BEFORE, after=AFTER, histories=histories, faults=faults, seconds=3.2)
    assert (report.points, report.tried, report.passed) == (2, 1, False)
    text = str(CrashTestFailed(report))
    assert text.startswith("bank, POST /t: 2 crash points, 1 killed at, 1 broken (3 s)\n")
    assert "killed before round trip 1 (BEGIN; INSERT INTO t; COMMIT):" in text
    assert "request sent -> killed -> no answer -> then nothing done -> sent again: 201 {}" in text
    assert "not reached: before the COMMIT in round trip 1" in text


def test_rows_and_outcomes_differ_by_name() -> None:
    assert difference(AFTER, AFTER) == []
    assert difference(Effects({}, {}), Effects({"a": 1}, {"q": ()})) == ["a: 0 rows instead of 1"]
    many = Effects({}, {"q": tuple((number, "x") for number in range(9))})
    assert difference(many, Effects({}, {"q": ()}))[0].endswith("(4, 'x') and 4 more instead of nothing")


def test_only_a_key_or_a_safe_method_lets_a_request_be_sent_again() -> None:
    assert Request("POST", "/t", key="k").repeatable
    assert Request("GET", "/t").repeatable
    assert not Request("POST", "/t").repeatable
    assert Request("POST", "/t", key="k", headers={"a": "b"}).all_headers() == {"a": "b", "idempotency-key": "k"}
