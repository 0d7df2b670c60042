"""The traffic's HTTP client is strict, never loses count of its replies, and asks again with the same bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank.callers import Callers
from bank.traffic import find_parties
from bank.traffic_http import Address, BadReply, GaveUp, Line, Reply, ask, encode_request, is_final, parse_reply

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A:  b \r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"
ADDRESS = Address("127.0.0.1", 8000)

Answer = Callable[[bytes], bytes | None]
T = TypeVar("T")


@contextlib.asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[Address]:
    """Answers each piece that it reads; None hangs up."""

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                reply = answer(piece)
                if reply is None:
                    break
                writer.write(reply)
            writer.close()
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield Address(*listening.sockets[0].getsockname()[:2])
    # Python 3.11 does not end the connections with the server: wait for the clients', which close theirs.
    await asyncio.wait_for(asyncio.gather(*[task for task in serving if task is not None]), 5)


def play(answer: Answer, story: Callable[[Address], Coroutine[None, None, T]]) -> T:
    async def run() -> T:
        async with server(answer) as address:
            return await story(address)

    return asyncio.run(run())


def test_a_reply_is_read_whole() -> None:
    assert parse_reply(OK) == (Reply(200, {b"content-length": b"2", b"x-a": b"b"}, b"ok"), len(OK))


@given(st.integers(0, len(OK) - 1))
def test_a_reply_that_is_cut_is_not_read_yet(length: int) -> None:
    assert parse_reply(OK[:length]) is None


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", id="another version"),
        pytest.param(b"HTTP/1.1 abc\r\ncontent-length: 0\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n", id="two framings"),
        pytest.param(b"HTTP/1.1 100 Continue\r\ncontent-length: 0\r\n\r\n", id="an interim reply"),
        pytest.param(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", id="a header without a colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", id="a huge body"),
        pytest.param(b"x" * 40_000, id="a head without end"),
    ],
)
def test_what_is_no_strict_reply_is_refused(received: bytes) -> None:
    with pytest.raises(BadReply):
        parse_reply(received)


def test_a_request_is_written_with_its_token_key_and_length() -> None:
    request = encode_request(ADDRESS, "POST", "/transfers", b"{}", token="t1", key="k1")
    head, body = request.split(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /transfers HTTP/1.1"
    assert b"authorization: Bearer t1" in head
    assert b"idempotency-key: k1" in head
    assert b"content-length: 2" in head
    assert body == b"{}"


def test_a_problem_is_known_by_its_type_and_a_replay_by_its_header() -> None:
    body = b'{"type":"urn:bank:problem:same-account"}'
    headers = {b"content-type": b"application/problem+json", b"idempotent-replayed": b"true"}
    assert Reply(422, headers, body).problem == "urn:bank:problem:same-account"
    assert Reply(422, headers, body).replayed
    assert Reply(200, {b"content-type": b"application/json"}, body).problem == ""


@pytest.mark.parametrize(
    ("status", "headers", "final"),
    [(201, {}, True), (409, {}, True), (409, {b"retry-after": b"1"}, False), (503, {}, False), (500, {}, True)],
)
def test_only_a_reply_that_asks_for_it_is_not_final(status: int, headers: dict[bytes, bytes], *, final: bool) -> None:
    assert is_final(Reply(status, headers, b"")) is final


def test_asking_sends_the_same_bytes_until_the_answer_is_final() -> None:
    seen: list[bytes] = []

    def answer(piece: bytes) -> bytes | None:
        seen.append(piece)
        return [BUSY, None, OK][len(seen) - 1]

    async def story(address: Address) -> tuple[Reply, int]:
        line = Line(address)
        try:
            return await ask(line, encode_request(address, "POST", "/x", b"{}", key="k"), patience_seconds=5)
        finally:
            line.close()

    reply, again = play(answer, story)
    assert (reply.body, again) == (b"ok", 2)
    assert len(set(seen)) == 1


def test_asking_gives_up_after_the_patience_and_says_why() -> None:
    async def story(address: Address) -> None:
        line = Line(address)
        with pytest.raises(GaveUp, match=r"no final answer within 0\.2 s and \d tries; the last: 503"):
            await ask(line, b"x", patience_seconds=0.2)
        line.close()

    play(lambda _: BUSY, story)


def test_a_reply_that_does_not_come_ends_at_the_deadline_and_the_line_can_be_used_again() -> None:
    seen: list[bytes] = []

    def answer(piece: bytes) -> bytes:
        seen.append(piece)
        return b"" if len(seen) == 1 else OK

    async def story(address: Address) -> Reply:
        line = Line(address, deadline_seconds=0.1)
        with pytest.raises(TimeoutError):
            await line.send(b"first")
        reply = await line.send(b"second")
        line.close()
        return reply

    assert play(answer, story).body == b"ok"


def test_two_replies_to_one_request_are_refused() -> None:
    async def story(address: Address) -> None:
        line = Line(address)
        with pytest.raises(BadReply, match="more than it was asked for"):
            await line.send(b"x")
        line.close()

    play(lambda _: OK + OK, story)


def test_a_bank_that_does_not_know_the_callers_ends_the_search_for_accounts() -> None:
    books = b'{"currencies":[{"accounts":40}]}'

    def answer(piece: bytes) -> bytes:
        if piece.startswith(b"GET /live"):
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(books), books)
        assert b"authorization: Bearer stranger" in piece
        return b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"

    async def story(address: Address) -> None:
        with pytest.raises(BadReply, match=r"account \d+ was answered with 401"):
            await find_parties(address, Callers(tellers=("stranger",), auditor=""))

    play(answer, story)


def test_only_an_address_of_plain_http_is_taken() -> None:
    assert Address.of("http://127.0.0.1:8123") == Address("127.0.0.1", 8123)
    assert str(Address("::1", 80)) == "http://[::1]:80"
    with pytest.raises(ValueError, match="no address of the bank"):
        Address.of("https://example.com")
