"""What the holder of the private key can do: perfect by itself, and found by who kept an anchor or asks witnesses."""

from dataclasses import replace

import pytest

from tests.audit.kit import (
    CUTS,
    LOG,
    ORIGIN,
    SEEN,
    SIZE,
    WITNESSED,
    WITNESSES,
    Log,
    events,
    log_of,
    rewritten,
    seen,
    signed,
)
from workhorse.audit.checkpoints import Trust
from workhorse.audit.report import Fault, render_report


def test_a_rewritten_log_is_perfect_by_itself_and_an_anchor_names_the_stretch() -> None:
    honest, log = log_of(SIZE, CUTS), rewritten()
    assert log.verify().ok, "only somebody who kept a checkpoint can know"
    anchors = (honest.files["checkpoints/300"], honest.files["checkpoints/512"])
    assert seen(log, anchors=anchors) == {(Fault.FORKED, 300, None)}
    assert log.verify(anchors=anchors).last_good == 300


def test_a_rewritten_log_gets_no_signature_of_a_witness() -> None:
    log = rewritten()
    assert seen(log, WITNESSED) == {(Fault.CHECKPOINT, None, None)}
    assert log.verify(WITNESSED).size is None


def test_a_log_that_was_cut_off_is_perfect_by_itself_and_an_anchor_finds_it() -> None:
    honest, log = log_of(SIZE, CUTS), log_of(512, CUTS[:2])
    assert log.verify().ok, "an older export is a good one"
    assert seen(log, anchors=(honest.files["checkpoint"],)) == {(Fault.ROLLED_BACK, None, None)}


def test_a_log_that_was_cut_off_is_found_by_the_time_of_its_witnesses() -> None:
    log = log_of(512, witnesses=WITNESSES)
    assert log.verify(WITNESSED).ok
    assert log.verify(WITNESSED).witnesses == {one.name: SEEN for one in WITNESSES}
    late = replace(WITNESSED, seen_since=SEEN + 60)
    assert seen(log, late) == {(Fault.CHECKPOINT, None, None)}


def test_two_views_that_the_log_signed_are_found_by_who_holds_both() -> None:
    one, other = log_of(SIZE), rewritten()
    assert one.verify().ok
    assert other.verify().ok
    assert seen(one, anchors=(other.files["checkpoint"],)) == {(Fault.FORKED, 0, None)}


def test_a_change_after_the_last_anchor_is_found_by_the_next_one_only() -> None:
    honest, log = log_of(SIZE, CUTS), rewritten(changes=600)
    earlier, later = honest.files["checkpoints/512"], honest.files["checkpoint"]
    assert log.verify(anchors=(earlier,)).ok, "600 is after what was anchored"
    assert seen(log, anchors=(later,)) == {(Fault.FORKED, 0, None)}, "nothing says since when"
    assert seen(log, anchors=(earlier, later)) == {(Fault.FORKED, 512, None)}


def test_an_anchor_that_the_log_did_not_sign_says_nothing_of_the_log() -> None:
    forged = signed(SIZE, b"0" * 32, by=replace(LOG, seed=b"1" * 32)).encode()
    report = log_of(SIZE, CUTS).verify(anchors=(forged,))
    assert {(one.fault, one.message.split(":")[0]) for one in report.findings} == {(Fault.CHECKPOINT, "anchor 1")}


def test_one_witness_under_two_names_is_one_witness() -> None:
    twin = replace(WITNESSES[0], name="witness.example/other")
    log = log_of(10, witnesses=(WITNESSES[0], twin))
    with pytest.raises(ValueError, match="2 witnesses are asked for"):
        Trust(origin=ORIGIN, logs=(LOG.verifier,), witnesses=(WITNESSES[0].verifier, twin.verifier), quorum=2)
    three = (WITNESSES[0].verifier, twin.verifier, WITNESSES[1].verifier)
    assert seen(log, Trust(origin=ORIGIN, logs=(LOG.verifier,), witnesses=three, quorum=2)) == {
        (Fault.CHECKPOINT, None, None)
    }


def test_a_witness_may_sign_a_time_that_no_calendar_has() -> None:
    log = Log(witnesses=WITNESSES)
    log.add(events(1), seconds=2**63 - 1)
    report = log.verify(WITNESSED)
    assert report.ok
    assert "9223372036854775807 s after 1970" in render_report(report)
