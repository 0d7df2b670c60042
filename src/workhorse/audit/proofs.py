"""A proof that one event is in the log, as one small text file to mail: C2SP tlog-proof.

    c2sp.org/tlog-proof@v1
    extra eyJkYXRhX3NoYTI1Ni…
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
    …

    bank.example/audit
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — bank.example/audit hI2DJw…

It is checked without a network, with public keys alone. `extra` has the entry, and after a newline the event's data in
canonical form, if it is to be shown: without it the proof says that the event happened, and not what its facts are.
"""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from workhorse.audit.canonical import canonical_json
from workhorse.audit.checkpoints import Believed, Checkpoint, Trust, open_checkpoint, parse_size
from workhorse.audit.entries import Entry, entry_id
from workhorse.audit.faults import Malformed, ProofInvalid
from workhorse.audit.keys import read_base64
from workhorse.audit.notes import Note
from workhorse.audit.tiles import ENTRIES, TILE_WIDTH, ReadTile, Tile, TileNodes, read_or_cut, unpack_bundle
from workhorse.audit.tree import check_inclusion, leaf_hash, prove_inclusion
from workhorse.audit.witness import read_hashes

__all__ = ["LogProof", "Proved", "check_proof", "find_entry", "prove"]

MAX_PROOF_BYTES: Final = 24 * 1024 * 1024

_HEADER: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProof:
    """The file as a value, nothing of it checked."""

    index: int
    hashes: tuple[bytes, ...]
    note: Note
    extra: bytes | None = None

    def encode(self) -> bytes:
        """The file."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(f"extra {b64encode(self.extra).decode()}")
        lines += [f"index {self.index}", *(b64encode(one).decode() for one in self.hashes), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.note.encode()

    @classmethod
    def parse(cls, raw: bytes) -> "LogProof":
        """Read a file.

        Raises:
            Malformed: it is not of the format.
        """
        if len(raw) > MAX_PROOF_BYTES:
            raise Malformed(f"a proof of {len(raw)} bytes; at most {MAX_PROOF_BYTES} are read")
        head, blank, note = raw.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeError as error:
            raise Malformed(f"a proof begins with lines of ASCII: {error}") from error
        if not blank or lines.pop(0) != _HEADER:
            raise Malformed(f"a proof begins with the line {_HEADER}, and has a checkpoint after an empty line")
        extra = read_base64(lines.pop(0).removeprefix("extra ")) if lines and lines[0].startswith("extra ") else None
        if not lines or not lines[0].startswith("index "):
            raise Malformed("a proof says `index` and a number after its first line, or after `extra`")
        index = parse_size(lines.pop(0).removeprefix("index "))
        return cls(index=index, hashes=read_hashes(lines), note=Note.parse(note), extra=extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What a proof was found to prove."""

    index: int
    entry: Entry
    data: bytes | None
    """The event's data in canonical form; None if the proof does not show it."""
    believed: Believed
    """The checkpoint, and who signed it."""


def prove(read: ReadTile, note: Note, index: int, *, data: str | bytes | None = None) -> bytes:
    """Make the proof that the entry at an index is in the log of a checkpoint.

    Args:
        read: gives the tiles of the log.
        note: a checkpoint, best with the signatures of witnesses.
        index: of the entry.
        data: the JSON of the event, to show it too. None: only the entry is shown, with the data's digest.

    Raises:
        TileMissing: a tile is not there.
        Malformed: the note, a tile or the entry is not of its format.
        ProofInvalid: the tiles do not lead to the checkpoint's root, or the data is not that of the entry.
        ValueError: the log of the checkpoint has no such entry.
    """
    checkpoint = Checkpoint.parse(note.text)
    hashes = prove_inclusion(TileNodes(read, checkpoint.size), index, checkpoint.size)
    number, at = divmod(index, TILE_WIDTH)
    bundle = Tile(ENTRIES, number, min(TILE_WIDTH, checkpoint.size - number * TILE_WIDTH))
    extra = unpack_bundle(bundle, read_or_cut(read, bundle))[at]
    check_inclusion(leaf=leaf_hash(extra), index=index, size=checkpoint.size, root=checkpoint.root, proof=hashes)
    if data is not None:
        extra += b"\n" + canonical_json(data)
        _read_extra(extra)
    return LogProof(index=index, hashes=tuple(hashes), note=note, extra=extra).encode()


def find_entry(read: ReadTile, size: int, event_id: str) -> int | None:
    """The index of an event's entry, the first if there are several; None if the log has none. Reads every bundle.

    Raises:
        TileMissing: a bundle is not there.
        Malformed: a bundle is none.
    """
    for bundle in (Tile(ENTRIES, number, width) for number, width in _bundles(size)):
        for at, entry in enumerate(unpack_bundle(bundle, read_or_cut(read, bundle))):
            if entry_id(entry) == event_id:
                return bundle.index * TILE_WIDTH + at
    return None


def check_proof(raw: bytes, trust: Trust) -> Proved:
    """Check a proof by itself.

    Raises:
        Malformed: it is not of the format, or shows no entry of ours.
        SignatureInvalid: the checkpoint is not signed as asked.
        ProofInvalid: the entry is not in the log of the checkpoint, or the data is not the entry's.
    """
    proof = LogProof.parse(raw)
    believed = open_checkpoint(proof.note.encode(), trust)
    if proof.extra is None:
        raise Malformed("the proof does not show its entry: `extra` is missing")
    raw_entry, entry, data = _read_extra(proof.extra)
    checkpoint = believed.checkpoint
    check_inclusion(
        leaf=leaf_hash(raw_entry), index=proof.index, size=checkpoint.size, root=checkpoint.root, proof=proof.hashes
    )
    return Proved(index=proof.index, entry=entry, data=data, believed=believed)


def _bundles(size: int) -> Iterator[tuple[int, int]]:
    """The number and width of each bundle."""
    return ((first // TILE_WIDTH, min(TILE_WIDTH, size - first)) for first in range(0, size, TILE_WIDTH))


def _read_extra(extra: bytes) -> tuple[bytes, Entry, bytes | None]:
    """The entry and the data. What is not authenticated by the proof itself is by the entry's digest."""
    raw_entry, newline, data = extra.partition(b"\n")
    entry = Entry.decode(raw_entry)
    if not newline:
        return raw_entry, entry, None
    if sha256(data).hexdigest() != entry.data_sha256:
        raise ProofInvalid(f"the data shown is not that of the event {entry.id}")
    return raw_entry, entry, data
