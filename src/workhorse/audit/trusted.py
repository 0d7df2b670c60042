"""Tiles that are known to be those that were signed, each found so by the tile above it.

The last, partial tiles of all levels together make the root. If they make the signed one they are good; each full tile
is then good if its hash is what the tile above it says. So a tile that was changed is named, and does not make the
tiles beside it doubtful.
"""

from collections.abc import Callable

from workhorse.audit.faults import Malformed, TileMissing
from workhorse.audit.report import Fault
from workhorse.audit.tiles import TILE_WIDTH, ReadTile, Tile, edge_range, last_tiles, levels_of, read_or_cut, split_tile
from workhorse.audit.tree import subtree_root

__all__ = ["TrustedTiles"]


class TrustedTiles:
    """The tiles of a tree with a signed root, asked for from the left to the right.

    Args:
        read: gives the tiles.
        size: of the tree.
        root: that was signed.
        report: is told of each tile that is not good, once.
    """

    def __init__(self, read: ReadTile, *, size: int, root: bytes, report: Callable[[Fault, str], None]) -> None:
        self._read = read
        self._size = size
        self._report = report
        # The tile of each level that was asked for last; None if it is not to be trusted.
        self._last: dict[int, tuple[int, list[bytes] | None]] = {}
        self._edge: dict[int, list[bytes]] = {}
        self.edge_is_good = self._read_edge(root)

    def hashes(self, level: int, index: int) -> list[bytes] | None:
        """The hashes of a tile, or None if they are not known to be those that were signed."""
        levels = len(levels_of(self._size))
        # Up, to a level whose tile is known; then down again.
        path = [(level, index)]
        while path[-1][0] + 1 < levels and not self._is_partial(*path[-1]) and not self._is_kept(*path[-1]):
            above, position = path[-1]
            path.append((above + 1, position // TILE_WIDTH))
        found: list[bytes] | None = None
        for step_level, step_index in reversed(path):
            if self._is_kept(step_level, step_index):
                found = self._last[step_level][1]
                continue
            if self._is_partial(step_level, step_index):
                found = self._edge.get(step_level) if self.edge_is_good else None
            elif found is not None:
                found = self._read_full(Tile(step_level, step_index), found[step_index % TILE_WIDTH])
            self._last[step_level] = (step_index, found)
        return found

    def expected(self, index: int) -> bytes | None:
        """The signed hash over a full tile of the lowest level, by the tile above it."""
        if self._is_partial(0, index):
            return None
        above = self.hashes(1, index // TILE_WIDTH)
        return None if above is None else above[index % TILE_WIDTH]

    def _is_kept(self, level: int, index: int) -> bool:
        return level in self._last and self._last[level][0] == index

    def _is_partial(self, level: int, index: int) -> bool:
        return index == (self._size >> 8 * level) // TILE_WIDTH

    def _read_edge(self, root: bytes) -> bool:
        for tile in last_tiles(self._size):
            try:
                self._edge[tile.level] = split_tile(tile, read_or_cut(self._read, tile))
            except TileMissing as error:
                self._report(Fault.TILE_MISSING, str(error))
                return False
            except Malformed as error:
                self._report(Fault.TILE_CHANGED, str(error))
                return False
        if edge_range(self._size, self._edge).root() == root:
            return True
        names = ", ".join(tile.path for tile in last_tiles(self._size))
        self._report(Fault.TILE_CHANGED, f"the last tiles ({names or 'none'}) do not make the root that was signed")
        return False

    def _read_full(self, tile: Tile, expected: bytes) -> list[bytes] | None:
        try:
            hashes = split_tile(tile, read_or_cut(self._read, tile))
        except TileMissing as error:
            self._report(Fault.TILE_MISSING, str(error))
            return None
        except Malformed as error:
            self._report(Fault.TILE_CHANGED, str(error))
            return None
        if subtree_root(hashes) != expected:
            self._report(Fault.TILE_CHANGED, f"{tile.path} is not the tile that was signed, by the tile above it")
            return None
        return hashes
