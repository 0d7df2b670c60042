"""The judge of the crash test is not blind: it names each way in which a bank could break its promise."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank.traffic_http import Reply
from tests.crash.clients import BOOKS_SECONDS, Answer, Witness
from tests.crash.evidence import Evidence, LeftJob, Mandated, Paid, Posted, Reported, Reversed
from tests.crash.kills import Kill, Target, Wound, plan_kills
from tests.crash.logs import LogReader
from tests.crash.orders import Mandate, Order, Reversal, Wish
from tests.crash.report import Round, claims, report
from tests.crash.siege import Aftermath, Watch
from tests.crash.verdict import judge

ORDER = Order("client1-1", 7, 8, "EUR", 100, 0.0)
ROW = Posted(1, 7, 8, "EUR", 100, "client1-1")
ACKNOWLEDGED = Answer(201, json.dumps(ROW._asdict()).encode())
REFUSED = Answer(409, b"{}")
TODAY, BEFORE = date(2026, 5, 2), date(2026, 5, 1)


def verdict(answer: Answer | None, rows: list[Posted], order: Order = ORDER) -> list[str]:
    return judge({order.reference: order}, {order.reference: answer} if answer else {}, rows)


def test_a_bank_that_kept_its_promise_is_not_blamed() -> None:
    assert verdict(ACKNOWLEDGED, [ROW]) == []
    assert verdict(REFUSED, []) == []


@pytest.mark.parametrize(
    ("answer", "rows", "fault"),
    [
        pytest.param(ACKNOWLEDGED, [], "is lost", id="an acknowledged transfer is lost"),
        pytest.param(ACKNOWLEDGED, [ROW, ROW._replace(id=2)], "was posted 2 times", id="a transfer is doubled"),
        pytest.param(REFUSED, [ROW], "was refused, and posted", id="a refused transfer is posted"),
        pytest.param(None, [ROW], "was never answered", id="a transfer is posted and never answered"),
        pytest.param(ACKNOWLEDGED, [ROW._replace(amount=99)], "posted as", id="another amount is posted"),
        pytest.param(ACKNOWLEDGED, [ROW._replace(creditor=9)], "posted as", id="another account is paid"),
        pytest.param(ACKNOWLEDGED, [ROW._replace(id=2)], "posted as", id="another id is told"),
    ],
)
def test_each_broken_promise_is_named(answer: Answer | None, rows: list[Posted], fault: str) -> None:
    faults = verdict(answer, rows)
    assert len(faults) == 1
    assert fault in faults[0]


def test_a_transfer_that_differs_from_its_order_is_named_even_if_it_was_acknowledged_so() -> None:
    assert len(verdict(ACKNOWLEDGED, [ROW], replace(ORDER, amount=50))) == 1


def test_a_transfer_that_nobody_ordered_is_named() -> None:
    assert judge({}, {}, [ROW]) == [f"nobody ordered {ROW}"]


TAKEN_BACK = Reversed(2, 1, 8, 7, "EUR", 100)
STANDING = Mandated(5, "client1-3", 7, 8, "EUR", 4, "day", BEFORE, 2, date(2026, 5, 3))
PAID = [Paid(5, BEFORE, "posted", 3, 7, 8, 4), Paid(5, TODAY, "insufficient_funds", None, None, None, None)]
CLOSED = Reported(BEFORE, 3, 3, 1, 6, [1], 6)


def sound() -> Aftermath:
    """A siege after which all is as it should be: one transfer, taken back, and one standing order, paid once."""
    wishes: dict[str, Wish] = {
        ORDER.reference: ORDER,
        "client1-2": Reversal("client1-2", 1, ORDER, 0.0),
        "client1-3": Mandate("client1-3", 7, 8, "EUR", 4, BEFORE.isoformat(), "day", 0.0),
    }
    answers = {"client1-1": ACKNOWLEDGED, "client1-2": Answer(201, b'{"id":2}'), "client1-3": Answer(201, b'{"id":5}')}
    return Aftermath(
        witness=Witness(orders=wishes, answers=answers),
        wounds=[Wound(Kill(Target.WORKER, 0.1), 3, 1.5)],
        found=Evidence(
            today=TODAY,
            posted=[ROW],
            reversals=[TAKEN_BACK],
            mandates=[STANDING],
            payments=list(PAID),
            told={1, 2, 3},
            announced=Counter([1, 2, 3]),
            advised=Counter([1, 2, 3]),
            over={BEFORE},
            reports=[CLOSED],
            closed=Counter([BEFORE]),
            finished=Counter(),
            finished_jobs=4,
            taken_back=1,
            jobs_left=[],
            kept_replies=3,
            wrong_balances=[],
            totals={"EUR": 0},
            all_transfers=3,
            workers=2,
        ),
        audit={"balanced": True},
        cached=3,
        watch=Watch(),
        quiet_seconds=1.0,
        workers=2,
        starts=1,
        worker_starts=2,
        complaints=[],
        seconds=10.0,
        errors=[],
    )


def test_a_siege_after_which_all_is_as_it_should_be_has_no_fault() -> None:
    assert not any(sound().faults().values())


Change = Callable[[Aftermath], Aftermath]


def changed(**changes: Any) -> Change:
    """The same siege with something else about it."""

    def change(siege: Aftermath) -> Aftermath:
        return replace(siege, **changes)

    return change


def found(**changes: Any) -> Change:
    """The same siege with something else in the tables."""

    def change(siege: Aftermath) -> Aftermath:
        return replace(siege, found=replace(siege.found, **changes))

    return change


def told(reference: str, answer: Answer | None) -> Change:
    """The same siege with another answer to one wish."""

    def change(siege: Aftermath) -> Aftermath:
        siege.witness.answers.pop(reference)
        if answer is not None:
            siege.witness.answers[reference] = answer
        return siege

    return change


@pytest.mark.parametrize(
    ("change", "promise", "fault"),
    [
        pytest.param(found(posted=[]), "wishes", "is lost", id="a transfer is lost"),
        pytest.param(found(posted=[ROW, ROW]), "wishes", "2 times", id="a transfer is doubled"),
        pytest.param(found(reversals=[]), "wishes", "posted as None", id="a reversal is lost"),
        pytest.param(
            found(reversals=[TAKEN_BACK, TAKEN_BACK._replace(id=9)]),
            "wishes",
            "taken back more than once",
            id="a transfer is taken back twice",
        ),
        pytest.param(
            found(reversals=[TAKEN_BACK._replace(amount=1)]), "wishes", "posted as", id="a reversal of another amount"
        ),
        pytest.param(told("client1-2", REFUSED), "wishes", "nobody wanted", id="a refused reversal is posted"),
        pytest.param(told("client1-2", None), "wishes", "never answered", id="a reversal is never answered"),
        pytest.param(told("client1-3", None), "wishes", "never answered", id="a standing order is never answered"),
        pytest.param(found(mandates=[], payments=[]), "wishes", "stands 0 times", id="a standing order is lost"),
        pytest.param(
            found(mandates=[STANDING, STANDING._replace(id=6, turns=0, due=None)]),
            "wishes",
            "stands 2 times",
            id="a standing order is doubled",
        ),
        pytest.param(
            found(mandates=[STANDING._replace(every="week", turns=1, due=date(2026, 5, 8))], payments=PAID[:1]),
            "wishes",
            "stands as",
            id="a standing order of another rhythm",
        ),
        pytest.param(found(kept_replies=2), "replies", "2 replies", id="a reply is not kept"),
        pytest.param(found(payments=[*PAID, PAID[0]]), "payments", "paid for", id="a day is paid twice"),
        pytest.param(found(payments=PAID[:1]), "payments", "paid for", id="a day is left out"),
        pytest.param(
            found(payments=PAID[:1], mandates=[STANDING._replace(turns=1, due=TODAY)]),
            "payments",
            "still to be paid",
            id="a day that is due was not paid",
        ),
        pytest.param(
            found(mandates=[STANDING._replace(due=date(2026, 5, 4))]), "payments", "is due on", id="a day is skipped"
        ),
        pytest.param(
            found(payments=[PAID[0]._replace(amount=9), PAID[1]]), "payments", "was paid as", id="another sum is paid"
        ),
        pytest.param(
            found(payments=[*PAID, Paid(6, TODAY, "posted", 8, 7, 8, 4)]),
            "payments",
            "not there was paid",
            id="an order that is not there is paid",
        ),
        pytest.param(
            found(payments=[PAID[0], Paid(5, TODAY, "posted", 3, 7, 8, 4)]),
            "payments",
            "pays 2 standing orders",
            id="one transfer pays two days",
        ),
        pytest.param(found(announced=Counter([1, 2])), "news", "has no event", id="an event is lost"),
        pytest.param(found(announced=Counter([1, 2, 3, 3])), "news", "has 2 of its event", id="an event is doubled"),
        pytest.param(found(advised=Counter([1, 2])), "news", "has no advice", id="an advice is lost"),
        pytest.param(found(advised=Counter([1, 1, 2, 3])), "news", "has 2 of its advice", id="an advice is doubled"),
        pytest.param(
            found(advised=Counter([1, 2, 3, 4])), "news", "nobody is told", id="an advice of what was rolled back"
        ),
        pytest.param(found(reports=[], closed=Counter()), "days", "has no report", id="a report is lost"),
        pytest.param(found(reports=[CLOSED, CLOSED]), "days", "has 2 reports", id="a report is doubled"),
        pytest.param(
            found(reports=[CLOSED._replace(written=[1, 1], written_lines=12)]),
            "days",
            "other pages",
            id="a step took effect twice",
        ),
        pytest.param(found(reports=[CLOSED._replace(counted=2)]), "days", "counts 2", id="a report leaves out a part"),
        pytest.param(
            found(reports=[CLOSED._replace(lines=8, written_lines=8)]), "days", "8 lines of 6", id="a file is too long"
        ),
        pytest.param(found(closed=Counter([BEFORE, BEFORE])), "days", "closed 2 times", id="a day is closed twice"),
        pytest.param(found(closed=Counter()), "days", "closed 0 times", id="nobody hears of the end of a day"),
        pytest.param(
            found(jobs_left=[LeftJob("a", "pay", "running", 3, "")]), "jobs", "is left", id="a job stays stuck"
        ),
        pytest.param(found(finished=Counter({"a": 2})), "jobs", "ended 2 times", id="a job ends twice"),
        pytest.param(found(left_over=["a lease is held: x"]), "rest", "lease", id="a lease is left"),
        pytest.param(found(workers=3), "rest", "3 workers", id="a dead worker is enrolled"),
        pytest.param(found(wrong_balances=[(7, 1, 2)]), "books", "account 7", id="a balance is wrong"),
        pytest.param(found(totals={"EUR": 1}), "books", "in EUR", id="money came from nowhere"),
        pytest.param(changed(audit={"balanced": False}), "books", "do not balance", id="the bank sees it"),
        pytest.param(changed(cached=2), "books", "cached books", id="the cache stays as it was"),
        pytest.param(changed(complaints=["worker 7 ended"]), "processes", "ended", id="a worker ends"),
        pytest.param(changed(errors=["job.stuck"]), "errors", "stuck", id="an error is logged"),
    ],
)
def test_a_planted_fault_is_found_under_the_promise_that_it_breaks(change: Change, promise: str, fault: str) -> None:
    faults = change(sound()).faults()
    assert any(fault in one for one in faults[promise]), faults


def a_reply(status: int, body: bytes, *, replayed: bool = False) -> Reply:
    headers = {b"content-type": b"application/problem+json" if status >= 400 else b"application/json"}
    return Reply(status, {**headers, **({b"idempotent-replayed": b"true"} if replayed else {})}, body)


def test_a_witness_names_a_second_execution_and_a_second_answer_and_what_nobody_may_say() -> None:
    witness = Witness()
    witness.note(ORDER, a_reply(201, b'{"id":1}'))
    witness.note(ORDER, a_reply(201, b'{"id":1}', replayed=True))
    assert witness.faults == []
    witness.note(ORDER, a_reply(201, b'{"id":1}'))
    witness.note(ORDER, a_reply(201, b'{"id":2}', replayed=True))
    witness.note(ORDER, a_reply(500, b"{}"))
    assert [fault.split()[1:3] for fault in witness.faults] == [["was", "executed"], ["got", "two"], ["got", "500:"]]


@pytest.mark.parametrize(
    ("books", "faults"),
    [
        pytest.param({"at": 100.0, "balanced": True}, 0, id="fresh"),
        pytest.param({"at": 100.0 - BOOKS_SECONDS - 1, "balanced": True}, 1, id="stale"),
        pytest.param({"at": 100.0, "balanced": False}, 1, id="halved"),
    ],
)
def test_a_witness_of_the_cached_books_sees_old_and_wrong_ones(books: dict[str, object], faults: int) -> None:
    witness = Witness()
    witness.look(a_reply(200, json.dumps(books).encode()), 100.0)
    assert len(witness.faults) == faults


def test_claims_count_every_fault_and_fall_short_by_one() -> None:
    kept = Round.of(1, sound())
    assert kept.holds
    assert all(claim.holds for claim in claims([kept], kills=1))
    broken = Round.of(2, found(announced=Counter([1, 2, 3, 3]))(sound()))
    assert not broken.holds
    short = {claim.name: claim.value for claim in claims([kept, broken], kills=2) if not claim.holds}
    assert short == {"soak.faults_news": 1}
    lines = report([kept, broken], kills=3).splitlines()
    assert "claim soak.kills 2 >=3 short" in lines
    assert "claim soak.faults_news 1 <1 short" in lines
    assert "rounds: 2, of which 1 broke a promise [2]" in lines


def test_a_round_that_did_not_come_to_its_end_holds_nothing() -> None:
    lost = Round(seed=1, wounds=[], faults={}, unfinished="nothing was posted for 60 s")
    assert not lost.holds
    assert "claim soak.unfinished_rounds 1 <1 short" in report([lost], kills=1).splitlines()


def test_a_log_is_searched_as_it_grows_and_emptied_before_it_fills_the_disk(tmp_path: Path) -> None:
    path, reader = tmp_path / "log", LogReader(tmp_path / "log")
    reader.read()
    with path.open("ab") as log:
        for number in range(3):
            log.write(b"12:00:00 error   job.stuck" if number == 1 else b"12:00:00 info    fine")
            log.flush()
            reader.read()
            log.write(b" \n")
        log.write(b"x" * (9 * 1024 * 1024) + b"\n")
        log.flush()
        reader.read()
        assert path.stat().st_size == 0
        log.write(b"12:00:01 error   again\n")
        log.flush()
        reader.read()
    assert [line.split()[2] for line in reader.errors] == ["job.stuck", "again"]


@given(st.integers(0, 2**32), st.integers(len(Target), 200))
def test_a_schedule_follows_from_its_seed_and_strikes_every_target(seed: int, count: int) -> None:
    kills = plan_kills(seed, count)
    assert kills == plan_kills(seed, count)
    assert len(kills) == count
    assert {kill.target for kill in kills} == set(Target)
    assert all((kill.frozen_seconds > 0) == (kill.target in {Target.STALL, Target.ZOMBIE}) for kill in kills)


def test_a_schedule_can_be_of_some_targets_only() -> None:
    kills = plan_kills(1, 20, (Target.STALL, Target.ZOMBIE))
    assert {kill.target for kill in kills} == {Target.STALL, Target.ZOMBIE}
