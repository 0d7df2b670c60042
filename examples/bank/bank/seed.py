"""Fills an empty bank: a treasury per currency, and customers funded from it, so that the books balance from row one.

    python -m bank.seed postgresql://... --accounts 10000

The opening balances are transfers like any other. Running it again adds only what is missing.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Final

import psycopg

from bank.money import EXPONENTS, LARGEST
from workhorse.sql import load_queries

__all__ = ["main", "seed"]

QUERIES: Final = load_queries("bank", "sql/seed.sql")


def seed(
    database_url: str,
    *,
    accounts: int = 10_000,
    opening_balance: int = 1_000_000,
    report: Callable[[str], None] = print,
) -> int:
    """Bring the bank to at least `accounts` customers, spread evenly over the currencies.

    Args:
        database_url: a libpq connection URL of a database in which the bank's schema is.
        accounts: customers wanted, the treasuries not counted.
        opening_balance: what each new customer gets, in minor units.
        report: told of each step.

    Returns:
        How many customers were added.
    """
    with psycopg.connect(database_url) as connection:
        connection.execute(_sql("one_at_a_time"))
        currencies = sorted(EXPONENTS)
        connection.execute(_sql("open_treasuries"), {"currencies": currencies, "floor": -LARGEST})
        report(f"treasuries: {', '.join(currencies)}")
        opened = connection.execute(_sql("open_customers"), {"currencies": currencies, "accounts": accounts}).rowcount
        report(f"customers: {opened} opened")
        funded = 0
        if opening_balance:
            funded = connection.execute(_sql("fund_customers"), {"opening_balance": opening_balance}).rowcount
        report(f"opening balances: {funded} posted")
    with psycopg.connect(database_url, autocommit=True) as connection:
        # The planner must not meet ten thousand rows with the statistics of none.
        connection.execute(_sql("refresh_statistics"))
    return opened


def _sql(name: str) -> bytes:
    # As bytes, because psycopg types its text queries as literals, and these come from a file.
    return QUERIES[name].encode()


def main() -> None:
    """Read the command line and seed."""
    parser = argparse.ArgumentParser(prog="python -m bank.seed", description="Fill the bank with funded accounts.")
    parser.add_argument("database_url", nargs="?", default=os.environ.get("DATABASE_URL"))
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--opening-balance", type=int, default=1_000_000, help="in minor units")
    arguments = parser.parse_args()
    if not arguments.database_url:
        parser.error("give the database's URL as an argument or in DATABASE_URL")
    seed(arguments.database_url, accounts=arguments.accounts, opening_balance=arguments.opening_balance, report=_print)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
