"""A tree is kept as the files of C2SP tlog-tiles, is grown from its edge alone, and says which file is wrong."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workhorse.audit.export import FolderExport, MemoryExport, read_tile_of, write_tiles
from workhorse.audit.faults import Malformed, TileMissing
from workhorse.audit.tiles import (
    ENTRIES,
    Growth,
    Tile,
    TileNodes,
    last_tiles,
    levels_of,
    pack_bundle,
    tiles_of,
    unpack_bundle,
)
from workhorse.audit.tree import check_inclusion, leaf_hash, prove_inclusion, root_of

PATHS = {
    Tile(0, 0): "tile/0/000",
    Tile(0, 5, 1): "tile/0/005.p/1",
    Tile(0, 273, 112): "tile/0/273.p/112",
    Tile(1, 1_234_067): "tile/1/x001/x234/067",
    Tile(63, 1000, 255): "tile/63/x001/000.p/255",
    Tile(ENTRIES, 999_999): "tile/entries/x999/999",
}


def entries(count: int, start: int = 0) -> list[bytes]:
    return [b"e%d" % number for number in range(start, start + count)]


@pytest.mark.parametrize("tile", sorted(PATHS), ids=lambda tile: PATHS[tile])
def test_a_tile_lies_where_the_standard_says(tile: Tile) -> None:
    assert tile.path == PATHS[tile]
    assert Tile.parse(PATHS[tile]) == tile


@given(st.builds(Tile, st.integers(-1, 63), st.integers(0, 2**55), st.integers(1, 256)))
def test_a_path_says_its_tile(tile: Tile) -> None:
    assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    ["", "tile/0/0", "tile/0/00", "tile/0/1000", "tile/0/x000/001", "tile/0/x00/001", "tile/0/x001/x002",
     "tile/00/001", "tile/64/001", "tile/-1/001", "tile/0/001.p/0", "tile/0/001.p/256", "tile/0/001.p/01",
     "tile/0/001.p/", "tile/0/001\n", "/tile/0/001", "tile/0/../001", "tile/entries/x001", "tile/data/001",
     "tile/0/\u0661\u0661\u0661",
     "tile/0/" + "x999/" * 40 + "999"],
)  # fmt: skip
def test_what_is_no_path_of_a_tile_is_refused(path: str) -> None:
    with pytest.raises(Malformed, match="is not the path of a tile"):
        Tile.parse(path)


def test_a_tree_has_the_tiles_of_the_standards_example() -> None:
    size = 70_000
    assert [len(list(tiles_of(size, level=level))) for level in levels_of(size)] == [274, 2, 1]
    assert [tile.path for tile in last_tiles(size)] == ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
    assert [tile.path for tile in last_tiles(256)] == ["tile/1/000.p/1"]
    assert last_tiles(0) == []


@given(st.lists(st.integers(0, 600), max_size=5))
@settings(max_examples=40)
def test_growing_in_portions_makes_every_file_that_the_tree_of_each_size_has(portions: list[int]) -> None:
    files: dict[Tile, bytes] = {}
    size = 0
    for portion in portions:
        growth = Growth.resume(size, files.get)
        made = growth.append(entries(portion, size))
        assert not made.keys() & files.keys(), "no file is written twice"
        files |= made
        size += portion
        assert growth.root() == root_of(leaf_hash(one) for one in entries(size))
        needed = {tile for level in (ENTRIES, *levels_of(size)) for tile in tiles_of(size, level=level)}
        assert needed <= files.keys()
    whole = Growth().append(entries(size))
    assert whole.items() <= files.items()


@given(st.integers(1, 1_000), st.data())
def test_proofs_are_made_of_tiles_also_when_the_partial_ones_are_gone(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    larger = Growth().append(entries(1_024))
    only_full = {tile: raw for tile, raw in larger.items() if tile.width == 256}
    only_full |= {tile: raw for tile, raw in larger.items() if tile.level == 1}
    files = (
        only_full | {Tile(1, 0, size // 256): larger[Tile(1, 0, 4)][: size // 256 * 32]} if size >= 256 else only_full
    )
    proof = prove_inclusion(TileNodes(files.get, size), index, size)
    all_entries = entries(size)
    check_inclusion(
        leaf=leaf_hash(all_entries[index]),
        index=index,
        size=size,
        root=root_of(leaf_hash(one) for one in all_entries),
        proof=proof,
    )


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_holds_its_entries(all_entries: list[bytes]) -> None:
    tile = Tile(ENTRIES, 0, len(all_entries))
    assert unpack_bundle(tile, pack_bundle(all_entries)) == all_entries


@given(st.binary(max_size=100), st.integers(1, 256))
def test_a_bundle_is_read_or_refused_and_read_in_one_way_only(raw: bytes, width: int) -> None:
    try:
        found = unpack_bundle(Tile(ENTRIES, 0, width), raw)
    except Malformed:
        return
    assert len(found) == width
    assert pack_bundle(found) == raw


def test_the_longest_entry_fits_and_a_longer_one_is_refused_before_anything_is_added() -> None:
    growth = Growth()
    growth.append([b"x" * 65_535])
    root = growth.root()
    with pytest.raises(ValueError, match="65535"):
        growth.append([b"a", b"x" * 65_536])
    assert (growth.size, growth.root()) == (1, root)


def test_a_tree_whose_edge_is_wrong_is_not_grown() -> None:
    files = Growth().append(entries(300))
    tile, bundle = Tile(0, 1, 44), Tile(ENTRIES, 1, 44)
    for broken, fault in (
        ({tile: b""}, Malformed),
        ({bundle: pack_bundle(entries(44))}, Malformed),
        ({bundle: b"\0"}, Malformed),
    ):
        with pytest.raises(fault):
            Growth.resume(300, (files | broken).get)
    del files[tile]
    with pytest.raises(TileMissing, match=r"tile/0/001\.p/44 is missing"):
        Growth.resume(300, files.get)


@pytest.mark.parametrize("fields", [(-2, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_a_tile_that_cannot_be_is_refused(fields: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="there is no tile"):
        Tile(*fields)


def test_tiles_are_written_whole_and_never_again(tmp_path: Path) -> None:
    files = Growth().append(entries(300))
    write_tiles(tmp_path, files)
    tile = Tile(0, 0)
    write_tiles(tmp_path, {tile: b"other"})
    read = {one: read_tile_of(FolderExport(tmp_path), one) for one in files}
    assert read == files
    assert not list(tmp_path.rglob(".*"))


def test_a_file_is_read_to_the_bound_of_its_kind() -> None:
    export = MemoryExport({"tile/0/000.p/2": b"x" * 1_000})
    assert len(read_tile_of(export, Tile(0, 0, 2)) or b"") == 65
