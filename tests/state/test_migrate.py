"""Migrations: once each, in order, by one process at a time, and never in other words than before."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from workhorse.errors import StartupError
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.state.postgres.migrate import apply_migrations, pending_migrations


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An importable package of this test's own, with an empty folder of migrations."""
    name = f"pkg_{abs(hash(request.node.name))}"
    folder = tmp_path / name / "sql" / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """An empty database of this test's own."""
    return empty_database_url


def own(package: Path) -> Migrations:
    return Migrations("own", package.parent.parent.name)


def apply(url: str, *sets: Migrations) -> list[str]:
    return [str(one) for one in asyncio.run(apply_migrations(url, sets))]


def test_each_is_applied_once_and_in_order(database_url: str, package: Path) -> None:
    (package / "0001_one.sql").write_text("CREATE TABLE t (a int);")
    (package / "0002_two.sql").write_text("ALTER TABLE t ADD b int; INSERT INTO t VALUES (1, 2);")
    assert asyncio.run(pending_migrations(database_url, [own(package)]))[0].migration.name == "one"
    assert apply(database_url, own(package)) == ["own 0001_one", "own 0002_two"]
    assert apply(database_url, own(package)) == []
    (package / "0003_three.sql").write_text("UPDATE t SET a = 9;")
    assert apply(database_url, own(package), WORKHORSE)[:2] == ["own 0003_three", "workhorse 0001_replies"]
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == [(9, 2)]


def test_one_that_fails_leaves_nothing_of_itself_and_what_came_before(database_url: str, package: Path) -> None:
    (package / "0001_good.sql").write_text("CREATE TABLE t (a int);")
    (package / "0002_bad.sql").write_text("INSERT INTO t VALUES (1); SELECT 1 / 0;")
    with pytest.raises(StartupError, match="own 0002_bad failed; it was undone: division by zero"):
        apply(database_url, own(package))
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    (package / "0002_bad.sql").write_text("INSERT INTO t VALUES (1);")
    assert apply(database_url, own(package)) == ["own 0002_bad"]


def test_one_that_was_changed_after_the_fact_is_refused(database_url: str, package: Path) -> None:
    (package / "0001_one.sql").write_text("CREATE TABLE t (a int);")
    apply(database_url, own(package))
    (package / "0001_one.sql").write_text("CREATE TABLE t (a bigint);")
    with pytest.raises(StartupError, match="own 0001_one was changed after this database had applied it"):
        apply(database_url, own(package))


def test_many_that_start_at_once_apply_each_once(database_url: str, package: Path) -> None:
    (package / "0001_slow.sql").write_text("CREATE TABLE t (a int); SELECT pg_sleep(0.2);")

    async def main() -> list[int]:
        applied = await asyncio.gather(*[apply_migrations(database_url, [own(package)]) for _ in range(6)])
        return sorted(len(one) for one in applied)

    assert asyncio.run(main()) == [0, 0, 0, 0, 0, 1]


def test_old_code_runs_on_a_newer_schema(database_url: str, package: Path) -> None:
    (package / "0001_one.sql").write_text("CREATE TABLE t (a int);")
    (package / "0002_two.sql").write_text("CREATE TABLE u (a int);")
    apply(database_url, own(package))
    (package / "0002_two.sql").unlink()
    assert apply(database_url, own(package)) == []


def test_an_app_of_one_file_may_hold_its_migrations_itself(database_url: str) -> None:
    assert apply(database_url, Migrations.inline("own", "CREATE TABLE t (a int)")) == ["own 0001_inline"]
    two = Migrations.inline("own", "CREATE TABLE t (a int)", "ALTER TABLE t ADD b int")
    assert apply(database_url, two) == ["own 0002_inline"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0001_a.sql", "0003_b.sql"], "0003_b.sql: the next number is 0002"),
        (["0001_a.sql", "0001_b.sql"], "0001_b.sql: the next number is 0002"),
        (["1_a.sql"], "is not named"),
        (["0001-a.sql"], "is not named"),
    ],
)
def test_misnamed_files_are_refused(names: list[str], message: str, package: Path) -> None:
    for name in names:
        (package / name).write_text("SELECT 1")
    with pytest.raises(StartupError, match=message):
        own(package).load()


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(StartupError, match="the migrations 'x' are not at workhorse/nowhere"):
        Migrations("x", "workhorse", "nowhere").load()
