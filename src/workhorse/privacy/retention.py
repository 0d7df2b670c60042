"""Rows that are forgotten when they are old, because a purpose has been served (GDPR, article 5, 1 e).

    Retention("surgery.visits", older_than=timedelta(days=90), by="seen_at", erase=Delete(), because="no bill is open")

A service does it by itself, in every process, a thousand rows a transaction and under SKIP LOCKED: processes share the
work, nobody waits for it, and what is killed goes on at the next turn.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.privacy.places import Blank, Delete
from workhorse.sql import quoted_name
from workhorse.units import Unit

__all__ = ["Retention", "forget_old"]

ROWS_AT_ONCE: Final = 1_000
TURNS: Final = 1_000
"""A million rows; what is left waits for the next time."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Rows of one table, and how long they are kept.

    Args:
        table: `name` or `schema.name`. An index on `by` makes it cheap.
        by: the column with the time from which it counts.
        older_than: how long.
        erase: what becomes of them.
        because: why they may go, or why they were kept so long; for the record.

    Raises:
        SettingsError: a name is none, or the time is not positive.
    """

    table: str
    by: str = field(kw_only=True)
    older_than: timedelta = field(kw_only=True)
    erase: Delete | Blank = field(kw_only=True)
    because: str = field(kw_only=True)

    def __post_init__(self) -> None:
        blanked = list(self.erase.columns) if isinstance(self.erase, Blank) else []
        try:
            for name in (self.table, self.by, *blanked):
                quoted_name(name)
        except ValueError as error:
            raise SettingsError(f"the retention of {self.table!r}: {error}") from None
        if self.older_than <= timedelta(0) or not self.because:
            raise SettingsError(f"the retention of {self.table!r} needs a time above zero, and why")
        if isinstance(self.erase, Blank) and not blanked:
            raise SettingsError(f"the retention of {self.table!r} blanks nothing; name columns")

    @property
    def sql(self) -> str:
        """What forgets a thousand rows; see `values`."""
        table, by = quoted_name(self.table), quoted_name(self.by)
        old = f"t.{by} < now() - make_interval(secs => %s)"
        if isinstance(self.erase, Delete):
            some = f"SELECT t.ctid FROM {table} AS t WHERE {old} LIMIT {ROWS_AT_ONCE} FOR UPDATE SKIP LOCKED"  # noqa: S608 - names are quoted
            return f"DELETE FROM {table} WHERE ctid = ANY (ARRAY ({some}))"  # noqa: S608 - as above
        names = [quoted_name(name) for name in self.erase.columns]
        # What is blank already is not written again.
        left = " OR ".join(f"t.{name} IS DISTINCT FROM %s" for name in names)
        some = f"SELECT t.ctid FROM {table} AS t WHERE {old} AND ({left}) LIMIT {ROWS_AT_ONCE} FOR UPDATE SKIP LOCKED"  # noqa: S608 - as above
        blanks = ", ".join(f"{name} = %s" for name in names)
        return f"UPDATE {table} SET {blanks} WHERE ctid = ANY (ARRAY ({some}))"  # noqa: S608 - as above

    @property
    def values(self) -> tuple[object, ...]:
        """The values for `sql`."""
        seconds = self.older_than.total_seconds()
        if isinstance(self.erase, Delete):
            return (seconds,)
        blanks = tuple(self.erase.columns.values())
        return (*blanks, seconds, *blanks)


async def forget_old(database: Database, rule: Retention) -> int:
    """Forget what is old by one rule, and return how many rows it was.

    Raises:
        DatabaseUnavailable: no connection could be had in time.
    """
    total = 0
    for _ in range(TURNS):
        async with Unit(database) as work:
            rows = (await work.execute(rule.sql, rule.values)).rowcount
        total += rows
        if rows < ROWS_AT_ONCE:
            break
    return total
