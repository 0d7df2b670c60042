"""One history, lived: a copy of the database, a proxy before it, the program, its death and its return."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from workhorse.errors import StartupError
from workhorse.testing.crash.effects import Effects, await_rest, broken_invariants, read_effects
from workhorse.testing.crash.history import History, Point
from workhorse.testing.crash.plan import Plan
from workhorse.testing.crash.process import Program, child_environment, free_address
from workhorse.testing.crash.request import Reply
from workhorse.testing.crash.trigger import Trigger
from workhorse.testing.databases import copy_database, drop_database
from workhorse.testing.proxy import FaultProxy

__all__ = ["Lived", "Running", "live", "ready", "stopping"]

START_SECONDS: Final = 60.0
REPLY_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 30.0
PROGRAM_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.02
# Without a word on the wire for so long, what was begun has ended.
QUIET_SECONDS: Final = 0.15
QUIET_WITHIN_SECONDS: Final = 10.0
# Said by those who could not yet look at the request (RFC 8470, 6585, 9110): a client asks again.
NOT_YET: Final = frozenset({425, 429, 502, 503, 504})


class Lived(NamedTuple):
    """A history, and the points that went by in it."""

    history: History
    points: list[Point]


class Running(NamedTuple):
    """The program, and where it answers if it is a server."""

    program: Program
    base_url: str


async def live(plan: Plan, database_url: str, point: Point | None) -> Lived:
    """Run the plan on a copy of the database, with a kill at `point`.

    Raises:
        StartupError: the program cannot be started, or does not answer or end.
    """
    history = History(point=point)
    copy = await asyncio.to_thread(copy_database, database_url)
    log = plan.scratch / f"{'plain' if point is None else f'point-{point.number}'}.log"
    trigger = Trigger(at=point.number if point is not None else None, thorough=plan.thorough)
    try:
        async with FaultProxy(copy, watcher=trigger) as proxy:
            async with stopping(plan, proxy.url, log) as running:
                await _first(plan, running, proxy, trigger, history)
                if not trigger.pulled:
                    trigger.disarm()  # what it does to stop is not what was asked of it
            history.reached = trigger.pulled
            trigger.disarm()
            proxy.cut()
            if trigger.pulled:
                history.crashed = await _look(plan, copy, history, "after the crash")
                await _again(plan, proxy.url, log, history)
            history.final = await _look(plan, copy, history, "in the end")
    finally:
        await asyncio.to_thread(drop_database, copy)
    return Lived(history, trigger.points())


@asynccontextmanager
async def stopping(plan: Plan, database_url: str, log: Path) -> AsyncGenerator[Running]:
    """Start the program; stop it at the end, in whatever state it is."""
    running = _start(plan, database_url, log)
    try:
        yield running
    finally:
        await running.program.stop()


def _start(plan: Plan, database_url: str, log: Path) -> Running:
    """Start the program.

    Raises:
        StartupError: there is none.
    """
    host, port = free_address(plan.ports) if plan.request is not None else ("", 0)
    command = [part.replace("{host}", host).replace("{port}", str(port)) for part in plan.command]
    environment = child_environment(plan.folder, {**plan.environment, "DATABASE_URL": database_url})
    program = Program(command, environment=environment, folder=plan.folder, log=log)
    return Running(program, f"http://{host}:{port}")


async def _look(plan: Plan, url: str, history: History, when: str) -> Effects:
    """Wait until the database is at rest, ask the invariants, and read the effects."""
    await asyncio.to_thread(await_rest, url)
    broken = await asyncio.to_thread(broken_invariants, url, plan.invariants)
    history.broken += [f"{when} {sentence}" for sentence in broken]
    return await asyncio.to_thread(read_effects, url, outcome=plan.outcome, ignore=plan.ignore)


async def ready(running: Running) -> None:
    """Wait until a server answers requests.

    Raises:
        StartupError: it has ended, or does not answer in time; the message has the end of its log.
    """
    give_up = time.monotonic() + START_SECONDS
    async with httpx.AsyncClient(base_url=running.base_url, timeout=REPLY_SECONDS, trust_env=False) as client:
        while True:
            if running.program.exit_code is not None or time.monotonic() > give_up:
                said = running.program.log_tail()
                raise StartupError(f"`{running.program}` does not serve. The end of what it said:\n{said}")
            try:
                # An app that is no Service knows no such path, and may say so: it answers.
                if (await client.get("/-/ready")).status_code != 503:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(POLL_SECONDS)


async def _first(plan: Plan, running: Running, proxy: FaultProxy, trigger: Trigger, history: History) -> None:
    """The run that may be killed."""
    if plan.request is None:
        trigger.arm(running.program.kill)
        history.heard = await _exit_code(running.program)
        if trigger.pulled:
            history.heard = None
        return
    await ready(running)
    await _quiet(proxy, trigger)
    trigger.arm(running.program.kill)
    history.heard = await _ask(plan, running)
    await _quiet(proxy, trigger)
    if history.heard is None and not trigger.pulled:
        raise StartupError(
            f"{plan.subject} was not answered within {REPLY_SECONDS:g} s, although nothing was killed. The end of what"
            f" the app said:\n{running.program.log_tail()}"
        )


async def _again(plan: Plan, database_url: str, log: Path, history: History) -> None:
    """The runs after the crash: the program is started once more, and the request sent again, twice."""
    if plan.request is not None and not plan.request.repeatable:
        return
    async with stopping(plan, database_url, log) as running:
        if plan.request is None:
            history.retries.append(await _exit_code(running.program))
            return
        await ready(running)
        for _ in range(2):
            reply = await _until_answered(lambda: _ask(plan, running))
            if reply is None:
                history.broken.append(f"sent again, the request was not answered within {RETRY_SECONDS:g} s")
                return
            history.retries.append(reply)


async def _until_answered(ask: Callable[[], Awaitable[Reply | None]]) -> Reply | None:
    """Ask as a patient client does. None where no final answer comes."""
    give_up = time.monotonic() + RETRY_SECONDS
    while True:
        reply = await ask()
        if reply is not None and reply.status not in NOT_YET:
            return reply
        if time.monotonic() > give_up:
            return reply
        await asyncio.sleep(POLL_SECONDS)


async def _ask(plan: Plan, running: Running) -> Reply | None:
    """Send the request once. None where its connection was lost, or no reply came in time."""
    request = plan.request
    assert request is not None
    async with httpx.AsyncClient(base_url=running.base_url, timeout=REPLY_SECONDS, trust_env=False) as client:
        try:
            reply = await client.request(
                request.method, request.path, json=request.json, content=request.content, headers=request.all_headers()
            )
        except httpx.TransportError:
            return None
    return Reply(reply.status_code, reply.content)


async def _exit_code(program: Program) -> Reply:
    """Wait for the end of a program.

    Raises:
        StartupError: it goes on.
    """
    try:
        return Reply(await program.wait(PROGRAM_SECONDS))
    except TimeoutError as error:
        raise StartupError(f"{error}. The end of what it said:\n{program.log_tail()}") from error


async def _quiet(proxy: FaultProxy, trigger: Trigger) -> None:
    """Wait until nothing is under way on the wire, or the trigger was pulled."""
    give_up = time.monotonic() + QUIET_WITHIN_SECONDS
    since, count = time.monotonic(), proxy.round_trips
    while not trigger.pulled and time.monotonic() < give_up:
        if trigger.holding or not proxy.resting or proxy.round_trips != count:
            since, count = time.monotonic(), proxy.round_trips
        elif time.monotonic() - since > QUIET_SECONDS:
            return
        await asyncio.sleep(POLL_SECONDS)
