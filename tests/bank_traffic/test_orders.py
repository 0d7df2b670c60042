"""The customers do what they are said to do, and nothing but chance decides."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank import pain001
from bank.iban import check_digits, why_not_iban
from bank.money import EXPONENTS, LARGEST
from bank.traffic_orders import DECIDED, DELIVERIES, EXPECTED, KINDS, Customers, Delivery, Kind, Party, Step

CURRENCIES = sorted(EXPONENTS)


def party(number: int) -> Party:
    digits = f"{number:018d}"
    return Party(number, f"DE{check_digits('DE', digits)}{digits}", CURRENCIES[number % len(CURRENCIES)])


PARTIES = [party(number) for number in range(1, 501)]
CUSTOMERS = Customers(PARTIES)
CURRENCY_OF = {party.id: party.currency for party in PARTIES}


def steps(kind: Kind, count: int) -> list[Step]:
    rng = random.Random(7)  # noqa: S311
    return [step for step in (CUSTOMERS.step(rng) for _ in range(count)) if step.kind is kind]


@given(st.integers(0, 2**64))
def test_what_a_customer_does_follows_from_the_seed(seed: int) -> None:
    first, second = random.Random(seed), random.Random(seed)  # noqa: S311
    assert [CUSTOMERS.step(first) for _ in range(20)] == [CUSTOMERS.step(second) for _ in range(20)]


def test_every_kind_and_every_delivery_comes_as_often_as_it_should() -> None:
    rng = random.Random(7)  # noqa: S311
    played = [CUSTOMERS.step(rng) for _ in range(20_000)]
    kinds = Counter(step.kind for step in played)
    deliveries = Counter(step.delivery for step in played if step.kind in DECIDED)
    assert sum(KINDS.values()) == sum(DELIVERIES.values()) == 1000
    assert set(kinds) == set(Kind) == set(EXPECTED)
    for kind, share in KINDS.items():
        assert kinds[kind] / 20 == pytest.approx(share, rel=0.4)
    for delivery, share in DELIVERIES.items():
        assert deliveries[delivery] / deliveries.total() * 1000 == pytest.approx(share, rel=0.2)


def test_only_what_the_bank_decides_is_sent_twice() -> None:
    rng = random.Random(7)  # noqa: S311
    twice = {step.kind for step in (CUSTOMERS.step(rng) for _ in range(20_000)) if step.delivery is not Delivery.ONCE}
    assert twice == DECIDED


def test_a_payment_is_between_two_accounts_of_its_currency_and_shops_are_paid_most() -> None:
    orders = [json.loads(step.body) for step in steps(Kind.PAY, 5_000)]
    for order in orders:
        assert order["debtor"] != order["creditor"]
        assert CURRENCY_OF[order["debtor"]] == CURRENCY_OF[order["creditor"]] == order["currency"]
        assert 1 <= order["amount"] <= 500
    paid = Counter(order["creditor"] for order in orders)
    assert {creditor for creditor, _ in paid.most_common(5)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("kind", [Kind.OVERDRAW, Kind.MISTYPE, Kind.PAY_SELF, Kind.CONFUSE])
def test_each_refusal_is_asked_for_rightly(kind: Kind) -> None:
    orders = [json.loads(step.body) for step in steps(kind, 5_000)]
    assert orders
    for order in orders:
        debtor, creditor = order["debtor"], order["creditor"]
        assert CURRENCY_OF[debtor] == order["currency"]
        assert (order["amount"] > 2**51) is (kind is Kind.OVERDRAW)
        assert order["amount"] <= LARGEST
        assert (creditor not in CURRENCY_OF) is (kind is Kind.MISTYPE)
        assert (creditor == debtor) is (kind is Kind.PAY_SELF)
        assert (CURRENCY_OF.get(creditor, order["currency"]) != order["currency"]) is (kind is Kind.CONFUSE)


def test_babble_is_not_json() -> None:
    with pytest.raises(ValueError, match=r"delimiter"):
        json.loads(steps(Kind.BABBLE, 5_000)[0].body)


@given(st.integers(0, 2**64), st.integers(2, 60))
def test_a_payroll_is_a_valid_payment_file_with_one_unknown_creditor(seed: int, count: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    file = pain001.parse(CUSTOMERS.payroll(rng, f"{rng.getrandbits(128):032x}", count))
    known = {party.iban: party for party in PARTIES}
    assert len(file.transactions) == count
    unknown = [transfer.creditor.value for transfer in file.transactions if transfer.creditor.value not in known]
    assert len(unknown) == 1
    assert why_not_iban(unknown[0]) is None
    for transfer in file.transactions:
        assert known[transfer.debtor.value].currency == transfer.currency
        assert transfer.debtor != transfer.creditor


def test_a_payroll_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="2 transactions or more, not 1"):
        CUSTOMERS.payroll(random.Random(1), "message", 1)  # noqa: S311


@pytest.mark.parametrize("numbers", [[], [1, 2], [5, 10, 15, 20], [1, 6, 2]])
def test_too_few_accounts_to_trade_with_are_refused(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="too few to trade with"):
        Customers([party(number) for number in numbers])
