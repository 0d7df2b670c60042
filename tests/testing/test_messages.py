"""However bytes are chopped, the same messages come out, and nothing is added or lost."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.testing import wires
from workhorse.testing.messages import MAX_MESSAGE_BYTES, Message, MessageReader, Opening, WireError

KINDS = st.sampled_from([bytes([code]) for code in range(65, 123)])
TYPED = st.lists(st.builds(wires.message, KINDS, st.binary(max_size=300)), max_size=12)
SIDES = st.sampled_from(["client", "server"])
OPENINGS = st.lists(st.sampled_from([wires.opening(Opening.TLS), wires.opening(Opening.GSS)]), max_size=2)


def chopped(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def read(chunks: list[bytes], *, opening: bool) -> tuple[list[Message], int]:
    reader = MessageReader(opening=opening)
    messages = [one for chunk in chunks for one in reader.feed(chunk)]
    return messages, reader.pending_bytes


@given(OPENINGS, TYPED, st.lists(st.integers(0, 5_000), max_size=20), SIDES)
def test_any_chopping_gives_the_same_messages(
    asked: list[bytes], typed: list[bytes], cuts: list[int], side: str
) -> None:
    sent = [*asked, wires.startup("me", "mine"), *typed] if side == "client" else typed
    data = b"".join(sent)
    messages, left = read(chopped(data, cuts), opening=side == "client")
    assert [one.data for one in messages] == sent
    assert left == 0
    assert [one.kind for one in messages] == [b""] * (len(sent) - len(typed)) + [one[:1] for one in typed]


@given(TYPED, st.integers(0, 5_000))
def test_what_is_not_whole_waits_and_is_counted(typed: list[bytes], cut: int) -> None:
    data = b"".join(typed)
    cut %= len(data) + 1
    messages, left = read([data[:cut]], opening=False)
    assert b"".join(one.data for one in messages) + data[cut - left : cut] == data[:cut]
    assert left < max([len(one) for one in typed], default=1)


@given(st.binary(max_size=2_000), SIDES, st.lists(st.integers(0, 2_000), max_size=8))
def test_noise_is_read_alike_however_it_is_chopped_or_refused(noise: bytes, side: str, cuts: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> list[Message] | str:
        try:
            return read(chunks, opening=side == "client")[0]
        except WireError as error:
            return str(error)

    assert outcome(chopped(noise, cuts)) == outcome([noise]) == outcome([bytes([byte]) for byte in noise])


def test_a_body_is_what_follows_the_length() -> None:
    ((one,), _) = read([wires.query("SELECT 1")], opening=False)
    assert (one.kind, one.body) == (b"Q", b"SELECT 1\0")
    ((first,), _) = read([wires.startup("me", "mine")], opening=True)
    assert first.opening == 196608
    assert first.body.endswith(b"database\0mine\0\0")


@pytest.mark.parametrize(
    ("side", "data"),
    [
        pytest.param("server", b"Q" + struct.pack("!I", 3), id="shorter than its length"),
        pytest.param("server", b"Q" + struct.pack("!I", MAX_MESSAGE_BYTES + 1), id="longer than any"),
        pytest.param("client", b"\x16\x03\x01\x02\x00\x01", id="a TLS hello without a request"),
        pytest.param("client", b"GET / HTTP/1.1\r\n", id="HTTP"),
        pytest.param("client", struct.pack("!I", 7), id="no number"),
    ],
)
def test_an_impossible_length_is_refused_before_its_body_comes(side: str, data: bytes) -> None:
    with pytest.raises(WireError, match="bytes long"):
        MessageReader(opening=side == "client").feed(data)
