"""One siege: clients load the bank, workers run its jobs, and all of them are killed, again and again.

    clients ──▶ bank (one main process, some that serve) ──▶ Postgres, Valkey
                workers of jobs ─────────────────────────▶

Everything is a process of its own, as in production, and everything is struck (`kills.py`). When the plan is done the
clients have their last answers, the workers all that was left to do; then the database is read (`evidence.py`) and held
against what the clients saw (`verdict.py`).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from bank.callers import Callers, issue_tokens
from bank.demo_server import FOLDER
from bank.traffic import find_parties
from bank.traffic_http import Address, Line, ask, encode_request
from tests.crash.bank_server import BankServer
from tests.crash.blows import RECOVERY_SECONDS, Striker
from tests.crash.clients import Client, Witness, watch_books
from tests.crash.evidence import Evidence, gather, rest
from tests.crash.history import Taskmaster, write_history
from tests.crash.job_workers import JobWorkers
from tests.crash.kills import Target, Wound, plan_kills
from tests.crash.logs import LogReader
from tests.crash.verdict import (
    judge_books,
    judge_days,
    judge_jobs,
    judge_news,
    judge_payments,
    judge_rest,
    judge_wishes,
)
from workhorse.embedded import attach, stop
from workhorse.servers.launch import free_port
from workhorse.settings import load_settings

SERVERS: Final = 2
# Few, so that every transfer meets others on its accounts.
ACCOUNTS: Final = 50
START_SECONDS: Final = 60.0
# The jobs of killed workers come back after their lease, and failed ones after their pause.
JOBS_SECONDS: Final = 90.0
# A worker that was not heard of for 10 s is found out by the beat of another, which has one each 4 s (`WorkerOptions`).
LEASE_SECONDS: Final = 14.0
REST_SECONDS: Final = 30.0
WATCH_SECONDS: Final = 0.5
BOOKS_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large a siege is, and what is struck. The clients' rest is in seconds, between two wishes of each."""

    kills: int
    clients: int = 16
    workers: int = 2
    client_rest: float = 0.0
    targets: tuple[Target, ...] = tuple(Target)


@dataclass(slots=True)
class Watch:
    """What was seen of the jobs while all went on."""

    oldest_orphan: float = 0.0
    """The longest that a job was held by a worker that was not heard of, in seconds."""
    looks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What there was when the dust had settled."""

    witness: Witness
    wounds: list[Wound]
    found: Evidence
    audit: dict[str, Any]
    """What GET /books/audit said."""
    cached: int | None
    """The transfers that the cached books had at last."""
    watch: Watch
    quiet_seconds: float
    """From the last answer to the end of the last job."""
    workers: int
    starts: int
    """How often the bank's main process was started."""
    worker_starts: int
    complaints: list[str]
    """Workers that ended by themselves, or did not end when told to."""
    seconds: float
    errors: list[str]
    """What the bank and its workers called an error in their logs."""

    def faults(self) -> dict[str, list[str]]:
        """Every broken promise, by what was promised."""
        witness, found = self.witness, self.found
        return {
            "answers": witness.faults,
            "wishes": judge_wishes(witness.orders, witness.answers, found),
            "replies": self.unkept_replies(),
            "payments": judge_payments(found.mandates, found.payments, found.today),
            "news": judge_news(found.told, found.announced, found.advised),
            "days": judge_days(found.over, found.reports, found.closed),
            "jobs": judge_jobs(found),
            "rest": judge_rest(found, self.workers),
            "books": judge_books(found, self.audit, self.cached),
            "processes": self.complaints,
            "errors": self.errors,
        }

    def unkept_replies(self) -> list[str]:
        """A reply is kept for each key, and for no other."""
        wanted = len(self.witness.orders)
        kept = self.found.kept_replies
        return [] if kept == wanted else [f"{kept} replies are kept for {wanted} keys"]


Tell = Callable[[int, Wound, Witness], None]


def in_silence(_number: int, _wound: Wound, _witness: Witness) -> None:
    """Tell nobody."""


async def besiege(folder: Path, scale: Scale, *, seed: int, tell: Tell = in_silence) -> Aftermath:
    """Run it. Everything that was started is stopped at the end.

    Args:
        folder: an empty folder for the servers' data and the logs.
        scale: how large.
        seed: the schedule and the clients' choices follow from it.
        tell: called after each kill, with its number from 1.

    Raises:
        AssertionError: the bank did not recover in time.
    """
    embedded = folder / "embedded"
    address = Address("127.0.0.1", free_port("127.0.0.1", 0))
    bank = BankServer(address, embedded, workers=SERVERS, log=folder / "bank.log")
    workers = JobWorkers(embedded, count=scale.workers, log=folder / "workers.log")
    logs = [LogReader(bank.log), LogReader(workers.log)]
    started = time.monotonic()
    with attach(embedded) as attachment:
        url = attachment.database_url
        try:
            bank.start()
            callers = issue_tokens(load_settings(FOLDER, embedded={"folder": embedded}))
            await _until_ready(address)
            await asyncio.to_thread(write_history, url, accounts=ACCOUNTS, days=scale.kills)
            workers.start()
            witness, wounds, watch = await _fight(bank, workers, callers, embedded, url, scale, seed, tell, logs)
            quiet = await _settle(url, bank, workers)
            left_over = await _rest(url, workers)
            audit = await _ask(address, callers.auditor, "/books/audit")
            found = await asyncio.to_thread(gather, url, left_over)
            cached = await _cached_transfers(address, callers.auditor, found.all_transfers)
            complaints = [*workers.ended, *await asyncio.to_thread(workers.stop)]
            bank.stop()
            for log in logs:
                log.read()
            return Aftermath(
                witness=witness,
                wounds=wounds,
                found=found,
                audit=audit,
                cached=cached,
                watch=watch,
                quiet_seconds=quiet,
                workers=scale.workers,
                starts=bank.starts,
                worker_starts=workers.starts,
                complaints=complaints,
                seconds=time.monotonic() - started,
                errors=[line for log in logs for line in log.errors],
            )
        finally:
            workers.stop()
            bank.stop()
            stop(embedded)


async def _fight(
    bank: BankServer,
    workers: JobWorkers,
    callers: Callers,
    embedded: Path,
    url: str,
    scale: Scale,
    seed: int,
    tell: Tell,
    logs: list[LogReader],
) -> tuple[Witness, list[Wound], Watch]:
    witness, watch = Witness(), Watch()
    parties = await find_parties(bank.address, callers, ACCOUNTS)
    rng = random.Random(seed)  # noqa: S311
    peace = asyncio.Event()
    wounds: list[Wound] = []
    striker = Striker(bank, workers, embedded, url, witness, rng)
    async with asyncio.TaskGroup() as group:
        busy: list[asyncio.Task[None]] = []
        for number in range(scale.clients):
            token, chance = callers.teller(number), rng.getrandbits(64)
            client = Client(
                f"client{number}", bank.address, token, parties, witness, chance, rest_seconds=scale.client_rest
            )
            busy.append(group.create_task(client.play(peace)))
        busy.append(group.create_task(watch_books(bank.address, callers.auditor, witness, peace)))
        master = Taskmaster(url, parties, rng.getrandbits(64), days=scale.kills)
        busy.append(group.create_task(master.work(peace)))
        keepers = [group.create_task(bank.supervise()), group.create_task(workers.supervise())]
        keepers.append(group.create_task(_watch(url, watch, logs)))
        try:
            await striker.recovery(time.monotonic())
            for kill in plan_kills(seed, scale.kills, scale.targets):
                try:
                    wounds.append(await striker.strike(kill))
                except AssertionError as error:
                    raise AssertionError(f"kill {len(wounds) + 1}, of {kill.target.value}: {error}") from None
                tell(len(wounds), wounds[-1], witness)
            await workers.thawed()
        finally:
            peace.set()
        await asyncio.wait(busy)
        for keeper in keepers:
            keeper.cancel()
    return witness, wounds, watch


async def _watch(url: str, watch: Watch, logs: list[LogReader]) -> None:
    """Look how long jobs are held by the dead, and read the logs, until cancelled."""
    query = (
        "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - w.beat_at)), 0)::float8"
        "  FROM workhorse.job_workers w WHERE EXISTS ("
        "       SELECT FROM workhorse.jobs j WHERE j.worker = w.id AND j.state = 'running')"
    )

    def look() -> None:
        for log in logs:
            log.read()
        with contextlib.suppress(psycopg.Error), psycopg.connect(url, connect_timeout=2) as connection:
            ((age,),) = connection.execute(query.encode()).fetchall()
            watch.oldest_orphan = max(watch.oldest_orphan, age)
            watch.looks += 1

    while True:
        await asyncio.to_thread(look)
        await asyncio.sleep(WATCH_SECONDS)


async def _settle(url: str, bank: BankServer, workers: JobWorkers) -> float:
    """Wait until no job is left, dead ones and those for later aside, but no longer than it may take. In seconds.

    What failed and waits for its next attempt is tried at once: an operator would do so (`workhorse jobs retry`), and
    how long a pause grows is tried elsewhere.
    """
    began = time.monotonic()
    keepers = [asyncio.create_task(bank.supervise()), asyncio.create_task(workers.supervise())]
    retry = (
        "SELECT workhorse.retry_job(j.id, 1::smallint) FROM workhorse.jobs j"
        " WHERE j.state = 'delayed' AND j.failures IS NOT NULL AND j.run_at > now() + interval '5 seconds'"
    )
    left = (
        "SELECT count(*) FROM workhorse.jobs"
        " WHERE state <> 'dead' AND (failures IS NOT NULL OR run_at < now() + interval '5 seconds')"
    )

    def look() -> int:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(retry.encode())
            ((count,),) = connection.execute(left.encode()).fetchall()
            return int(count)

    try:
        while await asyncio.to_thread(look) and time.monotonic() - began < JOBS_SECONDS:
            await asyncio.sleep(0.1)
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
    return time.monotonic() - began


async def _rest(url: str, workers: JobWorkers) -> list[str]:
    """Wait until nothing is held any more and the dead are struck off, but no longer than it may take."""
    give_up = time.monotonic() + REST_SECONDS

    def enrolled() -> int:
        with psycopg.connect(url) as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM workhorse.job_workers").fetchall()
            return int(count)

    while True:
        left = await asyncio.to_thread(rest, url)
        if (not left and await asyncio.to_thread(enrolled) == workers.count) or time.monotonic() > give_up:
            return left
        await asyncio.sleep(0.2)


async def _until_ready(address: Address) -> None:
    line = Line(address, deadline_seconds=5)
    await ask(line, encode_request(address, "GET", "/-/ready"), patience_seconds=START_SECONDS)
    line.close()


async def _ask(address: Address, token: str, path: str) -> dict[str, Any]:
    line = Line(address)
    reply, _ = await ask(line, encode_request(address, "GET", path, token=token), patience_seconds=RECOVERY_SECONDS)
    line.close()
    return reply.json()


async def _cached_transfers(address: Address, token: str, wanted: int) -> int | None:
    """What the cached books say once they are those of the bank at rest, or at last."""
    give_up = time.monotonic() + BOOKS_SECONDS
    while True:
        transfers = (await _ask(address, token, "/books")).get("transfers")
        if transfers == wanted or time.monotonic() > give_up:
            return transfers
        await asyncio.sleep(0.5)
