"""Writes the log into a store as the static files that it is (C2SP tlog-tiles), for those who verify without us.

    log/tile/<level>/…       hashes, each written once
    log/tile/entries/…       entries, which have the digests of the events' data and not the data
    log/checkpoints/<size>   each checkpoint that was published
    log/checkpoint           the last one

What lies below `log/` is an export: `workhorse audit verify` takes a copy of it. A checkpoint is written when all of
its tiles are there, so whoever reads in between finds a whole log of before. A turn that was killed is done again, and
what it finds written stays as it is.
"""

import asyncio
from typing import Final

from workhorse.audit.checkpoints import Checkpoint
from workhorse.audit.export import CHECKPOINT, HISTORY
from workhorse.audit.notes import Note
from workhorse.audit.tiles import ENTRIES, TILE_WIDTH, Tile, levels_of, pack_bundle, tiles_of
from workhorse.audit.tree import HASH_BYTES
from workhorse.contracts import Database
from workhorse.sealer.objects import ObjectStore
from workhorse.sealer.store import LogStore, StoreDamaged
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Unit

__all__ = ["PUBLISHED", "Publisher"]

PUBLISHED: Final = "log"
"""The folder of the log in a store."""
AT_ONCE: Final = 100
"""Bundles of entries of one step, with the tiles over them."""
WRITERS: Final = 8
"""Objects that are written at the same time."""
UNIT_SECONDS: Final = 60.0
CLAIM_SECONDS: Final = 600.0
"""What a process that was killed in its turn holds the store for."""
RETRY_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 5.0


class Publisher:
    """Publishes a log.

    Args:
        database: where it is.
        store: where it goes.
        every_seconds: between two turns, each of which writes a few partial tiles that are kept as long as full ones.
        quorum: how many witnesses must have signed what is published.
        log: where trouble is told.
        metrics: where it is shown how much lies there.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        *,
        every_seconds: float = 60.0,
        quorum: int = 0,
        log: Log | None = None,
        metrics: Registry | None = None,
    ) -> None:
        self._database = database
        self._target = store
        self._every = every_seconds
        self._quorum = quorum
        self._log = log
        self._store = LogStore()
        registry = metrics if metrics is not None else Registry(None)
        self._size = registry.gauge(
            "workhorse_audit_published_entries", "Entries that lie in the store as static files."
        ).labels()

    def __repr__(self) -> str:
        return f"<Publisher to {self._target.name}>"

    async def run(self) -> None:
        """Publish until cancelled. Trouble is told, and tried again."""
        while True:
            try:
                await self.turn()
            except Exception as error:  # noqa: BLE001 - what is written stays, and the rest comes later
                if self._log is not None:
                    self._log.event("error", "audit.not_published", store=self._target.name, exception=error)
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(min(self._every, LOOK_SECONDS))

    async def turn(self) -> int | None:
        """Publish the last checkpoint, if the store is due. Returns its size; None if there was nothing to do.

        Raises:
            StoreUnreachable: the store did not take it. What was written stays.
            StoreDamaged: a tile or an entry is missing in the database.
        """
        queries = self._store.queries
        async with Unit(self._database, deadline_seconds=UNIT_SECONDS) as work:
            await work.execute(queries["know_store"], (self._target.name,))
            claimed = await self._store.rows(work, "claim_store", CLAIM_SECONDS, self._target.name)
            last = await self._store.rows(work, "last_checkpoint", self._quorum)
        if not claimed:
            return None
        done, pause = int(claimed[0][0]), RETRY_SECONDS
        try:
            done, published = await self._publish(done, Note.parse(last[0][1].encode())) if last else (done, None)
            pause = self._every
        finally:
            async with Unit(self._database, deadline_seconds=UNIT_SECONDS) as work:
                await work.execute(queries["published"], (done, pause, self._target.name))
        self._size.set(done)
        return published

    async def _publish(self, done: int, note: Note) -> tuple[int, int | None]:
        size = Checkpoint.parse(note.text).size
        if size == done:
            return done, None
        if size < done:
            done = 0  # the database was set back, or is another one: the anchors tell; here nothing is written over
        step = AT_ONCE * TILE_WIDTH
        for first in range(done - done % step, size, step):
            end = min(first + step, size)
            await self._write(await self._files(max(first, done), end, is_last=end == size))
        await self._write({f"{HISTORY}/{size}": note.encode()})
        await asyncio.to_thread(self._target.put, f"{PUBLISHED}/{CHECKPOINT}", note.encode())
        return size, size

    async def _files(self, old: int, size: int, *, is_last: bool) -> dict[str, bytes]:
        """The files that a log of a size has, and one of the old size has not; partial ones only at its end."""
        tiles = [
            tile
            for level in levels_of(size)
            for tile in tiles_of(size, level=level, old_size=old)
            if is_last or tile.width == TILE_WIDTH
        ]
        bundles = list(tiles_of(size, level=ENTRIES, old_size=old))
        unit = Unit(self._database, isolation="repeatable read", read_only=True, deadline_seconds=UNIT_SECONDS)
        async with unit as work:
            found = await self._store.tiles(work, [(tile.level, tile.index) for tile in tiles])
            files: dict[str, bytes] = {}
            for tile in tiles:
                raw = found.get((tile.level, tile.index), b"")[: tile.width * HASH_BYTES]
                if len(raw) != tile.width * HASH_BYTES:
                    raise StoreDamaged(f"the stored log has no {tile.path}, which is to be published")
                files[tile.path] = raw
            first = bundles[0].index * TILE_WIDTH
            entries = await self._store.entries(work, first, size)
        files.update(_packed(entries, first))
        return files

    async def _write(self, files: dict[str, bytes]) -> None:
        items = list(files.items())

        def write(some: list[tuple[str, bytes]]) -> None:
            for path, raw in some:
                self._target.put_new(f"{PUBLISHED}/{path}", raw)

        await asyncio.gather(*(asyncio.to_thread(write, items[at::WRITERS]) for at in range(min(WRITERS, len(items)))))


def _packed(entries: list[bytes], first: int) -> dict[str, bytes]:
    return {
        Tile(ENTRIES, (first + at) // TILE_WIDTH, len(entries[at : at + TILE_WIDTH])).path: pack_bundle(
            entries[at : at + TILE_WIDTH]
        )
        for at in range(0, len(entries), TILE_WIDTH)
    }
