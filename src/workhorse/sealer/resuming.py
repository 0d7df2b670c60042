"""Lets the sealer go on with a log that was restored into another cluster, where its position means nothing.

A position is a snapshot of transactions' numbers (decision 19), and another cluster numbers them anew. Which events are
sealed is known all the same: each has its entry. So in one transaction

1. the stored log is held against its last checkpoint and against the anchors. One that is shorter than what was signed
   has lost entries, and is never gone on with: that would sign a second history;
2. events that are sealed, and whose transactions' numbers are still to come in this cluster, get one that is over; or
   they would be read again when it comes that far;
3. events without an entry get the number of this transaction, so that they are read in this cluster, once;
4. the position is where this transaction found the cluster, and what comes is read from there;
5. the journal is told by `audit.resumed`, which is sealed like any other event: from which cluster, at which size and
   root, how many events waited, and of how many entries the event is not there.

The number of its transaction is not in an entry (docs/audit-format.md), so the log verifies as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workhorse.audit.notes import Note
from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.sealer.anchors import Anchor
from workhorse.sealer.keys import KeyProvider
from workhorse.sealer.seal import SEALER_FEED
from workhorse.sealer.signing import check_against, open_kept
from workhorse.sealer.store import LogStore
from workhorse.units import Unit, Work

__all__ = ["RESUMED", "Resumption", "resume"]

RESUMED: Final = "audit.resumed"
"""The event that tells of it."""
RESUME_SECONDS: Final = 3600.0
"""How long the transaction may take: it looks at each event and each entry once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What was found, and was done if it was confirmed."""

    origin: str
    size: int
    """Entries of the log that is gone on with."""
    former_cluster: str
    cluster: str
    waiting: int
    """Events without an entry, which are sealed next."""
    gone: int
    """Entries whose event is not in the journal: lost in the restore, or dropped with its month."""
    done: bool


async def resume(
    database: Database, keys: KeyProvider, *, anchors: Sequence[Anchor] = (), confirmed: str = ""
) -> Resumption:
    """Look at a restored log, and go on with it if its name is given as `confirmed`.

    Raises:
        SettingsError: there is nothing to resume: no log, or its position is of this cluster; or another name is given.
        SealRefused: the log is not the one that was signed, or is shorter. It is not gone on with.
        StoreDamaged: its rows do not fit each other.
        AnchorUnreachable: an anchor cannot be asked, so nobody knows.
    """
    store, known = LogStore(), await keys.keys()
    notes = [(anchor, await anchor.last()) for anchor in anchors]
    async with Unit(database, isolation="read committed", deadline_seconds=RESUME_SECONDS) as work:
        # Before the transaction has a number: with one, it would pass for seen in its own snapshot.
        await work.execute(store.queries["resume_locks"], (SEALER_FEED,))
        found = await store.rows(work, "restored", SEALER_FEED)
        log = await store.log(work)
        if log is None or not found:
            raise SettingsError("this database has no log that was sealed; there is nothing to resume")
        snapshot, former, cluster = found[0]
        if former == cluster:
            raise SettingsError(
                f"the sealer's position is of this cluster ({cluster}): nothing is to resume. If the sealer stands"
                " still, its log says audit.refused and why"
            )
        if confirmed and confirmed != log.origin:
            raise SettingsError(f"the log is named {log.origin!r}, and {confirmed!r} was confirmed")
        trust = known.trust(log.origin)
        last = await store.rows(work, "last_checkpoint", 0)
        kept = [open_kept("the last checkpoint", Note.parse(last[0][1].encode()), trust)] if last else []
        kept += [
            open_kept(f"the checkpoint of the anchor {anchor.name}", note, trust)
            for anchor, note in notes
            if note is not None
        ]
        await check_against(store, work, log, kept)
        await store.growth(work, log)
        waiting, gone = (await store.rows(work, "count_restored"))[0]
        done = bool(confirmed)
        result = Resumption(
            origin=log.origin,
            size=log.size,
            former_cluster=former,
            cluster=cluster,
            waiting=waiting,
            gone=gone,
            done=done,
        )
        if done:
            await _go_on(work, store, snapshot, result, log.root)
    return result


async def _go_on(work: Work, store: LogStore, snapshot: str, found: Resumption, root: bytes) -> None:
    await work.execute(store.queries["renumber_sealed"], (snapshot,))
    await work.execute(store.queries["renumber"])
    await work.execute(store.queries["resume_position"], (snapshot, SEALER_FEED))
    await work.emit(
        RESUMED,
        subject=found.origin,
        data={
            "former_cluster": found.former_cluster,
            "cluster": found.cluster,
            "size": found.size,
            "root": root.hex(),
            "waiting": found.waiting,
            "gone": found.gone,
        },
    )
