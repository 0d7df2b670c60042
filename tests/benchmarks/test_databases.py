"""The books, read from a real database."""

from pathlib import Path

import psycopg
import pytest

from benchmarks.bank.databases import (
    Books,
    Told,
    account_ranges,
    in_driver,
    make_bank,
    read_books,
    read_facts,
    read_told,
)
from benchmarks.load.messages import AccountRange
from benchmarks.processes import MeasurementError
from workhorse.embedded import attach


@pytest.fixture
def bank_url(database_url: str) -> str:
    make_bank(database_url, accounts=20)
    return database_url


def test_a_fresh_bank_balances_and_names_its_accounts_by_currency(bank_url: str) -> None:
    assert read_books(bank_url, "bank") == Books(transfers=0, distinct_references=0, total=0, wrong_accounts=0)
    ranges = account_ranges(bank_url, "bank")
    assert [each.currency for each in ranges] == ["EUR", "GBP", "JPY", "KWD", "USD"]
    with psycopg.connect(bank_url) as connection:
        rows = connection.execute("SELECT currency::text, id FROM bank.accounts WHERE floor = 0").fetchall()
    assert {(each.currency, each.account(index)) for each in ranges for index in range(each.count)} == set(rows)


def test_transfers_and_their_references_are_counted(bank_url: str) -> None:
    euros = account_ranges(bank_url, "bank")[0]
    with psycopg.connect(bank_url) as connection:
        for reference in ("one", "two", "two"):
            connection.execute(
                "SELECT bank.post_transfer(%s, %s, 'EUR', 5, %s)", (euros.account(0), euros.account(1), reference)
            )
    assert read_books(bank_url, "bank") == Books(transfers=3, distinct_references=2, total=0, wrong_accounts=0)


def test_what_a_transfer_leaves_beside_the_books_is_counted(bank_url: str) -> None:
    with psycopg.connect(bank_url) as connection:
        connection.execute(
            "INSERT INTO workhorse.events (id, type, subject, data, occurred_at)"
            " SELECT gen_random_uuid(), 'transfer.posted', subject, '{}', now()"
            " FROM unnest(ARRAY['1', '2', '2']) AS subject"
        )
        connection.execute(
            "INSERT INTO workhorse.jobs (id, run_at, state, version, priority, attempts_left, blocks, name, queue,"
            " arguments)"
            " SELECT gen_random_uuid(), now(), state::workhorse.job_state, 1, 0, 1, false, 'write_advices', 'default',"
            " '{\"transfers\": [1, 2, 3]}' FROM unnest(ARRAY['ready', 'running', 'dead']) AS state"
        )
        connection.execute(
            "INSERT INTO workhorse.replies (scope, request_digest, status, headers)"
            " SELECT gen_random_uuid(), '', status, '' FROM unnest(ARRAY[201, 201, 409]) AS status"
        )
    assert read_told(bank_url) == Told(events=3, announced=2, advised=0, waiting=6, replies=2)


def test_accounts_that_no_range_names_are_refused(bank_url: str) -> None:
    with psycopg.connect(bank_url) as connection:
        connection.execute("INSERT INTO bank.accounts (owner, currency) VALUES ('Late', 'EUR')")
        connection.execute("INSERT INTO bank.accounts (owner, currency) VALUES ('Later', 'EUR')")
    with pytest.raises(MeasurementError, match="not evenly spaced"):
        account_ranges(bank_url, "bank")


def test_the_embedded_postgres_keeps_what_it_commits(tmp_path: Path) -> None:
    with attach(tmp_path, cache=False) as attachment:  # the one of the tests leaves its writes to the operating system
        facts = read_facts(attachment.database_url)
    assert facts.durable
    assert facts.version.startswith("18")


def test_a_range_goes_around_its_end() -> None:
    assert [AccountRange("EUR", 6, 5, 3).account(index) for index in range(4)] == [6, 11, 16, 6]


def test_sqlalchemy_finds_its_driver_in_the_scheme() -> None:
    url = "postgresql://postgres@/app?host=/run/pg&port=5432"
    assert in_driver(url, "asyncpg") == "postgresql+asyncpg://postgres@/app?host=/run/pg&port=5432"
