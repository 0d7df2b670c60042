"""Leases in Postgres: each call is one statement, in one round trip and one transaction, by the server's clock.

A lease is a row, and its token is drawn from a sequence when the row is locked: so tokens only grow, for all names
together, whatever happens to rows and clocks. Rows and sequence outlive a crash of the server. A promoted replica of
asynchronous replication may lack the last moments of both: then a token may be given twice. With synchronous
replication it may not.
"""

from uuid import UUID

from workhorse.contracts import Database, LeaseAnswer, LeaseGuarantee
from workhorse.sql import load_queries
from workhorse.state.postgres.statements import Statements

__all__ = ["PostgresLeases"]


class PostgresLeases:
    """A `contracts.LeaseStore` that all processes with the same database share.

    Args:
        database: where migration 0006 has been applied.
        timeout_seconds: longest wait for one answer, that for a free connection included.
    """

    def __init__(self, database: Database, *, timeout_seconds: float = 2.0) -> None:
        queries = load_queries("workhorse.state.postgres", "sql/leases.sql")
        self._statements = Statements(database, queries, timeout_seconds=timeout_seconds)

    @property
    def guarantees(self) -> LeaseGuarantee:
        """All."""
        return LeaseGuarantee.SHARED | LeaseGuarantee.FENCED | LeaseGuarantee.DURABLE

    async def acquire(self, name: str, holder: bytes, *, seconds: float) -> LeaseAnswer:
        """Take the lease if nobody has it."""
        ((token, left),) = await self._statements.run("acquire", name, str(UUID(bytes=holder)), repr(seconds))
        return LeaseAnswer(token, left)

    async def renew(self, name: str, holder: bytes, *, seconds: float) -> bool:
        """Let it end `seconds` from now."""
        return bool(await self._statements.run("renew", repr(seconds), name, str(UUID(bytes=holder))))

    async def release(self, name: str, holder: bytes) -> bool:
        """End it. A second run, after a lost connection, finds nothing."""
        return bool(await self._statements.run("release", name, str(UUID(bytes=holder))))

    async def purge(self) -> int:
        """Forget up to 1,000 names that nobody has held for a day."""
        return len(await self._statements.run("purge"))
