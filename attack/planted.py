"""An app full of planted weaknesses, on the loopback address: what does not find something here finds nothing.

    python -m attack.planted 8099

It reads HTTP as carelessly as can be: the first Content-Length counts and Transfer-Encoding does not, lines may end
in a bare line feed, names in blanks; nothing has a limit or a deadline. It pastes what it is sent into SQL, pages,
redirects, file names and headers, and its description of itself is wrong. Never serve it where anybody can reach it.
"""

import asyncio
import contextlib
import gzip
import json
import re
import sqlite3
import sys
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote

__all__ = ["main"]

HOST: Final = "127.0.0.1"
LIMIT: Final = 64 * 1024 * 1024
LIFETIME_SECONDS: Final = 1800
"""It ends by itself, whatever becomes of who started it."""

DESCRIPTION: Final = {
    "openapi": "3.0.2",
    "info": {"title": "Planted weaknesses", "version": "1"},
    "paths": {
        "/account": {
            "get": {
                "parameters": [{"name": "id", "in": "query", "required": True, "schema": {"type": "integer"}}],
                "responses": {
                    "200": {
                        "description": "an account",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["id", "owner", "balance"],
                                    "properties": {"balance": {"type": "integer"}},
                                }
                            }
                        },
                    }
                },
            }
        }
    },
}

PAGE: Final = """<!doctype html><title>Planted</title>
<a href="/account?id=1">account</a> <a href="/greet?name=Jane">greet</a> <a href="/go?to=/page.svg">go</a>
<a href="/file?name=page">file</a><form action="/greet"><input name="name"></form>"""


class Ledger:
    """Two accounts in memory."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect(":memory:", isolation_level=None)
        self._rows.execute("CREATE TABLE account (id integer, owner text)")
        self._rows.execute("INSERT INTO account VALUES (1, 'Jane'), (2, 'Joe')")

    def find(self, given: str) -> list[tuple[object, ...]]:
        """Whatever the SQL that is made of `given` finds."""
        return self._rows.execute(f"SELECT id, owner FROM account WHERE id = {given}").fetchall()  # noqa: S608 - planted


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ledger: Ledger) -> None:
    """Answer a connection for as long as anything comes."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while True:
            first = (await reader.readline()).decode("latin-1").strip()
            if not first:
                break
            headers = await _headers(reader)
            length = re.match(r"\d+", headers.get("content-length", ""))
            body = await reader.readexactly(min(int(length[0]), LIMIT)) if length else b""
            if headers.get("content-encoding") == "gzip":
                with contextlib.suppress(OSError, EOFError):
                    body = gzip.decompress(body)
            method, _, rest = first.partition(" ")
            reply = answer(method, rest.rpartition(" ")[0] or rest, headers, body, ledger)
            writer.write(reply)
            await writer.drain()
    writer.close()


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers


def answer(method: str, target: str, headers: dict[str, str], body: bytes, ledger: Ledger) -> bytes:
    """The bytes of a reply."""
    path, _, query = target.partition("?")
    given = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    path = unquote(path)
    match path:
        case "/":
            reply = _reply(200, "text/html", PAGE.encode())
        case "/openapi.json":
            reply = _reply(200, "application/json", json.dumps(DESCRIPTION).encode())
        case "/account":
            reply = _account(given.get("id", ""), ledger)
        case "/greet":
            reply = _reply(200, "text/html", f"<p>Hello {given.get('name', '')}</p>".encode("latin-1", "replace"))
        case "/go":
            reply = _reply(302, "text/plain", b"", f"Location: {given.get('to', '')}\r\n")
        case _ if path == "/file" or "/.." in path or path.startswith("/etc/"):
            reply = _file(given.get("name", path))
        case _:
            reply = _echo(method, path, headers, body)
    return reply


def _echo(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    host = headers.get("host", "")
    echoed = f"X-Echo: {method} {host} {path} {headers.get('x-request-id', '')} {len(body)}\r\n"
    return _reply(200, "image/svg+xml" if path == "/page.svg" else "text/plain", body or b"<svg/>", echoed)


def _account(given: str, ledger: Ledger) -> bytes:
    try:
        rows = ledger.find(given)
    except (sqlite3.Error, ValueError) as error:
        return _reply(500, "text/html", f"sqlite3.OperationalError: {error}: SELECT ... WHERE id = {given}".encode())
    return _reply(200, "application/json", json.dumps({"rows": rows}).encode())


def _file(name: str) -> bytes:
    try:
        return _reply(200, "text/plain", Path(name).read_bytes())
    except (OSError, ValueError) as error:
        return _reply(404, "text/plain", str(error).encode())


def _reply(status: int, kind: str, body: bytes, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} OK\r\nServer: planted/1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n".encode("latin-1", "replace") + body


async def main() -> None:
    """Serve until told to stop, or for half an hour."""
    ledger = Ledger()
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, ledger), HOST, int(sys.argv[1]), limit=LIMIT
    )
    async with server:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIFETIME_SECONDS):
                await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
