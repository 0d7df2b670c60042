"""Reads the log out of the database: as the folder that `workhorse audit verify` checks, and as one proof to mail.

All of an export comes from one snapshot of the database. Nothing of it is checked here: that is the verifier's, with
keys from elsewhere.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from workhorse.audit.checkpoints import Checkpoint
from workhorse.audit.export import CHECKPOINT, EVENTS, HISTORY
from workhorse.audit.faults import Malformed
from workhorse.audit.notes import Note
from workhorse.audit.proofs import prove
from workhorse.audit.rows import write_row
from workhorse.audit.tiles import ENTRIES, TILE_WIDTH, Tile, levels_of, pack_bundle, tiles_of
from workhorse.audit.tree import HASH_BYTES
from workhorse.contracts import Database
from workhorse.sealer.seal import SEALER_FEED
from workhorse.sealer.store import LogStore, event_row, reader_of
from workhorse.units import Unit, Work

__all__ = ["LogReader", "LogStatus", "WitnessStatus"]

PAGE: Final = 2_560
"""Entries or events read at once: ten bundles."""
TILES_AT_ONCE: Final = 100
MAX_EXPORTED: Final = 10_000
"""Checkpoints of an export; of more, some that lie evenly among them."""
MAX_STRANGERS: Final = 10_000
"""Events without an entry that an export shows."""
EXPORT_SECONDS: Final = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessStatus:
    """How a witness stands."""

    witness: str
    """Its public key."""
    size: int
    """Entries under the checkpoint that it signed last."""
    signed_seconds_ago: float | None
    """By its own clock; None: it never signed."""
    failures: int
    """In a row."""
    trouble: str | None
    """What went wrong the last time that it was asked; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """How the log stands."""

    origin: str | None
    """None: nothing was sealed here ever."""
    size: int
    signed: int
    """Entries under the last checkpoint."""
    checkpoint_age_seconds: float | None
    waiting: int
    """Events that are not sealed yet."""
    oldest_waiting_seconds: float
    cosigned: int
    """Entries under the last checkpoint that as many witnesses signed as are asked for."""
    witnesses: tuple[WitnessStatus, ...] = ()


class LogReader:
    """Reads the log of a database.

    Args:
        database: where it is.
        quorum: how many witnesses must have signed the checkpoint that exports end with, and that proofs are made of.
    """

    def __init__(self, database: Database, *, quorum: int = 0) -> None:
        self._database = database
        self._quorum = quorum
        self._store = LogStore()

    async def status(self) -> LogStatus:
        """How the log stands."""
        async with self._unit(60.0) as work:
            log = await self._store.log(work)
            last = await self._store.rows(work, "last_checkpoint", 0)
            cosigned = await self._store.rows(work, "last_checkpoint", self._quorum) if self._quorum else last
            witnesses = await self._store.rows(work, "witnesses")
            waiting = (await self._store.rows(work, "waiting", SEALER_FEED))[0]
        return LogStatus(
            origin=None if log is None else log.origin,
            size=0 if log is None else log.size,
            signed=last[0][0] if last else 0,
            checkpoint_age_seconds=last[0][2] if last else None,
            waiting=waiting[0],
            oldest_waiting_seconds=max(0.0, waiting[1]),
            cosigned=cosigned[0][0] if cosigned else 0,
            witnesses=tuple(
                WitnessStatus(witness=key, size=size, signed_seconds_ago=ago, failures=failures, trouble=trouble)
                for key, size, ago, failures, trouble in witnesses
            ),
        )

    async def checkpoint(self) -> Note:
        """The last checkpoint.

        Raises:
            Malformed: there is none, or it is none.
        """
        async with self._unit(60.0) as work:
            return await self._last(work)

    async def export(self, folder: Path, *, with_events: bool = True) -> Checkpoint:
        """Write the log up to its last checkpoint into a folder.

        Args:
            folder: one that is not there yet, or is empty.
            with_events: write the events too, which may be personal data. Without them the log is verified alone.

        Returns:
            The checkpoint that the export ends with, as the database has it.

        Raises:
            Malformed: there is no checkpoint, or it is none.
            FileExistsError: the folder has something in it.
            EntryRefused: an event cannot be written at all.
        """
        _new_folder(folder)
        async with self._unit(EXPORT_SECONDS) as work:
            note = await self._last(work)
            checkpoint = Checkpoint.parse(note.text)
            await self._write_history(work, folder, checkpoint.size)
            await self._write_tiles(work, folder, checkpoint.size)
            await self._write_bundles(work, folder, checkpoint.size)
            if with_events:
                await self._write_events(work, folder / EVENTS, checkpoint.size)
        # Last, so that an export that was broken off is none.
        (folder / CHECKPOINT).write_bytes(note.encode())
        return checkpoint

    async def prove(self, event_id: UUID, *, show_data: bool = False) -> bytes | None:
        """The proof that an event is in the log, to be mailed.

        Args:
            event_id: of the event.
            show_data: put its data in too.

        Returns:
            The proof; None if the event is not under the last checkpoint.

        Raises:
            AuditFault: the stored log does not lead to the checkpoint, or the data is not what was sealed.
        """
        async with self._unit(60.0) as work:
            note = await self._last(work)
            size = Checkpoint.parse(note.text).size
            found = await self._store.rows(work, "find_entry", str(event_id))
            if not found or found[0][0] >= size:
                return None
            index = found[0][0]
            files = await self._store.tiles_for_inclusion(work, index, size)
            number = index // TILE_WIDTH
            first = number * TILE_WIDTH
            entries = await self._store.entries(work, first, min(first + TILE_WIDTH, size))
            data: str | None = None
            if show_data:
                rows = await self._store.rows(work, "export_events", index, index + 1)
                if not rows:
                    raise Malformed(f"the event {event_id} is not in the journal any more; its data cannot be shown")
                data = rows[0][4]
        return prove(reader_of(files, {number: entries}), note, index, data=data)

    def _unit(self, seconds: float) -> Unit:
        return Unit(self._database, isolation="repeatable read", read_only=True, deadline_seconds=seconds)

    async def _last(self, work: Work) -> Note:
        rows = await self._store.rows(work, "last_checkpoint", self._quorum)
        if not rows and self._quorum:
            raise Malformed(
                f"no checkpoint was signed by {self._quorum} witnesses yet: see `workhorse audit status` for what they"
                " say, or take audit.witness_quorum=0"
            )
        if not rows:
            raise Malformed("nothing was signed yet: run `workhorse worker` with the sealer, and look again")
        return Note.parse(rows[0][1].encode())

    async def _write_history(self, work: Work, folder: Path, size: int) -> None:
        rows = await self._store.rows(work, "checkpoints", size)
        step = -(-len(rows) // MAX_EXPORTED) or 1
        (folder / HISTORY).mkdir()
        for at, note in rows[::-1][::step]:
            (folder / HISTORY / str(at)).write_text(note, encoding="utf-8")

    async def _write_tiles(self, work: Work, folder: Path, size: int) -> None:
        tiles = [tile for level in levels_of(size) for tile in tiles_of(size, level=level)]
        for first in range(0, len(tiles), TILES_AT_ONCE):
            some = tiles[first : first + TILES_AT_ONCE]
            places = msgspec.json.encode([{"level": one.level, "index": one.index} for one in some]).decode()
            rows = await self._store.rows(work, "tiles", places)
            files = {(level, index): bytes(hashes) for level, index, _, hashes in rows}
            for tile in some:
                raw = files.get((tile.level, tile.index))
                if raw is not None:  # one that is missing is for the verifier to name
                    _write(folder / tile.path, raw[: tile.width * HASH_BYTES])

    async def _write_bundles(self, work: Work, folder: Path, size: int) -> None:
        for first in range(0, size, PAGE):
            rows = await self._store.rows(work, "entries", first, min(first + PAGE, size))
            found = {index: entry.encode() for index, entry in rows}
            for start in range(first, min(first + PAGE, size), TILE_WIDTH):
                width = min(TILE_WIDTH, size - start)
                # An entry that is gone leaves an empty one in its place, which the verifier names; so those beside it
                # stay where they are.
                entries = [found.get(at, b"") for at in range(start, start + width)]
                _write(folder / Tile(ENTRIES, start // TILE_WIDTH, width).path, pack_bundle(entries))

    async def _write_events(self, work: Work, path: Path, size: int) -> None:
        with path.open("wb") as file:
            for first in range(0, size, PAGE):
                rows = await self._store.rows(work, "export_events", first, min(first + PAGE, size))
                file.writelines(write_row(row[0], event_row(row[1:])) + b"\n" for row in rows)
            for row in await self._store.rows(work, "strangers", SEALER_FEED, MAX_STRANGERS):
                file.write(write_row(None, event_row(row)) + b"\n")


def _new_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; name a new folder for the export")


def _write(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
