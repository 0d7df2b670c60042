"""pgbench: the script that it is given, and what it says."""

import pytest

from benchmarks.bank.pgbench import read_log, read_processed, script
from benchmarks.load.messages import AccountRange
from benchmarks.processes import MeasurementError

YEN = AccountRange("JPY", first=8, step=5, count=2000)


def test_the_script_chooses_two_accounts_of_a_range() -> None:
    lines = script(YEN, "bank").splitlines()
    assert lines[:4] == [
        r"\set debtor random(0, 1999)",
        r"\set creditor (:debtor + random(1, 1999)) % 2000",
        r"\set payer 8 + 5 * :debtor",
        r"\set payee 8 + 5 * :creditor",
    ]
    assert "bank.post_transfer(:payer, :payee, 'JPY', :amount, 'pgbench');" in lines[-1]


def test_a_hot_account_is_on_one_side_of_each_transfer() -> None:
    lines = script(YEN, "bank", hot=True).splitlines()
    assert lines[:4] == [
        r"\set side random(0, 1)",
        r"\set other 8 + 5 * random(1, 1999)",
        r"\set payer case when :side = 0 then 8 else :other end",
        r"\set payee case when :side = 0 then :other else 8 end",
    ]


def test_the_plain_ledger_is_kept_by_seven_statements() -> None:
    text = script(YEN, "plain")
    assert text.count(";") + text.count(r"\gset") == 7
    assert "'JPY'" in text


def test_what_pgbench_has_done_is_read_from_what_it_prints() -> None:
    text = (
        "pgbench (18.6)\nnumber of transactions actually processed: 4321\nnumber of failed transactions: 0 (0.000%)\n"
    )
    assert read_processed(text) == 4321


@pytest.mark.parametrize(
    "text",
    [
        "pgbench: error: connection failed",
        "number of transactions actually processed: 10\nnumber of failed transactions: 3 (23%)\n",
    ],
)
def test_a_run_of_pgbench_that_failed_gives_no_figure(text: str) -> None:
    with pytest.raises(MeasurementError, match="pgbench did not do as it was told"):
        read_processed(text)


def test_latencies_are_read_from_the_third_column_in_milliseconds() -> None:
    assert read_log("0 1 2500 0 1700000000 1\n1 7 12 3 1700000000 2\n") == [2.5, 0.012]
