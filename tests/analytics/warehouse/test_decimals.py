"""Numbers of an engine with a fixed scale are those of Postgres, digit by digit."""

from decimal import Decimal

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workhorse.state.warehouses.decimals import fits, quotient, scaled

NUMBERS = st.decimals(-(10**20), 10**20, places=9) | st.decimals(-1000, 1000, places=2) | st.decimals(-1, 1, places=9)


def test_a_quotient_has_the_digits_that_postgres_gives_it(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:

        @given(NUMBERS, st.integers(1, 10**12) | st.integers(1, 20))
        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        def law(total: Decimal, count: int) -> None:
            (found,) = connection.execute("SELECT %s::numeric / %s::bigint", (str(total), count)).fetchone() or ()
            assert str(quotient(total, count)) == str(found) or quotient(total, count) == found == 0

        law()


def test_a_number_fits_up_to_twenty_digits_and_nine_after_the_point() -> None:
    assert fits(Decimal("99999999999999999999.999999999"))
    assert not fits(Decimal(100000000000000000000))
    assert not fits(Decimal("0.0000000001"))
    assert fits(Decimal(0))


def test_a_number_is_told_with_its_own_digits() -> None:
    assert str(scaled("0.300000000", 2)) == "0.30"
    assert str(scaled("12345678901234567890123456789.000000000", 0)) == "12345678901234567890123456789"
    assert scaled(None, None) is None
