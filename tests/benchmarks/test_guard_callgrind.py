"""Counting instructions, as far as it goes without valgrind."""

import platform
import shutil
from pathlib import Path

import pytest

from benchmarks.guard.callgrind import Counter, command, missing, read_total
from benchmarks.guard.profiling import FunctionCost, read_map, read_profile, read_profiles

COUNTS = """\
# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 77
cmd:  python -m benchmarks.guard.nest
part: 1
desc: I1 cache:
desc: Timerange: Basic block 0 - 900
desc: Trigger: Client Request: GET
positions: line
events: Ir
summary: 18446744073709540910

fl=(1) ???
fn=(1) 0x0000000000001000
0 100
cfn=(2) 0x0000000000001010
calls=10 0
0 300
0 20
fn=(2)
0 250
cfn=(3) uv_run
calls=5 0
* 50
fn=(3)
0 50
fn=(2)
+3 30

totals: 450
"""
MAP = "1010 b py::check:guard/host.py\n1000 b py::serve:guard/layer.py\n"


def test_a_count_has_the_name_that_it_was_given() -> None:
    assert read_total(COUNTS) == ("GET", 450)


def test_what_callgrind_writes_at_the_end_of_a_program_is_no_count() -> None:
    assert read_total("desc: Trigger: Program termination\nsummary: 0\ntotals: 0\n") is None


def test_outside_of_valgrind_there_is_no_counter() -> None:
    with pytest.raises(RuntimeError, match="valgrind" if platform.machine() == "x86_64" else "x86_64 only"):
        Counter()


def test_why_nothing_is_counted_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valgrind is not installed" in missing()
    valgrind = tmp_path / "valgrind"
    valgrind.touch(mode=0o755)
    assert shutil.which("valgrind") == str(valgrind)
    assert missing() == ""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "aarch64" in missing()


def test_counting_begins_when_the_program_says_so_and_lands_in_the_folder(tmp_path: Path) -> None:
    line = command(tmp_path)
    assert "--instr-atstart=no" in line
    assert f"--callgrind-out-file={tmp_path}/%p" in line
    assert not any("fn-skip" in part for part in line)


def test_a_profile_looks_through_named_functions_but_never_the_linkers(tmp_path: Path) -> None:
    skipped = {part for part in command(tmp_path, functions_of_python=True) if part.startswith("--fn-skip=")}
    assert {"--fn-skip=P*", "--fn-skip=_P*", "--fn-skip=__*"} <= skipped
    assert "--fn-skip=_*" not in skipped
    assert "--fn-skip=_d*" not in skipped  # _dl_runtime_resolve: callgrind asserts that it was not skipped


def test_a_map_is_sorted_by_address() -> None:
    assert read_map(MAP + "damaged\n") == [(0x1000, 0xB, "serve:guard/layer.py"), (0x1010, 0xB, "check:guard/host.py")]


def test_a_functions_own_cost_is_without_that_of_the_functions_it_called() -> None:
    assert read_profile(COUNTS, read_map(MAP), requests=10) == [
        FunctionCost("check:guard/host.py", own=28.0, calls=1.0),
        FunctionCost("serve:guard/layer.py", own=12.0, calls=0.0),
        FunctionCost("not Python", own=5.0, calls=0.5),
    ]


def test_the_own_costs_add_up_to_the_whole() -> None:
    found = read_total(COUNTS)
    assert found is not None
    assert sum(function.own for function in read_profile(COUNTS, read_map(MAP), requests=1)) == found[1]


def test_a_profile_is_found_by_its_method(tmp_path: Path) -> None:
    (tmp_path / "77.map").write_text(MAP)
    (tmp_path / "77").write_text("desc: Trigger: Program termination\n")
    (tmp_path / "77.1").write_text(COUNTS)
    assert read_profiles(tmp_path, "GET", 10)[0].name == "check:guard/host.py"
    assert read_profiles(tmp_path, "POST", 10) == []
