"""Runs the bank as its users do, with `workhorse run` in a process of its own, and leaves nothing running behind."""

import asyncio
import contextlib
import os
import signal
import sysconfig
import tempfile
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bank.traffic_http import Address, BadReply, Line, encode_request
from workhorse.errors import StartupError

__all__ = ["FOLDER", "BankServer", "demo_environment", "serve_bank"]

FOLDER: Final = Path(__file__).parents[1]
"""Where `bank.app:service` is found."""
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.05
TAIL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class BankServer:
    """The bank while it runs."""

    address: Address
    process: asyncio.subprocess.Process
    log: Path

    def log_tail(self) -> str:
        """The end of what it wrote."""
        return self.log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace").strip()


def demo_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the bank's process.

    A database that somebody works with may be named there; the demo never touches it, and runs on embedded servers.
    """
    named = {"DATABASE_URL", "CACHE_URL", "WORKHORSE_DATABASE__URL", "WORKHORSE_CACHE__URL"}
    kept = {name: value for name, value in environ.items() if name.upper() not in named}
    return {**kept, "WORKHORSE_ENVIRONMENT": "development", "WORKHORSE_LOG__ACCESS": "false"}


@contextlib.asynccontextmanager
async def serve_bank(
    address: Address, *, workers: int, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncGenerator[BankServer]:
    """Serve the bank at `address` as long as the context lasts.

    Args:
        address: where.
        workers: processes that serve.
        settings: further variables of its environment.

    Raises:
        StartupError: it did not start; the message has the end of its log.
    """
    with tempfile.TemporaryDirectory(prefix="bank-demo-") as folder:
        log = Path(folder) / "bank.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                Path(sysconfig.get_path("scripts")) / "workhorse",
                *("run", "bank.app:service", "--host", address.host, "--port", str(address.port)),
                *("--workers", str(workers)),
                cwd=FOLDER,
                env={**demo_environment(os.environ), **settings},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for the demo, which then stops the bank in its turn.
                start_new_session=True,
            )
        server = BankServer(address, process, log)
        try:
            await _until_ready(server)
            yield server
        finally:
            await _stop(process)


async def _until_ready(server: BankServer) -> None:
    """Wait until the bank says that it is ready.

    Raises:
        StartupError: it ended, or took too long.
    """
    line = Line(server.address, deadline_seconds=5)
    request = encode_request(server.address, "GET", "/-/ready")
    give_up = asyncio.get_running_loop().time() + START_SECONDS
    try:
        while server.process.returncode is None and asyncio.get_running_loop().time() < give_up:
            with contextlib.suppress(OSError, BadReply):
                if (await line.send(request)).status == 200:
                    return
            await asyncio.sleep(POLL_SECONDS)
    finally:
        line.close()
    state = "is not ready" if server.process.returncode is None else f"ended with code {server.process.returncode}"
    raise StartupError(f"the bank {state}. Its log ends:\n{server.log_tail()}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask the bank to stop, and end what has not stopped by then."""
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
    # Its workers share its session; whoever is left, without their parent, would hold the port.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
