"""Requests whose time is over: deadlines, slow bodies, clients that went away. Real clocks, short times."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.asgi_client import Seen, call, http_scope
from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send
from workhorse.context import current_request
from workhorse.errors import NoRequest
from workhorse.guard import Guard, compile_plan
from workhorse.guard.layer import ReplyCut
from workhorse.policy import Policy
from workhorse.settings import GuardSettings
from workhorse.telemetry.metrics import Registry

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


async def reply(send: Send, body: bytes = b"ok") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def guarded(app: ASGIApp, *policies: Policy, **settings: Any) -> Guard:
    return Guard(app, compile_plan(GuardSettings(**settings), policies))


class Finished:
    """Whether a handler ran to its end, was cancelled, or neither."""

    def __init__(self) -> None:
        self.how = ""

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self.how = "cancelled"
            raise
        self.how = "done"


def test_a_request_past_its_deadline_is_ended_and_told() -> None:
    finished = Finished()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with finished.watch():
            await asyncio.sleep(5)

    began = time.monotonic()
    seen = asyncio.run(call(guarded(app, Policy("GET /slow", deadline=0.2)), "GET", "/slow"))
    assert (seen.status, seen.json()["type"]) == (504, "urn:workhorse:problem:deadline-exceeded")
    assert finished.how == "cancelled"
    assert 0.2 <= time.monotonic() - began < 1.5


def test_a_reply_that_has_begun_in_time_may_take_longer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.5)
        await send({"type": "http.response.body", "body": b"late"})

    seen = asyncio.run(call(guarded(app, deadline_seconds=0.1), "GET", "/"))
    assert (seen.status, seen.body) == (200, b"late")


def test_a_request_that_commits_is_let_be() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_request().settling = True
        await asyncio.sleep(0.5)
        await reply(send)

    assert asyncio.run(call(guarded(app, deadline_seconds=0.1), "GET", "/")).status == 200


def test_a_cancellation_that_is_not_the_guards_is_left_to_its_owner() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(5)

    async def main() -> None:
        task = asyncio.create_task(call(guarded(app), "GET", "/"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_what_is_left_of_the_deadline_is_for_whatever_the_request_calls() -> None:
    left: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request()
        left.extend((request.remaining_seconds(30), request.remaining_seconds(0.5)))
        await asyncio.sleep(0.2)
        left.append(request.remaining_seconds(30))
        await reply(send)

    asyncio.run(call(guarded(app, deadline_seconds=2), "GET", "/"))
    assert 1.5 < left[0] <= 2
    assert left[1] == 0.5
    assert 1.3 < left[2] <= left[0] - 0.2


def test_there_is_no_request_outside_of_one() -> None:
    with pytest.raises(NoRequest, match="no request is being served here"):
        current_request()


async def slow_body(guard: Guard, chunks: list[tuple[float, bytes]], **scope: Any) -> Seen:
    """Send a body of which each chunk comes after a pause in seconds."""
    pending = list(chunks)
    seen = Seen()

    async def receive() -> Message:
        pause, chunk = pending.pop(0)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": chunk, "more_body": bool(pending)}

    async def send(message: Message) -> None:
        seen.status = message.get("status", seen.status)
        seen.body += message.get("body", b"")

    await guard(http_scope("POST", "/", [("content-length", "1000")], **scope), receive, send)
    return seen


async def reads_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await reply(send)


def test_a_body_that_pauses_for_too_long_is_refused() -> None:
    guard = guarded(reads_all, body_pause_seconds=0.2)
    seen = asyncio.run(slow_body(guard, [(0, b"x"), (5, b"x")]))
    assert (seen.status, b"body-too-slow" in seen.body) == (408, True)


def test_a_body_that_trickles_is_refused_once_the_grace_is_over() -> None:
    guard = guarded(reads_all, body_pause_seconds=0.3, body_bytes_per_second=100)
    began = time.monotonic()
    seen = asyncio.run(slow_body(guard, [(0.1, b"x")] * 50))
    assert (seen.status, b"At least 100 bytes" in seen.body) == (408, True)
    assert time.monotonic() - began < 2


def test_a_body_that_is_fast_enough_may_take_its_time() -> None:
    guard = guarded(reads_all, body_pause_seconds=0.3, body_bytes_per_second=100)
    assert asyncio.run(slow_body(guard, [(0.1, b"x" * 20)] * 8)).status == 200


def test_the_time_that_the_app_takes_between_two_reads_is_not_the_clients() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            await asyncio.sleep(0.3)
        await reply(send)

    guard = guarded(app, body_pause_seconds=0.2, body_bytes_per_second=100)
    assert asyncio.run(slow_body(guard, [(0, b"x"), (0, b"x"), (0, b"x")])).status == 200


def test_waiting_for_the_end_of_the_connection_is_not_waiting_for_a_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert not (await receive()).get("more_body")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.5)
        await reply(send)

    seen = asyncio.run(call(guarded(app, body_pause_seconds=0.1), "POST", "/", body=b"x"))
    assert seen.status == 200


def test_a_slow_body_under_a_reply_that_has_begun_cuts_the_reply() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    with pytest.raises(ReplyCut, match=r"body\.pause"):
        asyncio.run(slow_body(guarded(app, body_pause_seconds=0.1), [(5, b"x")]))


async def leave_after(seconds: float, guard: Guard, method: str = "GET", body: bytes = b"") -> list[Message]:
    """Send a request, and go away while it is answered. Returns what was sent to nobody."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if pending:
            return pending.pop()
        await asyncio.sleep(seconds)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [("content-length", str(len(body)))] if body else []
    await guard(http_scope(method, "/", headers), receive, send)
    return sent


@pytest.mark.parametrize("body", [b"", b"some"])
@pytest.mark.parametrize("attentive", [True, False])
def test_a_request_ends_with_its_client_only_where_its_policy_says_so(attentive: bool, body: bytes) -> None:  # noqa: FBT001
    finished = Finished()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with finished.watch():
            assert (await receive())["body"] == body
            await asyncio.sleep(0.4)
            await reply(send)

    guard = guarded(app, Policy("* /", cancel_on_disconnect=attentive))
    sent = asyncio.run(leave_after(0.1, guard, "POST" if body else "GET", body))
    assert finished.how == ("cancelled" if attentive else "done")
    assert sent[0]["status"] == (499 if attentive else 200)


def test_a_request_that_commits_outlives_its_client() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_request().settling = True
        await asyncio.sleep(0.3)
        await reply(send)

    sent = asyncio.run(leave_after(0.1, guarded(app, Policy("* /", cancel_on_disconnect=True))))
    assert sent[0]["status"] == 200


def test_an_app_that_reads_for_the_disconnect_itself_still_sees_it() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_request().settling = True
        heard.extend([(await receive())["type"] for _ in range(3)])
        await reply(send)

    asyncio.run(leave_after(0.05, guarded(app, Policy("* /", cancel_on_disconnect=True))))
    assert heard == ["http.request", "http.disconnect", "http.disconnect"]


def test_a_body_over_the_limit_is_refused_on_an_attentive_route_too() -> None:
    guard = guarded(reads_all, Policy("* /", cancel_on_disconnect=True, max_body_bytes=10))
    assert asyncio.run(call(guard, "POST", "/", body=[b"x" * 8, b"x" * 8], declare_length=False)).status == 413


def test_clients_that_send_slowly_hold_no_place_among_the_requests_under_way() -> None:
    guard = guarded(reads_all, max_concurrent_requests=1, min_concurrent_requests=1, body_pause_seconds=30)

    async def main() -> list[int]:
        slow: list[asyncio.Task[Seen]] = []
        for _ in range(10):
            slow.append(asyncio.create_task(slow_body(guard, [(20, b"x")])))
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                while guard._limiter.in_flight:
                    await asyncio.sleep(0.005)
        quick = [(await call(guard, "POST", "/", body=b"x")).status for _ in range(5)]
        assert not any(task.done() for task in slow), "all of them are let in, one after the other"
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return quick

    assert asyncio.run(main()) == [200] * 5


def test_more_at_once_than_there_are_places_are_told_to_come_again() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(0.2)
        await reply(send)

    guard = guarded(app, max_concurrent_requests=2, min_concurrent_requests=2)

    async def main(method: str, body: bytes | None) -> list[int]:
        seen = await asyncio.gather(*[call(guard, method, "/", body=body) for _ in range(5)])
        again = await call(guard, method, "/", body=body)
        assert again.status == 200, "the places are free again"
        return sorted(one.status for one in seen)

    for method, body in (("GET", None), ("POST", b"x")):
        statuses = asyncio.run(main(method, body))
        assert statuses.count(503) >= 3
        assert statuses.count(200) == 5 - statuses.count(503) >= 1


def test_the_time_of_a_slow_upload_is_not_taken_from_the_deadline() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        assert current_request().remaining_seconds(10) > 0.2
        await asyncio.sleep(0.1)
        await reply(send)

    guard = guarded(app, deadline_seconds=0.4)
    assert asyncio.run(slow_body(guard, [(0.3, b"x" * 500), (0.3, b"x" * 500)])).status == 200


def test_bodies_that_are_held_together_have_a_bound() -> None:
    hold = 1024 * 1024

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(0.2)
        await reply(send)

    guard = guarded(app, max_pending_bytes=hold, max_body_bytes=hold)

    async def main() -> tuple[list[int], int]:
        half = b"x" * (hold // 2)
        seen = await asyncio.gather(*[call(guard, "POST", "/", body=half) for _ in range(4)])
        return sorted(one.status for one in seen), (await call(guard, "POST", "/", body=half)).status

    assert asyncio.run(main()) == ([200, 200, 503, 503], 200)


def test_an_app_that_swallows_its_cancellation_does_not_get_its_own_reply_through() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            await reply(send, b"as if nothing had been")

    async def main() -> tuple[Seen, int]:
        seen = await call(guarded(app, deadline_seconds=0.1), "GET", "/")
        task = asyncio.current_task()
        assert task is not None
        return seen, task.cancelling()

    seen, cancelling = asyncio.run(main())
    assert (seen.status, cancelling) == (504, 0), "and the task that served it is as it was"


def test_deadlines_hold_on_each_loop_that_one_guard_is_used_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(5)
        await reply(send)

    guard = guarded(app, deadline_seconds=0.2)
    for _ in range(2):
        # The loop ends while it ticks.
        assert asyncio.run(call(guard, "GET", "/")).status == 200
        assert asyncio.run(call(guard, "GET", "/slow")).status == 504


def test_a_body_that_nobody_reads_switches_no_deadline_off() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(5)

    began = time.monotonic()
    for length, body in ((True, b"x"), (False, b"")):
        guard = guarded(app, Policy("POST /slow", deadline=0.2))
        seen = asyncio.run(call(guard, "POST", "/slow", body=body, declare_length=length))
        assert seen.json()["type"] == "urn:workhorse:problem:deadline-exceeded"
    assert time.monotonic() - began < 3


def test_a_body_that_nobody_reads_is_no_way_around_the_places() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)
        await reply(send)

    async def main() -> list[int]:
        guard = guarded(app, min_concurrent_requests=2, max_concurrent_requests=2)
        replies = await asyncio.gather(*(call(guard, "POST", "/slow", body=b"x") for _ in range(6)))
        return sorted(seen.status for seen in replies)

    statuses = asyncio.run(main())
    assert set(statuses) == {200, 503}
    assert statuses.count(200) <= 2


def test_a_reply_that_streams_holds_nothing_of_the_budget_of_bodies() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            began.set()
            await go_on.wait()
        await send({"type": "http.response.body", "body": b"ok"})

    async def main() -> int:
        guard = guarded(app, max_pending_bytes=1024 * 1024, max_body_bytes=1024 * 1024)
        first = asyncio.create_task(call(guard, "POST", "/stream", body=bytes(1024 * 1024)))
        await began.wait()
        second = await call(guard, "POST", "/", body=b"twenty bytes or more")
        go_on.set()
        await first
        return second.status

    assert asyncio.run(main()) == 200


def test_a_reply_whose_headers_cannot_be_made_is_an_error_and_no_silence() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(bytearray(b"x-a"), b"1"), ("x", 1)]})

    seen = asyncio.run(call(guarded(app), "GET", "/"))
    assert seen.status == 500


def test_a_body_that_came_fast_at_first_has_no_credit_for_later() -> None:
    guard = guarded(reads_all, body_pause_seconds=0.3, body_bytes_per_second=100)
    began = time.monotonic()
    seen = asyncio.run(slow_body(guard, [(0, b"x" * 900), *[(0.1, b"x")] * 50]))
    assert seen.status == 408
    assert time.monotonic() - began < 3  # by the rate from the beginning it would have gone on for nine seconds


def test_who_fills_the_room_for_bodies_and_ends_none_makes_way_for_others() -> None:
    megabyte = 1024 * 1024
    guard = guarded(reads_all, max_pending_bytes=megabyte, max_body_bytes=megabyte)

    async def unfinished(client: str, size: int) -> int:
        seen = Seen()
        pending = [{"type": "http.request", "body": bytes(size), "more_body": True}]

        async def receive() -> Message:
            if not pending:
                await asyncio.sleep(3)
            return pending.pop()

        async def send(message: Message) -> None:
            seen.status = message.get("status", seen.status)

        scope = http_scope("POST", "/", [("content-length", str(megabyte))], client=(client, 1))
        await guard(scope, receive, send)
        return seen.status

    async def main() -> None:
        greedy = [asyncio.create_task(unfinished("2001:db8::1", 300_000)) for _ in range(2)]
        greedy.append(asyncio.create_task(unfinished("2001:db8::2", 400_000)))
        modest = asyncio.create_task(unfinished("192.0.2.1", 40_000))
        await asyncio.sleep(0.1)
        again = await call(guard, "POST", "/", body=bytes(100_000), client=("2001:db8::3", 1))
        assert again.status == 503, "the greedy one gets no more"
        other = await call(guard, "POST", "/", body=bytes(100_000), client=("192.0.2.2", 1))
        assert other.status == 200
        assert await greedy[2] == 503, "the largest of the greedy one's makes way"
        assert not any(task.done() for task in (*greedy[:2], modest))
        for task in (*greedy[:2], modest):
            task.cancel()
        await asyncio.gather(*greedy, modest, return_exceptions=True)
        assert guard._budget.used == 0

    asyncio.run(main())


@pytest.mark.parametrize("silent", [True, False], ids=["an app that says nothing", "an app that answers"])
def test_a_body_that_breaks_off_is_told_as_such(silent: bool) -> None:  # noqa: FBT001
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        if not silent:
            await reply(send, b"done")

    pending: list[Message] = [
        {"type": "http.request", "body": b"ha", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return pending.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    metrics = Registry(None)
    guard = Guard(app, compile_plan(GuardSettings()), metrics=metrics)
    asyncio.run(guard(http_scope("POST", "/", [("content-length", "10")]), receive, send))
    assert sent[0]["status"] == 400
    assert b"body-incomplete" in sent[1]["body"]
    assert b'workhorse_refusals_total{control="body.broken_off"} 1' in metrics.render()


def test_an_app_that_looks_whether_its_client_is_there_keeps_its_deadline_and_its_place() -> None:
    most = 0
    at_work = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal most, at_work
        at_work += 1
        most = max(most, at_work)
        try:
            for _ in range(40):
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await receive()
                await asyncio.sleep(0.05)
        finally:
            at_work -= 1
        await reply(send)

    async def never() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async def ask(guard: Guard) -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await guard(http_scope("POST", "/", [("content-length", "1")]), never, send)
        return int(sent[0]["status"])

    async def main() -> list[int]:
        guard = guarded(app, deadline_seconds=0.5, min_concurrent_requests=4, max_concurrent_requests=4)
        first = asyncio.create_task(ask(guard))
        await asyncio.sleep(0.1)
        rest = await asyncio.gather(*(ask(guard) for _ in range(10)))
        answers = [await first, *rest]
        assert guard._limiter.in_flight == 0
        return answers

    statuses = asyncio.run(main())
    assert statuses[0] == 504
    assert statuses.count(503) >= 6
    assert most <= 4


def test_reading_ahead_for_a_client_that_withholds_its_body_is_no_waiting_of_the_apps() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(5)

    async def never() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    guard = guarded(app, Policy("* /", cancel_on_disconnect=True, deadline=0.3))
    began = time.monotonic()
    asyncio.run(guard(http_scope("POST", "/", [("content-length", "1")]), never, send))
    assert sent[0]["status"] == 504
    assert time.monotonic() - began < 2


def test_an_attentive_route_gives_a_slow_upload_its_time() -> None:
    guard = guarded(reads_all, Policy("* /", cancel_on_disconnect=True, deadline=0.5))
    assert asyncio.run(slow_body(guard, [(0.4, b"x" * 500), (0.4, b"x" * 500)])).status == 200
