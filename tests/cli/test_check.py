"""`workhorse check`: the map of controls of a real app, and what a pipeline makes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from fastapi import FastAPI
from workhorse import Policy, Service

api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

@api.post("/transfers")
async def transfer() -> None: ...

@api.get("/accounts/{account}")
async def account(account: int) -> None: ...

service = Service(api, policies=[
    Policy("POST /transfers", rate="600/minute", idempotent="required", content_types=["application/json"]),
    Policy("GET /accounts/{number}", priority="high"),
])
"""


def check(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "workhorse.cli", "check", "shop:service", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


def test_the_map_shows_each_route_with_its_controls_and_the_line_of_its_handler(project: Path) -> None:
    done = check(project)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (transfer,) = [line for line in lines if line.startswith("POST /transfers")]
    for cell in (
        "anyone",
        "600/minute per caller",
        "required",
        "1 MiB",
        "60 s",
        "application/json",
        "shop.py:7 transfer",
    ):
        assert cell in transfer
    assert "priority high" in next(line for line in lines if line.startswith("GET /accounts/{account}"))
    assert "  insecure_any_host: off" in lines


def test_a_lost_control_fails_the_pipeline_and_is_named(project: Path) -> None:
    assert check(project, "--write", "controls.json").returncode == 0
    routes = json.loads((project / "controls.json").read_text())["routes"]
    assert [route["route"] for route in routes] == ["GET /accounts/{account}", "POST /transfers"]
    assert routes[1]["handler"] == "shop.py transfer", "no line, which every edit would change"
    again = check(project, "--against", "controls.json")
    assert (again.returncode, "No control was lost" in again.stdout) == (0, True)

    (project / "shop.py").write_text(APP.replace('rate="600/minute", ', ""))
    changed = check(project, "--against", "controls.json", "--write", "controls.json")
    assert changed.returncode == 1
    assert "POST /transfers: rate was 600/minute per caller" in changed.stdout
    assert "600/minute" in (project / "controls.json").read_text(), "a map with losses is not overwritten by the way"


def test_a_setting_that_opens_the_guard_fails_it_too(project: Path) -> None:
    check(project, "--write", "controls.json")
    done = check(project, "--against", "controls.json", WORKHORSE_GUARD__INSECURE_ANY_HOST="true")
    assert done.returncode == 1
    assert "everywhere: insecure_any_host was off, is on" in done.stdout


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('"POST /transfers"', '"POST /transfer"'), "the app has no route for the policies 'POST /transfer'"),
        (("priority=", "scope='a', priority="), "ask for a scope, but nobody says who calls"),
    ],
)
def test_what_would_not_start_is_not_checked(project: Path, change: tuple[str, str], complaint: str) -> None:
    (project / "shop.py").write_text(APP.replace(*change))
    done = check(project)
    assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": 1, "everywhere": {}, "routes": [{}]}'])
def test_a_map_that_cannot_be_read_is_an_error_and_no_pass(project: Path, content: str | None) -> None:
    if content is not None:
        (project / "controls.json").write_text(content)
    done = check(project, "--against", "controls.json")
    assert done.returncode == 2
    assert "controls.json" in done.stderr
