"""Seals: reads the journal as a feed, appends what it reads to the log, and signs what is committed.

The entries, the tiles, the size and the root commit with the position in the journal, so an event has an entry once,
wherever a process was killed. Signing is a transaction of its own, after that one. Killed in between, the next process
signs; killed between the signature and the anchors, the next one gives the same note to those that lack it.

An advisory lock makes one process the reader, another one the signer; any number of others wait for their turn. What is
not as it was signed is not carried on (`SealRefused`): the sealer stands still, says so, and looks again, because a
retry hurts nobody and the operator may have put the right database back.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from workhorse.audit.checkpoints import Checkpoint, sign_checkpoint
from workhorse.audit.entries import EventRow
from workhorse.audit.faults import AuditFault, EntryRefused
from workhorse.audit.keys import check_key_name
from workhorse.audit.notes import Note
from workhorse.audit.tree import EMPTY_ROOT
from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.feeds import Feed, FeedMoved, FeedReader, Recorded
from workhorse.sealer.anchors import Anchor, AnchorUnreachable
from workhorse.sealer.keys import KeyProvider, LogKeys
from workhorse.sealer.signing import Kept, SealRefused, check_against, open_kept
from workhorse.sealer.store import LogStore, Stored, StoreDamaged, event_row
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Unit, Work

__all__ = ["KEY_CHANGED", "SEALER_FEED", "Sealer", "SealerOptions"]

SEALER_FEED: Final = "workhorse.audit"
"""The name of the sealer's position among those of the feeds."""
KEY_CHANGED: Final = "audit.key_changed"
"""The event that tells of a key before it signs."""

BUSY_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 0.5
MAX_RETRY_SECONDS: Final = 15.0
SIGN_SECONDS: Final = 60.0
"""How long the transaction of a signature may take."""
THIN_SECONDS: Final = 3600.0
LOOK_SECONDS: Final = 2.0
MONTHS_SECONDS: Final = 1.0
"""Between two looks for months that were detached."""

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class SealerOptions:
    """How a sealer works.

    Args:
        origin: the log's name, such as `bank.example/audit`; it never changes.
        batch: events of one transaction at most.
        sign_every_seconds: between two signatures at the least, while there is something to sign.

    Raises:
        SettingsError: a value is out of its bounds.
    """

    origin: str
    batch: int = 1000
    sign_every_seconds: float = 1.0

    def __post_init__(self) -> None:
        try:
            check_key_name(self.origin)
        except AuditFault as error:
            raise SettingsError(f"the origin of the audit log: {error}") from error
        if not 1 <= self.batch <= 5000:
            raise SettingsError(f"a batch of {self.batch} events; it has 1 to 5000")
        if not 0 <= self.sign_every_seconds <= 3600:
            raise SettingsError(f"a signature every {self.sign_every_seconds} seconds; it is 0 to 3600")


class Sealer:
    """Seals one journal into one log.

    Args:
        database: where the journal and the log are.
        options: how.
        keys: what signs.
        anchors: who keeps what was signed; each is asked before the next signature.
        log: where trouble is told.
        metrics: where events are counted; nowhere by default.
    """

    def __init__(
        self,
        database: Database,
        options: SealerOptions,
        keys: KeyProvider,
        *,
        anchors: Sequence[Anchor] = (),
        log: Log | None = None,
        metrics: Registry | None = None,
    ) -> None:
        self._database = database
        self._options = options
        self._provider = keys
        self._keys: LogKeys | None = None
        self._anchors = tuple(anchors)
        self._log = log
        self._store = LogStore()
        self._reader = FeedReader(database, Feed(SEALER_FEED, self._seal, at_most=options.batch), metrics=metrics)
        self._signed: Kept | None = None
        self._signed_at = 0.0
        self._thinned_at: float | None = None
        self._asked: dict[str, float] = {}
        self._archived: set[int] = set()
        self._months_at = -math.inf
        self._trouble: str | None = None
        self._turned_at = time.monotonic()
        registry = metrics if metrics is not None else Registry(None)
        self._sealed = registry.counter("workhorse_audit_sealed_total", "Events that were sealed.").labels()
        self._lag = registry.gauge(
            "workhorse_audit_lag_seconds", "Age of the oldest event of the last batch when it was sealed."
        ).labels()
        self._age = registry.gauge(
            "workhorse_audit_checkpoint_age_seconds", "Seconds since this process signed or saw the last checkpoint."
        ).labels()
        self._still = registry.gauge("workhorse_audit_standing_still", "Whether the sealer stands still.").labels()

    def __repr__(self) -> str:
        return f"<Sealer of {self._options.origin!r}>"

    @property
    def trouble(self) -> str | None:
        """Why the sealer stands still; None if it does not."""
        return self._trouble

    @property
    def still_seconds(self) -> float:
        """Since it last sealed and signed all that it found, or began: it stands still, hangs or has ended if long."""
        return time.monotonic() - self._turned_at

    async def is_behind(self, most_seconds: float) -> bool:
        """Whether an event has waited longer than that, whichever process seals.

        Raises:
            DatabaseUnavailable: the journal cannot be looked at.
        """
        async with Unit(self._database, read_only=True, deadline_seconds=LOOK_SECONDS) as work:
            return bool((await self._store.rows(work, "is_behind", most_seconds, SEALER_FEED))[0][0])

    async def run(self) -> None:
        """Seal and sign until cancelled. Trouble is logged and shown, and tried again after a pause."""
        idle, retry = BUSY_SECONDS, RETRY_SECONDS
        while True:
            try:
                await self._prepare()
                await self._check_months()
                sealed = await self._reader.turn()
                if time.monotonic() - self._signed_at >= self._options.sign_every_seconds:
                    await self.sign()
            except Exception as error:  # noqa: BLE001 - nothing was sealed or signed, whatever it was
                self._stand_still(error, retry)
                await asyncio.sleep(retry)
                retry = min(retry * 2, MAX_RETRY_SECONDS)
                continue
            self._trouble, retry, self._turned_at = None, RETRY_SECONDS, time.monotonic()
            self._still.set(0)
            self._age.set(time.monotonic() - self._signed_at)
            if sealed < self._options.batch:
                idle = BUSY_SECONDS if sealed else min(idle * 2, IDLE_SECONDS)
                await asyncio.sleep(idle)

    async def drain(self) -> int:
        """Seal all that there is, sign it, and return how many events it were. For scripts and tests.

        Raises:
            SealRefused: the log is not the one that was signed.
            StoreDamaged: its rows do not fit each other.
            FeedMoved: the position is another cluster's.
            AnchorUnreachable: an anchor did not answer. What was sealed is.
        """
        await self._prepare()
        await self._check_months(at_once=True)
        total = await self._reader.drain()
        await self.sign()
        return total

    async def sign(self) -> Note | None:
        """Sign the log as it is committed, if it has grown, and hand the note to the anchors that lack it.

        Returns:
            The last checkpoint; None if there is none, or another process is at it.

        Raises:
            SealRefused: the log is not the one that was signed.
            AnchorUnreachable: an anchor could not be asked, so nothing was signed; or could not keep what was.
        """
        keys = await self._prepare()
        trust = keys.trust(self._options.origin)
        kept: list[Kept] = [] if self._signed is None else [self._signed]
        heads: list[tuple[Anchor, Note | None, int]] = []
        # Asked before the transaction: what an anchor has by now is committed by now.
        now = time.monotonic()
        for anchor in self._anchors:
            if now - self._asked.get(anchor.name, -math.inf) < anchor.every_seconds:
                continue  # what this process saw last it holds the log to by itself
            note = await anchor.last()
            if note is not None:
                kept.append(open_kept(f"the checkpoint of the anchor {anchor.name}", note, trust))
            heads.append((anchor, note, -1 if note is None else kept[-1].checkpoint.size))
        async with Unit(self._database, isolation="repeatable read", deadline_seconds=SIGN_SECONDS) as work:
            if not (await self._store.rows(work, "sign_lock"))[0][0]:
                return None
            last = await self._sign(work, keys, kept)
        self._signed_at = time.monotonic()
        if last is None:
            return None
        checkpoint = Checkpoint.parse(last.text)
        self._signed = Kept("the checkpoint that this process saw last", checkpoint)
        for anchor, note, size in heads:
            # One that another process was faster with is looked at before the next signature.
            if size >= checkpoint.size or await anchor.keep(last, after=note):
                self._asked[anchor.name] = now
        return last

    async def _sign(self, work: Work, keys: LogKeys, kept: list[Kept]) -> Note | None:
        store = self._store
        log = await store.log(work) or Stored(self._options.origin, 0, EMPTY_ROOT)
        rows = await store.rows(work, "last_checkpoint", 0)
        last = Note.parse(rows[0][1].encode()) if rows else None
        if last is not None:
            kept = [*kept, open_kept("the last checkpoint", last, keys.trust(self._options.origin))]
        await check_against(store, work, log, kept)
        if log.size == 0 or (last is not None and kept[-1].checkpoint.size == log.size):
            return last
        # Whoever holds the tiles to the root: the edge alone is read.
        await store.growth(work, log)
        key, is_sealed = (await store.rows(work, "announced"))[0]
        if key != str(keys.signer.verifier):
            raise SealRefused(
                f"the journal was told of the key {key}, and this process has {keys.signer.verifier}:"
                " another process has another key; restart this one if its key is the new one"
            )
        if not is_sealed:
            return last
        note = sign_checkpoint(Checkpoint(origin=log.origin, size=log.size, root=log.root), keys.signer)
        await work.execute(store.queries["add_checkpoint"], (log.size, note.encode().decode()))
        now = time.monotonic()
        if self._thinned_at is None or now - self._thinned_at > THIN_SECONDS:
            self._thinned_at = now
            await work.execute(store.queries["thin"])
        return note

    async def _prepare(self) -> LogKeys:
        """Get the keys, begin the log where there is none, and tell the journal of a key that is new. Once."""
        if self._keys is not None:
            return self._keys
        keys = await self._provider.keys()
        store, origin, verifier = self._store, self._options.origin, str(keys.signer.verifier)
        if keys.signer.name != origin:
            raise SettingsError(f"the key is named {keys.signer.name!r}, and the log {origin!r}: they are one name")
        async with Unit(self._database, deadline_seconds=SIGN_SECONDS) as work:
            await work.execute(store.queries["begin"], (origin, EMPTY_ROOT))
            await work.execute(store.queries["hold"])
            log = await store.log(work)
            if log is None or log.origin != origin:
                raise SettingsError(f"this database has the log {log and log.origin!r}, not {origin!r}")
            # A key that is in nobody's place is told of; one that replaces an unknown one is not.
            rows = await store.rows(work, "last_checkpoint", 0)
            if rows:
                last = open_kept("the last checkpoint", Note.parse(rows[0][1].encode()), keys.trust(origin))
                await check_against(store, work, log, [last])
            old, _ = (await store.rows(work, "announced"))[0]
            if old != verifier:
                event = await work.emit(KEY_CHANGED, subject=origin, data={"old": old, "new": verifier})
                await work.execute(store.queries["announce"], (verifier, event.id))
        self._keys = keys
        return keys

    async def _check_months(self, *, at_once: bool = False) -> None:
        """Refuse to go past events that stand in a month which was taken out of the journal before they were sealed.

        A month that was dropped is not there to be asked: what was not sealed is a row like others.
        """
        if time.monotonic() - self._months_at < MONTHS_SECONDS and not at_once:
            return
        async with Unit(self._database, read_only=True, deadline_seconds=SIGN_SECONDS) as work:
            for oid, name in await self._store.rows(work, "detached_months"):
                if oid in self._archived:
                    continue
                # A name that the query above gave: `events_`, four digits, `_` and two.
                query = self._store.queries["unsealed_of_month"].replace("a_month", name)
                row: Any = await (await work.execute(query)).fetchone()
                if row[0]:
                    raise SealRefused(
                        f"the month workhorse.{name} was detached from the journal with events that are not sealed:"
                        " attach it again (ALTER TABLE workhorse.events ATTACH PARTITION), and detach it when they are"
                    )
                self._archived.add(oid)  # nothing comes into it any more
        self._months_at = time.monotonic()

    async def _seal(self, work: Work, events: Sequence[Recorded]) -> None:
        """Append a page of events, in its transaction."""
        store = self._store
        ids = [event.id for event in events]
        asked = _encode(ids).decode()
        already = await store.rows(work, "sealed", asked)
        if already:
            raise SealRefused(
                f"the event {already[0][1]} comes a second time, and has the entry {already[0][0]}: the sealer's"
                " position was set back, or another event was given its id"
            )
        log = await store.log(work)
        if log is None:
            raise SealRefused("the row of the log is gone, though the sealer has begun: it was deleted by hand")
        growth = await store.growth(work, log)
        rows = {row[0]: row for row in await store.rows(work, "rows", asked)}
        gone = next((id_ for id_ in ids if id_ not in rows), None)
        if gone is not None:
            raise SealRefused(f"the event {gone} was deleted while it was being sealed")
        added = [(id_, _entry_of(event_row(rows[id_]))) for id_ in ids]
        await store.save(work, log, growth, added)
        lag = (datetime.now(UTC) - min(event.occurred_at for event in events)).total_seconds()
        work.after_commit(lambda: self._count(len(events), lag))

    async def _count(self, events: int, lag: float) -> None:
        self._sealed.add(events)
        self._lag.set(max(0.0, lag))

    def _stand_still(self, error: Exception, again_in: float) -> None:
        self._trouble = str(error)
        self._still.set(1)
        self._age.set(time.monotonic() - self._signed_at)
        known = isinstance(error, SealRefused | StoreDamaged | AnchorUnreachable | FeedMoved)
        if self._log is not None:
            name = "audit.refused" if known else "audit.failed"
            self._log.event("error", name, origin=self._options.origin, again_in=again_in, exception=error)


def _entry_of(row: EventRow) -> bytes:
    try:
        return row.entry().encode()
    except EntryRefused as error:
        raise SealRefused(f"the event {row.id} cannot be sealed, and holds up all after it: {error}") from error
