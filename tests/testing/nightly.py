"""A program that files what came in during the day: in one transaction, or in two, between which it loses all.

python -m tests.testing.nightly whole|halves
"""

import os
import sys

import psycopg

SCHEMA = """
CREATE TABLE incoming (name text PRIMARY KEY);
CREATE TABLE filed (name text PRIMARY KEY);
INSERT INTO incoming VALUES ('a'), ('b'), ('c');
"""


def main(how: str) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        names = connection.execute("DELETE FROM incoming RETURNING name").fetchall()
        if how == "halves":
            connection.commit()
        connection.cursor().executemany("INSERT INTO filed VALUES (%s)", names)


if __name__ == "__main__":
    main(sys.argv[1])
