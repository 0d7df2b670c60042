"""Plays the bank's customers: many at once, some of them impatient, forgetful or wrong, as in life.

    python -m bank.traffic http://127.0.0.1:8000 --seconds 30 --connections 32

Each customer has a connection and a teller who acts for it, sends, waits for the answer, and goes on. A share of all
requests is sent again although it was answered, or twice at once: both must get the same answer, and the money must
move once. In the middle somebody sends a payment file. What the bank answers is held against what a right bank would.
The tellers' tokens are of this folder's development issuer, so the bank has to be served from here.
"""

import argparse
import asyncio
import contextlib
import math
import random
import sys
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bank.callers import Callers, issue_tokens
from bank.demo_server import FOLDER
from bank.money import is_currency
from bank.traffic_http import Address, BadReply, GaveUp, Line, Reply, ask, encode_request
from bank.traffic_orders import EXPECTED, Customers, Delivery, Kind, Party, Step
from bank.traffic_report import FileOutcome, Tally, TrafficReport
from workhorse.errors import WorkhorseError
from workhorse.settings import load_settings

__all__ = ["TrafficPlan", "find_parties", "main", "play"]

# Announced, never sent: the bank refuses it by its head.
FLOOD_BYTES: Final = 64 * 1024 * 1024
PROGRESS_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPlan:
    """How much of it."""

    connections: int = 32
    """Customers at once. One that sends twice at once opens a second connection for that."""
    seconds: float | None = 30.0
    """How long; None: until cancelled."""
    rate: float | None = None
    """Steps per second of all customers together, about; None: as fast as the bank answers."""
    file_transactions: int = 500
    """Transactions of the payment file in the middle; 0, and where there is no middle: no file."""
    patience_seconds: float = 30.0
    """How long a request is sent again before it counts as wrong."""
    seed: int | None = None
    """What the customers do follows from it; None: something else each time."""


class Customer:
    """One of those who play. `token` is the teller's who acts for it."""

    def __init__(
        self,
        address: Address,
        token: str,
        customers: Customers,
        plan: TrafficPlan,
        tally: Tally,
        rng: random.Random,
    ) -> None:
        self._address = address
        self._token = token
        self._customers = customers
        self._plan = plan
        self._tally = tally
        self._rng = rng
        self._line = Line(address, deadline_seconds=plan.patience_seconds)
        self._second = Line(address, deadline_seconds=plan.patience_seconds)
        self._last_transfer: int | None = None

    async def play(self, until: float) -> None:
        """Do one step after another; the last one begins before `until`, by the loop's clock."""
        clock = asyncio.get_running_loop().time
        pause = self._plan.connections / self._plan.rate if self._plan.rate else 0.0
        try:
            while clock() < until:
                if pause:
                    await asyncio.sleep(min(self._rng.expovariate(1 / pause), max(0.0, until - clock())))
                await self._noting(self._do(self._customers.step(self._rng)))
        finally:
            self.close()

    async def send_file(self, after_seconds: float) -> None:
        """Wait, send a payment file, and send it again."""
        await asyncio.sleep(after_seconds)
        message = uuid.UUID(int=self._rng.getrandbits(128)).hex
        content = self._customers.payroll(self._rng, message, self._plan.file_transactions)
        request = self._request("POST", "/payments/pain001", content, key=message, content_type="application/xml")
        try:
            await self._noting(self._deliver_file(request))
        finally:
            self.close()

    def close(self) -> None:
        """Hang up."""
        self._line.close()
        self._second.close()

    async def _noting(self, step: Coroutine[Any, Any, None]) -> None:
        """Do a step, and blame the bank for an answer that it owes or that is none."""
        try:
            await step
        except (BadReply, GaveUp) as error:
            self._tally.blame(str(error))

    async def _do(self, step: Step) -> None:
        match step.kind:
            case Kind.READ:
                request = self._request("GET", f"/accounts/{step.payer}/statement")
                self._judge(step.kind, await self._ask(self._line, request))
            case Kind.PRY:
                self._judge(step.kind, await self._ask(self._line, self._request("GET", "/books/audit")))
            case Kind.FLOOD:
                request = self._transfer(b"", declared_bytes=FLOOD_BYTES)
                self._judge(step.kind, await self._ask(self._line, request))
                self._line.close()  # the bank still waits for the body
            case Kind.FORGET_KEY:
                request = self._request("POST", "/transfers", step.body)
                self._judge(step.kind, await self._ask(self._line, request))
            case Kind.FORGET_TOKEN:
                request = encode_request(self._address, "POST", "/transfers", step.body, key=self._key())
                self._judge(step.kind, await self._ask(self._line, request))
            case Kind.REUSE:
                key = self._key()
                self._judge(Kind.PAY, await self._deliver(self._transfer(step.body, key=key), Delivery.ONCE))
                other = self._transfer(self._customers.payment(self._rng), key=key)
                self._judge(step.kind, await self._ask(self._line, other))
            case Kind.REVERSE:
                if self._last_transfer is not None:
                    path = f"/transfers/{self._last_transfer}/reversal"
                    request = self._request("POST", path, key=self._key())
                    self._judge(step.kind, await self._deliver(request, step.delivery))
                    self._last_transfer = None
            case _:
                reply = await self._deliver(self._transfer(step.body), step.delivery)
                self._judge(step.kind, reply)
                if reply.status == 201:
                    self._last_transfer = int(reply.json()["id"])

    async def _deliver(self, request: bytes, delivery: Delivery) -> Reply:
        """Send a request as often as `delivery` says; return the first answer."""
        if delivery is Delivery.TWICE:
            both = asyncio.gather(
                self._ask(self._line, request), self._ask(self._second, request), return_exceptions=True
            )
            first, second = sorted(map(_result, await both), key=lambda reply: reply.replayed)
            self._compare(first, second)
        else:
            started = asyncio.get_running_loop().time()
            first = await self._ask(self._line, request)
            if first.status == 201:
                self._tally.latency.add(asyncio.get_running_loop().time() - started)
            if delivery is Delivery.AGAIN:
                self._compare(first, await self._ask(self._line, request))
        self._tally.posted += first.status == 201
        return first

    async def _deliver_file(self, request: bytes) -> None:
        first = await self._ask(self._line, request)
        self._compare(first, await self._ask(self._line, request))
        if first.status != 201:
            self._tally.blame(f"the payment file got {first.status} {first.problem}: {first.body[:200]!r}")
            return
        report = first.json()
        outcome = FileOutcome(self._plan.file_transactions, report["posted"], report["refused"])
        if outcome.posted + outcome.refused != outcome.transactions or not outcome.refused:
            self._tally.blame(f"a payment file with one unknown creditor became {outcome}")
        self._tally.files.append(outcome)

    async def _ask(self, line: Line, request: bytes) -> Reply:
        reply, again = await ask(line, request, patience_seconds=self._plan.patience_seconds)
        tally = self._tally
        tally.requests += 1
        tally.sent_again += again
        tally.statuses[reply.status] += 1
        if reply.status >= 400:
            tally.problems[reply.problem or f"{reply.status} without a problem document"] += 1
        return reply

    def _judge(self, kind: Kind, reply: Reply) -> None:
        if (reply.status, reply.problem if reply.status >= 400 else "") not in EXPECTED[kind]:
            self._tally.blame(f"{kind.name} got {reply.status} {reply.problem}: {reply.body[:200]!r}")

    def _compare(self, first: Reply, second: Reply) -> None:
        """A key that was sent twice has one effect: one answer, and of the two at most one that is not a replay."""
        self._tally.repeated += 1
        if (first.status, first.body) == (second.status, second.body) and second.replayed:
            self._tally.one_effect += 1
        else:
            mark = "" if second.replayed else ", not marked as replayed"
            self._tally.blame(
                f"one key had two answers: {first.status} {first.body[:200]!r},"
                f" and {second.status} {second.body[:200]!r}{mark}"
            )

    def _transfer(self, body: bytes, *, key: str | None = None, declared_bytes: int | None = None) -> bytes:
        return self._request("POST", "/transfers", body, key=key or self._key(), declared_bytes=declared_bytes)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str | None = None,
        content_type: str = "application/json",
        declared_bytes: int | None = None,
    ) -> bytes:
        return encode_request(
            self._address,
            method,
            path,
            body,
            token=self._token,
            key=key,
            content_type=content_type,
            declared_bytes=declared_bytes,
        )

    def _key(self) -> str:
        return f"{self._rng.getrandbits(128):032x}"


def _result(outcome: Reply | BaseException) -> Reply:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def play(
    address: Address,
    callers: Callers,
    parties: Sequence[Party],
    plan: TrafficPlan,
    *,
    progress: Callable[[TrafficReport], None] | None = None,
) -> TrafficReport:
    """Let customers trade between `parties`, and say what became of it.

    Args:
        address: where the bank listens.
        callers: those whom it knows.
        parties: accounts of customers.
        plan: how much.
        progress: told each second what there is so far.

    Raises:
        ValueError: the accounts are too few.
    """
    chance = random.Random(plan.seed)  # noqa: S311 - hides nothing
    customers = Customers(parties)
    tally = Tally()
    clock = asyncio.get_running_loop().time
    started = clock()
    until = math.inf if plan.seconds is None else started + plan.seconds

    def customer(number: int) -> Customer:
        rng = random.Random(chance.getrandbits(64))  # noqa: S311 - hides nothing
        return Customer(address, callers.teller(number), customers, plan, tally, rng)

    async with _each_second(lambda: progress and progress(tally.report(clock() - started))):
        async with asyncio.TaskGroup() as group:
            for number in range(plan.connections):
                group.create_task(customer(number).play(until))
            if plan.file_transactions and plan.seconds is not None:
                group.create_task(customer(0).send_file(plan.seconds / 2))
        seconds = clock() - started
    return tally.report(seconds)


@contextlib.asynccontextmanager
async def _each_second(tell: Callable[[], object]) -> AsyncGenerator[None]:
    async def telling() -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            tell()

    task = asyncio.create_task(telling(), name="progress")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def find_parties(
    address: Address, callers: Callers, wanted: int = 1_000, *, connections: int = 16
) -> list[Party]:
    """Look up accounts of customers, spread over all that there are.

    Args:
        address: where the bank listens.
        callers: those whom it knows.
        wanted: how many; a few less come, because treasuries are left out.
        connections: how many look-ups are under way at once.

    Raises:
        GaveUp: the bank does not answer.
        BadReply: it answers strangely.
    """
    line = Line(address)
    books, _ = await ask(line, encode_request(address, "GET", "/live"), patience_seconds=30)
    line.close()
    accounts = sum(currency["accounts"] for currency in books.json()["currencies"])
    # By chance, because with a stride all could be of one currency; and the same ones each time.
    numbers = iter(random.Random(0).sample(range(1, accounts + 1), min(wanted, accounts)))  # noqa: S311
    found: list[Party] = []
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(_look_up(address, callers.teller(number), numbers, found))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # each look-up that fails has the same to tell
    return sorted(found, key=lambda party: party.id)


async def _look_up(address: Address, token: str, numbers: Iterator[int], found: list[Party]) -> None:
    line = Line(address)
    try:
        for number in numbers:
            request = encode_request(address, "GET", f"/accounts/{number}", token=token)
            reply, _ = await ask(line, request, patience_seconds=30)
            if reply.status == 200:
                account = reply.json()
                if account["floor"] == 0 and is_currency(account["currency"]):  # the treasury is no customer
                    found.append(Party(account["id"], account["iban"], account["currency"]))
            elif reply.status != 404:
                raise BadReply(f"account {number} was answered with {reply.status} {reply.problem}")
    finally:
        line.close()


def main() -> int:
    """Read the command line, play, and print what became of it."""
    defaults = TrafficPlan()
    parser = argparse.ArgumentParser(prog="python -m bank.traffic", description="Play the customers of a bank.")
    parser.add_argument("address", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--connections", type=int, default=defaults.connections)
    parser.add_argument("--parties", type=int, default=1_000, help="accounts that trade")
    parser.add_argument("--seed", type=int, help="repeat what the customers of an earlier run did")
    arguments = parser.parse_args()
    plan = TrafficPlan(connections=arguments.connections, seconds=arguments.seconds, seed=arguments.seed)

    async def run() -> TrafficReport:
        address, callers = Address.of(arguments.address), issue_tokens(load_settings(FOLDER))
        return await play(address, callers, await find_parties(address, callers, arguments.parties), plan)

    try:
        report = asyncio.run(run())
    except (WorkhorseError, GaveUp, BadReply, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for name in report.__slots__:
        sys.stdout.write(f"{name}: {getattr(report, name)}\n")
    sys.stdout.write(f"transfers per second: {report.transfers_per_second:.0f}\n")
    return 0 if report.as_promised else 1


if __name__ == "__main__":
    sys.exit(main())
