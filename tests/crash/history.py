"""What the bank finds when it opens: days that are over, and standing orders that were not paid for long.

The workers have the reports of the days to make and the payments to make up for, a few at a time and all through the
siege, so that a kill finds them in the middle of a workflow or of a chain of jobs.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg

from bank.reports import SETTLED, close_days, report_day
from bank.seed import seed as seed_bank
from bank.standing_orders import pay_standing_orders
from bank.traffic_orders import Party
from tests.crash.evidence import HISTORY
from workhorse.errors import DatabaseUnavailable
from workhorse.state.postgres.database import PostgresDatabase

# These are paid in the past, and have no opening balance.
EARLY_ACCOUNTS: Final = 10
A_DAY: Final = 40
BETWEEN_TASKS_SECONDS: Final = 0.7
LAST_SECONDS: Final = 60.0
OVERDUE_DAYS: Final = 20
OVERDUE_AT_ONCE: Final = 2


def write_history(url: str, *, accounts: int, days: int) -> None:
    """Fill the bank: customers with money, and that many days that are over."""
    seed_bank(url, accounts=EARLY_ACCOUNTS, opening_balance=0, report=lambda _: None)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO bank.transfers (debtor, creditor, currency, amount, reference, posted_at)"
            " SELECT treasury.id, customer.id, customer.currency, 1000 + number, %s,"
            "        now() - make_interval(days => %s - day + 1)"
            "   FROM generate_series(1, %s) AS day CROSS JOIN generate_series(1, %s) AS number"
            "   JOIN bank.accounts customer ON customer.floor >= 0 AND customer.id %% 10 = number %% 10"
            "   JOIN bank.accounts treasury ON treasury.currency = customer.currency AND treasury.floor < 0"
            "  ORDER BY day, number",
            (HISTORY, days, days, A_DAY),
        )
    seed_bank(url, accounts=accounts, report=lambda _: None)


class Taskmaster:
    """Enqueues the bank's recurring jobs more often than its schedules do.

    Args:
        url: the database.
        parties: the accounts.
        seed: what it does follows from it.
        days: how many days are over.
    """

    def __init__(self, url: str, parties: Sequence[Party], seed: int, *, days: int) -> None:
        self._url = url
        self._parties = parties
        self._rng = random.Random(seed)  # noqa: S311
        self._days = days
        self._mandates = 0

    async def work(self, stop: asyncio.Event) -> None:
        """Give tasks until told to stop; then have every day closed that is over and has no report."""
        database = PostgresDatabase(self._url, pool_min=1, pool_max=2)
        await database.open()
        number = 0
        try:
            while not stop.is_set():
                try:
                    await self._give(database, number)
                    number += 1
                except (DatabaseUnavailable, psycopg.Error):
                    pass  # it is given again; what was given twice must not be done twice
                await asyncio.sleep(BETWEEN_TASKS_SECONDS)
            await self._give_last(database)
        finally:
            await database.close()

    async def _give_last(self, database: PostgresDatabase) -> None:
        give_up, told = time.monotonic() + LAST_SECONDS, False
        while not told:
            try:
                await pay_standing_orders.enqueue_alone(database)
                await self._close(database)
                told = True
            except DatabaseUnavailable:  # the last blow may have been its
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(BETWEEN_TASKS_SECONDS)

    async def _give(self, database: PostgresDatabase, number: int) -> None:
        await asyncio.to_thread(self._open_overdue)
        # Two at once, which pay the same orders.
        await pay_standing_orders.enqueue_many_alone(database, [pay_standing_orders.call()] * 2)
        day = datetime.now(UTC).date() - timedelta(days=1 + number % self._days)
        for _ in range(2):
            await report_day.options(unique=day.isoformat()).enqueue_alone(database, day)
        if number % 10 == 9:
            await self._close(database)

    async def _close(self, database: PostgresDatabase) -> None:
        """Have all days closed that are over, but not just after midnight: see `bank.reports.SETTLED`."""
        now = datetime.now(UTC)
        if now - SETTLED > datetime.combine(now.date(), datetime.min.time(), UTC):
            await close_days.enqueue_alone(database)

    def _open_overdue(self) -> None:
        """Standing orders with weeks behind them, which the bank's own way in does not take."""
        with psycopg.connect(self._url, connect_timeout=5) as connection:
            for _ in range(OVERDUE_AT_ONCE):
                debtor = self._rng.choice(self._parties)
                creditor = self._rng.choice(
                    [party for party in self._parties if party.currency == debtor.currency and party != debtor]
                )
                self._mandates += 1
                connection.execute(
                    "INSERT INTO bank.standing_orders"
                    " (debtor, creditor, currency, amount, reference, every, starts, due)"
                    " SELECT %s, %s, %s, %s, %s, %s::bank.rhythm, day, day"
                    "   FROM (SELECT (now() AT TIME ZONE 'UTC')::date - %s::int AS day) AS at",
                    (
                        *(debtor.id, creditor.id, debtor.currency, self._rng.randint(1, 5)),
                        *(f"overdue-{self._mandates}", self._rng.choice(["day", "week", "month"])),
                        self._rng.randint(0, OVERDUE_DAYS),
                    ),
                )
