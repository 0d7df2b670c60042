"""Code and database are compared: what is lacking, changed, newer and bearable, or newer and not."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.migrations.kit import apply, ask
from workhorse.errors import StartupError
from workhorse.migrations import WORKHORSE, Migration, Migrations
from workhorse.migrations.safety import needed_number
from workhorse.migrations.script import read_script
from workhorse.migrations.standing import Applied, Pending, Place, compare
from workhorse.state.postgres.migrate import apply_migrations, pending_migrations, read_standing, require_migrated

STEPS = ("CREATE TABLE t (a int, b int)", "ALTER TABLE t ADD c int", "ALTER TABLE t ADD d int")
DROP = "ALTER TABLE t DROP COLUMN a"


def places(url: str, *steps: str) -> list[Place]:
    return [row.place for row in asyncio.run(read_standing(url, [Migrations.inline("own", *steps)])).rows]


def test_all_places_are_told_and_nothing_is_changed_by_looking(database_url: str) -> None:
    assert places(database_url, *STEPS) == [Place.PENDING] * 3
    assert ask(database_url, "SELECT to_regnamespace('workhorse')") == [(None,)]
    apply(database_url, *STEPS, DROP)
    assert places(database_url, *STEPS, DROP, "SELECT 1") == [*[Place.APPLIED] * 4, Place.PENDING]
    assert places(database_url, *STEPS[:2]) == [Place.APPLIED, Place.APPLIED, Place.NEWER, Place.TOO_NEW]
    assert places(database_url, STEPS[1], STEPS[1], *STEPS[2:], DROP)[0] is Place.CHANGED


def test_old_code_runs_on_what_only_adds_and_is_told_why_not_on_what_takes_away(database_url: str) -> None:
    apply(database_url, *STEPS)
    old = [Migrations.inline("own", STEPS[0])]
    assert asyncio.run(pending_migrations(database_url, old)) == []
    apply(database_url, *STEPS, DROP)
    message = (
        "has own 0004_inline, on which only code runs that knows own 0004, and this code ends at 0001: deploy a newer"
    )
    with pytest.raises(StartupError, match=message):
        asyncio.run(pending_migrations(database_url, old))
    with pytest.raises(StartupError, match=message):
        apply(database_url, STEPS[0])


def test_a_migration_that_takes_away_says_from_which_number_on_code_runs_without_it(database_url: str) -> None:
    apply(database_url, *STEPS, f"-- workhorse: needs 0002\n{DROP}")
    assert asyncio.run(pending_migrations(database_url, [Migrations.inline("own", *STEPS[:2])])) == []
    with pytest.raises(StartupError, match="only code runs that knows own 0002, and this code ends at 0001"):
        asyncio.run(pending_migrations(database_url, [Migrations.inline("own", STEPS[0])]))


@pytest.mark.parametrize(
    ("statement", "rule", "needs"),
    [
        ("ALTER TABLE t DROP a", "drop_column", 4),
        ("ALTER TABLE t RENAME a TO z", "rename", 4),
        ("ALTER TABLE t ALTER a TYPE bigint", "change_type", 0),
        ("ALTER TABLE t ALTER a SET NOT NULL", "set_not_null", 0),
    ],
)
def test_what_was_accepted_bears_older_code_unless_something_is_gone(statement: str, rule: str, needs: int) -> None:
    bare = Migration(4, "x", statement)
    accepted = Migration(4, "x", f"-- workhorse: accept {rule}, since nobody minds\n{statement}")
    assert needed_number(bare, read_script(bare.sql, origin="x")) == 4
    assert needed_number(accepted, read_script(accepted.sql, origin="x")) == needs


def test_a_ledger_of_before_is_read_and_carried_on(database_url: str) -> None:
    ask(database_url, "CREATE SCHEMA workhorse")
    ask(
        database_url,
        "CREATE TABLE workhorse.migrations (set_name text, number integer, name text, checksum text,"
        " applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (set_name, number))",
    )
    first = Migrations.inline("own", STEPS[0]).load()[0]
    ask(database_url, STEPS[0])
    insert = "INSERT INTO workhorse.migrations (set_name, number, name, checksum) VALUES (%s, %s, %s, %s)"
    ask(database_url, insert, "own", 1, first.name, first.checksum)
    assert places(database_url, *STEPS) == [Place.APPLIED, Place.PENDING, Place.PENDING]
    assert apply(database_url, *STEPS) == ["own 0002_inline", "own 0003_inline"]
    # The version of before goes on with its own four columns.
    ask(database_url, insert, "other", 1, "x", "y")


def test_two_branches_that_took_one_number_are_told_apart() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    standing = compare([Migrations.inline("own", *STEPS)], [Applied("own", 2, "by_customer", "abc", at, 0)])
    with pytest.raises(
        StartupError, match=r"own 0002_inline is not what this database has .* 0002_by_customer: renumber"
    ):
        standing.require()


def test_start_up_says_what_is_lacking_and_what_to_run(database_url: str) -> None:
    shop = Migrations.inline("shop", *STEPS)
    with pytest.raises(
        StartupError, match=r"lacks migrations: workhorse 0001_replies, .*\. Run `workhorse migrate` before"
    ):
        asyncio.run(require_migrated(database_url, [WORKHORSE]))
    with pytest.raises(
        StartupError, match=r", shop 0003_inline\. Run `workhorse migrate app:service` before this version"
    ):
        asyncio.run(require_migrated(database_url, [WORKHORSE, shop], target="app:service"))
    asyncio.run(apply_migrations(database_url, [WORKHORSE, shop]))
    asyncio.run(require_migrated(database_url, [WORKHORSE, shop]))


@given(
    known=st.integers(1, 6),
    records=st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.integers(0, 9)), unique_by=lambda one: one[0]),
)
def test_each_migration_of_either_side_has_one_place(known: int, records: list[tuple[int, bool, int]]) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    one = Migrations.inline("own", *[f"SELECT {number}" for number in range(known)])
    files = {migration.number: migration for migration in one.load()}
    applied = [
        Applied("own", number, "inline", files[number].checksum if same and number in files else "other", at, needs)
        for number, same, needs in records
    ]
    standing = compare([one], [*applied, Applied("another", 1, "inline", "other", at, 99)])
    assert sorted(row.number for row in standing.rows) == sorted({*files, *(number for number, *_ in records)})
    assert {row.number for row in standing.rows if row.applied_at} == {number for number, *_ in records}
    assert [pending.migration.number for pending in standing.pending] == [
        row.number for row in standing.rows if row.place is Place.PENDING
    ]
    assert all(isinstance(pending, Pending) for pending in standing.pending)
    bad = [row for row in standing.rows if row.place in {Place.CHANGED, Place.TOO_NEW}]
    assert len(standing.faults) == len(bad)
