"""`workhorse migrate`, as a person at a terminal and a pipeline meet it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.migrations.kit import ask

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

APP = """
from fastapi import FastAPI
from workhorse import Migrations, Service

service = Service(FastAPI(), migrations=[Migrations("shop", "shop")])
"""
ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, customer int);\n"
INDEX = "-- workhorse: no transaction\nCREATE INDEX CONCURRENTLY orders_customer ON orders (customer);\n"
UNSAFE = "-- one line\nALTER TABLE orders ALTER COLUMN customer TYPE bigint;\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of migrations of an app in the working folder."""
    folder = tmp_path / "shop" / "sql" / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop_app.py").write_text(APP)
    (folder / "0001_orders.sql").write_text(ORDERS)
    (folder / "0002_by_customer.sql").write_text(INDEX)
    return folder


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    """Run `workhorse migrate shop_app:service` there."""

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "workhorse.cli", "migrate", "shop_app:service", *arguments],
            cwd=tmp_path,
            env={**os.environ, "DATABASE_URL": database_url, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.slow
def test_status_lists_both_sets_and_its_exit_code_tells(cli: Cli, shop: Path) -> None:
    lacking = cli("--status")
    assert lacking.returncode == 1
    assert lacking.stdout.splitlines()[-1].split() == ["shop", "0002", "-", "by_customer", "pending"]
    assert cli().stdout.splitlines()[-2:] == ["applying shop 0001_orders", "applying shop 0002_by_customer"]
    (shop / "0002_by_customer.sql").unlink()
    done = cli("--status")
    assert done.returncode == 0
    first, last = done.stdout.splitlines()[0].split(), done.stdout.splitlines()[-1].split()
    assert (first[:2], first[-1]) == (["workhorse", "0001"], "replies")
    assert (last[:2], last[-2:]) == (["shop", "0002"], ["by_customer", "newer"])
    (shop / "0001_orders.sql").write_text(ORDERS + "-- a word\n")
    changed = cli("--status")
    assert changed.returncode == 1
    assert changed.stdout.splitlines()[-2].split()[-2:] == ["orders", "changed"]
    assert "shop 0001_orders was changed after this database had applied it" in changed.stderr


@pytest.mark.slow
def test_check_finds_what_is_lacking_and_what_is_not_safe(cli: Cli, shop: Path) -> None:
    lacking = cli("--check")
    assert lacking.returncode == 1
    assert lacking.stdout.splitlines()[0] == "all migrations are safe"
    assert lacking.stdout.splitlines()[-1] == "lacks shop 0002_by_customer"
    cli()
    assert (cli("--check").returncode, cli("--check").stdout) == (0, "all migrations are safe\n")
    (shop / "0003_wide.sql").write_text(UNSAFE)
    cli()
    unsafe = cli("--check")
    assert unsafe.returncode == 1
    assert unsafe.stdout.startswith("shop 0003_wide, line 2: change_type (orders.customer): ")
    assert "; mend: add a column of the new type" in unsafe.stdout


def test_check_needs_no_database(cli: Cli, shop: Path) -> None:
    done = cli("--check", DATABASE_URL="")
    assert (done.returncode, done.stdout) == (0, "all migrations are safe\n")


@pytest.mark.slow
def test_the_printed_sql_does_the_same_when_somebody_else_runs_it(cli: Cli, shop: Path, database_url: str) -> None:
    (shop / "0002_by_customer.sql").write_text("ALTER TABLE orders ADD note text -- no semicolon, 100 % of it")
    printed = cli("--sql")
    assert printed.returncode == 0
    assert "SET LOCAL lock_timeout = '2000ms';" in printed.stdout
    assert ask(database_url, "SELECT to_regnamespace('workhorse')") == [(None,)]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(printed.stdout.encode())
    assert cli("--status").returncode == 0
    assert cli("--sql").stdout == "-- the database is up to date\n"
    assert cli().stdout == "the database is up to date\n"


def test_a_file_without_a_transaction_is_printed_statement_by_statement(cli: Cli, shop: Path) -> None:
    block = cli("--sql").stdout.partition("-- shop 0002_by_customer, in no transaction\n")[2].splitlines()
    assert block[0] == "CREATE INDEX CONCURRENTLY orders_customer ON orders (customer);"
    assert block[1].startswith("INSERT INTO workhorse.migrations")


@pytest.mark.slow
def test_a_wait_is_told_and_a_patience_of_nothing_is_refused(cli: Cli, shop: Path, database_url: str) -> None:
    cli()
    (shop / "0003_note.sql").write_text("ALTER TABLE orders ADD note text;")
    with psycopg.connect(database_url, application_name="nightly") as reader:
        reader.execute("SELECT * FROM orders")
        failed = cli("--patience", "0.1")
        reader.rollback()
    assert failed.returncode == 1
    assert failed.stderr.startswith("workhorse: the migration shop 0003_note was tried once")
    assert "'nightly', idle in transaction" in failed.stderr
    assert cli("--deadline", "0").returncode == 2
    assert cli("--deadline", "60").stdout == "applying shop 0003_note\n"
