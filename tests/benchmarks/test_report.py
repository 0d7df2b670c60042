"""The table and the claims."""

import pytest

from benchmarks.bank.databases import Books, judge_books
from benchmarks.bank.measuring import Measurement, per_transfer_us
from benchmarks.bank.report import claims, ratio, rows, table


def measured(rate: float, server_us: float | None = 100.0) -> Measurement:
    return Measurement(
        rate=rate, p50_ms=1.25, p99_ms=9.0, acknowledged=1, server_us=server_us, postgres_us=50.0, load_us=20.0
    )


ROUNDS = {
    "bank": [measured(600), measured(300), measured(900)],
    "psycopg": [measured(1200), measured(400), measured(1000)],
    "orm": [measured(200), measured(150), measured(300)],
    "orm-fast": [measured(300), measured(100), measured(450)],
    "pgbench": [measured(2400, None), measured(600, None), measured(3000, None)],
}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert ratio(ROUNDS, "bank", "psycopg") == 0.75  # of 0.5, 0.75 and 0.9
    assert ratio(ROUNDS, "bank", "pgbench") == 0.3  # of 0.25, 0.5 and 0.3


def test_rounds_that_do_not_pair_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratio({"bank": [measured(1)], "pgbench": [measured(1), measured(1)]}, "bank", "pgbench")


def test_the_table_has_a_line_a_variant_in_columns_of_one_width() -> None:
    lines = table(rows(ROUNDS, {"bank": "The bank", "pgbench": "pgbench"}, pgbench="pgbench", sqlalchemy="orm"))
    heading, bank, yardstick = lines.splitlines()
    assert len({len(line) for line in (heading, bank, yardstick)}) == 1
    assert heading.split()[:2] == ["variant", "transfers/s"]
    assert bank.split() == ["The", "bank", "600", "300..900", "1.2", "9.0", "100", "50", "20", "0.30", "3.00"]
    assert yardstick.split() == ["pgbench", "2,400", "600..3,000", "1.2", "9.0", "-", "50", "20", "1.00", "10.00"]


def test_the_bank_is_held_to_the_faster_way_of_serving_sqlalchemy() -> None:
    stands = claims(ROUNDS, bank="bank", psycopg="psycopg", pgbench="pgbench", sqlalchemy=["orm", "orm-fast"])
    assert {claim.name: (claim.value, claim.holds) for claim in stands} == {
        "bank.over_sqlalchemy": (2.0, True),
        "bank.over_psycopg": (0.75, True),
        "bank.over_pgbench": (0.3, True),
    }


def test_cpu_time_is_told_per_transfer_or_not_at_all() -> None:
    assert per_transfer_us(1.0, 3.0, 1000) == 2000.0
    assert per_transfer_us(None, 3.0, 1000) is None


def test_right_books_have_no_fault() -> None:
    assert judge_books("bank", Books(7, 7, 0, 0), 7, distinct=True) == []


@pytest.mark.parametrize(
    ("books", "acknowledged", "fault"),
    [
        (Books(7, 7, 5, 0), 7, "bank: the books do not balance, the sum of all balances is 5"),
        (Books(7, 7, 0, 2), 7, "bank: 2 balances are not the sums of their entries"),
        (Books(6, 6, 0, 0), 7, "bank: 7 transfers were acknowledged, and 6 are in the books"),
        (Books(8, 7, 0, 0), 8, "bank: 1 transfers are in the books twice"),
    ],
)
def test_each_fault_of_the_books_is_named(books: Books, acknowledged: int, fault: str) -> None:
    assert judge_books("bank", books, acknowledged, distinct=True) == [fault]
