"""The bank is struck in mid-load, again and again, and nothing is lost, doubled, stuck or answered in two ways.

BANK_CRASH_KILLS   how many blows (10: each kind once)
BANK_CRASH_SEED    repeats the schedule of an earlier run, which printed it

`make soak` does the same for hours (`soak.py`).
"""

import asyncio
import contextlib
import os
import random

import pytest

from tests.crash.kills import Target, describe
from tests.crash.report import ORPHANED_SECONDS
from tests.crash.siege import Aftermath, Scale, besiege

pytestmark = [pytest.mark.crash, pytest.mark.slow]

KILLS = int(os.environ.get("BANK_CRASH_KILLS", "10"))


@pytest.fixture(scope="module")
def aftermath(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    seed = int(os.environ.get("BANK_CRASH_SEED") or random.SystemRandom().randrange(2**32))
    tell(request.config, f"{KILLS} kills, BANK_CRASH_SEED={seed}")
    found = asyncio.run(besiege(tmp_path_factory.mktemp("siege"), Scale(kills=KILLS), seed=seed))
    witness = found.witness
    tell(
        request.config,
        f"{describe(found.wounds)}\n{found.seconds:.0f} s, {found.starts} starts of the bank, {found.worker_starts} of"
        f" its workers: {len(witness.orders)} wishes, {len(found.found.posted)} transfers,"
        f" {found.found.finished_jobs} jobs, of which {found.found.taken_back} were taken back,"
        f" {witness.compared} answers compared with an earlier one, {witness.sent_again} requests sent again",
    )
    return found


@pytest.fixture(scope="module")
def faults(aftermath: Aftermath) -> dict[str, list[str]]:
    return aftermath.faults()


def tell(config: pytest.Config, text: str) -> None:
    """Print past the capture: a run of minutes should say what it does, and its seed even if it is interrupted."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        print(f"\n{text}", flush=True)


def test_what_was_acknowledged_is_there_exactly_once_and_nothing_that_nobody_wanted(
    faults: dict[str, list[str]],
) -> None:
    assert faults["wishes"] == []


def test_every_key_has_one_answer_however_often_it_is_sent(aftermath: Aftermath, faults: dict[str, list[str]]) -> None:
    assert faults["answers"] == []
    assert faults["replies"] == []
    assert aftermath.witness.compared > KILLS


def test_the_books_balance_by_the_banks_word_by_our_own_count_and_in_the_cache(
    aftermath: Aftermath, faults: dict[str, list[str]]
) -> None:
    assert faults["books"] == []
    assert aftermath.witness.looks > KILLS


def test_everybody_is_told_of_each_posted_transfer_exactly_once(
    aftermath: Aftermath, faults: dict[str, list[str]]
) -> None:
    assert faults["news"] == []
    told = len(aftermath.found.told)
    assert aftermath.audit["advices"] == {"transfers": told, "announced": told, "advised": told, "waiting": 0}


def test_every_standing_order_is_paid_once_on_each_of_its_days(
    aftermath: Aftermath, faults: dict[str, list[str]]
) -> None:
    assert faults["payments"] == []
    assert len(aftermath.found.payments) > len(aftermath.found.mandates) > KILLS


def test_every_day_that_is_over_has_one_report_whose_steps_took_effect_once(
    aftermath: Aftermath, faults: dict[str, list[str]]
) -> None:
    assert faults["days"] == []
    assert len(aftermath.found.reports) >= KILLS


def test_no_job_stays_behind_and_what_the_dead_held_comes_back_in_time(
    aftermath: Aftermath, faults: dict[str, list[str]]
) -> None:
    assert faults["jobs"] == []
    assert aftermath.watch.oldest_orphan < ORPHANED_SECONDS
    assert aftermath.found.finished_jobs > 20 * KILLS


def test_no_lock_claim_or_lease_is_left(faults: dict[str, list[str]]) -> None:
    assert faults["rest"] == []


def test_no_process_ends_that_was_not_struck_and_each_ends_when_it_is_told_to(faults: dict[str, list[str]]) -> None:
    assert faults["processes"] == []


def test_the_kills_met_requests_under_way_and_clients_that_had_to_ask_again(aftermath: Aftermath) -> None:
    assert len(aftermath.wounds) == KILLS
    assert {wound.kill.target for wound in aftermath.wounds} == set(list(Target)[:KILLS])
    assert all(wound.in_flight for wound in aftermath.wounds)
    assert sum(wound.in_flight for wound in aftermath.wounds) > 2 * KILLS
    assert aftermath.witness.sent_again > KILLS


def test_the_bank_did_real_work_between_the_kills(aftermath: Aftermath) -> None:
    refused = sum(answer.status == 409 for answer in aftermath.witness.answers.values())
    assert len(aftermath.found.posted) > 20 * KILLS
    assert refused > KILLS


def test_nothing_went_wrong_that_the_bank_or_its_workers_call_an_error(faults: dict[str, list[str]]) -> None:
    assert faults["errors"] == []
