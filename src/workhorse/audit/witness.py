"""The rules of a witness (C2SP tlog-witness): it signs a log's checkpoint if its tree only grew since the last one.

A log with a key can still show two histories, each perfect in itself. A witness remembers the one head of each log that
it signed last, and signs no smaller tree and none that does not begin with it. So whoever asks for the signatures of a
few witnesses sees the same history as everybody who does, and a log cannot go back behind what they signed.

`judge` decides and has no state. Its caller keeps the head, and must compare and replace it in one transaction *before*
the signature leaves: two requests at once could otherwise take a witness back.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from workhorse.audit.checkpoints import Checkpoint, parse_size
from workhorse.audit.faults import CosignRefused, Malformed, ProofInvalid, SignatureInvalid
from workhorse.audit.keys import Signer, Verifier, read_base64
from workhorse.audit.notes import Note, Signature
from workhorse.audit.tree import EMPTY_ROOT, HASH_BYTES, check_consistency

__all__ = ["AddCheckpoint", "Head", "cosign", "judge", "take_cosignatures"]

MAX_PROOF: Final = 63
MAX_REQUEST_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Head:
    """What a witness remembers of a log."""

    size: int
    root: bytes


NOTHING: Final = Head(0, EMPTY_ROOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """What a log asks of a witness: the body of `POST add-checkpoint`."""

    old_size: int
    """What the witness signed last, as far as the log knows; 0 for nothing."""
    proof: tuple[bytes, ...]
    """That the tree of the checkpoint begins with that one."""
    note: Note

    def encode(self) -> bytes:
        """The body."""
        lines = (f"old {self.old_size}", *(b64encode(one).decode() for one in self.proof), "")
        return "".join(f"{line}\n" for line in lines).encode() + self.note.encode()

    @classmethod
    def parse(cls, raw: bytes) -> "AddCheckpoint":
        """Read a body.

        Raises:
            Malformed: it is none.
        """
        if len(raw) > MAX_REQUEST_BYTES:
            raise Malformed(f"a request of {len(raw)} bytes; at most {MAX_REQUEST_BYTES} are read")
        head, blank, note = raw.partition(b"\n\n")
        try:
            first, *proof = head.decode("ascii").split("\n")
        except UnicodeError as error:
            raise Malformed(f"a request begins with lines of ASCII: {error}") from error
        if not blank or not first.startswith("old "):
            raise Malformed("a request is `old SIZE`, the lines of a proof, an empty line and a checkpoint")
        return cls(old_size=parse_size(first.removeprefix("old ")), proof=read_hashes(proof), note=Note.parse(note))


def judge(request: AddCheckpoint, *, logs: Mapping[str, Sequence[Verifier]], head: Head | None) -> Checkpoint:
    """Decide whether to sign.

    Args:
        request: as it came.
        logs: the keys of each log that the witness knows, by origin.
        head: what the witness signed last of this log (see `AddCheckpoint.note`'s first line); None for nothing.

    Returns:
        The checkpoint to keep as the new head, and to `cosign` after that.

    Raises:
        CosignRefused: with the status that the standard has for the reason.
    """
    known = head or NOTHING
    try:
        checkpoint = Checkpoint.parse(request.note.text)
    except Malformed as error:
        raise CosignRefused(400, str(error)) from error
    verifiers = logs.get(checkpoint.origin)
    if verifiers is None:
        raise CosignRefused(404, f"the log {checkpoint.origin!r} is not known here")
    try:
        signed = request.note.signed_by(verifiers)
    except SignatureInvalid as error:
        raise CosignRefused(403, str(error)) from error
    if not signed:
        raise CosignRefused(403, f"the checkpoint is not signed by a known key of {checkpoint.origin}")
    if request.old_size > checkpoint.size:
        raise CosignRefused(400, f"the tree shrinks from {request.old_size} to {checkpoint.size} entries")
    if request.old_size != known.size:
        raise CosignRefused(409, f"the last tree that was signed has {known.size} entries", size=known.size)
    if 0 < known.size == checkpoint.size and known.root != checkpoint.root:
        raise CosignRefused(
            409, f"the tree of {known.size} entries that was signed has another root", size=known.size, is_fork=True
        )
    try:
        check_consistency(
            old=known.size, old_root=known.root, size=checkpoint.size, root=checkpoint.root, proof=request.proof
        )
    except ProofInvalid as error:
        raise CosignRefused(422, str(error), is_fork=True) from error
    return checkpoint


def cosign(note: Note, signer: Signer, *, seconds: int) -> bytes:
    """The reply of a witness to a checkpoint that `judge` let pass, and that is kept by now: one signature line."""
    signature = Signature(signer.name, signer.verifier.id, signer.sign(note.text.encode(), seconds=seconds))
    return f"{signature}\n".encode()


def take_cosignatures(note: Note, reply: bytes, witnesses: Iterable[Verifier]) -> Note:
    """The note with those signatures of a witness's reply that are of known witnesses.

    Raises:
        Malformed: the reply is no list of signature lines.
        SignatureInvalid: one names a known witness, and is not by it.
    """
    known = tuple(witnesses)
    replied = Note.parse(note.text.encode() + b"\n" + reply)
    if replied.text != note.text:
        raise Malformed("the reply of a witness is not a list of signature lines")
    return note.adding(replied.signed_by(known).values())


def read_hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    """The hashes of a proof, one a line.

    Raises:
        Malformed: one is none, or they are more than any proof has.
    """
    if len(lines) > MAX_PROOF:
        raise Malformed(f"a proof of {len(lines)} hashes; at most {MAX_PROOF} are possible")
    hashes = tuple(read_base64(line) for line in lines)
    if any(len(one) != HASH_BYTES for one in hashes):
        raise Malformed(f"a hash of a proof has {HASH_BYTES} bytes")
    return hashes
