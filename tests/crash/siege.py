"""One run: clients load the bank, and its processes and its Postgres are killed under them, again and again."""

import asyncio
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from os import kill as send_signal
from pathlib import Path
from typing import Any, Final

import psycopg

from bank.callers import Callers, issue_tokens
from bank.demo_server import FOLDER
from bank.seed import seed as seed_bank
from bank.traffic import find_parties
from bank.traffic_http import Address, Line, ask, encode_request
from tests.crash.bank_server import BankServer
from tests.crash.clients import Client, Witness
from tests.crash.kills import Kill, Target, Wound, plan_kills
from tests.crash.verdict import Posted
from workhorse.embedded import ServerName, ServerState, ServerStatus, attach, status, stop
from workhorse.servers.launch import free_port
from workhorse.settings import load_settings

CLIENTS: Final = 16
WORKERS: Final = 2
# Few, so that every transfer meets others on its accounts.
ACCOUNTS: Final = 50
RECOVERY_SECONDS: Final = 30.0
START_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.005
# The jobs of killed workers come back after their lease, and failed ones after their pause.
JOBS_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What there was when the dust had settled."""

    witness: Witness
    wounds: list[Wound]
    posted: list[Posted]
    """All transfers but the opening balances, as the database has them."""
    kept_replies: int
    """Replies kept for retries."""
    audit: dict[str, Any]
    """What GET /books/audit said, once the jobs were done."""
    wrong_balances: list[tuple[int, int, int]]
    """Accounts whose balance is not the sum of their entries: id, balance, sum."""
    totals: dict[str, int]
    """The sum of all balances, by currency."""
    starts: int
    """How often the bank's main process was started."""
    seconds: float
    bank_log: str


async def besiege(folder: Path, *, kills: int, seed: int) -> Aftermath:
    """Run it. Everything that was started is stopped at the end.

    Args:
        folder: an empty folder for the servers' data and the bank's log.
        kills: how many.
        seed: the schedule and the clients' choices follow from it.

    Raises:
        AssertionError: the bank did not recover in time.
    """
    embedded = folder / "embedded"
    address = Address("127.0.0.1", free_port("127.0.0.1", 0))
    bank = BankServer(address, embedded, workers=WORKERS, log=folder / "bank.log")
    started = time.monotonic()
    with attach(embedded, cache=False) as attachment:
        try:
            bank.start()
            callers = issue_tokens(load_settings(FOLDER, embedded={"folder": embedded}))
            await _until_ready(address)
            seed_bank(attachment.database_url, accounts=ACCOUNTS, report=lambda _: None)
            witness, wounds = await _fight(bank, callers, embedded, plan_kills(seed, kills), seed)
            audit = await _audit_when_all_is_done(address, callers.auditor)
            return _inspect(attachment.database_url, bank, witness, wounds, audit, time.monotonic() - started)
        finally:
            bank.stop()
            stop(embedded)


async def _fight(
    bank: BankServer, callers: Callers, embedded: Path, kills: list[Kill], seed: int
) -> tuple[Witness, list[Wound]]:
    witness = Witness()
    parties = await find_parties(bank.address, callers, ACCOUNTS)
    rng = random.Random(seed)  # noqa: S311
    peace = asyncio.Event()
    wounds: list[Wound] = []
    async with asyncio.TaskGroup() as group:
        clients: list[asyncio.Task[None]] = []
        for number in range(CLIENTS):
            token, chance = callers.teller(number), rng.getrandbits(64)
            client = Client(f"client{number}", bank.address, token, parties, witness, chance)
            clients.append(group.create_task(client.play(peace)))
        supervisor = group.create_task(bank.supervise())
        try:
            await _recovery(bank, witness, time.monotonic())
            for kill in kills:
                try:
                    wounds.append(await _strike(kill, bank, embedded, witness, rng))
                except AssertionError as error:
                    raise AssertionError(f"kill {len(wounds) + 1}, of {kill.target.value}: {error}") from None
        finally:
            peace.set()
        await asyncio.wait(clients)
        supervisor.cancel()
    return witness, wounds


async def _strike(kill: Kill, bank: BankServer, embedded: Path, witness: Witness, rng: random.Random) -> Wound:
    """Wait for the moment, kill, and wait until an order that was made later has been posted."""
    postgres = await asyncio.to_thread(_running_postgres, embedded)
    await asyncio.sleep(kill.delay_seconds)
    worker = await _any_worker(bank, rng)
    while not witness.in_flight:  # a kill that meets nobody proves nothing
        await asyncio.sleep(0)
    struck, in_flight = time.monotonic(), witness.in_flight
    match kill.target:
        case Target.POSTGRES:
            send_signal(postgres, signal.SIGKILL)
            # Its orphans serve on for a moment, which is no recovery.
            await asyncio.to_thread(_revive, embedded, postgres)
        case Target.WORKER:
            send_signal(worker, signal.SIGKILL)
        case Target.BANK:
            bank.kill_all()
        case Target.MAIN:
            bank.kill_main()
    hopeful = time.monotonic() if kill.target is Target.POSTGRES else struck
    await _recovery(bank, witness, hopeful)
    return Wound(kill, in_flight, time.monotonic() - struck)


async def _any_worker(bank: BankServer, rng: random.Random) -> int:
    give_up = time.monotonic() + RECOVERY_SECONDS
    while not (workers := bank.workers()):
        assert time.monotonic() < give_up, f"the bank has no workers; it was {bank.describe()}"
        await asyncio.sleep(POLL_SECONDS)
    return rng.choice(workers)


async def _recovery(bank: BankServer, witness: Witness, since: float) -> None:
    """Wait until an order made after `since` is posted.

    Raises:
        AssertionError: that took too long.
    """
    while witness.newest_posted <= since:
        waited = time.monotonic() - since
        assert waited < RECOVERY_SECONDS, (
            f"nothing was posted for {waited:.0f} s; {witness.in_flight} requests wait, {witness.sent_again} were sent"
            f" again, faults so far: {witness.faults[:5]}. The bank was {bank.describe()}"
        )
        await asyncio.sleep(POLL_SECONDS)


def _revive(embedded: Path, dead: int) -> None:
    """Wait until Postgres runs again.

    To its steward, a server that is killed every few seconds is one that crashes in a loop, and its pause before the
    next start grows up to ten seconds. It ends the pause when somebody attaches, as any process that starts would.
    """
    _await_postgres(embedded, lambda server: server.pid != dead)
    attach(embedded, cache=False).close()


def _running_postgres(embedded: Path) -> int:
    """The pid of Postgres, once it runs."""
    return _await_postgres(embedded, lambda server: server.state is ServerState.RUNNING).pid or 0


def _await_postgres(embedded: Path, until: Callable[[ServerStatus], bool]) -> ServerStatus:
    give_up = time.monotonic() + RECOVERY_SECONDS
    while time.monotonic() < give_up:
        for server in status(embedded).servers:
            if server.name is ServerName.POSTGRES and until(server):
                return server
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"Postgres is not as it should be: {status(embedded)}")


async def _until_ready(address: Address) -> None:
    line = Line(address, deadline_seconds=5)
    await ask(line, encode_request(address, "GET", "/-/ready"), patience_seconds=START_SECONDS)
    line.close()


async def _audit_when_all_is_done(address: Address, token: str) -> dict[str, Any]:
    """Have the books proved once no job is left; or as they are, when that takes too long."""
    give_up = time.monotonic() + JOBS_SECONDS
    while True:
        audit = await _audit(address, token)
        if not audit["advices"]["waiting"] or time.monotonic() > give_up:
            return audit
        await asyncio.sleep(1)


async def _audit(address: Address, token: str) -> dict[str, Any]:
    line = Line(address)
    request = encode_request(address, "GET", "/books/audit", token=token)
    reply, _ = await ask(line, request, patience_seconds=RECOVERY_SECONDS)
    line.close()
    return reply.json()


def _inspect(
    url: str, bank: BankServer, witness: Witness, wounds: list[Wound], audit: dict[str, Any], seconds: float
) -> Aftermath:
    """Look at the database itself, past the bank."""
    with psycopg.connect(url) as connection:
        posted = connection.execute(
            "SELECT id, debtor, creditor, currency, amount, reference FROM bank.transfers"
            " WHERE reference <> 'Opening balance'"
        ).fetchall()
        kept = connection.execute("SELECT count(*) FROM workhorse.replies").fetchone()
        wrong = connection.execute(
            "SELECT a.id, a.balance, e.sum FROM bank.accounts a CROSS JOIN LATERAL"
            " (SELECT coalesce(sum(CASE WHEN t.creditor = a.id THEN t.amount ELSE -t.amount END), 0) AS sum"
            "    FROM bank.transfers t WHERE a.id IN (t.debtor, t.creditor)) e WHERE a.balance <> e.sum"
        ).fetchall()
        totals = connection.execute("SELECT currency, sum(balance)::bigint FROM bank.accounts GROUP BY currency")
        assert kept is not None
        return Aftermath(
            witness=witness,
            wounds=wounds,
            posted=[Posted(*row) for row in posted],
            kept_replies=kept[0],
            audit=audit,
            wrong_balances=[(one, balance, total) for one, balance, total in wrong],
            totals=dict(totals.fetchall()),
            starts=bank.starts,
            seconds=seconds,
            bank_log=bank.log.read_text(),
        )
