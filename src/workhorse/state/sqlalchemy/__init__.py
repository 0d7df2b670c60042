"""Units on an app's own SQLAlchemy engine, so that its models, its jobs and its events commit on one connection.

    from workhorse.state.sqlalchemy import SQLAlchemyDatabase, session

    work = await unit()
    session(work).add(Account(...))           # an AsyncSession on the unit's connection

Needs the extra `sqlalchemy`: nothing else of the package imports it.
"""

from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from workhorse.errors import UnitError
from workhorse.state.sqlalchemy.database import SQLAlchemyDatabase
from workhorse.state.sqlalchemy.threaded import SQLAlchemySyncDatabase

__all__ = ["SQLAlchemyDatabase", "SQLAlchemySyncDatabase", "session", "sync_session"]


class HasSession(Protocol):
    """A `Work`, or a `SyncWork`."""

    @property
    def session(self) -> Any:
        """The session of its transaction."""
        ...


def session(work: HasSession) -> AsyncSession:
    """The session of a unit on a `SQLAlchemyDatabase`; always the same.

    It works inside a savepoint of the unit's transaction. So `session.commit()`, which existing code is full of,
    flushes and is otherwise harmless: nothing is committed before the unit is. `session.rollback()` undoes what the
    session did since its last commit, with the events and jobs of that time, and the unit goes on. What the session
    has not flushed by the end of the unit is flushed then.

    Raises:
        UnitError: the unit runs over something else.
        UnitClosed: it has ended.
    """
    found = work.session
    if not isinstance(found, AsyncSession):
        raise UnitError("this unit runs over a sync engine: use sync_session(work)")
    return found


def sync_session(work: HasSession) -> Session:
    """The session of a unit on a `SQLAlchemySyncDatabase`, which behaves as that of `session`.

    Raises:
        UnitError: the unit runs over something else.
        UnitClosed: it has ended.
    """
    found = work.session
    if not isinstance(found, Session):
        raise UnitError("this unit runs over an async engine: use session(work) in a handler that is async")
    return found
