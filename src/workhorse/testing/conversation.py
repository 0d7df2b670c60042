"""Follows one connection to Postgres: where its round trips begin and end, and which of them commit.

A round trip is what a client asks up to a Query, FunctionCall or Sync, and what the server answers up to its
ReadyForQuery. Four moments of it matter to who breaks connections:

    client ─ROUND_TRIP_SENT─▶ ... ─COMMIT_SENT─▶ server commits ─COMMIT_ANSWERED─▶ ... ─ROUND_TRIP_ANSWERED─▶ client

Each is right before the bytes pass that it is about. A connection that is cut at COMMIT_SENT has rolled back; one that
is cut at COMMIT_ANSWERED has committed, and its client cannot know.

Pure: bytes in, steps out. A prepared statement is remembered by its name, because a driver says COMMIT only once and
its name from then on. What is not seen: a commit inside of a procedure, and those that a statement outside of a
transaction makes by itself; the latter ends at its round trip's end.
"""

import re
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from workhorse.testing.messages import Message, MessageReader, Opening, WireError

__all__ = ["Answer", "Conversation", "Moment", "MomentKind", "Pass", "RoundTrip"]

SHOWN_BYTES: Final = 200
MAX_SHOWN: Final = 16
MAX_STATEMENTS: Final = 10_000

# Bind, Close, Describe, Execute, FunctionCall, Flush, Parse, Query, Sync. Not: passwords, COPY data, Terminate.
_BEGINS: Final = frozenset({b"B", b"C", b"D", b"E", b"F", b"H", b"P", b"Q", b"S"})
_ENDS: Final = frozenset({b"F", b"Q", b"S"})
# CopyInResponse, CopyBothResponse.
_TAKES_COPY: Final = frozenset({b"G", b"W"})
_REFUSED: Final = b"N"

_BLANK: Final = rb"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_COMMITS: Final = re.compile(_BLANK + rb"(?:COMMIT|END|PREPARE\s+TRANSACTION)\b", re.IGNORECASE | re.DOTALL)
# Behind another statement in one text. Not END, which also ends a CASE and a block.
_COMMITS_LATER: Final = re.compile(rb";" + _BLANK + rb"COMMIT\b", re.IGNORECASE | re.DOTALL)
_COMMITTED: Final = (b"COMMIT", b"PREPARE TRANSACTION")


class MomentKind(StrEnum):
    """Which moment of a round trip it is."""

    MESSAGE_SENT = "message sent"
    """The client has sent a message, and it is about to be passed to the server."""
    ROUND_TRIP_SENT = "round trip sent"
    """The first message of a round trip is about to be passed to the server."""
    COMMIT_SENT = "commit sent"
    """The statement that commits is about to be passed; what came before it in its round trip has been."""
    COMMIT_ANSWERED = "commit answered"
    """The server has committed, and the client has not heard of it."""
    ROUND_TRIP_ANSWERED = "round trip answered"
    """The server has done the whole round trip, and the client has not heard of its end."""


@dataclass(slots=True)
class RoundTrip:
    """One round trip: its number on its connection from 1, and the beginnings of its statements."""

    number: int
    statements: list[str] = field(default_factory=list[str])
    by_sync: bool = False
    commits: int = 0
    """How many of its statements commit, as far as they have come."""

    def note(self, statement: bytes) -> None:
        """Remember the beginning of a statement."""
        if len(self.statements) < MAX_SHOWN:
            self.statements.append(" ".join(statement[:SHOWN_BYTES].decode("utf-8", "replace").split()))


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a round trip."""

    kind: MomentKind
    trip: RoundTrip | None = None
    """None for what belongs to none, such as a password."""
    idle: bool = False
    """Whether no transaction is open; known where the round trip is answered."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Bytes to pass on."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes to send back to the client, in place of the server."""

    data: bytes


class Conversation:
    """What was said on one connection so far."""

    def __init__(self) -> None:
        self._client = MessageReader(opening=True)
        self._server = MessageReader()
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}
        self._open: RoundTrip | None = None
        self._pending: deque[RoundTrip] = deque()
        self._begun = 0
        self._ready = False
        self._idle = True

    @property
    def resting(self) -> bool:
        """Whether the server owes no answer, and no transaction is open."""
        return self._open is None and not self._pending and self._idle

    def from_client(self, data: bytes) -> list[Pass | Answer | Moment]:
        """Take what the client sent.

        Raises:
            WireError: it is not of the protocol.
        """
        steps: list[Pass | Answer | Moment] = []
        for message in self._client.feed(data):
            if not message.kind and message.opening in {Opening.TLS, Opening.GSS}:
                # Encryption could not be read. A client that does not insist on it goes on without.
                steps.append(Answer(_REFUSED))
                continue
            if message.kind in _BEGINS:
                steps += self._ask(message)
            if message.kind:
                steps.append(Moment(MomentKind.MESSAGE_SENT, self._open or (self._pending or [None])[-1]))
            steps.append(Pass(message.data))
        return steps

    def from_server(self, data: bytes) -> list[Pass | Answer | Moment]:
        """Take what the server sent.

        Raises:
            WireError: it is not of the protocol.
        """
        steps: list[Pass | Answer | Moment] = []
        for message in self._server.feed(data):
            if message.kind == b"Z":
                self._idle = message.body == b"I"
                if not self._ready:
                    self._ready = True
                elif self._pending:
                    steps.append(Moment(MomentKind.ROUND_TRIP_ANSWERED, self._pending.popleft(), self._idle))
            elif message.kind == b"C" and message.body.startswith(_COMMITTED):
                trip = self._pending[0] if self._pending else self._open
                steps.append(Moment(MomentKind.COMMIT_ANSWERED, trip))
            elif message.kind in _TAKES_COPY and self._pending and self._pending[0].by_sync:
                # A Sync that came before the data of a COPY is ignored, and another one follows the data
                # (PostgreSQL documentation, "COPY Operations"): the round trip goes on.
                self._open = self._pending.popleft()
            steps.append(Pass(message.data))
        return steps

    def _ask(self, message: Message) -> list[Moment]:
        """A message that asks for something."""
        moments: list[Moment] = []
        trip = self._open
        if trip is None:
            self._begun += 1
            trip = self._open = RoundTrip(self._begun)
            moments.append(Moment(MomentKind.ROUND_TRIP_SENT, trip))
        statement = self._statement(message)
        if statement is not None:
            trip.note(statement)
            if commits(statement, alone=message.kind != b"Q"):
                trip.commits += 1
                moments.append(Moment(MomentKind.COMMIT_SENT, trip))
        if message.kind in _ENDS:
            trip.by_sync = message.kind == b"S"
            self._pending.append(trip)
            self._open = None
        return moments

    def _statement(self, message: Message) -> bytes | None:
        """The text of the statement that a message runs, if it runs one."""
        body = message.body
        match message.kind:
            case b"Q":
                return body.rstrip(b"\0")
            case b"P":
                name, text = _words(body)
                self._statements[name] = text[: SHOWN_BYTES * 4]
                if len(self._statements) > MAX_STATEMENTS:
                    del self._statements[next(iter(self._statements))]
            case b"B":
                portal, name = _words(body)
                self._portals[portal] = self._statements.get(name, b"")
                if len(self._portals) > MAX_STATEMENTS:
                    del self._portals[next(iter(self._portals))]
            case b"E":
                return self._portals.get(body.split(b"\0", 1)[0], b"")
            case b"C":
                names = self._statements if body[:1] == b"S" else self._portals
                names.pop(body[1:].rstrip(b"\0"), None)
            case _:
                pass
        return None


def _words(body: bytes) -> tuple[bytes, bytes]:
    """The two strings that a Parse or Bind begins with."""
    first, zero, rest = body.partition(b"\0")
    second, further, _ = rest.partition(b"\0")
    if not zero or not further:
        raise WireError("a Parse or Bind message names no statement: is this another protocol?")
    return first, second


def commits(statement: bytes, *, alone: bool) -> bool:
    """Whether a statement commits; or, unless it is `alone`, one of several in the text."""
    if _COMMITS.match(statement):
        return True
    # In a text with dollar quotes, that of a function or block, the word need not be a statement.
    return not alone and b"$" not in statement and _COMMITS_LATER.search(statement) is not None
