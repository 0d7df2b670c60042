"""The tree is that of RFC 6962, its proofs prove what they say and nothing else, and its size has no price."""

from collections.abc import Callable
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.audit.faults import ProofInvalid
from workhorse.audit.tree import (
    EMPTY_ROOT,
    MAX_SIZE,
    CompactRange,
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
    subtree_root,
)

# The inputs and roots of the reference implementation of certificate transparency.
CT_LEAVES = [bytes.fromhex(one) for one in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# Index and size, and the audit path (the same source).
CT_PATHS = {
    (0, 8): ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
             "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
             "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"],
    (5, 8): ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
             "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
             "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
             "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
             "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"],
}  # fmt: skip


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\1" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


def path_by_definition(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*path_by_definition(index, leaves[:split]), by_definition(leaves[split:])]
    return [*path_by_definition(index - split, leaves[split:]), by_definition(leaves[:split])]


def proof_by_definition(old: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF of section 2.1.2."""
    if old == len(leaves):
        return [] if whole else [by_definition(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*proof_by_definition(old, leaves[:split], whole=whole), by_definition(leaves[split:])]
    return [*proof_by_definition(old - split, leaves[split:], whole=False), by_definition(leaves[:split])]


Check = Callable[[list[bytes]], None]


class Listed:
    """The nodes of a tree whose leaves are all at hand."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves

    def node(self, level: int, index: int, /) -> bytes:
        return subtree_root(self.leaves[index << level : index + 1 << level])


@cache
def same_all_over(level: int) -> bytes:
    below = leaf_hash(b"x")
    for _ in range(level):
        below = node_hash(below, below)
    return below


class Endless:
    """A tree all of whose leaves are the same, so that any size of it can be asked."""

    def node(self, level: int, index: int, /) -> bytes:
        return same_all_over(level)

    def root(self, size: int) -> bytes:
        return CompactRange(size, [same_all_over(bit) for bit in range(63, -1, -1) if size >> bit & 1]).root()


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(count)]


sizes = st.integers(1, 80)


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root_of([]) == CompactRange().root() == EMPTY_ROOT


@pytest.mark.parametrize("size", range(1, 9))
def test_the_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert root_of([leaf_hash(one) for one in CT_LEAVES[:size]]).hex() == CT_ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size"), sorted(CT_PATHS))
def test_the_paths_are_those_of_certificate_transparency(index: int, size: int) -> None:
    leaves = [leaf_hash(one) for one in CT_LEAVES]
    assert [one.hex() for one in prove_inclusion(Listed(leaves), index, size)] == CT_PATHS[index, size]


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.integers(0, 300), st.lists(st.integers(1, 70), max_size=8))
def test_appending_in_any_portions_makes_the_tree_of_the_definition(start: int, portions: list[int]) -> None:
    leaves = leaves_of(start + sum(portions))
    compact = CompactRange()
    compact.extend(leaves[:start])
    for portion in portions:
        compact = CompactRange(compact.size, compact.hashes)
        compact.extend(leaves[compact.size : compact.size + portion])
    one_by_one = CompactRange()
    for leaf in leaves:
        one_by_one.append(leaf)
    assert compact.hashes == one_by_one.hashes
    assert compact.root() == by_definition(leaves)
    assert len(compact.hashes) == len(leaves).bit_count()


@given(sizes, st.data())
def test_the_proofs_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert prove_inclusion(Listed(leaves), index, size) == path_by_definition(index, leaves)
    assert prove_consistency(Listed(leaves), old, size) == proof_by_definition(old, leaves)


@given(sizes, st.data())
def test_a_proof_of_a_leaf_proves_that_leaf_alone(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = prove_inclusion(Listed(leaves), index, size), root_of(leaves)
    check_inclusion(leaf=leaves[index], index=index, size=size, root=root, proof=proof)
    for other in range(size):
        if other != index:
            with pytest.raises(ProofInvalid):
                check_inclusion(leaf=leaves[index], index=other, size=size, root=root, proof=proof)
    with pytest.raises(ProofInvalid):
        check_inclusion(leaf=leaf_hash(b"other"), index=index, size=size, root=root, proof=proof)


@given(sizes, st.data())
def test_a_proof_of_growth_proves_those_two_trees_alone(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    old = data.draw(st.integers(0, size))
    proof = prove_consistency(Listed(leaves), old, size)
    old_root, root, other = root_of(leaves[:old]), root_of(leaves), leaf_hash(b"other")
    check_consistency(old=old, old_root=old_root, size=size, root=root, proof=proof)
    with pytest.raises(ProofInvalid):
        check_consistency(old=old, old_root=other, size=size, root=root, proof=proof)
    if old:
        with pytest.raises(ProofInvalid):
            check_consistency(old=old, old_root=old_root, size=size, root=other, proof=proof)


@given(sizes, st.data())
def test_a_proof_that_is_longer_shorter_or_changed_proves_nothing(size: int, data: st.DataObject) -> None:
    leaves, root = leaves_of(size), root_of(leaves_of(size))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    for proof, check in (
        (prove_inclusion(Listed(leaves), index, size), inclusion_of(leaves, index, root)),
        (prove_consistency(Listed(leaves), old, size), consistency_of(leaves, old, root)),
    ):
        check(proof)
        wrong = [[*proof, leaf_hash(b"x")], [leaf_hash(b"x"), *proof], [*proof, b"short"]]
        wrong += [proof[:at] + proof[at + 1 :] for at in range(len(proof))]
        wrong += [[*proof[:at], leaf_hash(proof[at]), *proof[at + 1 :]] for at in range(len(proof))]
        for one in wrong:
            with pytest.raises(ProofInvalid):
                check(one)


def inclusion_of(leaves: list[bytes], index: int, root: bytes) -> Check:
    return lambda proof: check_inclusion(leaf=leaves[index], index=index, size=len(leaves), root=root, proof=proof)


def consistency_of(leaves: list[bytes], old: int, root: bytes) -> Check:
    old_root = root_of(leaves[:old])
    return lambda proof: check_consistency(old=old, old_root=old_root, size=len(leaves), root=root, proof=proof)


@given(st.integers(1, MAX_SIZE), st.data())
def test_a_tree_of_any_size_is_proved_in_a_few_dozen_hashes(size: int, data: st.DataObject) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    tree = Endless()
    inclusion, consistency = prove_inclusion(tree, index, size), prove_consistency(tree, old, size)
    assert len(inclusion) <= 63
    assert len(consistency) <= 64
    check_inclusion(leaf=leaf_hash(b"x"), index=index, size=size, root=tree.root(size), proof=inclusion)
    check_consistency(old=old, old_root=tree.root(old), size=size, root=tree.root(size), proof=consistency)


def test_a_tree_of_a_trillion_leaves_is_appended_to_at_once() -> None:
    size = 2**40 + 2**20 + 1
    compact = CompactRange(size, [same_all_over(40), same_all_over(20), same_all_over(0)])
    compact.extend([leaf_hash(b"x")] * 1_000)
    assert compact.size == size + 1_000
    assert compact.root() == Endless().root(size + 1_000)


def test_a_tree_is_full_at_the_last_signed_integer() -> None:
    compact = CompactRange(MAX_SIZE, [same_all_over(bit) for bit in range(62, -1, -1)])
    with pytest.raises(ValueError, match="at most"):
        compact.append(leaf_hash(b"x"))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5), (0, MAX_SIZE + 1)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_path(index, size)
    with pytest.raises(ProofInvalid, match="no leaf"):
        check_inclusion(leaf=leaf_hash(b""), index=index, size=size, root=EMPTY_ROOT, proof=[])


@pytest.mark.parametrize(("old", "size"), [(6, 5), (-1, 5), (1, MAX_SIZE + 1)])
def test_a_tree_does_not_shrink(old: int, size: int) -> None:
    with pytest.raises(ValueError, match="does not begin"):
        consistency_path(old, size)
    with pytest.raises(ProofInvalid, match="does not begin"):
        check_consistency(old=old, old_root=EMPTY_ROOT, size=size, root=EMPTY_ROOT, proof=[])


def test_from_nothing_nothing_is_proved_and_the_empty_tree_has_one_root() -> None:
    root = leaf_hash(b"a")
    check_consistency(old=0, old_root=EMPTY_ROOT, size=1, root=root, proof=[])
    for old_root, size, new_root, proof in (
        (EMPTY_ROOT, 1, root, [root]),
        (root, 1, root, []),
        (EMPTY_ROOT, 0, root, []),
    ):
        with pytest.raises(ProofInvalid):
            check_consistency(old=0, old_root=old_root, size=size, root=new_root, proof=proof)


@pytest.mark.parametrize(("size", "count"), [(3, 1), (3, 3), (0, 1), (-1, 0)])
def test_a_range_that_does_not_fit_its_size_is_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="is not kept as"):
        CompactRange(size, [EMPTY_ROOT] * count)


@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_subtree_is_a_power_of_two(count: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        subtree_root([EMPTY_ROOT] * count)
