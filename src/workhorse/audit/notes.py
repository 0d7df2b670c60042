"""A text with signatures under it: the signed note of C2SP.

    bank.example/audit
    70000
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=

    — bank.example/audit hI2DJw…

The text is worth nothing until a known key is found to have signed it. Signatures of keys that are not known are kept
and ignored, as the standard asks: so keys are changed, and witnesses added, without a new format. A signature that
claims a known key and is not its makes the whole note worthless.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from workhorse.audit.faults import Malformed, SignatureInvalid
from workhorse.audit.keys import Signer, Verifier, check_key_name, read_base64

__all__ = ["MAX_NOTE_BYTES", "MAX_SIGNATURES", "Note", "Signature"]

MAX_NOTE_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100
ID_BYTES: Final = 4

_FORBIDDEN: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_DASH: Final = "\u2014 "


@dataclass(frozen=True, slots=True)
class Signature:
    """One line under a note."""

    name: str
    key_id: bytes
    value: bytes
    """What the key made; for a cosignature the time comes first."""

    @classmethod
    def parse(cls, line: str) -> "Signature":
        """Read a line, without its newline.

        Raises:
            Malformed: it is no signature.
        """
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise Malformed(f"{line[:100]!r} is no signature; it is an em dash, a key's name and base64")
        check_key_name(name)
        raw = read_base64(encoded)
        if len(raw) <= ID_BYTES:
            raise Malformed(f"the signature of {name!r} has {len(raw)} bytes, which is none")
        return cls(name, raw[:ID_BYTES], raw[ID_BYTES:])

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {b64encode(self.key_id + self.value).decode()}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and the signatures under it, none of which is checked yet."""

    text: str
    """With its last newline."""
    signatures: tuple[Signature, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or _FORBIDDEN.search(self.text):
            raise Malformed("the text of a note ends with a newline and has no control characters")

    @classmethod
    def parse(cls, raw: bytes) -> "Note":
        """Read a note.

        Raises:
            Malformed: it is none. Nothing was checked but the form.
        """
        if len(raw) > MAX_NOTE_BYTES:
            raise Malformed(f"a note of {len(raw)} bytes; at most {MAX_NOTE_BYTES} are read")
        try:
            whole = raw.decode("utf-8")
        except UnicodeError as error:
            raise Malformed(f"a note is UTF-8: {error}") from error
        if _FORBIDDEN.search(whole):
            raise Malformed("a note has no control characters but newlines")
        text, blank, below = whole.rpartition("\n\n")
        if not blank or not below.endswith("\n"):
            raise Malformed("a note is a text, an empty line, and signatures that each end with a newline")
        lines = below[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise Malformed(f"a note of {len(lines)} signatures; at most {MAX_SIGNATURES} are read")
        return cls(text + "\n", tuple(Signature.parse(line) for line in lines))

    def encode(self) -> bytes:
        """The note as it is kept and sent."""
        return (self.text + "\n" + "".join(f"{one}\n" for one in self.signatures)).encode()

    def sign(self, signer: Signer, *, seconds: int | None = None) -> "Note":
        """This note with one more signature, in place of an older one by the same key."""
        verifier = signer.verifier
        return self.adding([Signature(signer.name, verifier.id, signer.sign(self.text.encode(), seconds=seconds))])

    def adding(self, signatures: Iterable[Signature]) -> "Note":
        """This note with more signatures; one of the same key replaces the older."""
        added = {(one.name, one.key_id): one for one in signatures}
        kept = [one for one in self.signatures if (one.name, one.key_id) not in added]
        return Note(self.text, (*kept, *added.values()))

    def signed_by(self, verifiers: Iterable[Verifier]) -> dict[Verifier, Signature]:
        """Which of the known keys signed this note, each with its first signature.

        Raises:
            SignatureInvalid: a signature names a known key, and is not by it.
        """
        known = {(verifier.name, verifier.id): verifier for verifier in verifiers}
        text = self.text.encode()
        found: dict[Verifier, Signature] = {}
        for signature in self.signatures:
            verifier = known.get((signature.name, signature.key_id))
            if verifier is None or verifier in found:
                continue
            if not verifier.verify(text, signature.value):
                raise SignatureInvalid(
                    f"the signature of {verifier.name} ({verifier.id.hex()}) is not one of this text:"
                    " the text was changed after it was signed"
                )
            found[verifier] = signature
        return found
