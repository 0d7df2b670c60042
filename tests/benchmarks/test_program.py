"""How each benchmark runs as a program."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from benchmarks.processes import MeasurementError
from benchmarks.program import conduct, forget_settings


@pytest.fixture(autouse=True)
def restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_what_was_measured_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    async def measure() -> str:
        return "12 transfers/s"

    assert conduct(measure()) == 0
    assert capsys.readouterr().out == "12 transfers/s\n"


def test_what_cannot_be_measured_prints_no_figure_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    async def measure() -> str:
        raise MeasurementError("the books are not right")

    assert conduct(measure()) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "the benchmark failed: the books are not right\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(signum: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    ended: list[str] = []

    async def measure() -> str:
        try:
            os.kill(os.getpid(), signum)
            await asyncio.sleep(30)
        finally:
            ended.append("server")
        return "never"

    assert conduct(measure()) == 130
    assert ended == ["server"]
    assert capsys.readouterr().out == ""


def test_settings_of_the_project_around_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKHORSE_DATABASE__POOL_MAX", "2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/app")
    monkeypatch.setenv("LANG", "C.UTF-8")
    forget_settings()
    assert "DATABASE_URL" not in os.environ
    assert "WORKHORSE_DATABASE__POOL_MAX" not in os.environ
    assert os.environ["LANG"] == "C.UTF-8"
