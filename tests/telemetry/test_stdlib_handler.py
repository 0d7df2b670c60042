import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workhorse.telemetry import Log, StdlibHandler


class Bridge:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.log = Log(self.fd, level="debug")
        self.logger = logging.Logger("driver.pool")  # noqa: LOG001 - not in the global tree
        self.logger.addHandler(StdlibHandler(self.log))

    def records(self) -> list[dict[str, Any]]:
        self.log.close()
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    bridge = Bridge(tmp_path / "log")
    yield bridge
    bridge.log.close()
    os.close(bridge.fd)


def refuse() -> None:
    raise ConnectionError("cannot reach postgresql://app:hunter2@db/bank")


def test_a_record_becomes_an_event_of_its_level(bridge: Bridge) -> None:
    bridge.logger.debug("a %s", 1)
    bridge.logger.info("b")
    bridge.logger.warning("c")
    bridge.logger.error("d")
    bridge.logger.critical("e")
    records = bridge.records()
    assert [(r["level"], r["message"]) for r in records] == [
        ("debug", "a 1"),
        ("info", "b"),
        ("warning", "c"),
        ("error", "d"),
        ("error", "e"),
    ]
    assert {(r["event"], r["logger"]) for r in records} == {("log.record", "driver.pool")}


def test_an_exception_becomes_one_field_and_secrets_in_it_are_masked(bridge: Bridge) -> None:
    try:
        refuse()
    except ConnectionError:
        bridge.logger.exception("lost")
    (record,) = bridge.records()
    assert record["message"] == "lost"
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith("ConnectionError: cannot reach postgresql://app:***@db/bank")


def test_extra_attributes_become_fields(bridge: Bridge) -> None:
    bridge.logger.info("x", extra={"account": "a1", "api_key": "k"}, stack_info=True)
    (record,) = bridge.records()
    assert (record["account"], record["api_key"]) == ("a1", "***")
    assert record["stack"].startswith("Stack (most recent call last)")
    assert record.keys() == {"ts", "level", "event", "account", "api_key", "logger", "message", "stack"}


def test_a_message_whose_arguments_do_not_fit_is_logged_all_the_same(
    bridge: Bridge, capsys: pytest.CaptureFixture[str]
) -> None:
    bridge.logger.info("%d things", "many")
    (record,) = bridge.records()
    assert record["message"] == "%d things (its arguments do not fit it)"
    assert capsys.readouterr().err == ""
