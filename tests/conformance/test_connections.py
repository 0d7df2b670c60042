"""What an app sees of its client's leaving, and of WebSockets, is the same bare and under Workhorse."""

import pytest

from tests.conformance.cases import having
from tests.conformance.conftest import Running, Standing
from tests.conformance.wire import Seen, Socket


@having("wait")
def test_a_handler_sees_that_its_client_has_gone(running: Running) -> None:
    async def ask(standing: Standing) -> tuple[Seen, bool]:
        seen = await standing.server.request("GET", running.case.prefix + "/wait", leave_at="at once")
        return seen, await standing.told("client gone")

    for way, (seen, told) in running.everywhere(ask).items():
        assert told, way
        assert not seen.chunks, way


async def leave(standing: Standing, path: str, spec: str) -> bool:
    await standing.server.request("GET", path, leave_at="part", spec=spec)
    return await standing.told("stream ended")


@having("listening")
def test_a_stream_ends_with_its_client_where_the_server_says_so_in_a_message(running: Running) -> None:
    ended = running.everywhere(lambda standing: leave(standing, running.case.prefix + "/endless", "2.3"))
    assert set(ended.values()) == {True}


# Starlette leaves the app's generator to the collector, of which Trio complains; bare as well.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*async_generator:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_a_stream_ends_with_its_client_where_sending_fails(running: Running) -> None:
    ended = running.everywhere(lambda standing: leave(standing, running.case.prefix + "/endless", "2.4"))
    assert set(ended.values()) == {True}


@having("background")
def test_what_is_done_after_the_reply_is_done(running: Running) -> None:
    """In a Guard alone there are no units, and in a service the reply has left, so that nothing can commit with it."""

    async def ask(standing: Standing) -> tuple[int, bytes, bool]:
        seen = await standing.server.request("GET", running.case.prefix + "/background")
        note = "unit closed" if standing.way == "service" else "no unit: NoUnit"
        return seen.status, seen.body, await standing.told(note)

    assert set(running.everywhere(ask).values()) == {(202, b"accepted", True)}


@having("socket")
@pytest.mark.parametrize("last", ["close", "bye"])
def test_a_socket_echoes_and_is_closed_by_either_side(running: Running, last: str) -> None:
    async def ask(standing: Standing) -> tuple[Socket, bool]:
        says: list[str | bytes] = ["one", b"\x00\xff", "", last]
        socket = await standing.server.socket(running.case.prefix + "/talk", says=says, subprotocols=["b", "a"])
        return socket, last == "close" or await standing.told("socket left")

    for way, (socket, told) in running.everywhere(ask).items():
        assert (socket.accepted, socket.subprotocol, socket.error) == (True, "b", None), way
        assert socket.received == ["one", b"\x00\xff", "", *([] if last == "close" else [last])], way
        assert socket.closed == ((4001, "as asked") if last == "close" else None), way
        assert told, way


@having("socket")
@pytest.mark.parametrize("extended", [False, True], ids=["plain", "extended"])
def test_a_socket_can_be_refused_before_it_is_accepted(running: Running, extended: bool) -> None:  # noqa: FBT001
    extensions = ["websocket.http.response"] if extended else []

    async def ask(standing: Standing) -> Socket:
        return await standing.server.socket(running.case.prefix + "/refuse", extensions=extensions)

    for way, socket in running.everywhere(ask).items():
        assert (socket.accepted, socket.received, socket.error) == (False, [], None), way
        assert socket.closed is not None or socket.status == 403, way
