"""Verifies an export with public keys alone, and says exactly what was done to it.

Everything is held against one signed root, from the top down: the checkpoint, the tiles that make its root (`trusted`),
the entries that make the tiles, the events that make the entries (`Alignment`). Each step names what does not fit at
the finest grain that is still certain: an event where its leaf is known, 256 of them where only the hash over them is,
what lies between two checkpoints where nothing else is.

It reads from the left to the right and holds one bundle at a time, so a log of any length is verified in little memory.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from workhorse.audit.alignment import Alignment, Stretch
from workhorse.audit.checkpoints import Believed, Checkpoint, Trust, open_checkpoint
from workhorse.audit.entries import entry_id
from workhorse.audit.export import CHECKPOINT, Export, read_note, read_tile_of
from workhorse.audit.faults import AuditFault, Malformed, TileMissing
from workhorse.audit.report import Fault, Finding, Report
from workhorse.audit.tiles import ENTRIES, TILE_WIDTH, Tile, read_or_cut, unpack_bundle
from workhorse.audit.tree import CompactRange, leaf_hash, subtree_root
from workhorse.audit.trusted import TrustedTiles

__all__ = ["MAX_FINDINGS", "verify"]

MAX_FINDINGS: Final = 1_000
"""Listed in a report; more are counted."""
MAX_LOST: Final = 500
"""Bundles of entries that may be missing until a verifier gives up."""


def verify(export: Export, trust: Trust, *, anchors: Sequence[bytes] = ()) -> Report:
    """Verify an export.

    Args:
        export: where to read from.
        trust: the keys of the log and of its witnesses, which must not come from the export.
        anchors: checkpoints of this log that were kept elsewhere: by the auditor at an earlier visit, or by a witness.
            They need the signature of the log alone, and find what the log cannot be asked: that it was cut off, or
            that it shows others another history.

    Returns:
        What was found. Nothing that an export may hold raises.
    """
    return _Verification(export, trust).run(anchors)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A checkpoint that the log signed, and where it was found."""

    checkpoint: Checkpoint
    source: str
    is_anchor: bool


class _Verification:
    """One pass over one export."""

    def __init__(self, export: Export, trust: Trust) -> None:
        self._export = export
        self._trust = trust
        self._findings: list[Finding] = []
        self._unlisted = 0
        self._first_wrong: int | None = None
        self._entries = 0
        self._good_sizes: list[int] = []
        self._good_anchors: list[int] = []
        self._has_lost_root = False

    def run(self, anchors: Sequence[bytes]) -> Report:
        kept = list(self._collect(anchors))
        head = self._head(kept)
        if head is None:
            return self._report(None, events=None, checkpoints=0)
        checkpoint = head.checkpoint
        for one in kept:
            if one.checkpoint.size > checkpoint.size:
                self._find(
                    Fault.ROLLED_BACK,
                    f"{one.source} is signed over {one.checkpoint.size} entries; the export ends at {checkpoint.size}",
                )
        tiles = TrustedTiles(
            partial(read_tile_of, self._export), size=checkpoint.size, root=checkpoint.root, report=self._find
        )
        alignment = self._alignment()
        is_whole = self._walk(checkpoint, tiles, alignment, sorted(kept, key=lambda one: one.checkpoint.size))
        if alignment is not None and is_whole:
            alignment.finish()
        events = None if alignment is None else alignment.matched
        return self._report(head, events=events, checkpoints=len(kept))

    def _collect(self, anchors: Sequence[bytes]) -> Iterator[_Kept]:
        """The checkpoints other than the last, each signed by the log."""
        by_log = replace(self._trust, quorum=0, seen_since=None)
        try:
            history = self._export.history()
        except Malformed as error:
            self._find(Fault.CHECKPOINT, str(error))
            history = []
        sources: list[tuple[str, Callable[[], bytes | None], bool]] = [
            (path, partial(read_note, self._export, path), False) for path in history
        ]
        sources += [(f"anchor {number}", partial(bytes, raw), True) for number, raw in enumerate(anchors, 1)]
        for name, read, is_anchor in sources:
            try:
                checkpoint = open_checkpoint(read() or b"", by_log).checkpoint
                if not is_anchor and name.rpartition("/")[2] != str(checkpoint.size):
                    raise Malformed(f"it is of {checkpoint.size} entries")
            except AuditFault as error:
                self._find(Fault.CHECKPOINT, f"{name}: {error}")
                continue
            yield _Kept(checkpoint, name, is_anchor)

    def _head(self, kept: list[_Kept]) -> Believed | None:
        """The checkpoint to verify against: the last one, or the largest that can be believed in its stead."""
        candidates = [CHECKPOINT, *(one.source for one in reversed(kept) if not one.is_anchor)]
        for path in candidates:
            try:
                raw = read_note(self._export, path)
                if raw is None:
                    raise Malformed("it is missing")
                head = open_checkpoint(raw, self._trust)
            except AuditFault as error:
                self._find(Fault.CHECKPOINT, f"{path}: {error}")
                continue
            if path == CHECKPOINT:
                kept.append(_Kept(head.checkpoint, path, is_anchor=False))
            return head
        return None

    def _alignment(self) -> Alignment | None:
        try:
            lines = self._export.lines()
        except Malformed as error:
            self._find(Fault.UNREADABLE, str(error))
            lines = None
        return None if lines is None else Alignment(lines, report=self._add)

    def _walk(self, head: Checkpoint, tiles: TrustedTiles, alignment: Alignment | None, kept: Sequence[_Kept]) -> bool:
        """Read bundle by bundle, and hold each checkpoint against the tree when it is as large.

        Returns:
            Whether the log was read to its end: one that claims to be larger than any disk is not.
        """
        roots = _Roots()
        waiting = deque(one for one in kept if one.checkpoint.size <= head.size)
        lost = 0
        for number in range((head.size + TILE_WIDTH - 1) // TILE_WIDTH):
            first = number * TILE_WIDTH
            width = min(TILE_WIDTH, head.size - first)
            leaves, expected = tiles.hashes(0, number), tiles.expected(number)
            entries = self._bundle(Tile(ENTRIES, number, width))
            lost += entries is None
            if lost > MAX_LOST:
                message = f"more than {MAX_LOST} bundles of entries are missing; what follows was not looked at"
                self._add(Finding(fault=Fault.TOO_MANY, message=message, index=first, end=head.size))
                return False
            own = None if entries is None else [leaf_hash(entry) for entry in entries]
            if leaves is None and own is not None and expected is not None and subtree_root(own) == expected:
                leaves = own  # the tile is not good, but the one above it says that the entries are
            if entries is not None and own is not None:
                self._compare(first, entries, own, leaves, is_known=expected is not None)
            if alignment is not None:
                alignment.take(Stretch(first, width, entries, own, leaves))
            at = 0
            while at < width:
                while waiting and waiting[0].checkpoint.size == first + at:
                    self._hold(waiting.popleft(), roots)
                end = min(width, waiting[0].checkpoint.size - first) if waiting else width
                roots.extend(None if own is None else own[at:end], None if leaves is None else leaves[at:end])
                at = end
        for one in waiting:
            self._hold(one, roots)
        return True

    def _bundle(self, tile: Tile) -> list[bytes] | None:
        try:
            return unpack_bundle(tile, read_or_cut(partial(read_tile_of, self._export), tile))
        except (TileMissing, Malformed) as error:
            first = tile.index * TILE_WIDTH
            self._add(Finding(fault=Fault.ENTRIES_MISSING, message=str(error), index=first, end=first + tile.width))
            return None

    def _compare(
        self, first: int, entries: list[bytes], own: list[bytes], leaves: list[bytes] | None, *, is_known: bool
    ) -> None:
        """Hold the entries of a bundle against the leaves that were signed."""
        if leaves is None:
            if is_known:
                self._add(
                    Finding(
                        fault=Fault.ENTRY_CHANGED,
                        message="some of these are not the entries that were signed; the tile that says which is lost",
                        index=first,
                        end=first + len(own),
                    )
                )
            return
        for at, (entry, is_, signed) in enumerate(zip(entries, own, leaves, strict=True)):
            if is_ == signed:
                self._entries += 1
                continue
            self._add(
                Finding(
                    fault=Fault.ENTRY_CHANGED,
                    message=f"its hash is {is_.hex()}, and {signed.hex()} was signed",
                    index=first + at,
                    event_id=entry_id(entry),
                )
            )

    def _hold(self, kept: _Kept, roots: "_Roots") -> None:
        """Hold a checkpoint against the tree of its size."""
        size, root = kept.checkpoint.size, kept.checkpoint.root
        own, signed = roots.of_entries(), roots.of_signed()
        if signed is not None and signed != root:
            # The other history is known from what was kept elsewhere alone; the export's own checkpoints are of one.
            since = max((good for good in self._good_anchors if good < size), default=0)
            self._add(
                Finding(
                    fault=Fault.FORKED,
                    message=f"{kept.source} is signed over {size} entries with the root {root.hex()}; the history of"
                    f" the checkpoint that was verified has {signed.hex()} there",
                    index=since,
                    end=max(size, since + 1),
                )
            )
        elif signed is None and own is not None and own != root and not self._has_lost_root:
            self._has_lost_root = True  # and so has every larger tree
            since = max((good for good in self._good_sizes if good < size), default=0)
            self._add(
                Finding(
                    fault=Fault.ROOT,
                    message=f"the first {size} entries make the root {own.hex()}, and {kept.source} is signed over"
                    f" {root.hex()}; without the tiles it cannot be told which entry it is",
                    index=since,
                    end=max(size, since + 1),
                )
            )
        if own == root:
            self._entries = max(self._entries, size)
            self._good_sizes.append(size)
            if kept.is_anchor:
                self._good_anchors.append(size)

    def _find(self, fault: Fault, message: str) -> None:
        self._add(Finding(fault=fault, message=message))

    def _add(self, finding: Finding) -> None:
        if finding.index is not None and (self._first_wrong is None or finding.index < self._first_wrong):
            self._first_wrong = finding.index
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding)
        else:
            self._unlisted += 1

    def _report(self, head: Believed | None, *, events: int | None, checkpoints: int) -> Report:
        first = self._first_wrong
        good = [size for size in self._good_sizes if first is None or size <= first]
        return Report(
            origin=self._trust.origin,
            size=None if head is None else head.checkpoint.size,
            root=None if head is None else head.checkpoint.root,
            witnesses={} if head is None else head.witnesses,
            entries=self._entries,
            events=events,
            checkpoints=checkpoints,
            last_good=max(good, default=None),
            findings=tuple(self._findings),
            unlisted=self._unlisted,
        )


class _Roots:
    """The tree of the entries as they are, and that of the leaves that were signed: one, until they differ."""

    __slots__ = ("_entries", "_signed")

    def __init__(self) -> None:
        self._entries: CompactRange | None = CompactRange()
        self._signed: CompactRange | None = self._entries

    def extend(self, own: list[bytes] | None, leaves: list[bytes] | None) -> None:
        """Add leaves; None if they are not known, and with them the roots from here on."""
        if self._entries is self._signed and self._entries is not None:
            if own is not None and own == leaves:
                self._entries.extend(own)
                return
            self._entries = self._entries.copy()
        self._entries = _extended(self._entries, own)
        self._signed = _extended(self._signed, leaves)

    def of_entries(self) -> bytes | None:
        """The root of the entries as they are."""
        return None if self._entries is None else self._entries.root()

    def of_signed(self) -> bytes | None:
        """The root of what was signed, by the checkpoint that is verified against."""
        return None if self._signed is None else self._signed.root()


def _extended(compact: CompactRange | None, leaves: list[bytes] | None) -> CompactRange | None:
    if compact is None or leaves is None:
        return None
    compact.extend(leaves)
    return compact
