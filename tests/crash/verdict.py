"""Holds what the clients saw against what is in the database. Pure, and tested itself."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.crash.clients import Answer, Order


class Posted(NamedTuple):
    """A row of bank.transfers."""

    id: int
    debtor: int
    creditor: int
    currency: str
    amount: int
    reference: str


def judge(orders: Mapping[str, Order], answers: Mapping[str, Answer], posted: Iterable[Posted]) -> list[str]:
    """Name every difference between what the bank said and what it did; none, if it kept its promise.

    Args:
        orders: what clients wanted, by reference.
        answers: what they were told at last.
        posted: all transfers but the opening balances.
    """
    faults: list[str] = []
    rows: dict[str, list[Posted]] = defaultdict(list)
    for row in posted:
        rows[row.reference].append(row)
    for reference, order in orders.items():
        faults += _judge_order(order, answers.get(reference), rows.pop(reference, []))
    faults += [f"nobody ordered {row}" for left in rows.values() for row in left]
    return faults


def _judge_order(order: Order, answer: Answer | None, rows: list[Posted]) -> list[str]:
    if answer is None:
        return [f"{order.reference} was never answered, and was posted {len(rows)} times"]
    if answer.status != 201:
        return [f"{order.reference} was refused, and posted all the same: {row}" for row in rows]
    if not rows:
        return [f"{order.reference} was acknowledged and is lost: {answer.body!r}"]
    if len(rows) > 1:
        return [f"{order.reference} was posted {len(rows)} times: {rows}"]
    (row,) = rows
    said = json.loads(answer.body)
    told = Posted(said["id"], said["debtor"], said["creditor"], said["currency"], said["amount"], said["reference"])
    wanted = Posted(row.id, order.debtor, order.creditor, order.currency, order.amount, order.reference)
    if not row == told == wanted:
        return [f"{order.reference} was wanted as {wanted}, acknowledged as {told}, posted as {row}"]
    return []
