"""Clients that never give up, and what they saw: the truth that the bank is held against.

Each wish has a reference of its own, which is its key too and is sent until the bank answers. Some are sent twice at
once, some again after their answer, some long after it, when the process that answered is dead.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from bank.traffic_http import Address, BadReply, GaveUp, Line, Reply, ask, encode_request
from bank.traffic_orders import Party
from tests.crash.orders import Mandate, Order, Reversal, Wish

PATIENCE_SECONDS: Final = 120.0
# A reply that takes longer is given up, and its request sent again.
REPLY_SECONDS: Final = 10.0
TWICE_AT_ONCE: Final = 0.2
AGAIN: Final = 0.1
LONG_AFTER: Final = 0.05
OVERDRAWN: Final = 0.1
MOST_ERRORS: Final = 20
REVERSED: Final = 0.06
STANDING: Final = 0.03
FORTUNE: Final = 2**52
# So many former wishes are remembered, to be sent again long after.
REMEMBERED: Final = 1_000
# The books are counted once a second, and shown for ten more where they cannot be made (`bank.books`). The rest is for
# a process that was frozen with a reply in its hands (`kills.NAP_SECONDS`), and for a busy machine.
BOOKS_SECONDS: Final = 1.0 + 10.0 + 4.0 + 5.0
BETWEEN_LOOKS_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bank said of a wish, finally."""

    status: int
    body: bytes


@dataclass(slots=True)
class Witness:
    """What all clients saw."""

    orders: dict[str, Wish] = field(default_factory=dict[str, Wish])
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
    looks: int = 0
    """How often the books were read from the cache."""
    oldest_books: float = 0.0
    """The oldest books that were shown, in seconds."""

    def note(self, order: Wish, reply: Reply) -> None:
        """Take down an answer."""
        if (reply.status, reply.problem) not in order.answers:
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

    def look(self, reply: Reply, now: float) -> None:
        """Take down what the books said: of any moment they balance, and the moment is not long ago."""
        if reply.status != 200:
            self.faults.append(f"GET /books got {reply.status}: {reply.body[:300]!r}")
            return
        books, self.looks = reply.json(), self.looks + 1
        age = now - books["at"]
        self.oldest_books = max(self.oldest_books, age)
        if not books["balanced"]:
            self.faults.append(f"the cached books did not balance: {reply.body[:300]!r}")
        if age > BOOKS_SECONDS:
            self.faults.append(f"the cached books were {age:.1f} s old")


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
        rest_seconds: how long it thinks between two wishes.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        token: str,
        parties: list[Party],
        witness: Witness,
        seed: int,
        *,
        rest_seconds: float = 0.0,
    ) -> None:
        self._name = name
        self._address = address
        self._token = token
        self._parties = parties
        self._witness = witness
        self._rest_seconds = rest_seconds
        self._rng = random.Random(seed)  # noqa: S311
        self._lines = (WatchedLine(address, witness), WatchedLine(address, witness))
        self._done: list[Wish] = []

    async def play(self, stop: asyncio.Event) -> None:
        """Order until told to stop, and then until the last order is answered."""
        try:
            number = 0
            while not stop.is_set():
                number += 1
                order = self._wish(number)
                self._witness.orders[order.reference] = order
                times = 2 if self._rng.random() < TWICE_AT_ONCE else 1
                await asyncio.gather(*(self._send(line, order) for line in self._lines[:times]))
                if self._rng.random() < AGAIN:
                    await self._send(self._lines[0], order)
                if self._done and self._rng.random() < LONG_AFTER:
                    await self._send(self._lines[0], self._rng.choice(self._done))
                if len(self._done) < REMEMBERED:
                    self._done.append(order)
                else:
                    self._done[self._rng.randrange(REMEMBERED)] = order
                await asyncio.sleep(self._rest_seconds)
        finally:
            for line in self._lines:
                line.close()

    async def _send(self, line: Line, order: Wish) -> None:
        request = encode_request(
            self._address, "POST", order.path, order.body(), token=self._token, key=order.reference
        )
        for _ in range(MOST_ERRORS):
            try:
                reply, again = await ask(line, request, patience_seconds=PATIENCE_SECONDS)
            except (GaveUp, BadReply) as error:
                self._witness.faults.append(f"{order.reference}: {error}")
                return
            self._witness.sent_again += again
            self._witness.note(order, reply)
            if reply.status != 500:
                return
            # A fault, and noted as one. Its key is sent again all the same: what became of it must come to light.

    def _wish(self, number: int) -> Wish:
        name, made_at = f"{self._name}-{number}", time.monotonic()
        chance = self._rng.random()
        if chance < REVERSED and (found := self._posted()) is not None:
            order, transfer = found
            return Reversal(name, transfer, order, made_at)
        debtor = self._rng.choice(self._parties)
        creditor = self._rng.choice(
            [party for party in self._parties if party.currency == debtor.currency and party != debtor]
        )
        if REVERSED <= chance < REVERSED + STANDING:
            today, every = datetime.now(UTC).date().isoformat(), self._rng.choice(["day", "week", "month"])
            amount = self._rng.randint(1, 5)
            return Mandate(name, debtor.id, creditor.id, debtor.currency, amount, today, every, made_at)
        amount = FORTUNE if self._rng.random() < OVERDRAWN else self._rng.randint(1, 500)
        return Order(name, debtor.id, creditor.id, debtor.currency, amount, made_at)

    def _posted(self) -> tuple[Order, int] | None:
        """One of its own transfers that were posted, as far as it finds one."""
        order = self._rng.choice(self._done) if self._done else None
        answer = self._witness.answers.get(order.reference) if order else None
        if not isinstance(order, Order) or answer is None or answer.status != 201:
            return None
        return order, json.loads(answer.body)["id"]


async def watch_books(address: Address, token: str, witness: Witness, stop: asyncio.Event) -> None:
    """Read the cached books again and again until told to stop. Where they cannot be had, that is no fault."""
    line = Line(address, deadline_seconds=REPLY_SECONDS)
    request = encode_request(address, "GET", "/books", token=token)
    try:
        while not stop.is_set():
            try:
                reply = await line.send(request)
            except OSError:
                pass
            except BadReply as error:
                witness.faults.append(f"GET /books: {error}")
            else:
                if reply.status != 503:
                    witness.look(reply, time.time())
            await asyncio.sleep(BETWEEN_LOOKS_SECONDS)
    finally:
        line.close()
