"""The little HTTP that a worker knows: what a probe and Prometheus say, and nothing that could be read in two ways."""

import pytest

from workhorse.asgi import Reply
from workhorse.service.worker_endpoint import parse_address, parse_head, wired


@pytest.mark.parametrize(
    ("head", "path"),
    [
        (b"GET /-/live HTTP/1.1\r\nHost: a\r\n\r\n", "/-/live"),
        (b"HEAD /-/metrics?x=1 HTTP/1.0\r\nhost:a\r\nX:  \t y z \t\r\n\r\n", "/-/metrics"),
        (b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "/"),
    ],
    ids=["a probe", "a query and blanks", "a body of no length"],
)
def test_a_request_without_a_body_is_read(head: bytes, path: str) -> None:
    scope = parse_head(head)
    assert scope is not None
    assert scope["path"] == path
    assert all(value == value.strip() for _, value in scope["headers"])


@pytest.mark.parametrize(
    "head",
    [
        b"POST /-/live HTTP/1.1\r\n\r\n",
        b"GET http://evil/-/live HTTP/1.1\r\n\r\n",
        b"GET /-/live HTTP/2.0\r\n\r\n",
        b"GET /-/live\r\n\r\n",
        b"GET  /-/live HTTP/1.1\r\n\r\n",
        b"GET /-/live HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nX:" + b" " * 8_000 + b"\1\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
    ids=range(13),
)
def test_whatever_else_comes_is_not_read(head: bytes) -> None:
    assert parse_head(head) is None


def test_a_reply_ends_the_connection_and_tells_its_length() -> None:
    reply = Reply(status=200, headers=((b"x-a", b"b"),), body=b"fine")
    assert wired(reply, with_body=True) == (
        b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfine"
    )
    assert wired(reply, with_body=False).endswith(b"close\r\n\r\n")


def test_an_address_is_a_host_and_a_port() -> None:
    assert parse_address("127.0.0.1:9100") == ("127.0.0.1", 9100)
    assert parse_address("[::1]:0") == ("::1", 0)
