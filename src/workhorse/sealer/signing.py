"""When the sealer signs: never what is behind or beside anything that it, or an anchor, has kept.

A signature cannot be taken back, so all that can be known is asked first. The root that is signed is one that is
committed; what was signed before, and what each anchor has, must be beginnings of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from workhorse.audit.checkpoints import Checkpoint, Trust, open_checkpoint
from workhorse.audit.faults import AuditFault, ProofInvalid
from workhorse.audit.notes import Note
from workhorse.audit.tree import check_consistency
from workhorse.sealer.store import LogStore, Stored
from workhorse.units import Work

__all__ = ["Kept", "SealRefused", "check_against", "open_kept"]


class SealRefused(AuditFault):
    """The sealer does not seal or sign: the log is not the one that was signed. The message says what to look at.

    No retry mends this. Keep the database as it is, export it, and verify the export with the anchors.
    """


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that binds the log, and who kept it."""

    source: str
    checkpoint: Checkpoint


def open_kept(source: str, note: Note, trust: Trust) -> Kept:
    """Read a checkpoint that somebody kept.

    Raises:
        SealRefused: it is not by a known key of this log.
    """
    try:
        return Kept(source, open_checkpoint(note.encode(), trust).checkpoint)
    except AuditFault as error:
        raise SealRefused(
            f"{source} is not by a known key of this log: {error}. If the key was changed, name the older public key"
        ) from error


async def check_against(store: LogStore, work: Work, log: Stored, kept: Iterable[Kept]) -> None:
    """Make sure that the stored log begins with each checkpoint that was kept.

    Raises:
        SealRefused: it is shorter than one (the database was rolled back), or has another beginning.
    """
    for one in kept:
        old = one.checkpoint
        if old.size > log.size:
            raise SealRefused(
                f"{one.source} is signed over {old.size} entries, and the database has {log.size}: it was rolled back"
                " by a restore, a failover that lost commits, or by hand"
            )
        try:
            proof = await store.consistency(work, old.size, log.size)
            check_consistency(old=old.size, old_root=old.root, size=log.size, root=log.root, proof=proof)
        except ProofInvalid as error:
            raise SealRefused(
                f"the log of {log.size} entries does not begin with {one.source} over {old.size}: {error}"
            ) from error
