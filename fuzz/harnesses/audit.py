"""The audit log: what a verifier reads comes from the very people that it is held against.

Each reader refuses with a fault of the audit room, or gives a value that is written as the bytes that were read.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from fuzz.harness import Harness, require
from workhorse.audit.canonical import canonical_json
from workhorse.audit.entries import Entry
from workhorse.audit.faults import AuditFault
from workhorse.audit.notes import Note
from workhorse.audit.proofs import LogProof
from workhorse.audit.rows import read_row
from workhorse.audit.tiles import ENTRIES, Tile, pack_bundle, unpack_bundle
from workhorse.audit.witness import AddCheckpoint

__all__ = ["HARNESSES"]

NOTE: Final = (
    b"bank.example/audit\n1\ngSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n\n\xe2\x80\x94 bank.example/audit AAAAAAA=\n"
)
HASH: Final = b"gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n"
ENTRY: Final = (
    b'{"data_sha256":"' + b"0" * 64 + b'","id":"01900000-0000-7000-8000-000000000000",'
    b'"occurred_at":"2026-03-01T12:00:00.000000Z","principal":null,"request_id":null,"subject":"account:7",'
    b'"trace_id":null,"type":"transfer.posted","v":1}'
)
ROW: Final = (
    b'{"index":0,"id":"01900000-0000-7000-8000-000000000000","type":"a","subject":"b","data":{"x":1.50},'
    b'"occurred_at":"2026-03-01T12:00:00.000000Z","request_id":null,"trace_id":null,"principal":null}'
)


def fuzz_row(data: bytes) -> None:
    """The entry that a line makes is one that is read back."""
    try:
        row = read_row(data)
    except AuditFault:
        return
    require(Entry.decode(row.entry.encode()) == row.entry, "a row makes an entry that is none", row.entry)
    require(canonical_json(row.data) == row.data, "the data of a row is not canonical", row.data)


def fuzz_canonical(data: bytes) -> None:
    """The canonical form is its own, and says what Python's reader says."""
    try:
        written = canonical_json(data)
    except AuditFault:
        return
    require(canonical_json(written) == written, "the canonical form is not its own", written)
    if data.count(b"[") + data.count(b"{") < 200:  # Python's reader recurses
        read, again = _exact(data), _exact(written)
        require(read == again, "the canonical form says something else", read, again)


def _exact(text: bytes) -> object:
    return json.loads(text.decode(), parse_float=Decimal, parse_int=Decimal)


def fuzz_bundle(data: bytes) -> None:
    """A bundle is packed as it was read."""
    tile = Tile(ENTRIES, 0, data[0] + 1 if data else 1)
    try:
        entries = unpack_bundle(tile, data[1:])
    except AuditFault:
        return
    require(pack_bundle(entries) == data[1:], "a bundle is packed otherwise", entries)


def fuzz_tile(data: bytes) -> None:
    """A path has one spelling."""
    path = data.decode("utf-8", "surrogateescape")
    try:
        tile = Tile.parse(path)
    except AuditFault:
        return
    require(tile.path == path, "a tile has two paths", tile.path, path)


def _same(parse: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    """What is read is written as the same bytes."""

    def run(data: bytes) -> None:
        try:
            value = parse(data)
        except AuditFault:
            return
        require(value.encode() == data, "it is written otherwise than it was read", value)

    return run


HARNESSES: Final = (
    Harness(name="audit.note", run=_same(Note.parse), seeds=(NOTE, b"a\n\n\n")),
    Harness(
        name="audit.proof",
        run=_same(LogProof.parse),
        seeds=(b"c2sp.org/tlog-proof@v1\nextra AAAA\nindex 0\n" + HASH + b"\n" + NOTE,),
    ),
    Harness(name="audit.add_checkpoint", run=_same(AddCheckpoint.parse), seeds=(b"old 0\n" + HASH + b"\n" + NOTE,)),
    Harness(name="audit.entry", run=_same(Entry.decode), seeds=(ENTRY,)),
    Harness(name="audit.row", run=fuzz_row, seeds=(ROW,)),
    Harness(
        name="audit.canonical", run=fuzz_canonical, seeds=(b'{"b":1.50,"a":[1e2,"\\u00eb",null]}', b'"\\ud83d\\ude00"')
    ),
    Harness(name="audit.bundle", run=fuzz_bundle, seeds=(b"\x01\x00\x01a\x00\x02bc",)),
    Harness(name="audit.tile", run=fuzz_tile, seeds=(b"tile/0/x001/x234/067.p/5", b"tile/entries/000")),
)
