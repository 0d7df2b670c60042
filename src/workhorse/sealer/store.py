"""The log as rows: what of it one transaction needs, read at once, and written in three statements.

A tile has one row, which grows until it is full; the tile of an older size is its beginning. Bundles of entries have no
rows of their own, but are packed from the entries.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from workhorse.audit.entries import EventRow
from workhorse.audit.faults import AuditFault, Malformed
from workhorse.audit.tiles import ENTRIES, TILE_WIDTH, Growth, ReadTile, Tile, TileNodes, last_tiles, pack_bundle
from workhorse.audit.tree import HASH_BYTES, Nodes, inclusion_path, prove_consistency, range_hash
from workhorse.sql import Queries, load_queries
from workhorse.units import Work

__all__ = ["LogStore", "StoreDamaged", "Stored", "event_row", "reader_of"]

Place = tuple[int, int]

_encode: Final = msgspec.json.Encoder().encode


class StoreDamaged(AuditFault):
    """The rows of the log do not fit each other: somebody changed them, or lost some. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The log as its row says it."""

    origin: str
    size: int
    root: bytes


class LogStore:
    """Reads and writes the log in a transaction."""

    def __init__(self) -> None:
        self.queries: Queries = load_queries("workhorse.sealer", "sql/queries.sql")

    async def rows(self, work: Work, query: str, *params: object) -> list[Any]:
        """All rows of a query."""
        rows: list[Any] = await (await work.execute(self.queries[query], params)).fetchall()
        return rows

    async def log(self, work: Work) -> Stored | None:
        """The log; None if there is none yet."""
        rows = await self.rows(work, "log")
        return Stored(rows[0][0], rows[0][1], bytes(rows[0][2])) if rows else None

    async def growth(self, work: Work, log: Stored) -> Growth:
        """The edge of the tree, to append to.

        Raises:
            StoreDamaged: the rows do not make the root that is stored.
        """
        tiles = last_tiles(log.size)
        files = await self.tiles(work, {(tile.level, tile.index) for tile in tiles})
        rest = log.size % TILE_WIDTH
        entries = await self.entries(work, log.size - rest, log.size)
        read = reader_of(files, {(log.size - rest) // TILE_WIDTH: entries})
        try:
            growth = Growth.resume(log.size, read)
        except AuditFault as error:
            raise StoreDamaged(f"the stored log of {log.size} entries cannot be carried on: {error}") from error
        if growth.root() != log.root:
            raise StoreDamaged(
                f"the stored tiles of {log.size} entries make the root {growth.root().hex()},"
                f" and the log says {log.root.hex()}: verify an export to see what was changed"
            )
        return growth

    async def entries(self, work: Work, first: int, end: int) -> list[bytes]:
        """The entries from an index on.

        Raises:
            StoreDamaged: one is missing.
        """
        rows = await self.rows(work, "entries", first, end)
        for at, (index, _) in enumerate(rows, first):
            if index != at:
                raise StoreDamaged(f"the stored log has no entry {at}")
        if len(rows) != end - first:
            raise StoreDamaged(f"the stored log has no entry {first + len(rows)}")
        return [entry.encode() for _, entry in rows]

    async def save(self, work: Work, log: Stored, growth: Growth, added: Sequence[tuple[UUID, bytes]]) -> None:
        """Append entries, and write what that makes.

        Raises:
            StoreDamaged: the log was changed meanwhile.
        """
        files = growth.append([entry for _, entry in added])
        entries = [
            {"index": index, "event_id": id_, "entry": entry.decode()}
            for index, (id_, entry) in enumerate(added, log.size)
        ]
        tiles = [
            {
                "level": tile.level,
                "index": tile.index,
                "width": tile.width,
                "hashes": b64encode(raw).decode(),
            }
            for tile, raw in files.items()
            if tile.level != ENTRIES
        ]
        await work.execute(self.queries["add_entries"], (_encode(entries).decode(),))
        await work.execute(self.queries["put_tiles"], (_encode(tiles).decode(),))
        if not await self.rows(work, "grow", growth.size, growth.root(), log.origin, log.size):
            raise StoreDamaged(f"the log of {log.size} entries was changed by another while it was appended to")

    async def nodes_for(self, work: Work, size: int, wanted: Iterable[Place]) -> TileNodes:
        """The nodes of a tree whose tiles, by place, are read now."""
        return TileNodes(reader_of(await self.tiles(work, wanted), {}), size)

    async def consistency(self, work: Work, old: int, size: int) -> list[bytes]:
        """The proof that the stored tree of a size begins with its own older one.

        Raises:
            AuditFault: a tile is missing or is none.
        """
        wanted = _Wanted()
        prove_consistency(wanted, old, size)
        return prove_consistency(await self.nodes_for(work, size, wanted.places), old, size)

    async def tiles_for_inclusion(self, work: Work, index: int, size: int) -> dict[Place, bytes]:
        """The tiles that a proof of an entry needs, by place."""
        wanted = _Wanted()
        for first, end in inclusion_path(index, size):
            range_hash(wanted, first, end)
        return await self.tiles(work, wanted.places)

    async def tiles(self, work: Work, places: Iterable[Place]) -> dict[Place, bytes]:
        """The tiles of these places that are there."""
        asked = [{"level": level, "index": index} for level, index in places]
        if not asked:
            return {}
        rows = await self.rows(work, "tiles", _encode(asked).decode())
        return {(level, index): bytes(hashes) for level, index, _, hashes in rows}


class _Wanted(Nodes):
    """Notes which tiles a proof asks for."""

    def __init__(self) -> None:
        self.places: set[Place] = set()

    def node(self, level: int, index: int, /) -> bytes:
        """No hash, but a note of where it lies."""
        tile_level, height = divmod(level, 8)
        self.places.add((tile_level, (index << height) // TILE_WIDTH))
        return bytes(HASH_BYTES)


def reader_of(files: Mapping[Place, bytes], bundles: Mapping[int, Sequence[bytes]]) -> ReadTile:
    """Gives tiles and bundles out of rows: of a row that has grown since, its beginning."""

    def read(tile: Tile) -> bytes | None:
        if tile.level == ENTRIES:
            entries = bundles.get(tile.index)
            if entries is None or len(entries) < tile.width:
                return None
            return pack_bundle(entries[: tile.width])
        raw = files.get((tile.level, tile.index))
        if raw is None or len(raw) < tile.width * HASH_BYTES:
            return None
        if len(raw) % HASH_BYTES:
            raise Malformed(f"{tile.path} has {len(raw)} bytes, which are no hashes")
        return raw[: tile.width * HASH_BYTES]

    return read


def event_row(row: Sequence[Any]) -> EventRow:
    """An event from the columns that the queries `rows`, `export_events` and `strangers` have."""
    id_, type_, subject, data, occurred_at, request_id, trace_id, principal = row
    return EventRow(
        id=id_,
        type=type_,
        subject=subject,
        data=data,
        occurred_at=occurred_at,
        request_id=request_id,
        trace_id=trace_id,
        principal=principal,
    )
