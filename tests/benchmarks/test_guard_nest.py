"""The nest that contestants are forked from."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.guard.hatching import hatch
from benchmarks.guard.messages import Figure, Order
from benchmarks.processes import MeasurementError
from tests.benchmarks.guard_kit import make_credentials

ROOT = Path(__file__).resolve().parents[2]


def order(*contestants: str) -> Order:
    return Order(mode="time", contestants=contestants, credentials=make_credentials(), requests=3, warmup=2, rounds=2)


@pytest.mark.slow
def test_each_contestant_has_a_time_a_round_and_method_and_one_that_cannot_be_built_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    # The peers' libraries are not in the project's own environment.
    figures = asyncio.run(hatch(order("null", "null+guard", "fastapi+slowapi"), tmp_path))
    for name in ("null", "null+guard"):
        own = [figure for figure in figures if figure.contestant == name]
        assert [(figure.method, figure.failed) for figure in own] == [("GET", ""), ("POST", "")] * 2
        assert all(figure.per_request > 0 for figure in own)
    (failed,) = [figure for figure in figures if figure.contestant == "fastapi+slowapi"]
    assert failed.failed == "ModuleNotFoundError: No module named 'slowapi'"


@pytest.mark.slow
def test_a_nest_that_ends_before_it_has_said_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    broken = msgspec.structs.replace(order("null"), mode="another")
    with pytest.raises(MeasurementError, match=r"(?s)ended with code 1: .*another"):
        asyncio.run(hatch(broken, tmp_path))


def test_a_figure_is_one_short_line() -> None:
    line = msgspec.json.encode(Figure(contestant="null", per_request=12.5))
    assert line == b'{"contestant":"null","per_request":12.5}'
    assert msgspec.json.decode(line, type=Figure) == Figure(contestant="null", method="GET", per_request=12.5)


SCRIPT = """
import sys
from benchmarks.guard.nest import use_source_only
if sys.argv[2] == "source":
    use_source_only(sys.argv[1])
sys.path.insert(0, sys.argv[1])
import parts.fast
print(parts.fast.WORD)
"""


def imported(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), how], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_plain_python_is_run_even_where_a_compiled_build_stands_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "parts"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "fast.py").write_text("WORD = 'source'")
    (package / "fast.abi3.so").write_bytes(b"no machine code at all")
    assert imported(tmp_path, "source").stdout == "source\n"
    assert "ImportError" in imported(tmp_path, "either").stderr
