"""A witness signs a log that only grows, answers as the standard says, and never goes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.kit import LOG, ORIGIN, SEEN, TRUST, WITNESSES, signed, signer
from workhorse.audit.checkpoints import open_checkpoint
from workhorse.audit.faults import CosignRefused, Malformed, SignatureInvalid
from workhorse.audit.notes import Note
from workhorse.audit.tiles import Growth, Tile, TileNodes
from workhorse.audit.tree import EMPTY_ROOT, leaf_hash, prove_consistency, root_of
from workhorse.audit.witness import AddCheckpoint, Head, cosign, judge, take_cosignatures

LOGS = {ORIGIN: (LOG.verifier,)}
COUNT = 40
ENTRIES = [b"e%d" % number for number in range(COUNT)]
TILES: dict[Tile, bytes] = Growth().append(ENTRIES)
ROOTS = [root_of(leaf_hash(entry) for entry in ENTRIES[:size]) for size in range(COUNT + 1)]


def head(size: int) -> Head:
    return Head(size, ROOTS[size])


def request(old: int, size: int, *, note: Note | None = None, proof: list[bytes] | None = None) -> AddCheckpoint:
    made = prove_consistency(TileNodes(TILES.get, COUNT), old, size) if proof is None else proof
    return AddCheckpoint(old_size=old, proof=tuple(made), note=note or signed(size, ROOTS[size]))


def refused(one: AddCheckpoint, seen: Head | None) -> CosignRefused:
    with pytest.raises(CosignRefused) as error:
        judge(one, logs=LOGS, head=seen)
    return error.value


@given(st.integers(0, COUNT), st.integers(0, COUNT))
def test_a_tree_that_grew_is_signed_and_the_log_takes_the_signature(one: int, other: int) -> None:
    old, size = sorted((one, other))
    asked = AddCheckpoint.parse(request(old, size).encode())
    assert asked == request(old, size)
    checkpoint = judge(asked, logs=LOGS, head=head(old) if old else None)
    assert (checkpoint.size, checkpoint.root) == (size, ROOTS[size])
    reply = cosign(asked.note, WITNESSES[0], seconds=SEEN)
    note = take_cosignatures(asked.note, reply, [WITNESSES[0].verifier])
    assert list(note.signed_by([WITNESSES[0].verifier])) == [WITNESSES[0].verifier]
    assert open_checkpoint(note.encode(), TRUST).checkpoint == checkpoint


@given(st.lists(st.tuples(st.integers(0, COUNT), st.integers(0, COUNT), st.booleans()), max_size=20))
def test_whatever_is_asked_of_a_witness_its_log_only_grows(asked: list[tuple[int, int, bool]]) -> None:
    last = Head(0, EMPTY_ROOT)
    for old, size, is_forged in asked:
        if old > size:
            continue
        note = signed(size, leaf_hash(b"forged")) if is_forged and size else None
        try:
            checkpoint = judge(request(old, size, note=note), logs=LOGS, head=last)
        except CosignRefused:
            continue
        # The first tree that a witness sees it has to take as it is.
        assert checkpoint.size >= last.size
        if last.size:
            assert checkpoint.root == ROOTS[checkpoint.size] or last.root not in ROOTS
        last = Head(checkpoint.size, checkpoint.root)


def test_a_tree_that_another_history_has_is_refused() -> None:
    forged = signed(20, leaf_hash(b"forged"))
    assert refused(request(10, 20, note=forged), head(10)).status == 422
    same_size = signed(10, leaf_hash(b"forged"))
    error = refused(request(10, 10, note=same_size, proof=[]), head(10))
    assert (error.status, error.size, error.is_fork) == (409, 10, True)
    assert refused(request(10, 20, proof=[]), head(10)).status == 422
    assert refused(request(0, 20, proof=[ROOTS[1]]), None).status == 422
    empty = signed(0, leaf_hash(b"forged"))
    assert refused(request(0, 0, note=empty, proof=[]), None).status == 422


@pytest.mark.parametrize(("old", "known"), [(10, 20), (0, 20), (20, 10), (5, 0)])
def test_a_proof_from_another_size_than_the_last_is_told_that_size(old: int, known: int) -> None:
    error = refused(request(old, 30), head(known) if known else None)
    assert (error.status, error.size) == (409, known)


def test_a_smaller_tree_is_refused() -> None:
    assert refused(request(20, 10, proof=[]), head(20)).status == 400
    assert refused(request(10, 10), head(20)).status == 409


def test_a_log_that_is_not_known_or_did_not_sign_is_refused() -> None:
    stranger = Note(signed(5, ROOTS[5]).text.replace(ORIGIN, "other.example")).sign(LOG)
    assert refused(request(0, 5, note=stranger), None).status == 404
    assert refused(request(0, 5, note=signed(5, ROOTS[5], by=signer("x"))), None).status == 403
    other_text = Note(signed(6, ROOTS[6]).text, signed(5, ROOTS[5]).signatures)
    assert refused(request(0, 6, note=other_text), None).status == 403
    assert refused(request(0, 5, note=Note("free text\n").sign(LOG)), None).status == 400


@pytest.mark.parametrize(
    "raw",
    [b"", b"old 1\n", b"old 01\n\n", b"old -1\n\n", b"new 1\n\n", b"old 1\nx\n\n", b"old 1\nAAAA\n\n",
     b"\xff\n\n", b"old 1\n" + b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n" * 64 + b"\n", b"x" * 1_000_001],
)  # fmt: skip
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        AddCheckpoint.parse(raw + (signed(5, ROOTS[5]).encode() if len(raw) < 1_000_000 else b""))


def test_a_reply_gives_the_signatures_of_known_witnesses_alone() -> None:
    note = signed(5, ROOTS[5])
    known, unknown = WITNESSES
    reply = cosign(note, known, seconds=SEEN) + cosign(note, unknown, seconds=SEEN)
    taken = take_cosignatures(note, reply, [known.verifier])
    assert [one.name for one in taken.signatures] == [LOG.name, known.name]
    other = cosign(signed(6, ROOTS[6]), known, seconds=SEEN)
    with pytest.raises(SignatureInvalid):
        take_cosignatures(note, other, [known.verifier])
    for broken in (b"", b"\n", b"text\n", b"text\n\n" + reply, reply[:-1]):
        with pytest.raises(Malformed):
            take_cosignatures(note, broken, [known.verifier])
