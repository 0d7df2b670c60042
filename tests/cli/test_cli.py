"""The verbs that only print, as a person at a terminal meets them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workhorse.migrations import WORKHORSE

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run the command in an empty folder."""

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "workhorse.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_help_is_a_map_of_the_verbs(cli: Cli) -> None:
    done = cli("--help")
    assert done.returncode == 0
    for verb in ("run", "config", "migrate", "services"):
        assert f"\n    {verb} " in done.stdout
        assert cli(verb, "--help").returncode == 0


def test_config_prints_value_unit_and_source(cli: Cli) -> None:
    done = cli("config", WORKHORSE_SERVER__PORT="9000")
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["server.port"] == ["server.port", "9000", "WORKHORSE_SERVER__PORT"]
    assert rows["server.stop_timeout_seconds"] == ["server.stop_timeout_seconds", "20", "seconds", "default"]


def test_config_masks_secrets_and_shows_their_place(cli: Cli) -> None:
    url = "postgresql://bank:hunter2@db.internal:5432/bank?sslpassword=hunter2"
    secrets = {"DATABASE_URL": url, "WORKHORSE_OPERATIONS__TOKEN": "hunter2"}
    done = cli("config", "--json", **secrets)
    for printed in (done, cli("config", **secrets)):
        assert "hunter2" not in printed.stdout + printed.stderr
        assert "db.internal" in printed.stdout
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["database.url"]["source"] == "DATABASE_URL"
    assert rows["guard.max_body_bytes"]["unit"] == "bytes"
    assert all(row["description"] for row in rows.values())


def test_a_wrong_setting_is_one_sentence_and_exit_code_2(cli: Cli) -> None:
    done = cli("config", WORKHORSE_SERVER__PROT="1")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "workhorse: environment variable WORKHORSE_SERVER__PROT: there is no such setting;"
        " did you mean WORKHORSE_SERVER__PORT?"
    )


def test_production_lists_what_is_unsafe(cli: Cli) -> None:
    done = cli("run", "some:app", WORKHORSE_ENVIRONMENT="production")
    assert done.returncode == 2
    assert "database.url: embedded servers are for development" in done.stderr
    assert "mend: set DATABASE_URL" in done.stderr


@pytest.mark.parametrize("target", ["nothing", "nothing:", ":x", "no_such_module:service"])
def test_a_target_that_does_not_exist_is_said(target: str, cli: Cli, database_url: str) -> None:
    done = cli("run", target, DATABASE_URL=database_url)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert target.partition(":")[0] in done.stderr or "MODULE:ATTRIBUTE" in done.stderr


def test_migrate_lists_applies_and_is_done(cli: Cli, empty_database_url: str) -> None:
    names = [f"workhorse {migration.number:04}_{migration.name}\n" for migration in WORKHORSE.load()]
    dry = cli("migrate", "--dry-run", DATABASE_URL=empty_database_url)
    assert dry.stdout == "".join(f"lacks {name}" for name in names)
    assert cli("migrate", DATABASE_URL=empty_database_url).stdout == "".join(f"applying {name}" for name in names)
    assert cli("migrate", DATABASE_URL=empty_database_url).stdout == "the database is up to date\n"


def test_migrate_refuses_what_is_no_service(cli: Cli, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text("service = 1")
    done = cli("migrate", "thing:service", DATABASE_URL=database_url)
    assert done.returncode == 2
    assert "'thing:service' is int, not a workhorse.Service" in done.stderr


@pytest.mark.slow
def test_services_show_stop_and_reset(cli: Cli, tmp_path: Path) -> None:
    assert "no servers in" in cli("services", "status").stdout
    (tmp_path / "pyproject.toml").touch()
    assert cli("migrate", WORKHORSE_EMBEDDED__LINGER_SECONDS="60").returncode == 0
    shown = cli("services", "status").stdout
    assert "postgres" in shown
    assert "running" in shown
    assert cli("services", "stop").stdout == "stopped\n"
    assert cli("services", "stop").stdout == "nothing was running\n"
    assert "stopped" in cli("services", "status").stdout
    refused = cli("services", "reset")
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert "deleted" in cli("services", "reset", "--yes").stdout
    assert "no servers in" in cli("services", "status").stdout
