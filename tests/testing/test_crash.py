"""The crash kit finds the bugs that a crash brings to light, and passes an app that has none."""

import sys
from typing import Any

import psycopg
import pytest

from tests.testing.nightly import SCHEMA
from workhorse.errors import StartupError
from workhorse.testing import AsCaller, CrashTest, CrashTestFailed, Report, Request

pytestmark = [pytest.mark.slow]

BALANCES = ["SELECT amount FROM till", "SELECT sum(amount) FROM payments"]


def payment(**more: Any) -> Request:
    return Request("POST", "/payments", json={"amount": 5}, key="payment-1", **more)


def till_is_right(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute(
        "SELECT (SELECT amount FROM till) = (SELECT coalesce(sum(amount), 0) FROM payments)"
    ).fetchone()
    return row is not None and bool(row[0])


def failed(crash_test: CrashTest, target: str, **more: Any) -> Report:
    # This server starts sooner than the usual one.
    environment = {"WORKHORSE_SERVER__KIND": "uvicorn"}
    with pytest.raises(CrashTestFailed) as caught:
        crash_test.run(target, request=payment(), outcome=BALANCES, environment=environment, **more)
    return caught.value.report


def test_a_right_app_survives_every_crash(crash_test: CrashTest, as_caller: AsCaller) -> None:
    request = payment(headers=as_caller("teller", "payments:write"))
    report = crash_test.run("tests.testing.shops:guarded", request=request, invariant=till_is_right, outcome=BALANCES)
    assert report.passed
    assert report.tried == report.points >= 4
    assert report.after.rows["public.payments"] == report.before.rows["public.payments"] + 1


def test_a_reply_before_the_commit_is_caught(crash_test: CrashTest) -> None:
    report = failed(crash_test, "tests.testing.shops:early")
    assert "the client was told 201, and after the crash public.payments: 0 rows instead of 1" in str(report)


def test_a_payment_that_a_retry_makes_twice_is_caught(crash_test: CrashTest) -> None:
    report = failed(crash_test, "tests.testing.shops:double")
    assert "in the end public.payments: 2 rows instead of 1" in str(report)
    assert "`SELECT amount FROM till`: 10 instead of 5" in str(report)


def nothing_is_lost(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute("SELECT (SELECT count(*) FROM incoming) + (SELECT count(*) FROM filed)").fetchone()
    assert row == (3,), f"{row} names are left"


def prepare(connection: psycopg.Connection[Any]) -> None:
    connection.execute(SCHEMA.encode())


def test_a_program_of_one_transaction_survives_every_crash(crash_test: CrashTest) -> None:
    command = [sys.executable, "-m", "tests.testing.nightly", "whole"]
    report = crash_test.run_command(command, prepare=prepare, invariant=nothing_is_lost, atomic=True)
    assert report.tried == report.points >= 4
    assert (report.before.rows["public.filed"], report.after.rows["public.filed"]) == (0, 3)


def test_a_program_that_loses_its_work_between_two_transactions_is_caught(crash_test: CrashTest) -> None:
    command = [sys.executable, "-m", "tests.testing.nightly", "halves"]
    with pytest.raises(CrashTestFailed) as caught:
        crash_test.run_command(command, prepare=prepare, invariant=[nothing_is_lost])
    text = str(caught.value)
    assert "after the crash nothing_is_lost: AssertionError: (0,) names are left" in text
    assert "in the end public.filed: 0 rows instead of 3" in text
    assert "half done" not in text, "the test did not ask for one transaction"


def test_an_app_that_does_not_start_shows_what_it_said(crash_test: CrashTest) -> None:
    with pytest.raises(StartupError, match="no module 'nowhere'"):
        crash_test.run("nowhere:service", request=payment())


def test_a_program_that_never_uses_the_database_cannot_be_tested(crash_test: CrashTest) -> None:
    with pytest.raises(StartupError, match="0 crash points"):
        crash_test.run_command([sys.executable, "-c", "pass"])
    with pytest.raises(StartupError, match="cannot be started"):
        crash_test.run_command(["/nowhere/at/all"])
