"""A migration never makes requests wait behind it, nor two migrators work at once; and every wait ends."""

import asyncio
import threading
import time

import psycopg
import pytest

from tests.migrations.kit import SOON, apply, ask, migrator, migrators, reader, until
from workhorse.errors import StartupError
from workhorse.migrations import Migrations
from workhorse.state.postgres.migrate import Patience, apply_migrations
from workhorse.state.postgres.migration_turn import LOCK_KEY

TABLE = "CREATE TABLE t (a int)"
ADD = "ALTER TABLE t ADD b int"
INDEX = "-- workhorse: no transaction\nCREATE INDEX CONCURRENTLY t_a ON t (a)"
IMPATIENT = Patience(lock_seconds=0.1, retry_seconds=0.1, turn_seconds=0.3)


@pytest.mark.slow
def test_a_migration_waits_for_a_long_reader_without_making_others_wait(database_url: str) -> None:
    apply(database_url, TABLE)
    said: list[str] = []
    slowest = 0.0

    with reader(database_url) as long:
        end = threading.Timer(3, long.rollback)
        end.start()
        migrating = threading.Thread(target=lambda: apply(database_url, TABLE, ADD, said=said))
        migrating.start()
        with psycopg.connect(database_url, autocommit=True) as other:
            while migrating.is_alive():
                began = time.monotonic()
                other.execute("INSERT INTO t (a) VALUES (1)")
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.01)
        migrating.join()
        end.join()
    assert any("own 0002_inline: others hold a lock that it needs; again in" in line for line in said), said
    # Behind it nobody waits for longer than for one try: 0.2 s, and what a busy machine adds; the reader took 3 s.
    assert slowest < 1.5
    assert ask(database_url, "SELECT count(b) FROM t") == [(0,)]


def test_without_its_lock_it_says_who_may_have_it_and_nothing_of_it_stands(database_url: str) -> None:
    apply(database_url, TABLE)
    with (
        reader(database_url),
        pytest.raises(
            StartupError, match=r"0002_inline was tried .* it was undone\..*'long report', idle in transaction"
        ),
    ):
        apply(database_url, TABLE, ADD, patience=IMPATIENT)
    assert apply(database_url, TABLE, ADD) == ["own 0002_inline"]


def test_the_deadline_ends_what_runs_and_what_waits_for_other_transactions(database_url: str) -> None:
    brief = Patience(deadline_seconds=0.5)
    apply(database_url, TABLE)
    with pytest.raises(StartupError, match=r"cancelled at the deadline.*it was undone"):
        apply(database_url, TABLE, "SELECT pg_sleep(20)", patience=brief)
    with psycopg.connect(database_url) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(StartupError, match=r"0002_inline, line 2, (was cancelled at the deadline|was tried once)"):
            apply(database_url, TABLE, INDEX, patience=brief)
        writer.rollback()
    assert apply(database_url, TABLE, INDEX) == ["own 0002_inline"]


def test_who_comes_second_waits_for_a_while_and_then_says_who_is_first(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True, application_name="workhorse migrate 7@pod") as first:
        first.execute("SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
        with pytest.raises(StartupError, match=r"for over 0.3 s: server process \d+, 'workhorse migrate 7@pod' from"):
            apply(database_url, TABLE, patience=IMPATIENT)
        said: list[str] = []
        end = threading.Timer(1.5, first.execute, ("SELECT pg_advisory_unlock_all()",))
        end.start()
        assert apply(database_url, TABLE, said=said) == ["own 0001_inline"]
        end.join()
    assert [line for line in said if "'workhorse migrate 7@pod'" in line], said


def test_with_nothing_to_do_nobody_waits_for_who_migrates(database_url: str) -> None:
    apply(database_url, TABLE)
    with psycopg.connect(database_url, autocommit=True) as first:
        first.execute("SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
        assert apply(database_url, TABLE, patience=IMPATIENT) == []


def test_who_waits_for_its_turn_does_not_hold_up_an_index_that_is_built_concurrently(database_url: str) -> None:
    apply(database_url, TABLE)
    steps = (TABLE, INDEX, INDEX.replace("t_a", "t_b"), INDEX.replace("t_a", "t_c"))

    async def main() -> list[int]:
        sets = [Migrations.inline("own", *steps)]
        done = await asyncio.gather(*[apply_migrations(database_url, sets, patience=SOON) for _ in range(4)])
        return sorted(len(one) for one in done)

    assert asyncio.run(main()) == [0, 0, 0, 3]
    assert ask(database_url, "SELECT count(*) FROM pg_index WHERE indisvalid AND indrelid = 't'::regclass") == [(3,)]


@pytest.mark.slow
def test_the_locks_of_a_killed_migrator_fall_although_its_statement_would_go_on(database_url: str) -> None:
    apply(database_url, TABLE)
    process = migrator(database_url, TABLE, "ALTER TABLE t ADD b int; SELECT pg_sleep(60)")
    with process:
        until(lambda: ask(database_url, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        process.kill()
    until(lambda: migrators(database_url) == 0)
    assert apply(database_url, TABLE, ADD) == ["own 0002_inline"]


def test_what_a_migration_sets_for_itself_is_not_for_the_next_one(database_url: str) -> None:
    apply(database_url, "SET search_path = nowhere; SET ROLE pg_monitor", "CREATE TABLE here (a int)")
    assert ask(database_url, "SELECT to_regclass('public.here') IS NOT NULL") == [(True,)]


def test_a_file_that_ends_its_own_transaction_is_refused_before_it_runs(database_url: str) -> None:
    with pytest.raises(StartupError, match="own 0001_inline, line 2, begins or ends a transaction"):
        apply(database_url, f"{TABLE};\nCOMMIT")
    assert ask(database_url, "SELECT to_regclass('t')") == [(None,)]


def test_what_runs_in_no_transaction_is_told_where_to_go(database_url: str) -> None:
    with pytest.raises(StartupError, match="whose first line is `-- workhorse: no transaction`"):
        apply(database_url, TABLE, "CREATE INDEX CONCURRENTLY t_a ON t (a)")
