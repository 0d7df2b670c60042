"""A tree as files that never change: the tiles and entry bundles of C2SP tlog-tiles.

A tile is 256 hashes of one height; the hash over a full tile is one hash of a tile above it. So a tree is kept as files
that are written once, fetched with plain GETs and copied with any tool, and any proof is made of a few of them. Entries
lie in bundles of 256 beside the tiles of the lowest level, each behind its length in two bytes.

Only the last tile of each level is partial. These, at most 8 of 255 hashes, are all that an append needs (`Growth`).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from workhorse.audit.faults import Malformed, TileMissing
from workhorse.audit.tree import HASH_BYTES, MAX_SIZE, CompactRange, leaf_hash, subtree_root

__all__ = [
    "ENTRIES",
    "TILE_WIDTH",
    "Growth",
    "ReadTile",
    "Tile",
    "TileNodes",
    "last_tiles",
    "pack_bundle",
    "split_tile",
    "tiles_of",
    "unpack_bundle",
]

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
ENTRIES: Final = -1
"""The level of entry bundles, which stand beside the tiles of level 0."""
MAX_LEVEL: Final = 63
MAX_ENTRY: Final = 65_535

# Of `TileNodes`: 64 tiles are half a megabyte, and a proof touches fewer.
KEPT_TILES: Final = 64

_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z", re.ASCII
)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The name of a tile, or of a bundle of entries.

    Raises:
        ValueError: there can be no such tile.
    """

    level: int
    """0 to 63, of hashes; `ENTRIES` for bundles."""
    index: int
    """From the left, in its level."""
    width: int = TILE_WIDTH
    """How many hashes or entries it has; less than 256 at the right edge alone."""

    def __post_init__(self) -> None:
        if not ENTRIES <= self.level <= MAX_LEVEL or not 1 <= self.width <= TILE_WIDTH or self.index < 0:
            raise ValueError(f"there is no tile of level {self.level}, index {self.index} and width {self.width}")

    @property
    def path(self) -> str:
        """Where it lies, such as `tile/0/x001/x234/067.p/5`."""
        parts = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            parts.append(f"x{rest % 1000:03d}")
            rest //= 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(parts))}{partial}"

    @classmethod
    def parse(cls, path: str) -> "Tile":
        """Read a path, which has one spelling only.

        Raises:
            Malformed: it is not the path of a tile.
        """
        found = _PATH.match(path)
        if found is not None and len(path) <= 100:
            level, index, width = found.groups()
            number = int(index.replace("x", "").replace("/", ""))
            try:
                tile = cls(ENTRIES if level == "entries" else int(level), number, int(width or TILE_WIDTH))
            except ValueError as error:
                raise Malformed(f"{path[:120]!r} is not the path of a tile: {error}") from error
            if tile.path == path:
                return tile
        raise Malformed(f"{path[:120]!r} is not the path of a tile, such as tile/0/x001/234.p/5")

    @property
    def full(self) -> "Tile":
        """The full tile that this one is the beginning of, or is."""
        return Tile(self.level, self.index)


ReadTile = Callable[[Tile], bytes | None]
"""Gives the bytes of a tile, or None if it is not there."""


def tiles_of(size: int, *, level: int, old_size: int = 0) -> Iterator[Tile]:
    """The tiles of one level in a tree of a size, from the left; with `old_size`, those that it did not have."""
    shift = TILE_HEIGHT * max(level, 0)
    width, old_width = size >> shift, old_size >> shift
    for index in range(old_width // TILE_WIDTH, width // TILE_WIDTH):
        yield Tile(level, index)
    if width % TILE_WIDTH and width != old_width:
        yield Tile(level, width // TILE_WIDTH, width % TILE_WIDTH)


def levels_of(size: int) -> range:
    """The levels of tiles that a tree of this size has."""
    return range(max(1, (size.bit_length() + TILE_HEIGHT - 1) // TILE_HEIGHT) if size else 0)


def last_tiles(size: int) -> list[Tile]:
    """The partial tile of each level that has one, from level 0: what an append to a tree of this size needs."""
    tiles = [(level, size >> TILE_HEIGHT * level) for level in levels_of(size)]
    return [Tile(level, width // TILE_WIDTH, width % TILE_WIDTH) for level, width in tiles if width % TILE_WIDTH]


def split_tile(tile: Tile, raw: bytes) -> list[bytes]:
    """The hashes of a tile.

    Raises:
        Malformed: it has not as many as its width.
    """
    if len(raw) != tile.width * HASH_BYTES:
        raise Malformed(f"{tile.path} has {len(raw)} bytes; {tile.width} hashes have {tile.width * HASH_BYTES}")
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def pack_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries as a bundle: each behind its length in two bytes, the higher first.

    Raises:
        ValueError: an entry has more than 65,535 bytes.
    """
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise ValueError(f"an entry of {len(entry)} bytes; a bundle takes at most {MAX_ENTRY}")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def unpack_bundle(tile: Tile, raw: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        Malformed: it ends within an entry, or has not as many as its width.
    """
    entries: list[bytes] = []
    at, end = 0, len(raw)
    while at < end and len(entries) <= tile.width:
        length = int.from_bytes(raw[at : at + 2], "big")
        if at + 2 + length > end:
            raise Malformed(f"{tile.path} ends within its entry {len(entries)}")
        entries.append(raw[at + 2 : at + 2 + length])
        at += 2 + length
    if len(entries) != tile.width:
        count = "more" if len(entries) > tile.width else str(len(entries))
        raise Malformed(f"{tile.path} has {count} entries, and should have {tile.width}")
    return entries


class Growth:
    """Appends entries to a tree, and says which files that makes.

        growth = Growth.resume(size, read_tile)
        files = growth.append(entries)      # all of them written before the checkpoint is
        checkpoint = Checkpoint(origin=..., size=growth.size, root=growth.root())

    Each call makes the full tiles and bundles that it completed, and the partial ones at its end. Partial files of an
    earlier end stay valid, and may be deleted when the full one is there.
    """

    __slots__ = ("_edge", "_entries", "_size")

    def __init__(self) -> None:
        self._size = 0
        # The hashes that no full tile has taken yet, by level; and the entries of the lowest.
        self._edge: list[list[bytes]] = []
        self._entries: list[bytes] = []

    @classmethod
    def resume(cls, size: int, read: ReadTile) -> "Growth":
        """Go on from a tree of this size.

        Raises:
            TileMissing: a file of its edge is not there.
            Malformed: a file is not what its name says, or the entries do not fit the tile of their hashes.
        """
        growth = cls()
        growth._size = size
        growth._edge = [[] for _ in levels_of(size)]
        for tile in last_tiles(size):
            growth._edge[tile.level] = split_tile(tile, read_or_cut(read, tile))
        if size % TILE_WIDTH:
            bundle = Tile(ENTRIES, size // TILE_WIDTH, size % TILE_WIDTH)
            growth._entries = unpack_bundle(bundle, read_or_cut(read, bundle))
            if [leaf_hash(entry) for entry in growth._entries] != growth._edge[0]:
                raise Malformed(f"the entries of {bundle.path} are not those that the tile of their hashes has")
        return growth

    @property
    def size(self) -> int:
        """How many entries the tree has."""
        return self._size

    def root(self) -> bytes:
        """The root of the tree."""
        return self.range().root()

    def range(self) -> CompactRange:
        """The tree's complete subtrees."""
        return edge_range(self._size, dict(enumerate(self._edge)))

    def append(self, entries: Sequence[bytes]) -> dict[Tile, bytes]:
        """Add entries.

        Returns:
            The files that the tree of the new size has, and the old one had not.

        Raises:
            ValueError: an entry is too long for a bundle; nothing was added.
        """
        if not entries:
            return {}
        old_size, size = self._size, self._size + len(entries)
        if size > MAX_SIZE:
            raise ValueError(f"a tree has at most {MAX_SIZE} leaves")
        waiting = self._entries + list(entries)
        files = {
            tile: pack_bundle(waiting[at : at + tile.width])
            for at, tile in zip(
                range(0, len(waiting), TILE_WIDTH), tiles_of(size, level=ENTRIES, old_size=old_size), strict=True
            )
        }
        self._entries = waiting[len(waiting) - size % TILE_WIDTH :]
        self._size = size
        added = [leaf_hash(entry) for entry in entries]
        level = 0
        while added:
            if level == len(self._edge):
                self._edge.append([])
            hashes = self._edge[level] + added
            first = ((size >> TILE_HEIGHT * level) - len(hashes)) // TILE_WIDTH
            whole = len(hashes) - len(hashes) % TILE_WIDTH
            tiles = [hashes[at : at + TILE_WIDTH] for at in range(0, whole, TILE_WIDTH)]
            files.update((Tile(level, first + at), b"".join(tile)) for at, tile in enumerate(tiles))
            added = [subtree_root(tile) for tile in tiles]
            self._edge[level] = rest = hashes[whole:]
            if rest:
                files[Tile(level, first + whole // TILE_WIDTH, len(rest))] = b"".join(rest)
            level += 1
        return files


class TileNodes:
    """The nodes of a tree of a size, read from its tiles as they are asked for (see `tree.Nodes`).

    What is read is not checked: the root that a proof leads to is. An instance keeps the tiles that it saw last.

    Raises:
        TileMissing: `node` needs a tile that is not there.
        Malformed: a tile is not what its name says.
    """

    def __init__(self, read: ReadTile, size: int) -> None:
        self._read = read
        self._size = size
        self._kept: dict[Tile, list[bytes]] = {}

    def node(self, level: int, index: int, /) -> bytes:
        """The hash over the 2**level leaves from index * 2**level on."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        first, count = index << height, 1 << height
        tile = self._tile(tile_level, first // TILE_WIDTH)
        at = first % TILE_WIDTH
        return subtree_root(tile[at : at + count])

    def _tile(self, level: int, index: int) -> list[bytes]:
        width = min(TILE_WIDTH, (self._size >> TILE_HEIGHT * level) - index * TILE_WIDTH)
        tile = Tile(level, index, width)
        if tile not in self._kept:
            hashes = split_tile(tile, read_or_cut(self._read, tile))
            if len(self._kept) >= KEPT_TILES:
                del self._kept[next(iter(self._kept))]
            self._kept[tile] = hashes
        return self._kept[tile]


def read_or_cut(read: ReadTile, tile: Tile) -> bytes:
    """The bytes of a tile, or the beginning of the full one, by which a partial tile may have been replaced.

    Raises:
        TileMissing: neither is there.
    """
    raw = read(tile)
    if raw is not None:
        return raw
    full = None if tile.full == tile else read(tile.full)
    if full is None:
        raise TileMissing(f"{tile.path} is missing; the log has to have it at this size")
    if tile.level == ENTRIES:
        return pack_bundle(unpack_bundle(tile.full, full)[: tile.width])
    return full[: tile.width * HASH_BYTES]


def edge_range(size: int, edge: Mapping[int, Sequence[bytes]]) -> CompactRange:
    """The complete subtrees of a tree, from the hashes of the last tile of each level, highest level first."""
    hashes: list[bytes] = []
    for level in reversed(levels_of(size)):
        row = edge.get(level, ())
        width, at = (size >> TILE_HEIGHT * level) % TILE_WIDTH, 0
        while at < width:
            count = 1 << ((width - at).bit_length() - 1)
            hashes.append(subtree_root(row[at : at + count]))
            at += count
    return CompactRange(size, hashes)
