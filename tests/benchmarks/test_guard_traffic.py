"""The requests that every contestant serves, and the load that servers get."""

import asyncio
from collections import Counter

import pytest

from benchmarks.guard.contestants import ALL, CLAIMED, careful_parts
from benchmarks.guard.load import play, wire_requests
from benchmarks.guard.probes import PROBES, check_controls, with_header
from benchmarks.guard.stacks.bare import fastapi_app, null, starlette_app
from benchmarks.guard.stacks.careful import CAREFUL, PARTS
from benchmarks.guard.subject import CONTROLS, LESS, WHOLE, build
from benchmarks.guard.traffic import BODY, METHODS, Method, Traffic, UnexpectedAnswer, serve_all, serve_one
from benchmarks.load.wire import BadReply
from tests.benchmarks.guard_kit import make_credentials
from workhorse.asgi import Receive, Scope, Send

CREDENTIALS = make_credentials()
TRAFFIC = Traffic(CREDENTIALS, csrf=CREDENTIALS.csrf)


def body(method: Method) -> bytes:
    return BODY if method == "POST" else b""


def test_a_get_has_sixteen_fields_of_about_two_kilobytes() -> None:
    headers = TRAFFIC.headers("GET", 0)
    assert len(dict(headers)) == len(headers) == 16
    assert 1_500 < sum(len(name) + len(value) + 4 for name, value in headers) < 2_500
    assert len(TRAFFIC.headers("POST", 0)) == 19


def test_the_tokens_come_in_turn_and_every_post_has_a_key_of_its_own() -> None:
    first, second, third = (dict(TRAFFIC.headers("POST", number)) for number in range(3))
    assert first[b"authorization"] == third[b"authorization"] != second[b"authorization"]
    assert len({each[b"idempotency-key"] for each in (first, second, third)}) == 3


@pytest.mark.parametrize("method", METHODS)
def test_the_bare_apps_serve_the_requests(method: Method) -> None:
    async def main() -> None:
        for app in (null, starlette_app().app, fastapi_app()):
            await serve_all(app, [TRAFFIC.scope(method, number) for number in range(3)], body(method))

    asyncio.run(main())


def test_an_answer_that_is_none_ends_the_measurement() -> None:
    async def main() -> None:
        with pytest.raises(UnexpectedAnswer, match="405"):
            await serve_all(fastapi_app(), [{**TRAFFIC.scope("POST", 0), "path": "/items/42"}], BODY)

    asyncio.run(main())


def test_the_app_is_told_that_the_client_goes_once_its_reply_has_ended() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["type"])
        late = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        assert not late.done()
        await send({"type": "http.response.body", "body": b"2"})
        seen.append((await late)["type"])

    async def main() -> bytes:
        return (await serve_one(app, TRAFFIC.scope("GET", 0))).body

    assert asyncio.run(main()) == b"12"
    assert seen == ["http.request", "http.disconnect"]


def test_our_guard_serves_them_and_shows_each_control() -> None:
    async def main() -> None:
        built = build(null, CREDENTIALS, WHOLE)
        await check_controls(built.app, TRAFFIC, built.controls)
        for method in METHODS:
            await serve_all(built.app, [TRAFFIC.scope(method, number) for number in range(3)], body(method))
        built.flush()

    asyncio.run(main())


@pytest.mark.parametrize("name", LESS)
def test_without_a_control_it_still_serves_them_and_shows_the_others(name: str) -> None:
    async def main() -> None:
        built = build(null, CREDENTIALS, LESS[name])
        assert built.controls < CONTROLS
        await check_controls(built.app, TRAFFIC, built.controls)
        await serve_all(built.app, [TRAFFIC.scope("POST", 0)], BODY)
        built.flush()

    asyncio.run(main())


@pytest.mark.parametrize("control", PROBES)
def test_a_control_that_is_not_there_is_noticed(control: str) -> None:
    async def main() -> None:
        with pytest.raises(UnexpectedAnswer, match=repr(control)):
            await check_controls(null, TRAFFIC, frozenset({control}))

    asyncio.run(main())


def test_a_header_is_replaced_or_taken_out() -> None:
    headers = [(b"host", b"a"), (b"accept", b"b")]
    assert with_header(headers, b"host", b"c") == [(b"accept", b"b"), (b"host", b"c")]
    assert with_header(headers, b"host", None) == [(b"accept", b"b")]


def test_what_each_contestant_stands_on_is_measured_too() -> None:
    assert all(one.base in ALL for one in ALL.values())
    assert {"null", "fastapi", "fastapi+guard", CLAIMED, "litestar+all", "django+all"} <= ALL.keys()


def test_the_guard_is_compared_with_a_stack_of_no_more_than_its_own_controls() -> None:
    assert careful_parts(frozenset({"cors", "csrf"})) == {"cors", "csrf"}
    assert {PARTS[part][0] for part in careful_parts(CONTROLS)} <= CONTROLS
    assert "session" not in CAREFUL  # the guard has none here
    assert len({"slowapi", "limiter"} & CAREFUL) == 1


def test_a_request_on_the_wire_is_what_the_scope_says() -> None:
    (request,) = wire_requests(TRAFFIC, "POST", 1)
    head, _, sent = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /items HTTP/1.1"
    assert [tuple(line.split(b": ", 1)) for line in lines[1:]] == TRAFFIC.headers("POST", 0)
    assert sent == BODY
    assert wire_requests(TRAFFIC, "GET", 1)[0].startswith(b"GET /items/42?q=abc HTTP/1.1\r\n")


async def serve_wire(status: bytes, seen: Counter[bytes]) -> asyncio.Server:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readline():
                while await reader.readline() != b"\r\n":
                    pass
                seen[head] += 1
                writer.write(b"HTTP/1.1 %b x\r\ncontent-length: 2\r\n\r\n{}" % status)
                await writer.drain()
        finally:
            writer.transport.abort()  # also where the server is closed while a connection is open

    return await asyncio.start_server(handle, "127.0.0.1", 0)


def test_exactly_so_many_requests_are_played_over_all_connections() -> None:
    seen: Counter[bytes] = Counter()

    async def main() -> None:
        async with await serve_wire(b"200", seen) as server:
            await play(server.sockets[0].getsockname()[1], wire_requests(TRAFFIC, "GET", 3), 101)

    asyncio.run(main())
    assert seen == {b"GET /items/42?q=abc HTTP/1.1\r\n": 101}


def test_fewer_requests_than_connections_end_too() -> None:
    seen: Counter[bytes] = Counter()

    async def main() -> None:
        async with await serve_wire(b"200", seen) as server:
            await play(server.sockets[0].getsockname()[1], wire_requests(TRAFFIC, "GET", 1), 1)

    asyncio.run(main())
    assert seen.total() == 1


def test_a_reply_that_is_no_200_ends_the_load() -> None:
    async def main() -> None:
        async with await serve_wire(b"403", Counter()) as server:
            with pytest.raises(BadReply, match="403"):
                await play(server.sockets[0].getsockname()[1], wire_requests(TRAFFIC, "GET", 1), 20)

    asyncio.run(main())
