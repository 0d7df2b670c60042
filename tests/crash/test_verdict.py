"""The judge of the crash test is not blind: it names each way in which a bank could break its promise."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.crash.clients import Answer, Order
from tests.crash.kills import Target, plan_kills
from tests.crash.verdict import Posted, judge

ORDER = Order("client1-1", 7, 8, "EUR", 100, 0.0)
ROW = Posted(1, 7, 8, "EUR", 100, "client1-1")
ACKNOWLEDGED = Answer(201, json.dumps(ROW._asdict()).encode())
REFUSED = Answer(409, b"{}")


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


@given(st.integers(0, 2**32), st.integers(4, 200))
def test_a_schedule_follows_from_its_seed_and_kills_every_target(seed: int, count: int) -> None:
    kills = plan_kills(seed, count)
    assert kills == plan_kills(seed, count)
    assert len(kills) == count
    assert {kill.target for kill in kills} == set(Target)
