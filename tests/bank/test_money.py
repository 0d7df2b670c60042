from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank.money import EXPONENTS, LARGEST, Currency, MoneyError, format_amount, is_currency, parse_amount

currencies = st.sampled_from(sorted(EXPONENTS))
amounts = st.integers(1, LARGEST)


@given(amounts, currencies)
def test_what_is_formatted_is_parsed_back_exactly(amount: int, currency: Currency) -> None:
    assert parse_amount(format_amount(amount, currency), currency) == amount


@given(amounts, currencies)
def test_a_formatted_amount_is_the_decimal_of_its_minor_units(amount: int, currency: Currency) -> None:
    assert Decimal(format_amount(amount, currency)) == Decimal(amount).scaleb(-EXPONENTS[currency])
    assert Decimal(format_amount(-amount, currency)) == -Decimal(format_amount(amount, currency))


@given(st.text(), currencies)
def test_any_text_is_an_amount_or_a_money_error(text: str, currency: Currency) -> None:
    try:
        amount = parse_amount(text, currency)
    except MoneyError:
        return
    assert 1 <= amount <= LARGEST
    assert Decimal(amount) == Decimal(text).scaleb(EXPONENTS[currency])


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [
        ("12.50", "EUR", 1250),
        ("12.5", "EUR", 1250),
        ("12", "EUR", 1200),
        ("0.01", "USD", 1),
        ("007", "JPY", 7),
        ("1.234", "KWD", 1234),
        ("90071992547409.91", "EUR", LARGEST),
        ("9007199254740991", "JPY", LARGEST),
    ],
)
def test_a_decimal_is_read_by_the_exponent_of_its_currency(text: str, currency: Currency, amount: int) -> None:
    assert parse_amount(text, currency) == amount


@pytest.mark.parametrize(
    ("text", "currency", "reason"),
    [
        ("1.234", "EUR", "has 3 decimals; EUR has 2"),
        ("1.0", "JPY", "has 1 decimals; JPY has 0"),
        ("1.2345", "KWD", "has 4 decimals; KWD has 3"),
        ("0.00", "EUR", "zero"),
        ("90071992547409.92", "EUR", "above the largest"),
        ("9007199254740992", "JPY", "above the largest"),
        ("", "EUR", "not an amount"),
        ("-1", "EUR", "not an amount"),
        ("+1", "EUR", "not an amount"),
        ("1e3", "EUR", "not an amount"),
        ("1,00", "EUR", "not an amount"),
        (".5", "EUR", "not an amount"),
        ("5.", "EUR", "not an amount"),
        (" 1", "EUR", "not an amount"),
        ("1\n", "EUR", "not an amount"),
        ("\u0661", "EUR", "not an amount"),
        ("NaN", "EUR", "not an amount"),
        ("9" * 10_000, "EUR", "not an amount"),
    ],
)
def test_what_is_no_amount_of_the_currency_is_refused_with_a_reason(text: str, currency: Currency, reason: str) -> None:
    with pytest.raises(MoneyError, match=reason) as refusal:
        parse_amount(text, currency)
    assert len(str(refusal.value)) < 200


def test_only_the_currencies_with_an_exponent_are_kept() -> None:
    assert is_currency("EUR")
    assert not is_currency("eur")
    assert not is_currency("XAU")
