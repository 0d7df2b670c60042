"""What the database itself says when the dust has settled, read past the bank."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, NamedTuple

import psycopg

OPENING: Final = "Opening balance"
HISTORY: Final = "History"

# At rest each of these has nothing to tell: what they name is held by nobody who lives, or by nobody at all.
AT_REST: Final = {
    "a transaction is open": (
        "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND (state LIKE 'idle in transaction%' OR xact_start < now() - interval '5 seconds')"
        " AND backend_type = 'client backend'"
    ),
    "an advisory lock is held": (
        "SELECT l.pid, l.classid, l.objid, l.mode FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
    ),
    "a transaction is prepared": "SELECT gid FROM pg_prepared_xacts",
    "a lease is held": "SELECT name FROM workhorse.leases WHERE ends_at > clock_timestamp()",
    "a unique key is held by no job": (
        "SELECT u.job, u.until FROM workhorse.job_uniques u"
        " WHERE u.until = 'infinity' AND NOT EXISTS (SELECT FROM workhorse.jobs j WHERE j.id = u.job)"
    ),
    "a step is kept of no job": (
        "SELECT DISTINCT s.job FROM workhorse.job_steps s"
        " WHERE NOT EXISTS (SELECT FROM workhorse.jobs j WHERE j.id = s.job)"
    ),
    "a job runs at nobody's": (
        "SELECT j.id, j.name FROM workhorse.jobs j WHERE j.state = 'running'"
        " AND NOT EXISTS (SELECT FROM workhorse.job_workers w WHERE w.id = j.worker)"
    ),
}


class Posted(NamedTuple):
    """A row of bank.transfers."""

    id: int
    debtor: int
    creditor: int
    currency: str
    amount: int
    reference: str


class Reversed(NamedTuple):
    """A transfer that takes another one back."""

    id: int
    reverses: int
    debtor: int
    creditor: int
    currency: str
    amount: int


class Mandated(NamedTuple):
    """A standing order."""

    id: int
    reference: str
    debtor: int
    creditor: int
    currency: str
    amount: int
    every: str
    starts: date
    turns: int
    due: date | None


class Paid(NamedTuple):
    """What became of a standing order on a day, and the transfer, where there is one."""

    mandate: int
    due: date
    outcome: str
    transfer: int | None
    debtor: int | None
    creditor: int | None
    amount: int | None


class Reported(NamedTuple):
    """The report of a day beside the day itself."""

    day: date
    counted: int
    """The transfers that its totals name."""
    posted: int
    """Those that the journal has of the day."""
    pages: int
    lines: int
    written: list[int]
    """The numbers of the pages that are there."""
    written_lines: int


class LeftJob(NamedTuple):
    """A job that was not done when all should have been."""

    id: str
    name: str
    state: str
    attempt: int
    failures: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The tables."""

    today: date
    posted: list[Posted]
    """The transfers that clients ordered: no opening balances, reversals, or payments of standing orders."""
    reversals: list[Reversed]
    mandates: list[Mandated]
    payments: list[Paid]
    told: set[int]
    """The transfers of which somebody has to be told."""
    announced: Counter[int]
    """Events by transfer."""
    advised: Counter[int]
    """Advices by transfer."""
    over: set[date]
    """The days that were over when the siege began."""
    reports: list[Reported]
    closed: Counter[date]
    """Events by reported day."""
    finished: Counter[str]
    """How often each job has ended that ended more than once."""
    finished_jobs: int
    taken_back: int
    """Jobs that were begun by a worker which then was not heard of any more."""
    jobs_left: list[LeftJob]
    kept_replies: int
    wrong_balances: list[tuple[int, int, int]]
    """Accounts whose balance is not the sum of their entries: id, balance, sum."""
    totals: dict[str, int]
    """The sum of all balances, by currency."""
    all_transfers: int
    workers: int
    """Workers of jobs that are enrolled."""
    left_over: list[str] = field(default_factory=list[str])
    """What `AT_REST` found."""


def rest(url: str) -> list[str]:
    """What is held though nothing is done any more."""
    with psycopg.connect(url, autocommit=True) as connection:
        return [
            f"{name}: {', '.join(map(str, row))}"
            for name, query in AT_REST.items()
            for row in connection.execute(query.encode()).fetchall()
        ]


def gather(url: str, left_over: list[str]) -> Evidence:
    """Read everything."""
    with psycopg.connect(url) as connection:

        def rows(query: str, *params: object) -> list[tuple[Any, ...]]:
            return connection.execute(query.encode(), params or None).fetchall()

        return Evidence(
            today=rows("SELECT (now() AT TIME ZONE 'UTC')::date")[0][0],
            posted=[
                Posted(*row)
                for row in rows(
                    "SELECT id, debtor, creditor, currency, amount, reference FROM bank.transfers t"
                    " WHERE reverses IS NULL AND reference <> ALL (%s)"
                    " AND NOT EXISTS (SELECT FROM bank.standing_payments p WHERE p.transfer = t.id)",
                    [OPENING, HISTORY],
                )
            ],
            reversals=[
                Reversed(*row)
                for row in rows(
                    "SELECT id, reverses, debtor, creditor, currency, amount FROM bank.transfers"
                    " WHERE reverses IS NOT NULL"
                )
            ],
            mandates=[
                Mandated(*row)
                for row in rows(
                    "SELECT id, reference, debtor, creditor, currency, amount, every::text, starts, turns, due"
                    " FROM bank.standing_orders"
                )
            ],
            payments=[
                Paid(*row)
                for row in rows(
                    "SELECT p.standing_order, p.due, p.outcome, p.transfer, t.debtor, t.creditor, t.amount"
                    " FROM bank.standing_payments p LEFT JOIN bank.transfers t ON t.id = p.transfer"
                )
            ],
            told={row[0] for row in rows("SELECT id FROM bank.told_transfers")},
            announced=_counted(
                rows("SELECT subject::bigint, count(*) FROM workhorse.events WHERE type = 'transfer.posted' GROUP BY 1")
            ),
            advised=_counted(rows("SELECT transfer, count(*) FROM bank.advices GROUP BY 1")),
            over={
                row[0]
                for row in rows(
                    "SELECT DISTINCT (posted_at AT TIME ZONE 'UTC')::date FROM bank.transfers WHERE reference = %s",
                    HISTORY,
                )
            },
            reports=[
                Reported(*row)
                for row in rows(
                    "SELECT r.day, (SELECT coalesce(sum((t->>'transfers')::bigint), 0)::bigint"
                    " FROM json_array_elements(r.totals) t),"
                    " (SELECT count(*) FROM bank.transfers t WHERE (t.posted_at AT TIME ZONE 'UTC')::date = r.day),"
                    " r.pages, r.lines, coalesce(array_agg(p.page ORDER BY p.page) FILTER (WHERE p.page > 0), '{}'),"
                    " coalesce(sum(p.lines), 0)::bigint"
                    " FROM bank.reports r LEFT JOIN bank.report_pages p USING (day) GROUP BY r.day"
                )
            ],
            closed=_counted(
                rows("SELECT subject::date, count(*) FROM workhorse.events WHERE type = 'day.closed' GROUP BY 1")
            ),
            finished=_counted(
                rows("SELECT id::text, count(*) FROM workhorse.finished_jobs GROUP BY 1 HAVING count(*) > 1")
            ),
            finished_jobs=rows("SELECT count(*) FROM workhorse.finished_jobs")[0][0],
            taken_back=rows(
                'SELECT count(*) FROM workhorse.finished_jobs WHERE failures @> \'[{"error": "WorkerLost"}]\''
            )[0][0],
            jobs_left=[
                LeftJob(*row)
                for row in rows(
                    "SELECT id::text, name, state::text, attempt, left(failures::text, 400) FROM workhorse.jobs"
                    " WHERE state = 'dead' OR run_at < now() - interval '10 seconds'"
                )
            ],
            kept_replies=rows("SELECT count(*) FROM workhorse.replies")[0][0],
            wrong_balances=[
                (one, balance, total)
                for one, balance, total in rows(
                    "SELECT a.id, a.balance, e.sum FROM bank.accounts a CROSS JOIN LATERAL"
                    " (SELECT coalesce(sum(CASE WHEN t.creditor = a.id THEN t.amount ELSE -t.amount END), 0)::bigint"
                    " AS sum FROM bank.transfers t WHERE a.id IN (t.debtor, t.creditor)) e WHERE a.balance <> e.sum"
                )
            ],
            totals=dict(rows("SELECT currency, sum(balance)::bigint FROM bank.accounts GROUP BY currency")),
            all_transfers=rows("SELECT count(*) FROM bank.transfers")[0][0],
            workers=rows("SELECT count(*) FROM workhorse.job_workers")[0][0],
            left_over=left_over,
        )


def _counted(rows: list[tuple[Any, ...]]) -> Counter[Any]:
    return Counter(dict(rows))
