"""Sessions kept in Postgres: each call is one statement, in one round trip and one transaction.

A rotation updates the session's row instead of replacing it by another. So who ends all sessions of a subject at the
same moment waits for that row and then deletes it under its new secret: no session slips through.

What the promise rests on: a session that was ended is gone for everybody as soon as the statement has committed, and
on a replica as soon as the replica has heard of it. Let stores read from the primary.
"""

from collections.abc import Sequence
from secrets import token_bytes

from workhorse.contracts import Database, SessionRecord
from workhorse.sql import load_queries
from workhorse.state.postgres.statements import Statements

__all__ = ["PostgresSessions"]


class PostgresSessions:
    """A `contracts.SessionStore` that all processes with the same database share.

    Args:
        database: where migration 0003 has been applied.
        timeout_seconds: longest wait for one answer, that for a free connection included.
    """

    def __init__(self, database: Database, *, timeout_seconds: float = 2.0) -> None:
        queries = load_queries("workhorse.state.postgres", "sql/sessions.sql")
        self._statements = Statements(database, queries, timeout_seconds=timeout_seconds)

    async def insert(self, session: SessionRecord, *, replaces: bytes | None = None) -> None:
        """Keep a new session, and end the one that it replaces."""
        await self._statements.run("insert", replaces, *_params(session))

    async def find(self, digest: bytes, *, now: float) -> SessionRecord | None:
        """The session, unless it has ended."""
        rows = await self._statements.run("find", digest, repr(now))
        return SessionRecord(*rows[0]) if rows else None

    async def touch(self, digest: bytes, *, seen: float) -> None:
        """Note that it was used."""
        await self._statements.run("touch", repr(seen), digest)

    async def write(self, digest: bytes, *, data: bytes, version: int) -> bool:
        """Replace the data of one version."""
        ((written,),) = await self._statements.run("write", digest, data, version, token_bytes(16))
        return bool(written)

    async def rotate(self, digest: bytes, fresh: SessionRecord) -> bool:
        """Replace the session by `fresh`."""
        ((rotated,),) = await self._statements.run("rotate", digest, *_params(fresh))
        return bool(rotated)

    async def delete(self, digest: bytes) -> bool:
        """End a session."""
        return bool(await self._statements.run("delete", digest))

    async def delete_one(self, subject: str, public_id: str) -> bool:
        """End the subject's session of this name."""
        return bool(await self._statements.run("delete_one", subject, public_id))

    async def delete_all(self, subject: str, *, keep: str | None = None) -> int:
        """End the subject's sessions, but for one."""
        ((count,),) = await self._statements.run("delete_all", subject, keep)
        return int(count)

    async def list(self, subject: str, *, now: float) -> Sequence[SessionRecord]:
        """The subject's sessions that are alive, the last used first."""
        rows = await self._statements.run("list", subject, repr(now))
        return [SessionRecord(*row) for row in rows]

    async def purge(self, *, now: float) -> int:
        """Delete up to 1,000 sessions that have ended. They go within a quarter of an hour after their end."""
        ((count,),) = await self._statements.run("purge", repr(now))
        return int(count)


def _params(session: SessionRecord) -> tuple[str | int | bytes, ...]:
    return (
        session.digest,
        session.public_id,
        session.subject,
        repr(session.created),
        repr(session.seen),
        repr(session.expires),
        session.idle_seconds,
        session.grants,
        session.data,
        session.version,
    )
