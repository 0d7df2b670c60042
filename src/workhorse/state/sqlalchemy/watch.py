"""Keeps the end of a unit's transaction out of the app's hands, on connections that SQLAlchemy owns.

SQLAlchemy tells its listeners of a commit before it does it, whoever asked for one: `connection.commit()`, a
transaction object's, or an engine's. A listener that raises prevents it. A COMMIT or ROLLBACK that is sent as text is
seen by the next answer of the server, each of which tells whether a transaction is open: after it, nothing may
follow, since the driver would begin another transaction without a word.

A session's commit is no such thing: on a unit's connection a session works inside a savepoint (`sessions`).
"""

from typing import Any, Final

from sqlalchemy import Connection, Engine, event

from workhorse.errors import UnitError

__all__ = ["TORN", "Watch", "watch_engine", "watch_of"]

TORN: Final = "the transaction was ended by a COMMIT or ROLLBACK that was not the unit's"
KEY: Final = "workhorse.unit"


class Watch:
    """What is known of the transaction on one connection."""

    __slots__ = ("idle", "raw", "spoiled", "torn")

    def __init__(self, raw: Any, idle: Any) -> None:
        self.raw = raw
        self.idle = idle
        """Tells of the driver's connection whether no transaction is open."""
        self.torn = False
        """Whether others ended the transaction."""
        self.spoiled = False
        """Whether others tried to: SQLAlchemy then thinks it ended, so its pool must not have the connection back."""

    def look(self) -> None:
        """Note what the server's last answer said."""
        if self.idle(self.raw):
            self.torn = self.spoiled = True


def watch_engine(engine: Engine) -> None:
    """Listen on an engine. Connections that are in no unit are let be; listening twice changes nothing."""
    for name, listener in (("commit", on_commit), ("rollback", on_rollback)):
        if not event.contains(engine, name, listener):
            event.listen(engine, name, listener)
    if not event.contains(engine, "before_cursor_execute", before_statement):
        event.listen(engine, "before_cursor_execute", before_statement)
        event.listen(engine, "after_cursor_execute", after_statement)


def watch_of(connection: Connection) -> Watch | None:
    """The watch over the unit on this connection, if there is one."""
    return None if connection.closed else connection.info.get(KEY)


def on_commit(connection: Connection) -> None:
    """Refuse a commit that is not the unit's."""
    watch = watch_of(connection)
    if watch is not None:
        watch.spoiled = True
        raise UnitError(
            "the unit commits by itself, with a reply below 400. A session's commit() is harmless: it only flushes."
        )


def on_rollback(connection: Connection) -> None:
    """Note a rollback that is not the unit's."""
    watch = watch_of(connection)
    if watch is not None:
        watch.torn = watch.spoiled = True


def before_statement(connection: Connection, *_: object) -> None:
    """Refuse what would begin another transaction."""
    watch = watch_of(connection)
    if watch is not None and watch.torn:
        raise UnitError(TORN)


def after_statement(connection: Connection, *_: object) -> None:
    """Look at what the server said."""
    watch = watch_of(connection)
    if watch is not None:
        watch.look()
