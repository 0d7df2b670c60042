"""One request and its reply: what others may know of it, and the wrapper of what is sent, in one object.

Objects and coroutine frames, not checks, are what a layer of ASGI costs. So this is one slotted object a request, and
`send` is a plain function that returns the server's own awaitable.

A refusal while the app reads the body cannot be made by an exception alone, because frameworks turn any failed read
into a reply of their own: the refusal is noted, and replaces what the app then says. A request whose time is over is
ended by cancelling its task, and answered where the cancellation arrives.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from workhorse.asgi import Headers, Message, Send
from workhorse.context import RequestContext
from workhorse.guard.checks.content_type import MediaType
from workhorse.guard.facts import Facts
from workhorse.guard.headers import reply_headers
from workhorse.guard.plan import Plan
from workhorse.guard.problems import ClientGone, DeadlineExceeded
from workhorse.guard.routes import Route
from workhorse.guard.shedding import SHED, Limiter
from workhorse.guard.verdict import Refusal
from workhorse.guard.watch import Watch
from workhorse.telemetry.trace import accept_request_id, new_trace_id, trace_id_of

__all__ = ["Exchange", "Paced", "Refused", "ReplyIncomplete"]

CLIENT_ERROR: Final = 400
# Their Content-Length, if they have one, is that of another reply (RFC 9110, section 8.6).
BODILESS: Final = frozenset({204, 304})


class Refused(Exception):  # not a WorkhorseError: it never leaves the guard
    """Ends the app's reading of a body that is refused."""


class Waits(Protocol):
    """Knows whether the app waits for its client."""

    @property
    def waiting(self) -> bool:
        """Whether it does."""
        ...

    @property
    def waited_seconds(self) -> float:
        """How long it has so far."""
        ...


class Paced(Waits, Protocol):
    """A body that must come in time (see `body`)."""

    def pause(self, now: float) -> Refusal | None:
        """Refuse it if it comes too slowly."""
        ...

    def release(self) -> None:
        """Let go of it."""
        ...


class Recorded(Protocol):
    """Records how the request ends."""

    control: str
    """The check that has refused it."""


class _Never:
    """No body is waited for."""

    waiting = False
    waited_seconds = 0.0


NEVER: Final = _Never()


class ReplyIncomplete(Exception):  # not a WorkhorseError: only the server sees it
    """The reply ended before the length that it declared, so that the connection must be closed (RFC 9112, 6.3)."""

    def __init__(self, sent: int, declared: int) -> None:
        super().__init__(f"the app's reply has {sent} bytes, and its Content-Length says {declared}")


class Exchange(RequestContext):
    """One request and its reply."""

    __slots__ = (
        "_body",
        "_declared",
        "_entered_at",
        "_expired",
        "_is_head",
        "_limiter",
        "_plan",
        "_send",
        "_task",
        "_watch",
        "arrived",
        "body_type",
        "bytes_out",
        "complete",
        "ended_at",
        "error",
        "extra",
        "finished",
        "overlong",
        "overridden",
        "private",
        "recording",
        "refusal",
        "route",
        "started",
        "status",
        "tls",
        "waits",
    )

    def __init__(self, plan: Plan, facts: Facts, send: Send, arrived: float) -> None:
        super().__init__()
        self._plan = plan
        self._send = send
        self.arrived: Final = arrived
        self.route: Route = plan.routes.unmatched
        self.tls = facts.tls
        self.private = False
        """Whether the reply may be for this caller only."""
        self.extra: Headers = []
        """Headers that the guard adds to the reply, beside those for its kind."""
        self.overridden: Headers = []
        """The app's own headers that took the place of the guard's."""
        self.recording: Recorded | None = None
        """What records how it ends, where its route is audited."""
        self.refusal: Refusal | None = None
        self.started = False
        self.finished = False
        self.ended_at = 0.0
        """When the last of the reply was handed to the server; 0: it has not been."""
        self.status = 0
        self.bytes_out = 0
        self._declared = -1
        """Bytes of the reply's body by its Content-Length; -1: it declares none, or has no body."""
        self._is_head = facts.method == "HEAD"
        self.overlong = False
        """Whether the app sent more than it declared, which was cut off."""
        self.error: BaseException | None = None
        """What the app raised, if nobody expected it."""
        self.body_type: MediaType | None = None
        """What the body is; None where none follows."""
        self.complete = True
        """Whether all of the body has come in."""
        self._body: Paced | None = None
        self.waits: Waits = NEVER
        """What knows whether the app waits: the body, or what reads it ahead for the app."""
        # The end before its time.
        self._watch: Watch | None = None
        """What looks at the time; None before it begins, and once nothing is left that it could end."""
        self._task: asyncio.Task[object] | None = None
        self._expired = False
        self._entered_at = 0.0
        self._limiter: Limiter | None = None
        self.client = facts.client
        given = facts.headers.get(b"traceparent")
        self.trace_id = (trace_id_of(given) if given is not None else None) or new_trace_id()
        given = facts.headers.get(b"x-request-id")
        self.request_id = given if given is not None and accept_request_id(given) else self.trace_id

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message of the reply on, with the guard's headers on its start."""
        kind = message["type"]
        if kind == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
            if self.bytes_out > self._declared >= 0:
                message = self._cut(message)
            if not message.get("more_body", False):
                if self.bytes_out < self._declared:
                    raise ReplyIncomplete(self.bytes_out, self._declared)
                self.finished = True
                self.ended_at = monotonic()
            return self._send(message)
        if kind == "http.response.start":
            if self.refusal is not None and not self.started:
                # The app answers the read that was refused: what the client gets is the refusal.
                raise Refused
            status = message["status"]
            own = message.get("headers")
            cookies = self.set_cookies
            if self.login_cookies and status < CLIENT_ERROR:
                cookies = cookies + self.login_cookies
            headers = reply_headers(
                self._plan.headers,
                own if own is not None else (),
                tls=self.tls,
                private=self.private or bool(cookies),
                nonce=self._nonce,
                status=status,
                overridden=self.overridden,
            )
            headers += self.extra
            if cookies:
                headers += [(b"set-cookie", value) for value in cookies]
            headers.append((b"x-request-id", self.request_id))
            if status >= 200 and status not in BODILESS and not self._is_head:
                self._declared = declared_length(own)
            # Only now: a reply whose headers cannot be made has not begun, and the client gets ours.
            self._start(status)
            if own is not None and len(message) == 3:  # nothing else is in it; to copy it would cost more
                return self._send({"type": kind, "status": status, "headers": headers})
            return self._send({**message, "headers": headers})
        if kind == "http.response.pathsend":
            self._send_file(message["path"])
        return self._send(message)

    def go_through(self, send: Send) -> Send:
        """Send the reply through `send` from now on. Returns what it went to before."""
        before, self._send = self._send, send
        return before

    def expect(self, body: Paced) -> None:
        """Note that a body follows."""
        self.complete = False
        self._body = self.waits = body

    def begin(self, watch: Watch) -> None:
        """Begin the time of this request, which runs in the current task."""
        self.deadline = self.arrived + self.route.deadline_seconds
        self._task = asyncio.current_task()
        self._watch = watch
        watch.add(self)

    def body_came(self) -> None:
        """Note that all of the body is here. The time that was spent waiting for the client is not this request's."""
        self.complete = True
        self.deadline += self.waits.waited_seconds
        if self.started:
            self._unwatch()

    def enter(self, limiter: Limiter) -> bool:
        """Take a place among the requests under way, or count its time anew. False: there is none."""
        if self._limiter is None and not limiter.try_enter(self.route.priority):
            return False
        self._limiter = limiter
        self._entered_at = monotonic()
        return True

    def begin_wait(self) -> None:
        """The client is waited for from now on."""
        if self._watch is not None and self._limiter is not None:
            self._watch.soon(self)

    def end_wait(self) -> None:
        """It has come, or is waited for no more."""
        if self._watch is not None:
            self._watch.no_more(self)

    def stand_aside(self) -> None:
        """Give the place to others if the client is still waited for: one that sends slowly must not hold it."""
        if self.waits.waiting:
            self.step_aside()

    def step_aside(self) -> None:
        """Give the place to others while the client is waited for; with the rest of the body another is taken."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.leave_unmeasured()

    def come_back(self, limiter: Limiter) -> None:
        """The client is waited for no more: take a place again, or end the request if there is none."""
        if self._limiter is not None or self._expired or self.started or self._task is None:
            return
        if not self.enter(limiter):
            self.expire(SHED)

    def leave(self) -> None:
        """Give the place to others: the reply begins, or the request ends."""
        limiter = self._limiter
        if limiter is None:
            return
        self._limiter = None
        if self._expired or (self.refusal is None and self.status < CLIENT_ERROR):
            limiter.leave(monotonic() - self._entered_at, dropped=self._expired)
        else:
            # An error of the client's is told at once, and says nothing of how long requests take.
            limiter.leave_unmeasured()

    def end(self) -> None:
        """Let go of all that knows of it."""
        if self._limiter is not None:
            self.leave()
        if self._watch is not None:
            self._unwatch()
        if self._expired:
            self._take_back()  # the app has swallowed it
        if self._body is not None:
            self._body.release()
        self._task = None  # which holds the frames that hold this

    def claim_cancellation(self) -> bool:
        """Whether the cancellation that has arrived is this one's own, and nobody else's beside."""
        return self._expired and self._take_back() == 0

    def _take_back(self) -> int:
        """Take the cancellation back, so that the task may go on. Returns how many others there are."""
        task, self._task = self._task, None
        return task.uncancel() if task is not None else 0

    def look(self, now: float) -> None:
        """End it if its time is over (see `watch`)."""
        if self._expired or self.settling or self.finished or self._task is None:
            return
        refusal, deadline, body = None, self.deadline, self._body
        if not self.complete and body is not None:
            refusal = body.pause(now)
            # While the app waits for the client, it is the body's pace that counts; else the app works, with or without
            # having read all of it, and the time that it waited is added as it is once all has come.
            deadline = now if self.waits.waiting else deadline + self.waits.waited_seconds
        if refusal is None and not self.started and now > deadline:
            refusal = Refusal("deadline", DeadlineExceeded())
        if refusal is not None:
            self.expire(refusal)

    def expire(self, refusal: Refusal) -> None:
        """End it, with this answer if none has begun."""
        assert self._task is not None
        self.refusal = refusal
        self._expired = True
        self._task.cancel()

    def crowd_out(self, refusal: Refusal) -> None:
        """End it while its body comes in, because others need the room that it holds."""
        if not (self._expired or self.settling or self.finished) and self._task is not None:
            self.expire(refusal)

    def client_gone(self) -> None:
        """End it, because nobody waits for it; not once it is being committed, or has ended by itself."""
        if not (self._expired or self.settling or self.finished) and self._task is not None:
            self.expire(Refusal("disconnect", ClientGone()))
            limiter, self._limiter = self._limiter, None
            if limiter is not None:
                limiter.leave_unmeasured()

    def _start(self, status: int) -> None:
        self.started = True
        self.status = status
        if self.complete:  # else its body may still come too slowly
            self._unwatch()
            if self._body is not None:
                self._body.release()
        if self._limiter is not None:
            self.leave()

    def _cut(self, message: Message) -> Message:
        """What is left to be said of a reply that says more than it has declared.

        Threat: the rest would be the reply to the next request on the connection, which may be another user's, where a
            server sends it (CWE-444).
        """
        body: bytes = message["body"]
        over = self.bytes_out - self._declared
        self.bytes_out = self._declared
        self.overlong = True
        return {**message, "body": body[: len(body) - over]}

    def _send_file(self, path: str) -> None:
        """Note that the rest of the reply is a file, which the server reads by itself (ASGI extension Path Send)."""
        self.finished = True
        self.ended_at = monotonic()
        with suppress(OSError):  # the server tells the client, and how much of it was sent nobody knows
            self.bytes_out += Path(path).stat().st_size

    def _unwatch(self) -> None:
        watch = self._watch
        if watch is not None:
            self._watch = None
            watch.discard(self)


def declared_length(own: Iterable[tuple[bytes, bytes]] | None) -> int:
    """The Content-Length that the app gave its reply; -1: none, or none that is a number."""
    for name, value in own or ():
        if name == b"content-length" or name.lower() == b"content-length":
            return int(value) if value.isdigit() else -1
    return -1
