"""Just enough of two protocols to ask a server whether it serves, without a driver.

The steward must start in milliseconds, and a driver takes longer to import than a server takes to start. A process
that exists, or a socket that accepts, proves nothing: Postgres accepts while it still recovers, and says so only in
its reply to the start-up packet (PostgreSQL documentation, "Message Flow"). Valkey answers PING with an error while
it loads its file (RESP).
"""

import socket
import struct
from pathlib import Path
from typing import Final, NamedTuple

from workhorse.errors import EmbeddedServerError

__all__ = ["Greeting", "ask_postgres", "ask_valkey", "ensure_database", "postgres_socket"]

PROTOCOL_3: Final = 196608
TIMEOUT_SECONDS: Final = 2.0
REPLY_BYTES: Final = 64 * 1024
STARTING_OR_STOPPING: Final = "57P0"
NO_SUCH_DATABASE: Final = "3D000"
ALREADY_THERE: Final = frozenset({"42P04", "23505"})
CREATE_SECONDS: Final = 30.0


class Greeting(NamedTuple):
    """What Postgres answered to a start-up packet."""

    code: str
    """SQLSTATE of its refusal; empty where it let us in."""
    version: str
    message: str = ""

    @property
    def serves(self) -> bool:
        """Whether the server takes connections (a refusal such as "too many of them" says that it does)."""
        return not self.code.startswith(STARTING_OR_STOPPING)


def postgres_socket(folder: Path) -> Path:
    """The socket that Postgres makes in `folder`."""
    return folder / ".s.PGSQL.5432"


def ask_postgres(folder: Path, database: str, statement: str = "") -> Greeting | None:
    """Connect to the Postgres whose socket is in `folder`, and run `statement` where one is given.

    Returns:
        What it answered to the connection or, if that was well, to the statement; None where nobody answers.
    """
    parameters = f"user\0postgres\0database\0{database}\0\0".encode()
    packet = struct.pack("!II", len(parameters) + 8, PROTOCOL_3) + parameters
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(TIMEOUT_SECONDS)
            link.connect(str(postgres_socket(folder)))
            link.sendall(packet)
            greeting = _read_until_ready(link)
            if statement and greeting is not None and not greeting.code:
                link.settimeout(CREATE_SECONDS)
                query = statement.encode() + b"\0"
                link.sendall(b"Q" + struct.pack("!I", len(query) + 4) + query)
                greeting = _read_until_ready(link)
            if greeting is not None and not greeting.code:
                link.sendall(b"X\0\0\0\4")
            return greeting
    except OSError:
        return None


def ensure_database(folder: Path, database: str) -> Greeting | None:
    """As `ask_postgres`, and create `database` where it is missing.

    Raises:
        EmbeddedServerError: Postgres refused to create it.
    """
    greeting = ask_postgres(folder, database)
    if greeting is None or greeting.code != NO_SUCH_DATABASE:
        return greeting
    made = ask_postgres(folder, "postgres", f'CREATE DATABASE "{database}"')
    if made is not None and made.serves and made.code and made.code not in ALREADY_THERE:
        raise EmbeddedServerError(f"Postgres would not create the database {database!r}: {made.message} ({made.code})")
    return ask_postgres(folder, database)


def ask_valkey(path: Path) -> str | None:
    """The version of the Valkey that listens at `path`; None where nobody answers, or it still loads its data."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(TIMEOUT_SECONDS)
            link.connect(str(path))
            link.sendall(b"PING\r\n")
            if not link.recv(64).startswith(b"+PONG"):
                return None
            link.sendall(b"INFO server\r\n")
            reply = link.recv(REPLY_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)
    return values.get("valkey_version") or values.get("redis_version") or "unknown"


def _read_until_ready(link: socket.socket) -> Greeting | None:
    """Read messages until the server is ready for a query or has refused; None where it hung up."""
    received = b""
    version = ""
    refusal: Greeting | None = None
    while len(received) < REPLY_BYTES:
        while len(received) >= 5 and len(received) > (size := struct.unpack_from("!I", received, 1)[0]):
            kind, body, received = received[:1], received[5 : size + 1], received[size + 1 :]
            if kind == b"S" and body.startswith(b"server_version\0"):
                version = body.split(b"\0")[1].decode("utf-8", "replace")
            elif kind == b"E":
                fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
                refusal = Greeting(fields.get(b"C", "?"), version, fields.get(b"M", ""))
            elif kind == b"Z":
                return refusal or Greeting("", version)
        chunk = link.recv(8192)
        if not chunk:
            return refusal
        received += chunk
    return refusal
