"""What the load generator writes and reads."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.wire import MAX_HEAD_BYTES, BadReply, ReplyHead, make_mould, read_head

HEAD = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 17\r\nx-request-id: 1\r\n\r\n"
BODY = b'{"transfer": 123}'


def test_a_reply_is_read_by_its_status_and_length() -> None:
    assert read_head(HEAD + BODY) == ReplyHead(201, len(HEAD + BODY))


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length", b"CONTENT-LENGTH"])
def test_a_header_is_found_however_it_is_spelt(name: bytes) -> None:
    reply = b"HTTP/1.1 503 No\r\n" + name + b":0\r\n\r\n"
    assert read_head(reply) == ReplyHead(503, len(reply))


@given(st.integers(min_value=0, max_value=len(HEAD) - 1))
def test_a_head_that_is_not_whole_is_waited_for(length: int) -> None:
    assert read_head(HEAD[:length]) is None


@given(st.binary(max_size=64))
def test_what_follows_the_head_does_not_change_how_it_is_read(body: bytes) -> None:
    assert read_head(HEAD + body) == read_head(HEAD)


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", "no status line"),
        (b"HTTP/1.1 2OO OK\r\ncontent-length: 0\r\n\r\n", "no status line"),
        (b"ERROR\r\n\r\n", "no status line"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "no Content-Length"),
        (b"HTTP/1.1 200 OK\r\nx-content-length: 5\r\n\r\n", "no Content-Length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "no Content-Length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "body of 99999999 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\ncontent-length: 5\r\n\r\n", "no Content-Length"),
        (b"x" * (MAX_HEAD_BYTES + 1), "longer than"),
    ],
)
def test_a_reply_that_is_not_understood_is_refused(received: bytes, reason: str) -> None:
    with pytest.raises(BadReply, match=reason):
        read_head(received)


@given(
    token=st.sampled_from(["", "a.b.c"]),
    debtor=st.integers(min_value=1, max_value=2**63),
    creditor=st.integers(min_value=1, max_value=2**63),
    amount=st.integers(min_value=1, max_value=2**53),
)
def test_a_poured_request_is_whole_and_carries_its_key_twice(
    token: str, debtor: int, creditor: int, amount: int
) -> None:
    key = "0123456789abcdef" * 2
    mould = make_mould(
        host="127.0.0.1:80", token=token, debtor=debtor, creditor=creditor, currency="EUR", amount=amount
    )
    head, _, body = mould.pour(key.encode()).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "POST /transfers HTTP/1.1"
    assert headers["idempotency-key"] == key
    assert headers.get("authorization") == (f"Bearer {token}" if token else None)
    assert int(headers["content-length"]) == len(body)
    assert json.loads(body) == {
        "debtor": debtor,
        "creditor": creditor,
        "currency": "EUR",
        "amount": amount,
        "reference": key,
    }
