"""The committed map of the bank's controls: no change takes one away, and no route is missing in it."""

import subprocess
import sys

from bank.app import service
from bank.demo_server import FOLDER
from workhorse.cli.check import read

MAP = FOLDER / "controls.json"


def test_no_control_was_lost_since_the_map_was_committed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workhorse.cli", "check", "bank.app:service", "--against", MAP.name],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"No control was lost since {MAP.name}.\n")


def test_every_route_is_in_the_map_with_its_policy_and_only_pages_and_sums_are_public() -> None:
    kept = {route.route: route for route in read(MAP).routes}
    assert set(kept) == {route.route for route in service.controls().routes}
    assert all(route.policy and route.rates for route in kept.values())
    assert sorted(name for name, route in kept.items() if route.caller != "known") == [
        "GET /",
        "GET /charts.js",
        "GET /docs",
        "GET /docs/swagger-ui/{name}",
        "GET /live",
        "GET /live/transfers",
        "GET /openapi.json",
        "GET /page.css",
        "GET /page.js",
        "GET /page.svg",
        "GET /vendor/{name}",
        "WEBSOCKET /live/transfers",
    ]
