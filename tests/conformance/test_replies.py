"""A reply is the same bare and under Workhorse, but for the headers that the guard adds."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from tests.conformance.cases import having
from tests.conformance.conftest import Running, Standing
from tests.conformance.contract import EVENTS, HEADERS, PARTS, SECRET
from tests.conformance.wire import Seen

# What a client gets from the guard beside the app's own: see docs/guard.md.
ADDED = {
    b"cache-control",
    b"content-security-policy",
    b"cross-origin-opener-policy",
    b"cross-origin-resource-policy",
    b"origin-agent-cluster",
    b"permissions-policy",
    b"referrer-policy",
    b"x-content-type-options",
    b"x-frame-options",
    b"x-permitted-cross-domain-policies",
    b"x-request-id",
}
PROBLEM = b"application/problem+json"
# What it takes away: these say what is installed.
TAKEN = {b"server", b"x-powered-by"}


def asking(method: str, path: str, **more: object) -> Callable[[Standing], Awaitable[Seen]]:
    def ask(standing: Standing) -> Awaitable[Seen]:
        return standing.server.request(method, path, **more)  # type: ignore[arg-type]  # of one call each

    return ask


def timeless(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Header fields without the second in which they were made: the replies were made one after the other."""
    return [(name, b"" if name.lower() in {b"date", b"expires"} else value) for name, value in headers]


def same(seen: Mapping[str, Seen]) -> Seen:
    """Hold the replies under Workhorse against the bare one, and return that."""
    bare = seen["bare"]
    for way in ("guard", "service"):
        reply = seen[way]
        assert (reply.status, reply.body, reply.file) == (bare.status, bare.body, bare.file), way
        assert (reply.complete, reply.error) == (bare.complete, None), way
        wanted = timeless(bare.headers)
        own = [field for field in timeless(reply.headers) if field in wanted]
        assert own == [field for field in wanted if field[0].lower() not in TAKEN], way
        added = {name for name, _ in reply.headers} - {name for name, _ in bare.headers}
        assert added <= ADDED, way
    return bare


def test_a_plain_reply(running: Running) -> None:
    bare = same(running.everywhere(asking("GET", running.case.prefix + "/hello")))
    assert (bare.status, bare.body, bare.complete) == (200, b"hello", True)


def test_a_reply_to_head_has_the_length_and_no_body(running: Running) -> None:
    bare = same(running.everywhere(asking("HEAD", running.case.prefix + "/hello")))
    length = None if "length" in running.case.lacks else b"5"
    assert (bare.status, bare.header(b"content-length"), bare.body) == (200, length, b"")


def test_a_path_that_is_not_there(running: Running) -> None:
    for way, seen in running.everywhere(asking("GET", running.case.prefix + "/nowhere")).items():
        assert seen.status == 404, way


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_a_body_arrives_as_it_was_sent(running: Running, declared: bool) -> None:  # noqa: FBT001
    chunks = [bytes(range(256)) * 40, b"", b"the end"]
    ask = asking("POST", running.case.prefix + "/echo", chunks=chunks, declared=declared, headers=OCTETS)
    bare = same(running.everywhere(ask))
    assert bare.body == b"".join(chunks)


OCTETS = ((b"content-type", b"application/octet-stream"),)


def test_a_body_is_read_as_a_stream(running: Running) -> None:
    chunks = [bytes([number]) * 5_000 for number in range(40)]
    ask = asking("POST", running.case.prefix + "/count", chunks=chunks, declared=False, headers=OCTETS)
    bare = same(running.everywhere(ask))
    assert bare.body.decode() == f"200000 {sum(map(sum, chunks))}"


def test_a_streamed_reply_leaves_part_by_part(running: Running) -> None:
    seen = running.everywhere(asking("GET", running.case.prefix + "/stream"))
    bare = same(seen)
    assert bare.body == b"".join(PARTS)
    assert bare.header(b"content-length") is None
    assert {way: reply.chunks for way, reply in seen.items()} == {way: list(PARTS) for way in seen}


def test_server_sent_events_leave_one_by_one(running: Running) -> None:
    seen = running.everywhere(asking("GET", running.case.prefix + "/events"))
    bare = same(seen)
    assert (bare.header(b"content-type") or b"").startswith(b"text/event-stream")
    assert bare.body == b"".join(EVENTS)
    assert all(reply.chunks == bare.chunks for reply in seen.values())


def test_a_file(running: Running) -> None:
    bare = same(running.everywhere(asking("GET", running.case.prefix + "/file")))
    assert bare.body == running.standing[0].book.file.read_bytes()


def test_a_file_that_the_server_sends_itself(running: Running) -> None:
    ask = asking("GET", running.case.prefix + "/file", extensions=["http.response.pathsend"])
    bare = same(running.everywhere(ask))
    assert bare.file or bare.body == running.standing[0].book.file.read_bytes()
    assert bool(bare.file) is ("pathsend" not in running.case.lacks)


def test_a_range_of_a_file(running: Running) -> None:
    ask = asking("GET", running.case.prefix + "/file", headers=[(b"range", b"bytes=8-11")])
    bare = same(running.everywhere(ask))
    expected = (200, 1000) if "range" in running.case.lacks else (206, 4)
    assert (bare.status, len(bare.body)) == expected


def test_headers_arrive_byte_for_byte_both_ways(running: Running) -> None:
    given = "d\xe9j\xe0 vu".encode("latin-1")
    bare = same(running.everywhere(asking("GET", running.case.prefix + "/headers", headers=[(b"x-given", given)])))
    assert bare.body == given
    expected = [field for field in HEADERS if field[1].isascii() or "latin-1" not in running.case.lacks]
    assert [(name.lower(), value) for name, value in bare.headers if (name.lower(), value) in HEADERS] == expected


def test_each_cookie_has_its_header(running: Running) -> None:
    bare = same(running.everywhere(asking("GET", running.case.prefix + "/cookies")))
    assert [cookie.partition(b";")[0] for cookie in bare.all(b"set-cookie")] == [b"a=1", b"b=2"]


def test_what_middleware_sets_is_seen_in_the_handler_and_in_its_threads(running: Running) -> None:
    bare = same(running.everywhere(asking("GET", running.case.prefix + "/context")))
    assert bare.body == b"from middleware, from middleware"


def test_an_unexpected_error_is_a_problem_and_tells_nothing(running: Running) -> None:
    for way, seen in running.everywhere(asking("GET", running.case.prefix + "/broken")).items():
        assert SECRET.encode() not in seen.body, way
        assert b"Traceback" not in seen.body, way
        if way == "bare":
            continue
        assert (seen.status, seen.error, seen.complete) == (500, None, True), way
        if way == "service" and "problems" not in running.case.lacks:
            assert seen.header(b"content-type") == PROBLEM


def test_a_reply_that_breaks_off_is_never_completed(running: Running) -> None:
    for way, seen in running.everywhere(asking("GET", running.case.prefix + "/broken-late")).items():
        assert (seen.status, seen.body, seen.complete) == (200, PARTS[0], False), way
        assert seen.error is not None, way


@having("problems")
def test_a_problem_that_the_app_raises_is_its_reply(running: Running) -> None:
    served = running.served(asking("GET", running.case.prefix + "/problem"))
    assert (served.status, served.header(b"content-type")) == (418, PROBLEM)
    assert b"teapot" in served.body


def test_nothing_is_read_of_a_body_that_the_app_does_not_want(running: Running) -> None:
    """A server says 100 Continue with the first read, so that a reply before it spares the client the body."""
    ask = asking(
        "POST", running.case.prefix + "/unread", chunks=[b"x" * 100], headers=[*OCTETS, (b"expect", b"100-continue")]
    )
    seen = running.everywhere(ask)
    bare = same(seen)
    assert (bare.status, bare.body) == (201, b"unread")
    early = {way: reply.trace.index("start") for way, reply in seen.items()}
    assert early["guard"] <= early["bare"]
    assert early["service"] <= early["bare"]
