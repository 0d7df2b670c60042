"""`workhorse export`, as an operator at a terminal meets it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest

from workhorse.cli import export, main


class Done(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


Cli = Callable[..., Done]

SERVICE = """
from fastapi import FastAPI
from workhorse import Service
from workhorse.analytics.tables import Access, Tables


class Classes:
    def class_of(self, column):
        return {"id": "plain", "name": "personal"}.get(column)

    def access(self, class_, principal):
        return Access.ALLOW if class_ == "plain" or principal.may("names:read") else Access.MASK

    def audited(self, class_):
        return class_ == "personal"


service = Service(FastAPI(), tables=Tables(privacy=Classes()))
"""


@pytest.fixture
def cli(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command in an empty folder, on a database with two people."""
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE people (id int8, name text, born date)")
        connection.execute("INSERT INTO people VALUES (1, 'Ada', '1815-12-10'), (2, '100%', NULL)")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the verb puts the folder of services there

    def run(*arguments: str) -> Done:
        code = main(["export", *arguments])
        return Done(code, *capsys.readouterr())

    return run


def test_a_table_goes_into_a_file_of_the_format_that_its_ending_tells(cli: Cli, tmp_path: Path) -> None:
    done = cli("people", "--to", "people.parquet")
    assert (done.returncode, done.stdout[:7]) == (0, "2 rows,"), done.stderr
    assert pq.read_table(tmp_path / "people.parquet")["name"].to_pylist() == ["Ada", "100%"]
    assert "no classes of columns are known" in done.stderr
    assert cli("public.people", "--to", "people.txt", "--format", "ndjson").returncode == 0
    first, _ = (tmp_path / "people.txt").read_text().splitlines()
    assert json.loads(first) == {"id": 1, "name": "Ada", "born": "1815-12-10"}


def test_a_log_is_told_now_and_then_how_far_it_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLD_SECONDS", 0.0)
    told = cli("SELECT * FROM generate_series(1, 500000) AS n", "--to", "a.parquet").stderr.splitlines()[1:]
    counts = [int(line.removesuffix(" rows")) for line in told]
    assert counts == sorted(set(counts))
    assert len(counts) > 1
    assert counts[-1] == 500_000


def test_a_query_goes_into_a_file_with_its_per_cent_signs(cli: Cli, tmp_path: Path) -> None:
    done = cli("select name from people where name like '1%' -- those", "--to", "some.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "some.csv").read_text() == '"name"\n"100%"\n'


def test_with_columns_to_partition_by_it_goes_into_folders_and_only_once(cli: Cli, tmp_path: Path) -> None:
    done = cli("people", "--to", "out", "--partition-by", "born")
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(tmp_path / "out/**/*.parquet", hive_partitioning=True)["id"].sort().to_list() == [1, 2]
    assert "all of it before" in cli("people", "--to", "out", "--partition-by", "born").stdout
    assert (
        "another query"
        in cli("people", "--to", "out").stderr + cli("people", "--to", "out", "--partition-by", "name").stderr
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["people; drop table people", "--to", "a.csv"], "neither a table nor a query"),
        (["people", "--to", "a.xlsx"], "tells no format"),
        (["people", "--to", "nowhere/a.csv"], "is not there"),
        (["people", "--to", "out", "--partition-by", "id", "--format", "csv"], "hold Parquet"),
        (["people", "--to", "a.csv", "--scope", "x"], "--service"),
        (["strangers", "--to", "a.csv"], "does not exist"),
        (["people", "--to", "a.csv", "--max-rows", "1"], "1 rows at most"),
    ],
    ids=["a statement", "an ending", "a folder", "a format", "a scope", "a table", "rows"],
)
def test_what_cannot_be_exported_is_refused_and_leaves_no_file(
    cli: Cli, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = cli(*arguments)
    assert done.returncode in {1, 2}
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("**/*.csv")) == list(tmp_path.glob("**/.*.part")) == []


def test_a_file_that_is_there_is_replaced_by_force_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("kept")
    assert "--force" in cli("people", "--to", "a.csv").stderr
    assert (tmp_path / "a.csv").read_text() == "kept"
    assert cli("people", "--to", "a.csv", "--force").returncode == 0
    assert (tmp_path / "a.csv").read_text().startswith('"id","name"')


def test_the_classes_of_a_service_hold_and_readings_are_noted(cli: Cli, tmp_path: Path, database_url: str) -> None:
    (tmp_path / "exported_shop.py").write_text(SERVICE)
    query = "SELECT id, name FROM people ORDER BY id"
    assert cli(query, "--to", "a.csv", "--service", "exported_shop:service").returncode == 0
    assert (tmp_path / "a.csv").read_text() == '"id","name"\n1,\n2,\n'
    done = cli(query, "--to", "b.csv", "--service", "exported_shop:service", "--scope", "names:read")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.csv").read_text() == '"id","name"\n1,"Ada"\n2,"100%"\n'
    with psycopg.connect(database_url) as connection:
        [(kind, subject)] = connection.execute("SELECT type, subject FROM workhorse.events").fetchall()
    assert (kind, subject.partition("|")[0]) == ("analytics.read", "operator")
    assert "born" in cli("people", "--to", "c.csv", "--service", "exported_shop:service").stderr
