"""A transparency log over the journal: what happened cannot be changed without a trace that anyone can find.

The events of the journal are hashed into a Merkle tree (RFC 9162), kept as files (C2SP tlog-tiles) and signed from
time to time (C2SP tlog-checkpoint). `verify` holds an export against public keys, offline; `prove` makes a proof of one
event to mail. The format is written down in docs/audit-format.md.

It needs the extra `audit` (`cryptography`, for Ed25519), and knows no database: who seals reads the rows.
"""

from workhorse.audit.checkpoints import Checkpoint, Trust, open_checkpoint, sign_checkpoint
from workhorse.audit.entries import Entry, EventRow
from workhorse.audit.export import FolderExport, MemoryExport
from workhorse.audit.faults import AuditFault
from workhorse.audit.keys import Signer, Verifier, new_signer
from workhorse.audit.notes import Note
from workhorse.audit.proofs import check_proof, prove
from workhorse.audit.report import Fault, Finding, Report, render_report
from workhorse.audit.tiles import Growth, Tile
from workhorse.audit.verify import verify

__all__ = [
    "AuditFault",
    "Checkpoint",
    "Entry",
    "EventRow",
    "Fault",
    "Finding",
    "FolderExport",
    "Growth",
    "MemoryExport",
    "Note",
    "Report",
    "Signer",
    "Tile",
    "Trust",
    "Verifier",
    "check_proof",
    "new_signer",
    "open_checkpoint",
    "prove",
    "render_report",
    "sign_checkpoint",
    "verify",
]
