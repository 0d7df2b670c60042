"""Clients that never give up, and what they saw: the truth that the bank is held against.

Each order has a reference of its own, by which its transfer is found in the database, and a key of its own, which is
sent until the bank answers. Some orders are sent twice at once, some again after their answer, some long after it,
when the process that answered is dead.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Final

from bank.traffic_http import Address, BadReply, GaveUp, Line, Reply, ask, encode_request
from bank.traffic_orders import Party

PATIENCE_SECONDS: Final = 60.0
# A reply that takes longer is given up, and its request sent again.
REPLY_SECONDS: Final = 10.0
TWICE_AT_ONCE: Final = 0.2
AGAIN: Final = 0.1
LONG_AFTER: Final = 0.05
OVERDRAWN: Final = 0.1
FORTUNE: Final = 2**52
FUNDS: Final = "urn:bank:problem:insufficient-funds"


@dataclass(frozen=True, slots=True)
class Order:
    """A transfer that a client wants. Its reference is its key too."""

    reference: str
    debtor: int
    creditor: int
    currency: str
    amount: int
    made_at: float
    """By the monotonic clock, in seconds."""

    def body(self) -> bytes:
        """What is sent."""
        order = {
            "debtor": self.debtor,
            "creditor": self.creditor,
            "currency": self.currency,
            "amount": self.amount,
            "reference": self.reference,
        }
        return json.dumps(order).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bank said of an order, finally."""

    status: int
    body: bytes


@dataclass(slots=True)
class Witness:
    """What all clients saw."""

    orders: dict[str, Order] = field(default_factory=dict[str, Order])
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    faults: list[str] = field(default_factory=list[str])
    in_flight: int = 0
    """Requests that were sent and not answered."""
    sent_again: int = 0
    """Tries without a final answer."""
    compared: int = 0
    """Further answers to keys that had one."""
    executed: set[str] = field(default_factory=set[str])
    """The references that had an answer that is not a replay."""
    newest_posted: float = 0.0
    """When the newest order that was posted had been made."""

    def note(self, order: Order, reply: Reply) -> None:
        """Take down an answer."""
        if reply.status != 201 and (reply.status, reply.problem) != (409, FUNDS):
            self.faults.append(f"{order.reference} got {reply.status}: {reply.body[:300]!r}")
            return
        if not reply.replayed:
            if order.reference in self.executed:
                self.faults.append(f"{order.reference} was executed twice; the second answer: {reply.body!r}")
            self.executed.add(order.reference)
        answer = Answer(reply.status, reply.body)
        first = self.answers.setdefault(order.reference, answer)
        if first is not answer:
            self.compared += 1
            if first != answer:
                self.faults.append(f"{order.reference} got two answers: {first} and {answer}")
        elif reply.status == 201:
            self.newest_posted = max(self.newest_posted, order.made_at)


class WatchedLine(Line):
    """A line whose requests under way are counted."""

    def __init__(self, address: Address, witness: Witness) -> None:
        super().__init__(address, deadline_seconds=REPLY_SECONDS)
        self._witness = witness

    async def send(self, request: bytes) -> Reply:
        """Send, and be counted until there is a reply or none to be expected."""
        self._witness.in_flight += 1
        try:
            return await super().send(request)
        finally:
            self._witness.in_flight -= 1


class Client:
    """One client.

    Args:
        name: begins its references.
        address: the bank's.
        token: the teller's who acts for it; each of its orders is this one's, whose keys they are.
        parties: the accounts.
        witness: whom it tells.
        seed: what it does follows from it.
    """

    def __init__(
        self, name: str, address: Address, token: str, parties: list[Party], witness: Witness, seed: int
    ) -> None:
        self._name = name
        self._address = address
        self._token = token
        self._parties = parties
        self._witness = witness
        self._rng = random.Random(seed)  # noqa: S311
        self._lines = (WatchedLine(address, witness), WatchedLine(address, witness))
        self._done: list[Order] = []

    async def play(self, stop: asyncio.Event) -> None:
        """Order until told to stop, and then until the last order is answered."""
        try:
            number = 0
            while not stop.is_set():
                number += 1
                order = self._order(number)
                self._witness.orders[order.reference] = order
                times = 2 if self._rng.random() < TWICE_AT_ONCE else 1
                await asyncio.gather(*(self._send(line, order) for line in self._lines[:times]))
                if self._rng.random() < AGAIN:
                    await self._send(self._lines[0], order)
                if self._done and self._rng.random() < LONG_AFTER:
                    await self._send(self._lines[0], self._rng.choice(self._done))
                self._done.append(order)
        finally:
            for line in self._lines:
                line.close()

    async def _send(self, line: Line, order: Order) -> None:
        request = encode_request(
            self._address, "POST", "/transfers", order.body(), token=self._token, key=order.reference
        )
        try:
            reply, again = await ask(line, request, patience_seconds=PATIENCE_SECONDS)
        except (GaveUp, BadReply) as error:
            self._witness.faults.append(f"{order.reference}: {error}")
            return
        self._witness.sent_again += again
        self._witness.note(order, reply)

    def _order(self, number: int) -> Order:
        debtor = self._rng.choice(self._parties)
        creditor = self._rng.choice(
            [party for party in self._parties if party.currency == debtor.currency and party != debtor]
        )
        amount = FORTUNE if self._rng.random() < OVERDRAWN else self._rng.randint(1, 500)
        return Order(f"{self._name}-{number}", debtor.id, creditor.id, debtor.currency, amount, time.monotonic())
