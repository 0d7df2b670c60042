"""The load generator's process: `python -m benchmarks.load.generator`, spoken to as `messages` says.

Each connection sends a transfer, waits for its reply, notes how long it took, and sends the next one. Accounts are
chosen uniformly within a currency, or one of them is always the same; callers take turns, and every key is new. When
the time is up each connection waits for its last reply, so that what was acknowledged is known exactly.
"""

import asyncio
import random
import sys
import time
from array import array
from collections import Counter
from typing import Any, Final, cast

import msgspec
import uvloop

from benchmarks.figures import percentile
from benchmarks.load.messages import MEASURED, MEASURING, LoadPlan, LoadResult
from benchmarks.load.wire import BadReply, Mould, make_mould, read_head

__all__ = ["Connection", "Recorder", "generate", "main", "prepare_moulds"]

# Transfers prepared once; the load goes around them in a different order on each connection.
MOULDS: Final = 20_000
LARGEST_AMOUNT: Final = 500
DRAIN_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
CREATED: Final = 201


def prepare_moulds(plan: LoadPlan, chance: random.Random, count: int = MOULDS) -> list[Mould]:
    """Prepare transfers between different accounts of one currency, each sent by the next caller."""
    moulds: list[Mould] = []
    for number in range(count):
        accounts = plan.accounts[0] if plan.hot else chance.choice(plan.accounts)
        debtor = 0 if plan.hot else chance.randrange(accounts.count)
        creditor = debtor + chance.randrange(1, accounts.count)
        if plan.hot and chance.random() < 0.5:  # so that the one account does not run dry
            debtor, creditor = creditor, debtor
        moulds.append(
            make_mould(
                host=f"{plan.host}:{plan.port}",
                token=plan.tokens[number % len(plan.tokens)] if plan.tokens else "",
                debtor=accounts.account(debtor),
                creditor=accounts.account(creditor),
                currency=accounts.currency,
                amount=chance.randint(1, LARGEST_AMOUNT),
            )
        )
    return moulds


class Recorder:
    """What all connections share."""

    __slots__ = ("chance", "failure", "latencies", "measuring", "moulds", "statuses", "stopping")

    def __init__(self, moulds: list[Mould], chance: random.Random) -> None:
        self.moulds = moulds
        self.chance = chance
        self.latencies = array("d")
        self.measuring = False
        self.stopping = False
        self.statuses: Counter[int] = Counter()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """End the whole load: a figure in which one connection is missing is wrong."""
        if not self.failure.done():
            self.failure.set_exception(error)


class Connection(asyncio.Protocol):
    """One kept-alive connection. `idle` is done when it has stopped after its last reply."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._received = b""
        self._sent = 0.0
        self._next = recorder.chance.randrange(len(recorder.moulds))
        self._transport: asyncio.Transport | None = None
        self.idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._send(self._transport)

    def data_received(self, data: bytes) -> None:
        """Take a reply, and send the next request when it is whole."""
        recorder = self._recorder
        received = self._received + data if self._received else data
        try:
            head = read_head(received)
        except BadReply as error:
            recorder.fail(error)
            return
        if head is None or len(received) < head.length:
            self._received = received
            return
        if len(received) > head.length or self.idle.done():
            recorder.fail(BadReply(f"the server said more than it was asked for: {received[-60:]!r}"))
            return
        self._received = b""
        recorder.statuses[head.status] += 1
        if recorder.measuring and head.status == CREATED:
            recorder.latencies.append(time.perf_counter() - self._sent)
        if recorder.stopping:
            self.idle.set_result(None)
        elif self._transport is not None:
            self._send(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that hangs up has made the measurement worthless."""
        if not self.idle.done():
            self._recorder.fail(ConnectionError(f"the server hung up: {exc or 'end of stream'}"))
            self.idle.cancel()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, transport: asyncio.Transport) -> None:
        recorder = self._recorder
        self._next = (self._next + 1) % len(recorder.moulds)
        request = recorder.moulds[self._next].pour(b"%032x" % recorder.chance.getrandbits(128))
        self._sent = time.perf_counter()
        transport.write(request)


async def generate(plan: LoadPlan) -> LoadResult:
    """Play the load, saying on standard output when the measured time begins and ends.

    Raises:
        ConnectionError: the server hung up.
        BadReply: it said something that is not understood.
        TimeoutError: it did not accept, or a last reply did not come, in time.
        ValueError: no transfer was acknowledged in the measured time.
    """
    loop = asyncio.get_running_loop()
    chance = random.Random()
    recorder = Recorder(prepare_moulds(plan, chance), chance)
    connections: list[Connection] = []
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            for _ in range(plan.connections):
                _, connection = await loop.create_connection(lambda: Connection(recorder), plan.host, plan.port)
                connections.append(connection)
        await _pass(plan.warmup_seconds, recorder)
        recorder.measuring = True
        started, cpu = time.perf_counter(), time.process_time()
        _say(MEASURING)
        await _pass(plan.seconds, recorder)
        recorder.measuring = False
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        _say(MEASURED)
        recorder.stopping = True
        drained = asyncio.gather(*(connection.idle for connection in connections))
        async with asyncio.timeout(DRAIN_SECONDS):
            ends: set[asyncio.Future[Any]] = {drained, recorder.failure}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if recorder.failure.done():
            recorder.failure.result()
    finally:
        recorder.failure.cancel()
        for connection in connections:
            connection.close()
    latencies = sorted(recorder.latencies)
    return LoadResult(
        seconds=seconds,
        measured=len(latencies),
        p50_ms=percentile(latencies, 0.5) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        acknowledged=recorder.statuses[CREATED],
        statuses=dict(recorder.statuses),
        cpu_seconds=cpu,
    )


async def _pass(seconds: float, recorder: Recorder) -> None:
    """Let time pass, unless the load fails in it."""
    await asyncio.wait({recorder.failure}, timeout=seconds)
    if recorder.failure.done():
        recorder.failure.result()


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def main() -> int:
    """Read the plan, play it, write the result."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=LoadPlan)
    try:
        result = uvloop.run(generate(plan))
    except (OSError, BadReply, ValueError) as error:
        sys.stderr.write(f"the load failed: {str(error) or type(error).__name__}\n")
        return 1
    _say(msgspec.json.encode(result) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
