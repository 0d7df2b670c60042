"""What a driver's error says of the transaction: it may be run again, its connection is gone, it took too long.

Told by the SQLSTATE (PostgreSQL manual, appendix A), which the errors of psycopg, asyncpg and psycopg2 carry, however
deep other errors wrap them: so an app may use any driver, behind SQLAlchemy or inside a task group.
"""

from collections.abc import Iterator
from typing import Final, cast

__all__ = ["conflicted", "disconnected", "overwhelmed", "related", "sqlstates", "timed_out"]

# Class 40, transaction rollback: serialization_failure and deadlock_detected (PostgreSQL manual, appendix A).
CONFLICTS: Final = frozenset({"40001", "40P01"})
# admin_shutdown, crash_shutdown, cannot_connect_now: the server's last words before the socket closes; then
# connection_failure and connection_does_not_exist, which the drivers say.
LOST: Final = frozenset({"57P01", "57P02", "57P03", "08006", "08003"})
# query_canceled (statement_timeout), lock_not_available (lock_timeout), idle_in_transaction_session_timeout.
TIMEOUTS: Final = frozenset({"57014", "55P03", "25P03"})
# Class 53, insufficient resources (disk_full, out_of_memory, too_many_connections), and io_error: trouble of its own.
OVERWHELMED: Final = frozenset({"53000", "53100", "53200", "53300", "53400", "58030"})
# How many errors are looked at for a driver's one among their causes; a bound, because the chains can be circular.
WRAPPINGS: Final = 64


def related(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it wraps: its causes, the `orig` of SQLAlchemy's wrappers, and the members of groups."""
    queue: list[object] = [error]
    seen: set[int] = set()
    while queue and len(seen) < WRAPPINGS:
        current = queue.pop(0)
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            queue += [getattr(current, name, None) for name in ("orig", "__cause__", "__context__")]
            queue += cast("tuple[object, ...]", getattr(current, "exceptions", ()))


def sqlstates(error: BaseException) -> set[str]:
    """The SQLSTATEs of `error` and of what it wraps, whichever driver's: psycopg, asyncpg and psycopg2 have one."""
    states = (getattr(one, "sqlstate", None) or getattr(one, "pgcode", None) for one in related(error))
    return {state for state in states if isinstance(state, str)}


def constraint(error: BaseException) -> str | None:
    """The name of the constraint that `error` is about: psycopg has it in its diagnostics, asyncpg on the error."""
    return cast("str | None", getattr(getattr(error, "diag", error), "constraint_name", None))


def conflicted(error: BaseException) -> bool:
    """Whether the transaction lost to another, and may be run again."""
    if not CONFLICTS.isdisjoint(sqlstates(error)):
        return True
    # Under REPEATABLE READ, a claim may not see a reply that was committed while it waited; its key does.
    return any(constraint(one) == "replies_pkey" for one in related(error))


def disconnected(error: BaseException) -> bool:
    """Whether the server ended the connection, which may not show on the socket yet."""
    return not LOST.isdisjoint(sqlstates(error))


def timed_out(error: BaseException) -> bool:
    """Whether a statement ran or waited too long."""
    return not TIMEOUTS.isdisjoint(sqlstates(error))


def overwhelmed(error: BaseException) -> bool:
    """Whether the server has no room, memory or connection for this: not the app's fault, and over when that is."""
    return not OVERWHELMED.isdisjoint(sqlstates(error))
