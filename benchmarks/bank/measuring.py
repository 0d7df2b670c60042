"""One variant measured once: its server started, its rules looked at, loaded, and ended again."""

import asyncio
import contextlib
import http.client
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from benchmarks.bank.variants import Served, Servers
from benchmarks.load.messages import MEASURED, MEASURING, AccountRange, LoadPlan, LoadResult
from benchmarks.processes import HOST, MeasurementError, RunningServer, run_server, stop_session, tree_seconds

__all__ = ["Measurement", "RunOptions", "check_rules", "measure_served"]

# How much longer than planned the generator may take before it is ended.
GRACE_SECONDS: Final = 60.0
# More than a guard refuses of a load that keeps as many requests under way as this one does.
MOST_REFUSED: Final = 0.2
REPLY_BYTES: Final = 64 * 1024
NOBODY: Final = 9_999_999_999
TOO_MUCH: Final = 2**52


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How each variant is measured."""

    workers: int = 1
    warmup_seconds: float = 3.0
    seconds: float = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One variant in one round. CPU times are None where the system does not tell."""

    rate: float
    """Transfers acknowledged per second."""
    p50_ms: float
    p99_ms: float
    acknowledged: int
    """Transfers acknowledged in all: what must be in the books."""
    server_us: float | None
    """CPU microseconds of the server's processes per transfer."""
    postgres_us: float | None
    load_us: float | None
    refused: float = 0.0
    """The share of all requests that the guard refused (503), because more were under way than it lets in."""
    start_seconds: float | None = None
    """From the start of the server's process until it was ready."""


async def measure_served(
    variant: Served,
    servers: Servers,
    accounts: Sequence[AccountRange],
    tokens: Sequence[str],
    postgres_pid: int,
    options: RunOptions,
    *,
    connections: int,
    hot: bool = False,
) -> Measurement:
    """Measure a variant behind HTTP.

    Args:
        variant: what is served.
        servers: on which servers of state.
        accounts: that take part.
        tokens: of the callers. Each variant is sent them, whether it looks at them or not.
        postgres_pid: of Postgres' main process.
        options: how.
        connections: of the load.
        hot: whether one account takes part in every transfer.

    Raises:
        MeasurementError: its server did not start, broke a rule of the bank, or answered anything but 201 (or 503,
            where it has a guard).
    """
    server = run_server(
        variant.name,
        variant.command_for(options.workers),
        folder=variant.folder,
        environment=variant.environment_for(servers),
        ready=variant.ready,
    )
    began = time.perf_counter()
    async with server as running:
        start_seconds = time.perf_counter() - began
        posted = await asyncio.to_thread(check_rules, variant.name, running.port, accounts, tokens[0])
        plan = LoadPlan(
            host=HOST,
            port=running.port,
            connections=connections,
            warmup_seconds=options.warmup_seconds,
            seconds=options.seconds,
            accounts=tuple(accounts),
            tokens=tuple(tokens),
            hot=hot,
        )
        measured = await _load(running, plan, postgres_pid, posted, guarded=variant.tells)
    return replace(measured, start_seconds=start_seconds)


async def _load(server: RunningServer, plan: LoadPlan, postgres_pid: int, posted: int, *, guarded: bool) -> Measurement:
    generator = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load.generator"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=REPLY_BYTES,
        start_new_session=True,
    )
    assert generator.stdin is not None
    assert generator.stdout is not None
    assert generator.stderr is not None
    try:
        async with asyncio.timeout(plan.warmup_seconds + plan.seconds + GRACE_SECONDS):
            with contextlib.suppress(ConnectionError):  # it has ended already, and says below why
                generator.stdin.write(msgspec.json.encode(plan) + b"\n")
                await generator.stdin.drain()
            marks: list[tuple[float | None, float | None]] = []
            for mark in (MEASURING, MEASURED):
                if await generator.stdout.readline() != mark:
                    reason = (await generator.stderr.read()).decode("utf-8", "replace").strip()[-2000:]
                    raise MeasurementError(f"{server.name}: {reason}\nIts log ends:\n{server.log_tail()}")
                marks.append((server.cpu_seconds(), tree_seconds(postgres_pid)))
            line = await generator.stdout.readline()
            if not line:
                reason = (await generator.stderr.read()).decode("utf-8", "replace").strip()[-2000:]
                raise MeasurementError(f"{server.name}: {reason}\nIts log ends:\n{server.log_tail()}")
            result = msgspec.json.decode(line, type=LoadResult)
            await generator.wait()
    except TimeoutError:
        raise MeasurementError(f"{server.name}: the load generator did not end in time") from None
    finally:
        await stop_session(generator)
    refused = result.statuses.get(503, 0) / sum(result.statuses.values()) if guarded else 0.0
    others = {
        status: count for status, count in result.statuses.items() if status not in {201, 503 if guarded else 201}
    }
    if others or refused > MOST_REFUSED:
        raise MeasurementError(
            f"{server.name}: transfers were answered with {dict(result.statuses)}\n{server.log_tail()}"
        )
    (server_before, postgres_before), (server_after, postgres_after) = marks
    return Measurement(
        rate=result.measured / result.seconds,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        acknowledged=result.acknowledged + posted,
        server_us=per_transfer_us(server_before, server_after, result.measured),
        postgres_us=per_transfer_us(postgres_before, postgres_after, result.measured),
        load_us=per_transfer_us(0.0, result.cpu_seconds, result.measured),
        refused=refused,
    )


def per_transfer_us(before: float | None, after: float | None, transfers: int) -> float | None:
    """CPU seconds between two readings, as microseconds a transfer."""
    return None if before is None or after is None else (after - before) / transfers * 1e6


def check_rules(name: str, port: int, accounts: Sequence[AccountRange], token: str) -> int:
    """See that a variant plays by the bank's rules towards the caller of `token`. Returns how many transfers it posted.

    Raises:
        MeasurementError: it does not.
    """
    here, there = accounts[0], accounts[1]
    debtor, creditor = here.account(0), here.account(1)
    cases = (
        (201, {"debtor": debtor, "creditor": creditor, "currency": here.currency, "amount": 1}),
        (409, {"debtor": debtor, "creditor": creditor, "currency": here.currency, "amount": TOO_MUCH}),
        (422, {"debtor": debtor, "creditor": debtor, "currency": here.currency, "amount": 1}),
        (422, {"debtor": NOBODY, "creditor": creditor, "currency": here.currency, "amount": 1}),
        (422, {"debtor": debtor, "creditor": there.account(0), "currency": here.currency, "amount": 1}),
        (422, {"debtor": debtor, "creditor": creditor, "currency": here.currency, "amount": 0}),
    )
    for expected, order in cases:
        status, reply = _post(port, order, token)
        if status != expected:
            raise MeasurementError(f"{name} answers {order} with {status} and not {expected}: {reply}")
        if status == 201 and {field: reply.get(field) for field in order} != order:
            raise MeasurementError(f"{name} answers {order} with another transfer: {reply}")
    return 1


def _post(port: int, order: dict[str, Any], token: str) -> tuple[int, dict[str, Any]]:
    key = os.urandom(16).hex()
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        headers = {"content-type": "application/json", "idempotency-key": key, "authorization": f"Bearer {token}"}
        connection.request("POST", "/transfers", json.dumps({**order, "reference": key}), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()
