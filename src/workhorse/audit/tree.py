"""The Merkle tree of RFC 6962 and RFC 9162: SHA-256 over leaves in order, with short proofs.

A tree of n leaves is split at the largest power of two below n, so its left part is always complete and never changes
as leaves are added. What an append needs of the past is therefore one hash for each bit that is set in n: that is
`CompactRange`, at most 63 hashes whatever the size. A proof is a list of such complete parts and of one that is not;
`inclusion_path` and `consistency_path` say which, as ranges of leaves, and whoever has the hashes looks them up.

Everything here loops over bits: no size recurses. Leaves and nodes are hashed with different first bytes (0 and 1), so
that no entry can be passed off as a node.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, Protocol

from workhorse.audit.faults import ProofInvalid

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "MAX_SIZE",
    "CompactRange",
    "Nodes",
    "check_consistency",
    "check_inclusion",
    "consistency_path",
    "inclusion_path",
    "leaf_hash",
    "node_hash",
    "prove_consistency",
    "prove_inclusion",
    "range_hash",
    "root_of",
    "subtree_root",
]

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**63 - 1
"""Leaves; C2SP checkpoints are read by programs with signed integers of 64 bits."""
EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of a tree without leaves (RFC 6962, section 2.1)."""


class Nodes(Protocol):
    """Whoever has the hashes of complete subtrees."""

    def node(self, level: int, index: int, /) -> bytes:
        """The hash over the 2**level leaves from index * 2**level on."""
        ...


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry (RFC 6962, section 2.1)."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees that stand side by side."""
    return sha256(b"\1" + left + right).digest()


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """The hash over a complete subtree, of its 2**k leaves or subtrees of one height."""
    level: Sequence[bytes] = hashes
    if not level or len(level) & (len(level) - 1):
        raise ValueError(f"a complete subtree has a power of two of hashes, not {len(level)}")
    while len(level) > 1:
        level = [sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=True)]
    return level[0]


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root of a tree of these leaves."""
    compact = CompactRange()
    compact.extend(list(leaf_hashes))
    return compact.root()


class CompactRange:
    """The least of a tree that can be appended to: the hashes of its complete subtrees, the largest first.

    Args:
        size: how many leaves there are already.
        hashes: one for each bit set in size, from the highest.

    Raises:
        ValueError: the hashes do not fit the size.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._size = size
        self._hashes = list(hashes)
        if not 0 <= size <= MAX_SIZE or len(self._hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves is not kept as {len(self._hashes)} hashes")
        if any(len(one) != HASH_BYTES for one in self._hashes):
            raise ValueError(f"a hash of a tree has {HASH_BYTES} bytes")

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """What to keep, in order to go on from here."""
        return tuple(self._hashes)

    def copy(self) -> "CompactRange":
        """A range that grows on its own."""
        return CompactRange(self._size, self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add the hash of one leaf."""
        self._push(leaf, 0)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add the hashes of many leaves. Whole subtrees are hashed at once, which is faster than one by one."""
        at, end = 0, len(leaves)
        while at < end:
            # The largest complete subtree that may begin here, and that the rest fills.
            fits = (end - at).bit_length() - 1
            height = min(fits, (self._size & -self._size).bit_length() - 1) if self._size else fits
            self._push(subtree_root(leaves[at : at + (1 << height)]), height)
            at += 1 << height

    def root(self) -> bytes:
        """The root of the tree."""
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root

    def _push(self, hash_: bytes, height: int) -> None:
        size = self._size + (1 << height)
        if size > MAX_SIZE:
            raise ValueError(f"a tree has at most {MAX_SIZE} leaves")
        carried = self._size >> height
        while carried & 1:
            hash_ = node_hash(self._hashes.pop(), hash_)
            carried >>= 1
        self._hashes.append(hash_)
        self._size = size


def inclusion_path(index: int, size: int) -> list[tuple[int, int]]:
    """The ranges of leaves, [first, end), whose hashes prove a leaf, from its sibling up (RFC 6962, section 2.1.1).

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    low, high = 0, size
    path: list[tuple[int, int]] = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append((middle, high))
            high = middle
        else:
            path.append((low, middle))
            low = middle
    path.reverse()
    return path


def consistency_path(old: int, size: int) -> list[tuple[int, int]]:
    """The ranges of leaves whose hashes prove that a tree begins with an older one (RFC 6962, section 2.1.2).

    Of the empty tree there is nothing to prove, and the path is empty.

    Raises:
        ValueError: the older tree is the larger one.
    """
    if not 0 <= old <= size <= MAX_SIZE:
        raise ValueError(f"a tree of {size} leaves does not begin with one of {old}")
    if old in {0, size}:
        return []
    low, high = 0, size
    path: list[tuple[int, int]] = []
    while old < high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append((middle, high))
            high = middle
        else:
            path.append((low, middle))
            low = middle
    if low:
        # The last complete part of the older tree; without a step to the right it is the older tree, which is known.
        path.append((low, high))
    path.reverse()
    return path


def range_hash(nodes: Nodes, first: int, end: int) -> bytes:
    """The hash over the leaves [first, end), which must be a part into which RFC 6962 splits a tree."""
    parts: list[bytes] = []
    while first < end:
        fits = (end - first).bit_length() - 1
        height = min(fits, (first & -first).bit_length() - 1) if first else fits
        parts.append(nodes.node(height, first >> height))
        first += 1 << height
    if not parts:
        return EMPTY_ROOT
    hash_ = parts.pop()
    while parts:
        hash_ = node_hash(parts.pop(), hash_)
    return hash_


def prove_inclusion(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """The proof that a tree of this size has its leaf at this index. Raises what `inclusion_path` does."""
    return [range_hash(nodes, first, end) for first, end in inclusion_path(index, size)]


def prove_consistency(nodes: Nodes, old: int, size: int) -> list[bytes]:
    """The proof that the tree of this size begins with the older one. Raises what `consistency_path` does."""
    return [range_hash(nodes, first, end) for first, end in consistency_path(old, size)]


def check_inclusion(*, leaf: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that a leaf's hash stands at an index of the tree with this root (RFC 9162, section 2.1.3.2).

    Raises:
        ProofInvalid: it does not, or the proof is not one for this index and size.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofInvalid(f"a tree of {size} leaves has no leaf {index}")
    _check_hashes((leaf, root, *proof))
    node, last, hash_ = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid(
                f"the proof of leaf {index} in {size} has more hashes ({len(proof)}) than the tree levels"
            )
        if node & 1 or node == last:
            hash_ = node_hash(sibling, hash_)
            # On the right edge: levels at which the node has no sibling.
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            hash_ = node_hash(hash_, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise ProofInvalid(f"the proof of leaf {index} in {size} has too few hashes ({len(proof)})")
    if hash_ != root:
        raise ProofInvalid(f"the proof of leaf {index} leads to {hash_.hex()}, but the root of {size} is {root.hex()}")


def check_consistency(*, old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree with this root begins with the older tree (RFC 9162, section 2.1.4.2).

    Raises:
        ProofInvalid: it does not, or the proof is not one for these sizes.
    """
    if not 0 <= old <= size <= MAX_SIZE:
        raise ProofInvalid(f"a tree of {size} leaves does not begin with one of {old}")
    _check_hashes((old_root, root, *proof))
    if old in {0, size}:
        _check_trivial(old=old, old_root=old_root, size=size, root=root, proof=proof)
        return
    # The older tree is a subtree itself if its size is a power of two; otherwise its last one comes first.
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise ProofInvalid(f"the proof from {old} to {size} leaves is empty")
    node, last = old - 1, size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old_hash = new_hash = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofInvalid(f"the proof from {old} to {size} leaves has more hashes ({len(proof)}) than levels")
        if node & 1 or node == last:
            old_hash = node_hash(sibling, old_hash)
            new_hash = node_hash(sibling, new_hash)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new_hash = node_hash(new_hash, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise ProofInvalid(f"the proof from {old} to {size} leaves has too few hashes ({len(proof)})")
    if (old_hash, new_hash) != (old_root, root):
        which, sized = (f"{old}", old_root) if old_hash != old_root else (f"{size}", root)
        raise ProofInvalid(f"the proof is not one of the tree of {which} leaves with the root {sized.hex()}")


def _check_trivial(*, old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """From nothing, or from a tree to itself."""
    if proof:
        raise ProofInvalid(f"from {old} to {size} leaves nothing is to be proved, but {len(proof)} hashes came")
    if size == 0 and root != EMPTY_ROOT:
        raise ProofInvalid(f"the root of the empty tree is {EMPTY_ROOT.hex()}, not {root.hex()}")
    expected = root if old else EMPTY_ROOT
    if old_root != expected:
        raise ProofInvalid(f"two trees of {old} leaves have the roots {old_root.hex()} and {expected.hex()}")


def _split(leaves: int) -> int:
    """The largest power of two below a number of leaves that is more than one."""
    return 1 << ((leaves - 1).bit_length() - 1)


def _check_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ProofInvalid(f"a hash of a proof has {HASH_BYTES} bytes")
