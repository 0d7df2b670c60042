"""What runs in no transaction is taken up again wherever it was cut off, and nothing runs twice."""

import random
import subprocess
import time
from functools import partial

import psycopg
import pytest

from tests.migrations.kit import apply, ask, migrator, migrators, until
from workhorse.errors import StartupError
from workhorse.state.postgres.migrate import Patience

ALONE = "-- workhorse: no transaction\n"
TABLE = "CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t SELECT i FROM generate_series(1, 5000) AS i"
INDEX = f"{ALONE}CREATE INDEX CONCURRENTLY t_a ON t (a)"
LONG = """-- workhorse: no transaction
CREATE TABLE log (what text);
INSERT INTO log VALUES ('once');
CREATE INDEX CONCURRENTLY t_a ON t (a);
-- workhorse: repeat until no rows
UPDATE t SET b = id + 1 WHERE id IN (SELECT id FROM t WHERE b IS NULL ORDER BY id LIMIT 500);
CREATE UNIQUE INDEX CONCURRENTLY t_b ON t (b);
INSERT INTO log VALUES ('twice');
DROP INDEX CONCURRENTLY t_a;
VACUUM t;
INSERT INTO log VALUES ('thrice');
"""


BACKFILL = """-- workhorse: no transaction
-- workhorse: repeat until no rows
UPDATE t SET b = id + 1 WHERE id IN (SELECT id FROM t WHERE b IS NULL ORDER BY id LIMIT 500)
"""


def valid(url: str, index: str) -> bool | None:
    found = ask(url, "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", index)
    return found[0][0] if found else None


def test_statements_of_all_kinds_run_in_order_and_leave_no_notes(database_url: str) -> None:
    assert apply(database_url, TABLE, LONG) == ["own 0001_inline", "own 0002_inline"]
    assert valid(database_url, "t_b") is True
    assert valid(database_url, "t_a") is None
    assert ask(database_url, "SELECT count(*), count(b), sum(b - id) FROM t") == [(5000, 5000, 5000)]
    assert ask(database_url, "SELECT what FROM log") == [("once",), ("twice",), ("thrice",)]
    assert ask(database_url, "SELECT * FROM workhorse.migration_progress") == []
    assert apply(database_url, TABLE, LONG) == []


def test_an_index_that_a_kill_left_half_built_is_built_anew(database_url: str) -> None:
    apply(database_url, TABLE)
    with psycopg.connect(database_url) as writer:
        # The build waits for those who wrote before it, with its index in the catalog and not valid.
        writer.execute("INSERT INTO t VALUES (0)")
        process = migrator(database_url, TABLE, INDEX)
        with process:
            until(lambda: valid(database_url, "t_a") is False)
            process.kill()
        until(lambda: migrators(database_url) == 0)
        writer.commit()
    assert valid(database_url, "t_a") is False
    said: list[str] = []
    assert apply(database_url, TABLE, INDEX, said=said) == ["own 0002_inline"]
    assert valid(database_url, "t_a") is True
    assert any("was left half built" in line for line in said), said


@pytest.mark.parametrize(
    ("before", "statement"),
    [
        ("CREATE INDEX t_a ON t (a)", 'CREATE INDEX CONCURRENTLY "t_a" ON t (a)'),
        ("SELECT 1", "DROP INDEX CONCURRENTLY t_gone"),
        ("SELECT 1", "VACUUM t"),
    ],
)
def test_a_statement_that_took_effect_before_the_kill_is_only_noted(
    before: str, statement: str, database_url: str
) -> None:
    apply(database_url, TABLE)
    ask(database_url, before)
    made = ask(database_url, "SELECT to_regclass('t_a')::oid")
    ask(
        database_url,
        "INSERT INTO workhorse.migration_progress VALUES ('own', 2, 0, encode(sha256(''), 'hex'), %s)",
        statement,
    )
    assert apply(database_url, TABLE, ALONE + statement) == ["own 0002_inline"]
    assert ask(database_url, "SELECT to_regclass('t_a')::oid") == made


def test_an_index_of_the_same_name_that_is_not_the_migrations_own_is_not_taken_for_it(database_url: str) -> None:
    apply(database_url, TABLE)
    ask(database_url, "CREATE INDEX t_a ON t (b)")
    with pytest.raises(StartupError, match='"t_a" already exists'):
        apply(database_url, TABLE, INDEX)
    assert valid(database_url, "t_a") is True


def test_a_left_over_of_unknown_origin_is_replaced_even_where_if_not_exists_would_pass_it_by(database_url: str) -> None:
    apply(database_url, TABLE)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE t SET a = 1")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)")
    assert valid(database_url, "t_a") is False
    apply(database_url, TABLE, INDEX.replace("CONCURRENTLY", "CONCURRENTLY IF NOT EXISTS"))
    assert valid(database_url, "t_a") is True


def test_one_that_fails_leaves_no_broken_index_and_may_be_mended(database_url: str) -> None:
    apply(database_url, TABLE)
    ask(database_url, "UPDATE t SET a = mod(id, 7)")
    unique = (
        "-- workhorse: no transaction\nINSERT INTO t VALUES (-1, -1); CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)"
    )
    with pytest.raises(StartupError, match=r"line 2, failed; the statement before it stands: could not create unique"):
        apply(database_url, TABLE, unique)
    assert valid(database_url, "t_a") is None
    with pytest.raises(StartupError, match="what is done of it, 1 of its statements, was changed since"):
        apply(database_url, TABLE, unique.replace("-1, -1", "-2, -2"))
    assert apply(database_url, TABLE, unique.replace("UNIQUE ", "")) == ["own 0002_inline"]
    assert ask(database_url, "SELECT id FROM t WHERE id < 0") == [(-1,)]


def test_a_backfill_waits_for_a_row_that_somebody_holds_and_misses_none(database_url: str) -> None:
    apply(database_url, TABLE)
    with psycopg.connect(database_url) as writer:
        writer.execute("UPDATE t SET a = 1 WHERE id = 4000")
        process = migrator(database_url, TABLE, BACKFILL)
        with process:
            until(lambda: ask(database_url, "SELECT count(b) > 3000 FROM t") == [(True,)])
            time.sleep(0.5)
            writer.commit()
            assert process.wait(20) == 0
    assert ask(database_url, "SELECT count(b), max(a) FROM t") == [(5000, 1)]


def test_a_backfill_that_has_no_end_is_ended_by_the_deadline(database_url: str) -> None:
    apply(database_url, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    endless = "-- workhorse: no transaction\n-- workhorse: repeat until no rows\nUPDATE t SET a = a + 1 WHERE a > 0"
    with pytest.raises(StartupError, match=r"took longer than 0.5 s\. What is done stands|cancelled at the deadline"):
        apply(
            database_url,
            "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
            endless,
            patience=Patience(deadline_seconds=0.5),
        )
    assert ask(database_url, "SELECT a > 2 FROM t") == [(True,)]


def at_work(url: str, process: "subprocess.Popen[str]") -> bool:
    return migrators(url) > 0 or process.poll() is not None


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(database_url: str) -> None:
    chance = random.Random(20)  # noqa: S311
    ends = 0
    apply(database_url, "SELECT 1")
    began = time.monotonic()
    for kill in range(14):
        process = migrator(database_url, "SELECT 1", TABLE, LONG)
        with process:
            try:
                # From before it connects to after it has ended, on any machine.
                until(partial(at_work, database_url, process))
                process.wait(chance.uniform(0, 0.02 * (kill + 1)))
            except subprocess.TimeoutExpired:
                process.kill()
        ends += process.returncode == 0
        assert process.returncode in {0, -9}
        if time.monotonic() - began > 15:
            break
    apply(database_url, "SELECT 1", TABLE, LONG)
    assert ends < 14, "nothing was killed"
    assert valid(database_url, "t_b") is True
    assert valid(database_url, "t_a") is None
    assert ask(database_url, "SELECT count(*), count(b), sum(b - id) FROM t") == [(5000, 5000, 5000)]
    assert ask(database_url, "SELECT what FROM log") == [("once",), ("twice",), ("thrice",)]
    assert ask(database_url, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert ask(database_url, "SELECT * FROM workhorse.migration_progress") == []
