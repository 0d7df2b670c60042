"""What a witness remembers, in a folder: for each log one small file with its keys and the head that was signed last.

    key                      the witness's private key, from `workhorse audit key NAME FOLDER/key --witness`
    lock                     held by the one process that serves
    logs/<sha256 of origin>  the keys of a log, and the last checkpoint that was signed
    evidence/<…>             checkpoints that a log signed, and that exclude the one that was signed before

A witness that forgets is none: it would sign a second history. So a head is replaced as a whole and on disk before the
signature leaves, a file that cannot be read stops the start, and a log without a file is not begun by itself: an empty
folder may be a disk that was not mounted. `admit` begins one, by hand.
"""

import fcntl
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from workhorse.audit.checkpoints import Checkpoint, Trust, open_checkpoint
from workhorse.audit.faults import AuditFault, Malformed
from workhorse.audit.keys import COSIGNATURE, ED25519, Signer, Verifier
from workhorse.audit.notes import MAX_NOTE_BYTES, Note
from workhorse.audit.witness import Head
from workhorse.errors import SettingsError

__all__ = ["HeadFolder", "Remembered"]

KEY: Final = "key"
LOCK: Final = "lock"
LOGS: Final = "logs"
EVIDENCE: Final = "evidence"
MAX_KEYS: Final = 20
"""Of one log: the newest and those before it."""
MAX_EVIDENCE: Final = 1_000
"""Files. A log that has signed so many histories needs no further proof."""
MAX_RECORD: Final = MAX_NOTE_BYTES + 64 * 1024

_HEADER: Final = "workhorse witness v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A log as its witness knows it."""

    keys: tuple[Verifier, ...]
    note: Note | None = None
    """The checkpoint that was signed last; None if there was none."""

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.keys[0].name

    @property
    def head(self) -> Head | None:
        """The size and root of that checkpoint."""
        if self.note is None:
            return None
        checkpoint = Checkpoint.parse(self.note.text)
        return Head(checkpoint.size, checkpoint.root)

    def encode(self) -> bytes:
        """The file."""
        lines = [_HEADER, *(f"key {key}" for key in self.keys), ""]
        return "".join(f"{line}\n" for line in lines).encode() + (b"" if self.note is None else self.note.encode())

    @classmethod
    def parse(cls, raw: bytes) -> "Remembered":
        """Read the file.

        Raises:
            Malformed: it is none, or its checkpoint is not by one of its keys: it was torn, or edited.
        """
        head, blank, note = raw.partition(b"\n\n")
        header, *lines = head.decode("utf-8", "replace").split("\n")
        if header != _HEADER or not blank or not lines or not all(line.startswith("key ") for line in lines):
            raise Malformed(f"it does not begin with the line {_HEADER!r} and the log's keys")
        one = cls(keys=tuple(Verifier.parse(line.removeprefix("key ")) for line in lines))
        if not note:
            return one
        open_checkpoint(note, Trust(origin=one.origin, logs=one.keys))
        return replace(one, note=Note.parse(note))


class HeadFolder:
    """The folder of a witness. One process at a time holds it.

    Args:
        path: of the folder, on a disk that outlives the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def signer(self) -> Signer:
        """The witness's key.

        Raises:
            SettingsError: there is none, or it is of a log.
        """
        path = self._path / KEY
        try:
            signer = Signer.parse(path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeError, AuditFault) as error:
            raise SettingsError(
                f"the witness's key {path} cannot be read: {error}; make one with"
                f" `workhorse audit key NAME {path} --witness`"
            ) from error
        if signer.kind != COSIGNATURE:
            raise SettingsError(f"{path} is the key of a log; a witness's is made with `workhorse audit key --witness`")
        return signer

    @contextmanager
    def held(self) -> Generator[None]:
        """Keep other processes out during the block.

        Raises:
            SettingsError: another one is in.
        """
        try:
            descriptor = os.open(self._path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(f"the witness's folder {self._path} cannot be used: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SettingsError(
                    f"another process serves the witness of {self._path}; two would sign two histories"
                ) from error
            yield
        finally:
            os.close(descriptor)

    def admit(self, keys: Sequence[Verifier]) -> Remembered:
        """Begin to witness a log, or learn a further key of one. Its head stays.

        Raises:
            SettingsError: the keys are not of one log, or too many.
            Malformed: what is kept of the log cannot be read.
        """
        if not keys or any(key.kind != ED25519 or key.name != keys[0].name for key in keys):
            raise SettingsError("name the public keys of one log, of kind 1")
        logs = self.read() if (self._path / LOGS).exists() else {}
        known = logs.get(keys[0].name, Remembered(keys=(keys[0],)))
        one = replace(known, keys=(*known.keys, *(key for key in dict.fromkeys(keys) if key not in known.keys)))
        if len(one.keys) > MAX_KEYS:
            raise SettingsError(f"the log {one.origin} would have {len(one.keys)} keys; it has at most {MAX_KEYS}")
        (self._path / LOGS).mkdir(parents=True, exist_ok=True)
        self.write(one)
        return one

    def read(self) -> dict[str, Remembered]:
        """The logs that are witnessed, by origin.

        Raises:
            Malformed: a file is damaged. Put it back from a copy that is not older, or retire the witness.
            SettingsError: no log was admitted.
        """
        found: dict[str, Remembered] = {}
        try:
            paths = sorted(path for path in (self._path / LOGS).iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise SettingsError(
                f"no log is witnessed in {self._path} ({error.strerror}): admit one with"
                " `workhorse audit witness FOLDER --admit KEY`, or mount the right disk"
            ) from error
        for path in paths:
            try:
                with path.open("rb") as file:
                    one = Remembered.parse(file.read(MAX_RECORD))
            except (OSError, AuditFault) as error:
                raise Malformed(f"what the witness keeps in {path} cannot be read: {error}") from error
            if path.name != _name_of(one.origin):
                raise Malformed(f"{path} is the file of another log, {one.origin}")
            found[one.origin] = one
        return found

    def write(self, one: Remembered) -> None:
        """Replace what is kept of a log, as a whole. It is on disk when this returns.

        Raises:
            OSError: it is not. What was kept before stays.
        """
        _replace(self._path / LOGS / _name_of(one.origin), one.encode())

    def keep_evidence(self, note: Note) -> bool:
        """Keep a checkpoint that the log signed and that excludes what it signed before. False: enough is kept."""
        folder = self._path / EVIDENCE
        folder.mkdir(exist_ok=True)
        # By its text: the same checkpoint with other proofs, which anybody can send, is kept once.
        path = folder / sha256(note.text.encode()).hexdigest()
        if path.exists():
            return True
        if sum(1 for _ in folder.iterdir()) >= MAX_EVIDENCE:
            return False
        _replace(path, note.encode())
        return True


def _name_of(origin: str) -> str:
    return sha256(origin.encode()).hexdigest()


def _replace(path: Path, raw: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, and the new one once this returned."""
    waiting = path.with_name(f".{path.name}.new")
    descriptor = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(raw)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    waiting.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
