"""A checkpoint is the size and root of a log, signed (C2SP tlog-checkpoint); here is what makes it believed.

Whoever keeps a checkpoint holds the log to everything up to it: 100 bytes bind any number of events. That the log shows
everybody the same checkpoints is what witnesses are for: `Trust` says how many of which have to have signed.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from workhorse.audit.faults import Malformed, SignatureInvalid
from workhorse.audit.keys import COSIGNATURE, ED25519, Signer, Verifier, read_base64, signed_at
from workhorse.audit.notes import Note
from workhorse.audit.tree import EMPTY_ROOT, HASH_BYTES, MAX_SIZE

__all__ = ["Believed", "Checkpoint", "Trust", "open_checkpoint", "parse_size", "sign_checkpoint"]

_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log says of itself at a moment.

    Raises:
        Malformed: origin, size, root or an extension cannot be one.
    """

    origin: str
    """Which log, such as `bank.example/audit`."""
    size: int
    """How many entries."""
    root: bytes
    extensions: tuple[str, ...] = ()
    """Further lines. They are signed, but nobody can check what they say: best none."""

    def __post_init__(self) -> None:
        if any(not line or "\n" in line for line in (self.origin, *self.extensions)):
            raise Malformed("the lines of a checkpoint are not empty")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise Malformed(f"a checkpoint of size {self.size} and a root of {len(self.root)} bytes")

    @property
    def text(self) -> str:
        """The text that is signed."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read the text of a note.

        Raises:
            Malformed: it is no checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop():
            raise Malformed("a checkpoint has at least three lines: origin, size and root")
        return cls(origin=lines[0], size=parse_size(lines[1]), root=read_base64(lines[2]), extensions=tuple(lines[3:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom a verifier believes. All of it comes from elsewhere than the log that is verified.

    Raises:
        ValueError: more witnesses are asked for than are known, or a key is of the wrong kind.
    """

    origin: str
    logs: tuple[Verifier, ...]
    """The keys of the log, the older ones too."""
    witnesses: tuple[Verifier, ...] = ()
    quorum: int = 0
    """How many of the witnesses must have signed."""
    seen_since: int | None = None
    """Seconds since 1970: so many witnesses must have signed no earlier. An older export, which is good in itself but
    lacks what came later, is found by this."""

    def __post_init__(self) -> None:
        if not self.logs or any(one.kind != ED25519 for one in self.logs):
            raise ValueError("name the verifier key of the log (of kind 1)")
        if any(one.kind != COSIGNATURE for one in self.witnesses):
            raise ValueError("the verifier key of a witness is of kind 4")
        if not 0 <= self.quorum <= len({one.public_key for one in self.witnesses}):
            raise ValueError(f"{self.quorum} witnesses are asked for, and {len(self.witnesses)} are known")
        if self.seen_since is not None and not self.quorum:
            raise ValueError("seen_since is a demand on witnesses: say how many with quorum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """A checkpoint that was found to be signed as asked."""

    checkpoint: Checkpoint
    note: Note
    witnesses: dict[str, int] = field(default_factory=dict[str, int])
    """Which of the known witnesses signed it, and when at the latest, in seconds since 1970."""


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> Note:
    """The checkpoint as a note, signed by the log."""
    return Note(checkpoint.text).sign(signer)


def open_checkpoint(raw: bytes, trust: Trust) -> Believed:
    """Read a checkpoint, and believe it if it is signed as asked.

    Raises:
        Malformed: it is none.
        SignatureInvalid: it is of another log, is not signed by the log, or not by enough witnesses.
    """
    note = Note.parse(raw)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise Malformed("the root of the empty tree is the SHA-256 of nothing")
    if checkpoint.origin != trust.origin:
        raise SignatureInvalid(f"the checkpoint is one of the log {checkpoint.origin!r}, not of {trust.origin!r}")
    signed = note.signed_by((*trust.logs, *trust.witnesses))
    if not any(one in signed for one in trust.logs):
        raise SignatureInvalid(f"the checkpoint of {checkpoint.size} entries is not signed by a known key of the log")
    witnesses = {one.name: signed_at(signed[one].value) for one in trust.witnesses if one in signed}
    fresh = _distinct(one for one in trust.witnesses if one in signed and _late(signed[one].value, trust.seen_since))
    if fresh < trust.quorum:
        since = "" if trust.seen_since is None else f" at or after {trust.seen_since} (seconds since 1970)"
        raise SignatureInvalid(
            f"the checkpoint of {checkpoint.size} entries is signed by {fresh} known witnesses{since};"
            f" {trust.quorum} are asked for"
        )
    return Believed(checkpoint=checkpoint, note=note, witnesses=witnesses)


def parse_size(text: str) -> int:
    """Read a size: decimal, without leading zeros.

    Raises:
        Malformed: it is none.
    """
    if not _SIZE.match(text) or int(text) > MAX_SIZE:
        raise Malformed(f"{text[:40]!r} is no size of a tree: digits without leading zeros, at most {MAX_SIZE}")
    return int(text)


def _late(cosignature: bytes, since: int | None) -> bool:
    return since is None or signed_at(cosignature) >= since


def _distinct(verifiers: Iterable[Verifier]) -> int:
    """How many keys: one key under two names is one witness."""
    return len({one.public_key for one in verifiers})
