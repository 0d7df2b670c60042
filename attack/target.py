"""What is attacked: the bank in a folder and on servers of its own, with some money in it; and the planted app."""

import asyncio
import contextlib
import http.client
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from bank.callers import AUDITOR_SCOPES, TELLER_SCOPES
from bank.seed import seed
from benchmarks.processes import HOST, run_server
from workhorse.embedded import attach
from workhorse.identity import DevelopmentIssuer
from workhorse.settings import load_settings

__all__ = ["ROOT", "Books", "Target", "credentials", "read_books", "serve_bank", "serve_planted"]

ROOT: Final = Path(__file__).resolve().parents[1]
ACCOUNTS: Final = 20
PAGE: Final = "/page.svg"
LIFE_SECONDS: Final = 3600
PATIENCE_SECONDS: Final = 20


def credentials(folder: Path) -> dict[str, str]:
    """The headers by which an attacker is known to the bank: every client and every tool sends these.

    An attacker who is let in sees the most, so its token has every scope there is. It is the development issuer's, of
    the bank in `folder` only, and worth nothing anywhere else.
    """
    issuer = DevelopmentIssuer(load_settings(folder))
    token = issuer.mint("attacker", scopes=(*TELLER_SCOPES, *AUDITOR_SCOPES), lifetime_seconds=LIFE_SECONDS)
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server under attack."""

    name: str
    port: int
    session: int
    """The session that its processes belong to."""
    page: str
    """A path that is answered with 200."""
    headers: Mapping[str, str] = field(repr=False)
    """The credentials."""

    @property
    def authority(self) -> str:
        """As Host has it."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://{self.authority}"

    def head(self) -> bytes:
        """The credentials as header lines."""
        return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in self.headers.items())


@dataclass(frozen=True, slots=True)
class Books:
    """What the bank's own audit says."""

    balanced: bool
    text: str


@contextlib.asynccontextmanager
async def serve_bank(folder: Path, *, server: str = "granian") -> AsyncGenerator[Target]:
    """Serve the bank with its default settings as long as the context lasts, with some funded accounts in it.

    Args:
        folder: of the bank's own; its servers' data is kept there.
        server: which of the servers runs it.

    Raises:
        benchmarks.processes.MeasurementError: it did not start.
    """
    command = (
        Path(sys.executable).parent / "workhorse",
        *("run", "bank.app:service", "--host", HOST, "--port", "{port}", "--server", server),
    )
    environment = {
        "PYTHONPATH": str(ROOT / "examples" / "bank"),
        "WORKHORSE_ENVIRONMENT": "development",
        "WORKHORSE_LOG__ACCESS": "false",
    }
    async with run_server(
        f"bank on {server}", command, folder=folder, environment=environment, ready="/-/ready"
    ) as one:
        headers = await asyncio.to_thread(credentials, folder)
        target = Target(name=f"bank on {server}", port=one.port, session=one.process.pid, page=PAGE, headers=headers)
        await asyncio.to_thread(_fund, folder)
        yield target


@contextlib.asynccontextmanager
async def serve_planted(folder: Path) -> AsyncGenerator[Target]:
    """Serve the app of planted weaknesses, on the loopback address only."""
    command = (Path(sys.executable), "-m", "attack.planted", "{port}")
    environment = {"PYTHONPATH": str(ROOT)}
    async with run_server("planted", command, folder=folder, environment=environment, ready=PAGE) as one:
        yield Target(name="planted", port=one.port, session=one.process.pid, page=PAGE, headers={})


def _fund(folder: Path) -> None:
    """Open accounts with money on them: in a bank without any, nothing can be moved and so nothing go missing."""
    with attach(load_settings(folder).embedded_folder) as attachment:
        seed(attachment.database_url, accounts=ACCOUNTS, report=lambda _: None)


def read_books(target: Target) -> Books:
    """Ask the bank to prove its books."""
    connection = http.client.HTTPConnection(HOST, target.port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/books/audit", headers=dict(target.headers))
        text = connection.getresponse().read().decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
    except ValueError:
        return Books(balanced=False, text=text)
    balanced = isinstance(found, dict) and cast("dict[str, Any]", found).get("balanced") is True
    return Books(balanced=balanced, text=text)
