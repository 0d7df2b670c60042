"""The bank at work: real servers, live traffic, and the books proved at the end.

    python -m bank.demo --seconds 30 --connections 32

Starts Postgres and Valkey from wheels, serves the bank with `workhorse run`, opens accounts, and lets customers loose
on it, who retry, overdraw and mistype, each through a teller whose token the bank knows. In the end an auditor has
every balance proved from the journal. The exit code is 0 if everything was as promised: each retried key had one
effect, no answer was an error of the bank, the books balance, and once the jobs are done every transfer has exactly one
event and one advice.

`--serve` goes on with gentle traffic, so that the page moves, until Ctrl-C. The data stays for the next demo, in the
folder of the embedded servers; `workhorse services reset` deletes it.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from typing import Any, Final

from bank.auditor import Auditor
from bank.callers import Callers, issue_tokens
from bank.demo_screen import Outcome, Screen, find_faults, progress_line, summary
from bank.demo_server import FOLDER, BankServer, serve_bank
from bank.seed import seed
from bank.traffic import TrafficPlan, find_parties, play
from bank.traffic_http import Address, BadReply, GaveUp, Line, ask, encode_request
from bank.traffic_orders import Party
from workhorse.embedded import attach, status
from workhorse.errors import StartupError, WorkhorseError
from workhorse.servers.launch import free_port
from workhorse.settings import load_settings

__all__ = ["Options", "demonstrate", "main"]

HOST: Final = "127.0.0.1"
# Enough for a page that moves, and little enough for a laptop on a desk.
GENTLE: Final = TrafficPlan(connections=4, seconds=None, rate=15.0)
AUDIT_SECONDS: Final = 60.0
# For the jobs that still wait when the traffic ends, and the pause between two looks at them.
JOBS_SECONDS: Final = 45.0
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    seconds: float = 30.0
    connections: int = 32
    workers: int = 1
    accounts: int = 10_000
    port: int = 8000
    serve: bool = False


async def demonstrate(options: Options, screen: Screen) -> int:
    """Run the demo, and return its exit code.

    Raises:
        WorkhorseError: something could not be started.
        GaveUp: the bank stopped answering.
    """
    settings = load_settings(FOLDER)
    async with contextlib.AsyncExitStack() as stack:
        with screen.step("servers") as step:
            attachment = stack.enter_context(await asyncio.to_thread(attach, settings.embedded_folder))
            step.detail = ", ".join(f"{server.name} {server.version}" for server in status(attachment.folder).servers)
        port = _choose_port(options.port, screen)
        auditor = Auditor(settings.embedded_folder, attachment.database_url)
        with screen.step("bank") as step:
            address = Address(HOST, port)
            sealing = await asyncio.to_thread(auditor.settings)
            server = await stack.enter_async_context(serve_bank(address, workers=options.workers, settings=sealing))
            step.detail = f"{options.workers} worker{'s' if options.workers > 1 else ''} of `workhorse run`"
        screen.say(f"\n  open {server.address}\n")
        with screen.step("accounts") as step:
            opened = await asyncio.to_thread(
                seed, attachment.database_url, accounts=options.accounts, report=lambda _: None
            )
            callers = issue_tokens(settings)
            parties = await find_parties(server.address, callers)
            step.detail = f"{opened:,} opened and funded" if opened else "there from an earlier demo"
        outcome = await _trade(server, callers, parties, auditor, options, screen)
        faults = find_faults(outcome)
        screen.say(f"\n{summary(outcome)}\n")
        for fault in faults:
            screen.say(f"  NOT AS PROMISED: {fault}")
        if options.serve:
            try:
                await _serve_on(server, callers, parties, screen)
            except asyncio.CancelledError:
                screen.say("\n  stopped")  # as it was meant to: what counts is how the demo went
        return 1 if faults else 0


def _choose_port(wanted: int, screen: Screen) -> int:
    """The port that was asked for, or a free one if it is taken."""
    try:
        return free_port(HOST, wanted)
    except StartupError:
        port = free_port(HOST, 0)
        screen.say(f"         port {wanted} is taken; using {port}")
        return port


async def _trade(
    server: BankServer, callers: Callers, parties: list[Party], auditor: Auditor, options: Options, screen: Screen
) -> Outcome:
    """Let the customers loose, then have the books proved, and the journal that proves them."""
    plan = TrafficPlan(connections=options.connections, seconds=options.seconds)
    with screen.step("traffic") as step:
        traffic = await play(
            server.address, callers, parties, plan, progress=lambda report: screen.move(progress_line(report))
        )
        step.detail = f"{options.connections} customers, {traffic.requests:,} requests"
    with screen.step("jobs") as step:
        waited = await _await_jobs(server, callers, screen)
        step.detail = f"{waited:,} were left when the traffic ended"
    with screen.step("audit"):
        books = await _audit(server.address, callers.auditor)
    with screen.step("audit log") as step:
        finding = await asyncio.to_thread(auditor.find_an_edit)
        step.detail = f"{finding.sealed:,} events sealed; an amount was changed in the database, and put back"
    return Outcome(traffic, books, waited, finding)


async def _await_jobs(server: BankServer, callers: Callers, screen: Screen) -> int:
    """Wait for the jobs that the traffic left, within reason, and return how many those were."""
    give_up = asyncio.get_running_loop().time() + JOBS_SECONDS
    told = (await _audit(server.address, callers.auditor))["advices"]
    left: int = told["waiting"]
    while told["waiting"] and asyncio.get_running_loop().time() < give_up:
        screen.move(f"{told['advised']:,} advices written, {told['waiting']:,} jobs waiting")
        await asyncio.sleep(LOOK_SECONDS)
        told = (await _audit(server.address, callers.auditor))["advices"]
    return left


async def _audit(address: Address, token: str) -> dict[str, Any]:
    line = Line(address, deadline_seconds=AUDIT_SECONDS)
    try:
        request = encode_request(address, "GET", "/books/audit", token=token)
        reply, _ = await ask(line, request, patience_seconds=AUDIT_SECONDS)
    finally:
        line.close()
    return reply.json()


async def _serve_on(server: BankServer, callers: Callers, parties: list[Party], screen: Screen) -> None:
    """Keep the page moving until the demo is told to stop.

    Raises:
        StartupError: the bank ended by itself.
    """
    screen.say(f"  serving with gentle traffic until Ctrl-C: {server.address}")
    traffic = asyncio.create_task(play(server.address, callers, parties, GENTLE))
    ended = asyncio.create_task(server.process.wait())
    try:
        await asyncio.wait({traffic, ended}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        traffic.cancel()
        ended.cancel()
        await asyncio.wait({traffic, ended})
    raise StartupError(f"the bank ended by itself. Its log ends:\n{server.log_tail()}")


async def _until_told_to_stop(options: Options, screen: Screen) -> int:
    """Run the demo; a signal ends it like a cancelled task, so that everything is stopped in its turn."""
    demo = asyncio.create_task(demonstrate(options, screen))
    told: list[int] = []

    def stop(signum: int) -> None:
        told.append(signum)
        demo.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stop, signum)
    try:
        return await demo
    except asyncio.CancelledError:
        screen.say("\n  stopped")
        return 128 + told[0]


def main() -> int:
    """Read the command line and run the demo."""
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m bank.demo", description="The bank at work.")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of full traffic")
    parser.add_argument("--connections", type=int, default=defaults.connections, help="customers at once")
    parser.add_argument("--workers", type=int, default=defaults.workers, help="processes that serve")
    parser.add_argument("--accounts", type=int, default=defaults.accounts, help="of customers, 10 at least")
    parser.add_argument("--port", type=int, default=defaults.port)
    parser.add_argument("--serve", action="store_true", help="go on with gentle traffic until Ctrl-C")
    arguments = parser.parse_args()
    if arguments.accounts < 10 or arguments.connections < 1 or arguments.seconds <= 0:
        parser.error("it takes 10 accounts, one connection and some time at least")
    screen = Screen(sys.stdout)
    try:
        return asyncio.run(_until_told_to_stop(Options(**vars(arguments)), screen))
    except (WorkhorseError, GaveUp, BadReply) as error:
        screen.say(f"the demo failed: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
