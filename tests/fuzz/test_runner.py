"""The fuzzer's runner: what it takes from libFuzzer's output, and from the inputs that were found."""

from pathlib import Path

import pytest

from fuzz.__main__ import line_of, replay, report
from fuzz.catalogue import CANARY, PLANTED, UnknownHarness
from fuzz.harness import Harness
from fuzz.runner import Outcome, broken_inputs, command, explain, read_outcome

OUTPUT = """\
#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 87Mb
#4096\tpulse  cov: 67 ft: 90 corp: 7/31b lim: 16 exec/s: 349525 rss: 87Mb
Done 5402 runs in 16 second(s)
stat::number_of_executed_units: 5402
"""


def raising(data: bytes) -> None:
    if data:
        raise KeyError(data)


def test_a_worker_gets_the_limits_of_its_harness() -> None:
    line = command(Path("/py"), CANARY, Path("/store/canary"), seconds=7)
    assert line[:4] == ["/py", "-m", "fuzz.worker", "canary"]
    assert {"-max_total_time=7", "-max_len=16", "-artifact_prefix=/store/canary/findings/"} <= set(line)
    assert line[-2:] == ["/store/canary/corpus", "/store/canary/seeds"]


def test_the_last_figures_of_a_worker_count() -> None:
    outcome = read_outcome(CANARY, OUTPUT, 0, [])
    assert (outcome.runs, outcome.covered, outcome.failed) == (5402, 67, "")
    assert "nothing" in line_of(outcome)


def test_a_worker_that_ends_without_a_finding_and_with_a_fault_says_nothing_of_the_parser() -> None:
    outcome = read_outcome(CANARY, OUTPUT + "ImportError: no such thing", 1, [])
    assert "ended with code 1" in outcome.failed
    assert "no such thing" in outcome.failed
    assert "NOT FUZZED" in line_of(outcome)


def test_a_worker_that_hardly_ran_is_not_a_pass() -> None:
    assert "it ran 3 inputs only" in read_outcome(CANARY, "Done 3 runs in 0 second(s)", 0, []).failed
    assert "it ran 0 inputs only" in read_outcome(CANARY, "", 0, []).failed


def test_a_finding_stays_until_it_is_mended(tmp_path: Path) -> None:
    findings = tmp_path / "findings"
    findings.mkdir()
    (findings / "crash-1").write_bytes(PLANTED)
    (findings / "crash-2").write_bytes(b"mended")
    (findings / "timeout-3").write_bytes(b"slow")
    assert [found.name for found in broken_inputs(CANARY, tmp_path)] == ["crash-1", "timeout-3"]
    assert sorted(left.name for left in findings.iterdir()) == ["crash-1", "timeout-3"]
    assert broken_inputs(CANARY, tmp_path / "nothing") == []


def test_any_exception_is_a_finding_and_is_told_with_its_traceback() -> None:
    harness = Harness(name="raising", run=raising, seeds=(b"",))
    assert explain(harness, b"") == ""
    assert explain(harness, b"x").endswith("KeyError: b'x'")
    assert "raise KeyError" in explain(harness, b"x")


def test_the_report_tells_how_to_see_a_finding_again(tmp_path: Path) -> None:
    elsewhere = tmp_path / "timeout-1"
    elsewhere.write_bytes(b"/a")
    text = report([Outcome(name="heads.path", runs=1000, covered=9, findings=(elsewhere,))])
    assert f"--replay heads.path {elsewhere}" in text
    assert "it takes too long" in text
    assert "1 harnesses, 1,000 inputs: 1 with findings, 0 not fuzzed" in text


def test_replaying_says_whether_the_input_still_breaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"/accounts/7")
    assert replay("heads.path", file) == 0
    assert "breaks nothing" in capsys.readouterr().out
    with pytest.raises(UnknownHarness):
        replay("tails", file)
