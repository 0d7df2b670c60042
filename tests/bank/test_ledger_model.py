"""The ledger against a model of it in plain Python: the same outcomes, the same balances, whatever is ordered."""

from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bank.money import LARGEST
from tests.bank.ledgers import (
    Connection,
    Order,
    balances,
    faults_of_the_books,
    open_account,
    open_treasury,
    post,
    reverse,
)

CURRENCIES = {1: "EUR", 2: "JPY", 3: "EUR", 4: "EUR", 5: "EUR", 6: "JPY"}
TREASURIES = {1, 2}


class Reversal(NamedTuple):
    place: int
    """Of which posted transfer, counted round."""


@dataclass
class Model:
    balances: dict[int, int] = field(default_factory=lambda: dict.fromkeys(CURRENCIES, 0))
    posted: list[tuple[Order, bool]] = field(default_factory=list[tuple[Order, bool]])
    reversed: set[int] = field(default_factory=set[int])

    def transfer(self, order: Order, *, reversal: bool = False) -> str:  # noqa: PLR0911 - one for each outcome
        if order.debtor == order.creditor:
            return "same_account"
        if order.debtor not in CURRENCIES:
            return "unknown_debtor"
        if order.creditor not in CURRENCIES:
            return "unknown_creditor"
        if {CURRENCIES[order.debtor], CURRENCIES[order.creditor]} != {order.currency}:
            return "currency_mismatch"
        if order.amount > LARGEST:
            return "overflow"
        if self.balances[order.debtor] - order.amount < (-LARGEST if order.debtor in TREASURIES else 0):
            return "insufficient_funds"
        if self.balances[order.creditor] + order.amount > LARGEST:
            return "overflow"
        self.balances[order.debtor] -= order.amount
        self.balances[order.creditor] += order.amount
        self.posted.append((order, reversal))
        return "posted"

    def reverse(self, place: int) -> str:
        order, was_reversal = self.posted[place]
        if was_reversal:
            return "is_reversal"
        if place in self.reversed:
            return "already_reversed"
        outcome = self.transfer(Order(order.creditor, order.debtor, order.currency, order.amount), reversal=True)
        if outcome == "posted":
            self.reversed.add(place)
        return outcome


accounts = st.sampled_from([1, 3, 4, 5]) | st.integers(0, 7)
orders = st.builds(
    Order,
    accounts,
    accounts,
    st.sampled_from(["EUR", "EUR", "EUR", "JPY", "USD"]),
    st.integers(1, 100) | st.sampled_from([LARGEST - 50, LARGEST, LARGEST + 1, 2**63 - 1]),
)
reversals = st.builds(Reversal, st.integers(0, 50))
in_one_database = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def open_all(ledger: Connection) -> dict[int, int]:
    """Open the model's accounts. Sequences do not roll back, so the ids differ: return them by the model's."""
    return {
        account: open_treasury(ledger, currency) if account in TREASURIES else open_account(ledger, currency)
        for account, currency in CURRENCIES.items()
    } | {0: 0, 7: -1}


@in_one_database
@given(st.lists(orders | reversals, max_size=40))
def test_any_sequence_of_transfers_and_reversals_does_what_the_model_does(
    ledger: Connection, steps: list[Order | Reversal]
) -> None:
    model = Model()
    transfers: list[int] = []
    with ledger.transaction(force_rollback=True):
        ids = open_all(ledger)
        for step in steps:
            if isinstance(step, Order):
                expected = model.transfer(step)
                posting = post(ledger, ids[step.debtor], ids[step.creditor], step.amount, step.currency)
            elif transfers:
                place = step.place % len(transfers)
                expected = model.reverse(place)
                posting = reverse(ledger, transfers[place])
            else:
                continue
            assert posting.outcome == expected
            if posting.transfer is not None:
                transfers.append(posting.transfer)
        now = balances(ledger)
        assert {account: now[ids[account]] for account in CURRENCIES} == model.balances
        assert faults_of_the_books(ledger) == []


@in_one_database
@given(st.lists(orders, max_size=60))
def test_a_batch_does_what_the_same_transfers_do_one_after_another(ledger: Connection, wishes: list[Order]) -> None:
    model = Model()
    with ledger.transaction(force_rollback=True):
        ids = open_all(ledger)
        rows = ledger.execute(
            "SELECT outcome, transfer IS NOT NULL FROM bank.post_transfers("
            "%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[]) ORDER BY place",
            (
                [ids[wish.debtor] for wish in wishes],
                [ids[wish.creditor] for wish in wishes],
                [wish.currency for wish in wishes],
                [wish.amount for wish in wishes],
                ["" for _ in wishes],
            ),
        ).fetchall()
        expected = [model.transfer(wish) for wish in wishes]
        assert rows == [(outcome, outcome == "posted") for outcome in expected]
        now = balances(ledger)
        assert {account: now[ids[account]] for account in CURRENCIES} == model.balances
        assert faults_of_the_books(ledger) == []
