"""A note is believed by the keys that are known, and every other form of it is refused."""

import secrets
from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.kit import LOG, ORIGIN, SEEN, TRUST, WITNESSED, WITNESSES, signed, signer
from workhorse.audit.checkpoints import Checkpoint, Trust, open_checkpoint
from workhorse.audit.faults import AuditFault, Malformed, SignatureInvalid
from workhorse.audit.keys import COSIGNATURE, ED25519, Signer, Verifier, cosigned_message, new_signer
from workhorse.audit.notes import MAX_NOTE_BYTES, Note, Signature
from workhorse.audit.tree import EMPTY_ROOT

# The example of C2SP signed-note.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n"
    "\u2014 example.com/foo"
    " Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# Those of RFC 8032, section 7.1, test 1.
RFC_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC_PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")

names = st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"], exclude_characters="+"), min_size=1)
texts = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32)).map(lambda text: text + "\n")


def test_the_example_of_the_standard_is_verified() -> None:
    key = Verifier.parse(EXAMPLE_KEY)
    assert str(key) == EXAMPLE_KEY
    note = Note.parse(EXAMPLE)
    assert note.text == "This is an example message.\n"
    assert list(note.signed_by([key])) == [key]
    assert note.encode() == EXAMPLE
    with pytest.raises(SignatureInvalid):
        Note.parse(EXAMPLE.replace(b"example message", b"example massage")).signed_by([key])


def test_a_key_is_one_of_rfc_8032() -> None:
    assert Signer("x", ED25519, RFC_SEED).verifier.public_key == RFC_PUBLIC


@given(names, st.sampled_from([ED25519, COSIGNATURE]), texts)
def test_what_a_key_signed_its_public_half_verifies_and_no_other(name: str, kind: int, text: str) -> None:
    key = new_signer(name, kind=kind, random=secrets.token_bytes)
    assert Signer.parse(key.reveal()) == key
    assert Verifier.parse(str(key.verifier)) == key.verifier
    note = Note(text).sign(key, seconds=SEEN if kind == COSIGNATURE else None)
    read = Note.parse(note.encode())
    assert read == note
    assert list(read.signed_by([key.verifier])) == [key.verifier]
    assert read.signed_by([new_signer(name, random=secrets.token_bytes).verifier]) == {}
    with pytest.raises(SignatureInvalid):
        Note("x" + text, read.signatures).signed_by([key.verifier])


def test_a_private_key_is_in_no_message_and_no_repr() -> None:
    secret = LOG.reveal().rpartition("+")[2]
    assert secret not in repr(LOG)
    for broken in (LOG.reveal() + "x", LOG.reveal().replace("+", "-", 2), LOG.reveal()[12:-4]):
        with pytest.raises(Malformed) as refused:
            Signer.parse(broken)
        assert secret[:20] not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a+b", "a+530d903a+", EXAMPLE_KEY + "A", EXAMPLE_KEY[:-1] + "l", EXAMPLE_KEY.replace("530d", "530D"),
     EXAMPLE_KEY.replace("530d", "530e"), " " + EXAMPLE_KEY, EXAMPLE_KEY.replace("+A", "+B"), EXAMPLE_KEY + "\n",
     "PRIVATE+KEY+" + EXAMPLE_KEY, "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "x" * 2_000 + EXAMPLE_KEY],
)  # fmt: skip
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        Verifier.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b", "a\x00b", "\ud800"])
def test_what_is_no_name_of_a_key_is_refused(name: str) -> None:
    with pytest.raises(Malformed, match="is no name of a key"):
        new_signer(name, random=secrets.token_bytes)


LINE = EXAMPLE.splitlines(keepends=True)[-1]


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n", b"\n\n", b"text\n", b"text\n\n", b"text\n\n\n", b"text" + LINE, b"text\n" + LINE, EXAMPLE[:-1],
     EXAMPLE + b"\n", EXAMPLE + b"x\n", EXAMPLE.replace(b"\n", b"\r\n"), b"\xff" + EXAMPLE, b"\x00" + EXAMPLE,
     b"\xed\xa0\x80" + EXAMPLE, b"text\n\n" + LINE * 101, EXAMPLE.replace("\u2014".encode(), b"-"),
     EXAMPLE.replace(b"foo ", b"foo  "), EXAMPLE.replace(b"foo ", b"foo"), EXAMPLE.replace(b"aQM=", b"aQN="),
     EXAMPLE.replace(b"aQM=", b"aQM"), EXAMPLE.replace(b"aQM=", b"aQM=="), b"text\n\n\xe2\x80\x94 x AAAAAA==\n",
     b"x" * MAX_NOTE_BYTES + EXAMPLE],
)  # fmt: skip
def test_what_is_no_note_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        Note.parse(raw)


def test_a_text_may_have_empty_lines_and_other_peoples_signatures_stay_in_it() -> None:
    inner = EXAMPLE.decode()
    note = Note.parse(Note(inner).sign(LOG).encode())
    assert note.text == inner
    assert note.signed_by([Verifier.parse(EXAMPLE_KEY)]) == {}, "what is in the text was signed by nobody"
    assert list(note.signed_by([LOG.verifier])) == [LOG.verifier]


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_note_or_refused_and_a_note_has_one_spelling(raw: bytes) -> None:
    try:
        note = Note.parse(raw)
    except Malformed:
        return
    assert note.encode() == raw


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255))
def test_a_changed_byte_makes_a_note_worthless(at: int, byte: int) -> None:
    raw = EXAMPLE[:at] + bytes([byte]) + EXAMPLE[at + 1 :]
    try:
        signed_by = Note.parse(raw).signed_by([Verifier.parse(EXAMPLE_KEY)])
    except AuditFault:
        return
    assert bool(signed_by) == (raw == EXAMPLE)


def test_a_signature_of_an_unknown_key_is_kept_and_ignored() -> None:
    note = Note("text\n", (Signature("somebody", b"1234", b"anything"),)).sign(LOG)
    read = Note.parse(note.encode())
    assert len(read.signatures) == 2
    assert list(read.signed_by([LOG.verifier])) == [LOG.verifier]


def test_a_second_signature_of_a_key_replaces_its_first() -> None:
    note = Note("text\n").sign(WITNESSES[0], seconds=1).sign(LOG).sign(WITNESSES[0], seconds=2)
    assert [one.name for one in note.signatures] == [LOG.name, WITNESSES[0].name]
    assert note.signatures[1].value[:8] == (2).to_bytes(8, "big")


def test_a_cosignature_holds_for_its_time_alone_and_is_no_signature_of_a_log() -> None:
    witness = WITNESSES[0]
    value = witness.sign(b"text\n", seconds=SEEN)
    assert witness.verifier.verify(b"text\n", value)
    assert not witness.verifier.verify(b"text\n", (SEEN + 1).to_bytes(8, "big") + value[8:])
    assert not witness.verifier.verify(b"text\n", (2**63).to_bytes(8, "big") + value[8:])
    late = (2**63).to_bytes(8, "big") + replace(witness, kind=ED25519).sign(cosigned_message(b"text\n", 2**63))
    assert not witness.verifier.verify(b"text\n", late), "beyond what the standard lets a time be"
    assert not replace(witness, kind=ED25519).verifier.verify(b"text\n", value[8:])
    assert replace(witness, kind=ED25519).verifier.id != witness.verifier.id


@pytest.mark.parametrize(
    ("key", "seconds"), [(LOG, 1), (WITNESSES[0], None), (WITNESSES[0], -1), (WITNESSES[0], 2**63)]
)
def test_a_kind_of_key_and_a_time_belong_together(key: Signer, seconds: int | None) -> None:
    with pytest.raises(ValueError, match="time"):
        key.sign(b"text\n", seconds=seconds)


# Checkpoints.

ROOT = b64encode(EMPTY_ROOT).decode()


@given(names, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.lists(names, max_size=3))
def test_a_checkpoint_is_read_as_it_was_written(origin: str, size: int, root: bytes, more: list[str]) -> None:
    checkpoint = Checkpoint(origin=origin, size=size, root=root, extensions=tuple(more))
    assert Checkpoint.parse(checkpoint.text) == checkpoint


@pytest.mark.parametrize(
    "text",
    ["", "\n", "x\n", "x\n1\n", f"x\n1\n{ROOT}", f"\n1\n{ROOT}\n", f"x\n01\n{ROOT}\n", f"x\n-1\n{ROOT}\n",
     f"x\n+1\n{ROOT}\n", f"x\n1 \n{ROOT}\n", f"x\n\u0661\n{ROOT}\n", f"x\n{2**63}\n{ROOT}\n", f"x\n1\n{ROOT[:-4]}\n",
     f"x\n1\n{ROOT[:-1]}\n", f"x\n1\n{ROOT}\n\n", f"x\n1\n{ROOT}\n\nmore\n", f"x\n1\n{ROOT} \n",
     f"x\n{'9' * 5_000}\n{ROOT}\n"],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(text)


def test_a_checkpoint_is_believed_by_the_log_and_a_quorum_of_witnesses() -> None:
    root = b"r" * 32
    believed = open_checkpoint(signed(5, root, witnesses=WITNESSES).encode(), WITNESSED)
    assert (believed.checkpoint.size, believed.checkpoint.root) == (5, root)
    assert believed.witnesses == {one.name: SEEN for one in WITNESSES}
    for note in (
        signed(5, root, witnesses=WITNESSES[:1]),
        signed(5, root, by=signer("someone"), witnesses=WITNESSES),
        Note(signed(5, root).text).sign(WITNESSES[0], seconds=SEEN).sign(WITNESSES[1], seconds=SEEN),
    ):
        with pytest.raises(SignatureInvalid):
            open_checkpoint(note.encode(), WITNESSED)


def test_a_false_signature_of_a_known_witness_makes_a_checkpoint_worthless() -> None:
    note = signed(5, b"r" * 32, witnesses=WITNESSES[:1])
    trust = replace(WITNESSED, quorum=0)
    assert open_checkpoint(note.encode(), trust).witnesses == {WITNESSES[0].name: SEEN}
    false = Signature(WITNESSES[1].name, WITNESSES[1].verifier.id, b"\0" * 72)
    with pytest.raises(SignatureInvalid, match=r"w2 \("):
        open_checkpoint(note.adding([false]).encode(), trust)


def test_a_log_that_changed_its_key_is_believed_by_either() -> None:
    newer = replace(LOG, seed=b"n" * 32)
    trust = Trust(origin=ORIGIN, logs=(LOG.verifier, newer.verifier))
    for key in (LOG, newer):
        assert open_checkpoint(signed(5, b"r" * 32, by=key).encode(), trust).checkpoint.size == 5
    with pytest.raises(SignatureInvalid):
        open_checkpoint(signed(5, b"r" * 32, by=newer).encode(), TRUST)


def test_a_checkpoint_of_another_log_is_not_believed_though_the_same_key_signed_it() -> None:
    other = Note(signed(5, b"r" * 32).text.replace(ORIGIN, "bank.example/other")).sign(LOG)
    with pytest.raises(SignatureInvalid, match=r"bank\.example/other"):
        open_checkpoint(other.encode(), TRUST)


def test_an_empty_log_has_one_root() -> None:
    assert open_checkpoint(signed(0, EMPTY_ROOT).encode(), TRUST).checkpoint.size == 0
    with pytest.raises(Malformed, match="empty tree"):
        open_checkpoint(signed(0, b"r" * 32).encode(), TRUST)


@pytest.mark.parametrize(
    "fields",
    [{"logs": ()}, {"logs": (WITNESSES[0].verifier,)}, {"witnesses": (LOG.verifier,)}, {"quorum": 1}, {"quorum": -1},
     {"seen_since": 5}],
    ids=lambda fields: str(next(iter(fields))),
)  # fmt: skip
def test_trust_in_nobody_or_in_the_wrong_key_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(
        ValueError, match=r"name the verifier key|of kind 4|witnesses are asked for|demand on witnesses"
    ):
        Trust(**({"origin": ORIGIN, "logs": (LOG.verifier,)} | fields))  # type: ignore[arg-type]
