"""What the Go project's own packages make (golang.org/x/mod/sumdb), ours makes too, and takes.

The vectors are made by go/main.go. `make audit-interop` makes them anew, compares, and lets the Go program check what
we make: see interop.py.
"""

import json
from base64 import b64decode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from workhorse.audit.keys import COSIGNATURE, ED25519, Signer, Verifier
from workhorse.audit.notes import Note
from workhorse.audit.tiles import Growth, Tile, TileNodes
from workhorse.audit.tree import (
    check_consistency,
    check_inclusion,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
)

GO: dict[str, Any] = json.loads(Path(__file__).with_name("go_vectors.json").read_text())
LARGEST = 70_000


def entry(number: int) -> bytes:
    return b"entry %d" % number


@cache
def tiles() -> dict[Tile, bytes]:
    """The tiles of 70,000 entries, grown in uneven portions, so that partial ones of many sizes are among them."""
    growth, files, done = Growth(), dict[Tile, bytes](), 0
    for size in (1, 255, 256, 257, 1_000, 5_000, 65_535, 65_536, 65_537, 69_999, LARGEST):
        files |= growth.append([entry(number) for number in range(done, size)])
        done = size
    return files


def nodes(size: int) -> TileNodes:
    return TileNodes(tiles().get, size)


@pytest.mark.parametrize("size", sorted(map(int, GO["Roots"])))
def test_the_roots_are_those_of_go(size: int) -> None:
    assert root_of(leaf_hash(entry(number)) for number in range(size)) == b64decode(GO["Roots"][str(size)])


@pytest.mark.parametrize("row", GO["Inclusion"], ids=lambda row: f"{row['Index']} in {row['Size']}")
def test_the_proofs_of_leaves_are_those_of_go(row: dict[str, Any]) -> None:
    proof = [b64decode(one) for one in row["Proof"]]
    assert prove_inclusion(nodes(LARGEST), row["Index"], row["Size"]) == proof
    check_inclusion(
        leaf=b64decode(row["Leaf"]), index=row["Index"], size=row["Size"], root=b64decode(row["Root"]), proof=proof
    )


@pytest.mark.parametrize("row", GO["Consistency"], ids=lambda row: f"{row['Old']} to {row['Size']}")
def test_the_proofs_of_growth_are_those_of_go(row: dict[str, Any]) -> None:
    proof = [b64decode(one) for one in row["Proof"]]
    assert prove_consistency(nodes(LARGEST), row["Old"], row["Size"]) == proof
    check_consistency(
        old=row["Old"], old_root=b64decode(row["OldRoot"]), size=row["Size"], root=b64decode(row["Root"]), proof=proof
    )


@pytest.mark.parametrize("row", GO["Tilings"], ids=lambda row: str(row["Size"]))
def test_the_tiles_of_a_tree_are_those_of_go(row: dict[str, Any]) -> None:
    growth = Growth()
    files = growth.append([entry(number) for number in range(row["Size"])])
    ours = {tile.path: sha256(raw).hexdigest() for tile, raw in files.items() if tile.level >= 0}
    assert row["Some"].items() <= ours.items()
    assert len(ours) == row["Tiles"]
    digest = sha256("".join(f"{path}\n{ours[path]}\n" for path in sorted(ours)).encode()).hexdigest()
    assert digest == row["Digest"]


@pytest.mark.parametrize("row", GO["Notes"], ids=lambda row: row["Verifier"].partition("+")[0])
def test_the_notes_and_keys_are_those_of_go(row: dict[str, Any]) -> None:
    signer = Signer.parse(row["Signer"])
    assert (signer.kind, signer.reveal(), str(signer.verifier)) == (ED25519, row["Signer"], row["Verifier"])
    note = Note.parse(row["Note"].encode())
    assert note.text == row["Text"]
    assert list(note.signed_by([Verifier.parse(row["Verifier"])])) == [signer.verifier]
    assert Note(row["Text"]).sign(signer).encode() == row["Note"].encode()


@pytest.mark.parametrize("row", GO["Cosigned"], ids=lambda row: row["Name"])
def test_the_cosignatures_are_those_that_go_makes(row: dict[str, Any]) -> None:
    signer = Signer(row["Name"], COSIGNATURE, bytes.fromhex(row["Seed"]))
    assert str(signer.verifier) == row["Verifier"]
    note = Note.parse(row["Note"].encode())
    assert list(note.signed_by([signer.verifier])) == [signer.verifier]
    assert Note(note.text).sign(signer, seconds=row["Seconds"]).encode() == row["Note"].encode()
