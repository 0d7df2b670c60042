"""One event is proved in a file to mail, with public keys alone, and nothing else passes for it."""

from base64 import b64encode
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.kit import ORIGIN, SEEN, TRUST, WITNESSED, WITNESSES, Log, event, log_of, signed
from workhorse.audit.faults import AuditFault, Malformed, ProofInvalid, SignatureInvalid, TileMissing
from workhorse.audit.notes import Note
from workhorse.audit.proofs import LogProof, check_proof, find_entry, prove

SIZE = 600


@cache
def log() -> Log:
    return log_of(SIZE, (256, 300), witnesses=WITNESSES)


def last() -> Note:
    return Note.parse(log().files["checkpoint"])


@given(st.sampled_from([0, 1, 255, 256, 299, 511, 512, 599]), st.booleans())
def test_a_proof_says_which_event_where_and_who_saw_it(index: int, shown: bool) -> None:  # noqa: FBT001
    row = event(index)
    proved = check_proof(prove(log().read, last(), index, data=row.data if shown else None), WITNESSED)
    assert proved.index == index
    assert proved.entry == row.entry()
    assert (proved.data is not None) == shown
    assert proved.believed.checkpoint.size == SIZE
    assert proved.believed.witnesses == {one.name: SEEN for one in WITNESSES}


def test_a_proof_is_the_text_of_the_standard() -> None:
    note = Note.parse(log().files["checkpoints/256"])
    raw = prove(log().read, note, 3, data=event(3).data)
    head, _, rest = raw.partition(b"\n\n")
    first, extra, index, *hashes = head.decode().split("\n")
    assert (first, index) == ("c2sp.org/tlog-proof@v1", "index 3")
    shown = event(3).entry().encode() + b"\n" + '{"amount":"3.50","cents":350,"to":"Zo\u00eb"}'.encode()
    assert extra == f"extra {b64encode(shown).decode()}"
    assert len(hashes) == 8
    assert rest == note.encode()
    assert LogProof.parse(raw).encode() == raw


@pytest.mark.parametrize("index", [0, 255])
def test_a_proof_by_an_older_checkpoint_is_one_too(index: int) -> None:
    note = Note.parse(log().files["checkpoints/256"])
    assert check_proof(prove(log().read, note, index), TRUST).believed.checkpoint.size == 256


def test_the_proof_of_one_event_is_not_that_of_another() -> None:
    proof = LogProof.parse(prove(log().read, last(), 300))
    other = LogProof.parse(prove(log().read, last(), 301))
    for forged in (
        replace(proof, extra=other.extra),
        replace(proof, index=301),
        replace(proof, hashes=other.hashes),
        replace(proof, hashes=proof.hashes[:-1]),
        replace(proof, extra=event(300, subject="account:mine").entry().encode()),
        replace(proof, extra=(proof.extra or b"") + b"\n" + b'{"amount":"1"}'),
        replace(proof, note=signed(SIZE, b"r" * 32, witnesses=WITNESSES)),
    ):
        with pytest.raises(ProofInvalid):
            check_proof(forged.encode(), WITNESSED)
    with pytest.raises(SignatureInvalid):
        check_proof(replace(proof, note=Note(last().text, last().signatures[:1])).encode(), WITNESSED)
    with pytest.raises(Malformed, match="does not show its entry"):
        check_proof(replace(proof, extra=None).encode(), WITNESSED)


@given(st.data())
def test_no_byte_of_a_proof_can_be_changed_to_prove_something_else(data: st.DataObject) -> None:
    raw = prove(log().read, last(), 300, data=event(300).data)
    at, byte = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 255))
    other = raw[:at] + bytes([byte]) + raw[at + 1 :]
    try:
        proved = check_proof(other, WITNESSED)
    except AuditFault:
        assert other != raw
        return
    assert (proved.index, proved.entry) == (300, event(300).entry())
    assert other == raw


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_proof_or_refused(raw: bytes) -> None:
    with pytest.raises(AuditFault):
        check_proof(b"c2sp.org/tlog-proof@v1\n" + raw, TRUST)


@pytest.mark.parametrize(
    "head",
    ["", "c2sp.org/tlog-proof@v2\nindex 0", "c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v1\nextra AA==",
     "c2sp.org/tlog-proof@v1\nindex 00", "c2sp.org/tlog-proof@v1\nindex -1", "c2sp.org/tlog-proof@v1\nindex 0\nAA==",
     "c2sp.org/tlog-proof@v1\nextra A\nindex 0", "c2sp.org/tlog-proof@v1\nindex 0\nextra AA==",
     "c2sp.org/tlog-proof@v1\r\nindex 0", "c2sp.org/tlog-proof@v1\nindex 0\n" + "A" * 43 + "=\n" * 70, "\u00e9"],
)  # fmt: skip
def test_what_is_no_proof_is_refused(head: str) -> None:
    with pytest.raises(Malformed):
        LogProof.parse(head.encode() + b"\n\n" + last().encode())


def test_what_cannot_be_proved_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="no leaf 600"):
        prove(log().read, last(), SIZE)
    with pytest.raises(ProofInvalid, match="is not that of the event"):
        prove(log().read, last(), 3, data='{"amount":"1"}')
    with pytest.raises(ProofInvalid):
        prove(log().read, signed(SIZE, b"r" * 32), 3)
    with pytest.raises(TileMissing):
        prove(lambda _: None, last(), 3)


def test_an_entry_is_found_by_its_event() -> None:
    for index in (0, 255, 256, 599):
        assert find_entry(log().read, SIZE, str(event(index).id)) == index
    assert find_entry(log().read, SIZE, str(event(SIZE).id)) is None


def test_a_proof_is_short_whatever_the_size() -> None:
    assert len(prove(log().read, last(), 300)) < 2_500
    assert ORIGIN.encode() in prove(log().read, last(), 300)
