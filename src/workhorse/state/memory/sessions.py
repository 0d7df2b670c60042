"""Sessions in this process's own memory: for tests, and for one process that may forget them when it ends.

Nothing here awaits between a look and the change that follows from it, so each method is one step on the event loop.
The number of sessions is bounded. When it is reached, those that have ended go first, and then the ones that were not
used for the longest: who logs in is always let in, and the price is paid by who was away.
"""

import heapq
from collections.abc import Sequence
from typing import Final

from workhorse.contracts import SessionRecord
from workhorse.errors import SettingsError

__all__ = ["MemorySessions"]

MAX_LISTED: Final = 100


class MemorySessions:
    """A `contracts.SessionStore` of one process. It is used from one thread, that of the event loop.

    Args:
        max_sessions: sessions kept at most; one takes about a kilobyte, and what it holds.

    Raises:
        SettingsError: `max_sessions` is below 1.
    """

    def __init__(self, *, max_sessions: int = 65_536) -> None:
        if max_sessions < 1:
            raise SettingsError(f"max_sessions={max_sessions} keeps nobody logged in; let it be 1 at least")
        self._bound = max_sessions
        self._sessions: dict[bytes, SessionRecord] = {}
        self._by_subject: dict[str, set[bytes]] = {}

    def __len__(self) -> int:
        """How many sessions are kept; some may have ended."""
        return len(self._sessions)

    async def insert(self, session: SessionRecord, *, replaces: bytes | None = None) -> None:
        """Keep a new session, and end the one that it replaces."""
        if replaces is not None:
            self._drop(replaces)
        self._keep(session)

    async def find(self, digest: bytes, *, now: float) -> SessionRecord | None:
        """The session, unless it is gone or has ended."""
        session = self._sessions.get(digest)
        return session if session is not None and now < session.ends else None

    async def touch(self, digest: bytes, *, seen: float) -> None:
        """Note that it was used."""
        session = self._sessions.get(digest)
        if session is not None and session.seen < seen < session.ends:
            self._sessions[digest] = session._replace(seen=seen)

    async def write(self, digest: bytes, *, data: bytes, version: int) -> bool:
        """Replace the data of one version."""
        session = self._sessions.get(digest)
        if session is None or session.version != version:
            return False
        self._sessions[digest] = session._replace(data=data, version=version + 1)
        return True

    async def rotate(self, digest: bytes, fresh: SessionRecord) -> bool:
        """Replace the session by `fresh`."""
        session = self._sessions.get(digest)
        if session is None or session.version != fresh.version - 1 or session.ends <= fresh.seen:
            return False
        self._drop(digest)
        self._keep(fresh)
        return True

    async def delete(self, digest: bytes) -> bool:
        """End a session."""
        return self._drop(digest)

    async def delete_one(self, subject: str, public_id: str) -> bool:
        """End the subject's session of this name."""
        named = [session.digest for session in self._of(subject) if session.public_id == public_id]
        return sum(map(self._drop, named)) > 0

    async def delete_all(self, subject: str, *, keep: str | None = None) -> int:
        """End the subject's sessions, but for one."""
        return sum([self._drop(session.digest) for session in self._of(subject) if session.public_id != keep])

    async def list(self, subject: str, *, now: float) -> Sequence[SessionRecord]:
        """The subject's sessions that are alive, the last used first."""
        alive = (session for session in self._of(subject) if now < session.ends)
        return heapq.nlargest(MAX_LISTED, alive, key=lambda session: session.seen)

    async def purge(self, *, now: float) -> int:
        """Forget all that have ended."""
        return sum([self._drop(session.digest) for session in tuple(self._sessions.values()) if session.ends <= now])

    def _of(self, subject: str) -> tuple[SessionRecord, ...]:
        return tuple(self._sessions[digest] for digest in self._by_subject.get(subject, ()))

    def _keep(self, session: SessionRecord) -> None:
        if len(self._sessions) >= self._bound:
            self._make_room(session.seen)
        self._sessions[session.digest] = session
        self._by_subject.setdefault(session.subject, set()).add(session.digest)

    def _make_room(self, now: float) -> None:
        # An eighth at once, so that not each login looks through all of them.
        wanted = max(1, self._bound // 8)
        first = heapq.nsmallest(wanted, self._sessions.values(), key=lambda kept: (kept.ends > now, kept.seen))
        for session in first:
            self._drop(session.digest)

    def _drop(self, digest: bytes) -> bool:
        session = self._sessions.pop(digest, None)
        if session is None:
            return False
        others = self._by_subject[session.subject]
        others.discard(digest)
        if not others:
            del self._by_subject[session.subject]
        return True
