"""What can be wrong with a log, a note or a proof: one class a kind, so that a caller can tell hostile from broken.

AuditFault
├── Malformed           bytes are not of the format that they stand for
├── EntryRefused        a value cannot be said in the canonical form
├── ProofInvalid        a proof does not lead to the root
├── SignatureInvalid    no known key signed, or one that is known did not sign this
├── TileMissing         a tile or bundle that the size asks for is not there
└── CosignRefused       a witness does not sign: the tree is smaller, inconsistent, unknown or out of step
"""

from workhorse.errors import WorkhorseError

__all__ = [
    "AuditFault",
    "CosignRefused",
    "EntryRefused",
    "Malformed",
    "ProofInvalid",
    "SignatureInvalid",
    "TileMissing",
]


class AuditFault(WorkhorseError):
    """The base of what the audit room raises."""


class Malformed(AuditFault):
    """Bytes are not of the format that they stand for. The message says which rule they break."""


class EntryRefused(AuditFault):
    """A value cannot be said in the canonical form of an entry. The message says which, and why."""


class ProofInvalid(AuditFault):
    """A proof does not lead from its leaf, or its older tree, to the root."""


class SignatureInvalid(AuditFault):
    """No known key signed the note, or a key that is known did not sign this text."""


class TileMissing(AuditFault):
    """A tile or bundle that a tree of this size must have is not there."""


class CosignRefused(AuditFault):
    """A witness does not sign.

    Args:
        status: what C2SP tlog-witness answers over HTTP: 400, 403, 404, 409 or 422.
        message: why.
        size: with 409: the size that the witness has signed last, from which a proof must start.
        is_fork: the log signed this checkpoint, and it was not shown to begin with what was signed before.
    """

    def __init__(self, status: int, message: str, *, size: int | None = None, is_fork: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.size = size
        self.is_fork = is_fork
