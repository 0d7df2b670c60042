"""A log over made-up events, its keys and witnesses, and the export of it in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from workhorse.audit.checkpoints import Checkpoint, Trust, sign_checkpoint
from workhorse.audit.entries import EventRow
from workhorse.audit.export import MemoryExport
from workhorse.audit.keys import COSIGNATURE, ED25519, Signer
from workhorse.audit.notes import Note
from workhorse.audit.report import Fault, Report
from workhorse.audit.rows import write_row
from workhorse.audit.tiles import Growth, Tile
from workhorse.audit.verify import verify

ORIGIN = "bank.example/audit"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEEN = 1_772_366_400
"""When the witnesses signed: seconds since 1970."""


def signer(name: str, kind: int = ED25519) -> Signer:
    return Signer(name, kind, sha256(name.encode()).digest())


LOG = signer(ORIGIN)
WITNESSES = (signer("witness.example/w1", COSIGNATURE), signer("witness.example/w2", COSIGNATURE))
TRUST = Trust(origin=ORIGIN, logs=(LOG.verifier,))
WITNESSED = Trust(origin=ORIGIN, logs=(LOG.verifier,), witnesses=tuple(one.verifier for one in WITNESSES), quorum=2)


def event(number: int, **changes: object) -> EventRow:
    fields: dict[str, object] = {
        "id": UUID(int=(0x0190_0000_0000 + number << 80) | (7 << 76) | (2 << 62) | number),
        "type": "transfer.posted",
        "subject": f"account:{number % 7}",
        "data": f'{{"amount": "{number}.50", "cents": {number * 100 + 50}, "to": "Zo\u00eb"}}',
        "occurred_at": START + timedelta(seconds=number),
        "request_id": f"r-{number}",
        "trace_id": None,
        "principal": "alice" if number % 2 else None,
    }
    return EventRow(**(fields | changes))  # type: ignore[arg-type]


def events(count: int) -> list[EventRow]:
    return [event(number) for number in range(count)]


def signed(size: int, root: bytes, *, by: Signer = LOG, witnesses: Iterable[Signer] = (), seconds: int = SEEN) -> Note:
    note = sign_checkpoint(Checkpoint(origin=ORIGIN, size=size, root=root), by)
    for witness in witnesses:
        note = note.sign(witness, seconds=seconds)
    return note


@dataclass
class Log:
    """A log as its operator has it, and the export that the operator gives away."""

    files: dict[str, bytes] = field(default_factory=dict)
    growth: Growth = field(default_factory=Growth)
    rows: list[EventRow] = field(default_factory=list)
    witnesses: Sequence[Signer] = ()

    def add(self, rows: Sequence[EventRow], *, seconds: int = SEEN) -> Note:
        """Seal events, and sign the checkpoint after them."""
        made = self.growth.append([row.entry().encode() for row in rows])
        self.files |= {tile.path: raw for tile, raw in made.items()}
        self.rows += rows
        note = signed(self.growth.size, self.growth.root(), witnesses=self.witnesses, seconds=seconds)
        self.files[f"checkpoints/{self.growth.size}"] = self.files["checkpoint"] = note.encode()
        self.write_events(list(enumerate(self.rows)))
        return note

    def write_events(self, rows: Iterable[tuple[int | None, EventRow]]) -> None:
        self.files["events.ndjson"] = b"".join(write_row(index, row) + b"\n" for index, row in rows)

    def read(self, tile: Tile) -> bytes | None:
        return self.files.get(tile.path)

    def verify(self, trust: Trust = TRUST, anchors: Sequence[bytes] = ()) -> Report:
        return verify(MemoryExport(self.files), trust, anchors=anchors)


def log_of(count: int, cuts: Sequence[int] = (), *, witnesses: Sequence[Signer] = ()) -> Log:
    """A log of so many events, with a checkpoint at each cut and at the end."""
    log, done = Log(witnesses=witnesses), 0
    for cut in sorted({*cuts, count}):
        log.add([event(number) for number in range(done, cut)])
        done = cut
    return log


SIZE, CUTS = 700, (100, 300, 512)
Seen = tuple[Fault, int | None, str | None]


def rewritten(size: int = SIZE, changes: int = 350) -> Log:
    """A whole log anew, with one event changed: everything fits but the signatures."""
    rows = events(size)
    rows[changes] = replace(rows[changes], subject="account:mine")
    log, done = Log(), 0
    for cut in (*(cut for cut in CUTS if cut < size), size):
        log.add(rows[done:cut])
        done = cut
    return log


def seen(log: Log, trust: Trust = TRUST, anchors: Sequence[bytes] = ()) -> set[Seen]:
    """What the verifier finds: the fault, the index and the event."""
    return {(one.fault, one.index, one.event_id) for one in log.verify(trust, anchors).findings}
