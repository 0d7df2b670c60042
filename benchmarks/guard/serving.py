"""What a request costs on a whole server: CPU time of the server's process, of a bare app and with layers around it.

The servers of one kind run side by side and take turns, with the same number of requests each. The system counts CPU
time in hundredths of a second, so the turns of each are added up and not compared one by one.
"""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.guard.load import play, wire_requests
from benchmarks.guard.messages import Figure
from benchmarks.guard.served import CONTESTANT, CREDENTIALS, READY
from benchmarks.guard.traffic import METHODS, Credentials, Method, Traffic
from benchmarks.load.wire import BadReply
from benchmarks.processes import MeasurementError, RunningServer, run_server

__all__ = ["SERVED", "SERVERS", "brief", "measure_servers"]

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
BIN: Final = Path(sys.executable).parent
TARGET: Final = "benchmarks.guard.served:make"
LISTEN: Final = (
    "--host",
    "127.0.0.1",
    "--port",
    "{port}",
    "--workers",
    "1",
    "--no-access-log",
    "--log-level",
    "warning",
)

SERVERS: Final[Mapping[str, tuple[str | Path, ...]]] = {
    "granian": (BIN / "granian", "--interface", "asgi", *LISTEN, "--factory", TARGET),
    # Its own reading of proxies' headers is off: that is what is measured.
    "uvicorn": (BIN / "uvicorn", *LISTEN, "--no-proxy-headers", "--factory", TARGET),
}
MAX_REASON: Final = 400
SERVED: Final = ("fastapi", "fastapi+shape", "fastapi+guard", "fastapi+careful")


async def measure_servers(
    kind: str, credentials: Credentials, *, folder: Path, requests: int, rounds: int
) -> list[Figure]:
    """Microseconds of CPU time per request of each of `SERVED` on one kind of server.

    A contestant that does not start or does not answer has the reason in its figure.

    Raises:
        MeasurementError: this system does not tell the CPU time of processes.
    """
    file = folder / "credentials.json"
    file.write_bytes(msgspec.json.encode(credentials))
    traffic = Traffic(credentials, csrf=credentials.csrf)
    wire = {method: wire_requests(traffic, method, len(credentials.tokens)) for method in METHODS}
    failed: dict[str, str] = {}
    seconds: dict[tuple[str, Method], float] = {}
    async with AsyncExitStack() as stack:
        running: dict[str, RunningServer] = {}
        for name in SERVED:
            server = run_server(
                f"{name} on {kind}",
                SERVERS[kind],
                folder=BENCHMARKS,
                environment={CREDENTIALS: str(file), CONTESTANT: name},
                ready=READY,
            )
            try:
                running[name] = await stack.enter_async_context(server)
            except MeasurementError as error:
                failed[name] = brief(str(error))
        for number in range(rounds + 1):
            for method in METHODS:
                for name in [name for name in running if name not in failed]:
                    # The first round is the warm-up, in which all tokens are seen once.
                    count = requests if number else max(requests, len(credentials.tokens))
                    before = _cpu_seconds(running[name])
                    try:
                        await play(running[name].port, wire[method], count)
                    except (BadReply, OSError) as error:
                        failed[name] = brief(f"{type(error).__name__}: {error}\n{running[name].log_tail()}")
                        continue
                    # What a reply leaves to be done (its log line) is done by then.
                    await asyncio.sleep(0.1)
                    if number:
                        spent = _cpu_seconds(running[name]) - before
                        seconds[name, method] = seconds.get((name, method), 0.0) + spent
    return [
        *(Figure(contestant=name, failed=reason) for name, reason in failed.items()),
        *(
            Figure(contestant=name, method=method, per_request=spent / (requests * rounds) * 1e6)
            for (name, method), spent in seconds.items()
            if name not in failed
        ),
    ]


def brief(reason: str) -> str:
    """The first and the last line of what a server said: what happened, and of a traceback the error itself."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys((lines[0], lines[-1])))[:MAX_REASON] if lines else "it ended without a word"


def _cpu_seconds(server: RunningServer) -> float:
    seconds = server.cpu_seconds()
    if seconds is None:
        raise MeasurementError("this system has no /proc, so the CPU time of a server cannot be read")
    return seconds
