"""HTTP/1.1 as far as a load generator needs it: requests from prepared parts, replies by status and length only.

The generator shares its cores with what it measures, so a request costs it two joins and a reply one search.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["BadReply", "Mould", "ReplyHead", "make_mould", "read_head"]

MAX_HEAD_BYTES: Final = 32 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
KEY_CHARACTERS: Final = 32

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([1-5]\d\d)[ \r]")


class BadReply(Exception):
    """The server said what this client does not understand."""


class ReplyHead(NamedTuple):
    """What is read of a reply. `length` is that of head and body together, in bytes."""

    status: int
    length: int


def read_head(received: bytes) -> ReplyHead | None:
    """Read the status and the length of the reply that `received` begins with; None while its head is not whole.

    Raises:
        BadReply: it is no final HTTP/1.1 reply that is framed by Content-Length, or it is too large.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > MAX_HEAD_BYTES:
            raise BadReply(f"a reply's head is longer than {MAX_HEAD_BYTES} bytes")
        return None
    status = _STATUS.match(received)
    if status is None:
        raise BadReply(f"a reply begins with {received[:60]!r}, which is no status line of HTTP/1.1")
    length = _LENGTH.search(received, 0, end + 2)
    if length is None:
        raise BadReply(f"a reply of status {int(status[1])} has no Content-Length: {received[:end]!r}")
    body = int(length[1])
    if body > MAX_BODY_BYTES:
        raise BadReply(f"a reply has a body of {body} bytes")
    return ReplyHead(int(status[1]), end + 4 + body)


@dataclass(frozen=True, slots=True)
class Mould:
    """A prepared transfer: all of its bytes but the key, which stands in it twice."""

    head: bytes
    middle: bytes
    tail: bytes

    def pour(self, key: bytes) -> bytes:
        """The request with `key` as its Idempotency-Key and as the transfer's reference.

        As the reference it lands in the books, where each acknowledged transfer can be looked for.
        """
        return self.head + key + self.middle + key + self.tail


def make_mould(*, host: str, token: str = "", debtor: int, creditor: int, currency: str, amount: int) -> Mould:
    """Prepare the transfer of `amount` minor units, sent by whom `token` names; empty: by nobody.

    Keys are 32 characters long, as a UUID's hex digits are.
    """
    order = (
        f'{{"debtor":{debtor},"creditor":{creditor},"currency":"{currency}","amount":{amount},"reference":"'.encode()
    )
    tail = b'"}'
    sender = f"authorization: Bearer {token}\r\n" if token else ""
    head = f"POST /transfers HTTP/1.1\r\nhost: {host}\r\naccept: application/json\r\n{sender}idempotency-key: "
    length = len(order) + KEY_CHARACTERS + len(tail)
    middle = f"\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n".encode() + order
    return Mould(head.encode(), middle, tail)
