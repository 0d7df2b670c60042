"""The table and the claims."""

import pytest

from benchmarks.bank.databases import Books, Told, judge_books, judge_told
from benchmarks.bank.measuring import Measurement, per_transfer_us
from benchmarks.bank.report import NotRun, claims, ratio, rows, start_claims, table
from benchmarks.bank.starting import Starts
from benchmarks.bank.variants import (
    BANK,
    DJANGO,
    SERVED,
    SQLALCHEMY,
    SQLALCHEMY_UVICORN,
    THROUGH_FASTAPI,
    Line,
    lines_of,
)
from benchmarks.figures import Claim


def measured(rate: float, server_us: float | None = 100.0, refused: float = 0.0) -> Measurement:
    return Measurement(
        rate=rate,
        p50_ms=1.25,
        p99_ms=9.0,
        acknowledged=1,
        server_us=server_us,
        postgres_us=50.0,
        load_us=20.0,
        refused=refused,
        start_seconds=None if server_us is None else 1.5,
    )


LINES = lines_of((BANK, THROUGH_FASTAPI, SQLALCHEMY, SQLALCHEMY_UVICORN, DJANGO), (64, 256), clients=8)
ROUNDS = {
    "bank-64": [measured(6000), measured(3000), measured(9000)],
    "bank-256": [measured(8000, refused=0.02)] * 3,
    "bank-64-hot": [measured(5700), measured(2700), measured(8000)],
    "pgbench-8": [measured(2400, None), measured(600, None), measured(3000, None)],
    "pgbench-8-hot": [measured(500, None)] * 3,
    "pgbench-statements-8": [measured(1000, None)] * 3,
    "through-fastapi-64": [measured(2000), measured(600), measured(2500)],
    "through-fastapi-256": [measured(2400)] * 3,
    "sqlalchemy-64": [measured(200), measured(150), measured(300)],
    "sqlalchemy-256": [measured(200)] * 3,
    "sqlalchemy-uvicorn-64": [measured(300), measured(100), measured(450)],
    "django-64": [measured(100)] * 3,
    "django-256": [measured(100)] * 3,
}


def test_each_variant_has_a_line_for_each_number_of_connections_and_the_bank_a_hot_one() -> None:
    assert len({line.name for line in LINES}) == len(LINES)
    assert {line.name for line in LINES} == set(ROUNDS)


def test_every_variant_is_in_the_table_when_all_can_be_served() -> None:
    assert {line.variant.name for line in lines_of(SERVED, (64,), clients=8)} >= {variant.name for variant in SERVED}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert ratio(ROUNDS, "bank-64", "pgbench-8") == 3.0  # of 2.5, 5 and 3
    assert ratio(ROUNDS, "through-fastapi-64", "pgbench-8") == pytest.approx(2000 / 2400)  # of 0.83, 1 and 0.83


def test_rounds_that_do_not_pair_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratio({"bank-64": [measured(1)], "pgbench-8": [measured(1), measured(1)]}, "bank-64", "pgbench-8")


def test_the_table_has_a_line_a_variant_in_columns_of_one_width() -> None:
    heading, *lines = table(rows(ROUNDS, LINES)).splitlines()
    assert len({len(line) for line in (heading, *lines)}) == 1
    assert len(lines) == len(LINES)
    bank, crowded, _, yardstick, *_ = lines
    title = BANK.title.split()
    assert bank.split() == [
        *(*title, "64", "6,000", "3,000..9,000", "1.2", "9.0", "100", "50", "20", "0.0", "3.00", "1.00")
    ]
    assert crowded.split()[len(title) :] == [
        *("256", "8,000", "8,000..8,000", "1.2", "9.0", "100", "50", "20", "2.0", "3.33", "1.00")
    ]
    assert yardstick.split()[-11:] == [
        *("8", "2,400", "600..3,000", "1.2", "9.0", "-", "50", "20", "0.0", "1.00", "3.00")
    ]


def test_the_bank_is_held_to_its_targets_under_each_number_of_connections() -> None:
    stands = claims(ROUNDS, LINES)
    values = {claim.name: (claim.value, claim.holds) for claim in stands if isinstance(claim, Claim)}
    assert values == {
        "bank.over_pgbench_64": (3.0, True),
        "bank.through_fastapi_over_pgbench_64": (pytest.approx(2000 / 2400), True),
        "bank.over_sqlalchemy_64": (20.0, True),  # the uvicorn server's, which is the faster of the two
        "bank.over_django_64": (60.0, True),
        "bank.over_pgbench_256": (pytest.approx(8000 / 2400), True),
        "bank.through_fastapi_over_pgbench_256": (1.0, True),
        "bank.over_sqlalchemy_256": (40.0, True),
        "bank.over_django_256": (80.0, True),
        "bank.hot_over_uniform": (0.9, True),
    }
    assert [str(claim) for claim in stands if isinstance(claim, NotRun)] == [
        "claim bank.over_go not run: this benchmark has no peer in Go"
    ]


def test_the_starts_are_told_as_medians() -> None:
    made = start_claims(ROUNDS, Line(variant=BANK, connections=64), Starts(cold=[1.0, 2.5, 1.1], warm=[0.1, 0.4, 0.5]))
    assert {claim.name: (claim.value, claim.holds) for claim in made} == {
        "bank.start_s": (1.5, True),
        "bank.servers_cold_start_s": (1.1, True),
        "bank.servers_warm_start_s": (0.4, False),
    }


def test_cpu_time_is_told_per_transfer_or_not_at_all() -> None:
    assert per_transfer_us(1.0, 3.0, 1000) == 2000.0
    assert per_transfer_us(None, 3.0, 1000) is None


def test_right_books_have_no_fault() -> None:
    assert judge_books("bank", Books(7, 7, 0, 0), 7, distinct=True) == []
    assert judge_told("bank", Told(7, 7, 4, 3, 7), 7) == []


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


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (Told(6, 6, 7, 0, 7), "bank: 7 transfers were acknowledged; 6 events name 6 of them"),
        (Told(7, 6, 7, 0, 7), "bank: 7 transfers were acknowledged; 7 events name 6 of them"),
        (Told(7, 7, 4, 2, 7), "bank: of 7 transfers 4 have their advice, and 2 a job for it"),
        (Told(7, 7, 4, 3, 6), "bank: 7 transfers were acknowledged, and 6 replies are kept"),
    ],
)
def test_an_event_an_advice_or_a_reply_that_is_missing_is_named(told: Told, fault: str) -> None:
    assert judge_told("bank", told, 7) == [fault]
