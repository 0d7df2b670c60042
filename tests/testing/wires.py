"""Plain clients for the proxy's tests: one that speaks the wire's first words itself, and streams of bytes."""

import asyncio
import struct
from urllib.parse import urlsplit

from workhorse.testing.messages import Opening


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def opening(number: int) -> bytes:
    return struct.pack("!II", 8, number)


def startup(user: str, database: str) -> bytes:
    body = f"user\0{user}\0database\0{database}\0\0".encode()
    return struct.pack("!II", len(body) + 8, 196608) + body


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def query(text: str) -> bytes:
    return message(b"Q", text.encode() + b"\0")


def parse(name: str, text: str) -> bytes:
    return message(b"P", f"{name}\0{text}\0".encode() + b"\0\0")


def bind(portal: str, name: str) -> bytes:
    return message(b"B", f"{portal}\0{name}\0".encode() + bytes(6))


def execute(portal: str) -> bytes:
    return message(b"E", portal.encode() + b"\0" + bytes(4))


SYNC = message(b"S")
IDLE = message(b"Z", b"I")
IN_TRANSACTION = message(b"Z", b"T")


def complete(tag: str) -> bytes:
    return message(b"C", tag.encode() + b"\0")


async def ask_for(kind: Opening, url: str) -> tuple[bytes, bytes]:
    """Ask for encryption, then log in plainly. Returns the answers' first bytes."""
    reader, writer = await asyncio.open_connection(*address_of(url))
    try:
        writer.write(opening(kind))
        first = await asyncio.wait_for(reader.read(1), 5)
        writer.write(startup("postgres", "postgres"))
        second = await asyncio.wait_for(reader.read(1), 5)
        writer.write(message(b"X"))
    finally:
        writer.close()
    return first, second
