import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank.iban import check_digits, why_not_iban
from tests.bank.ledgers import open_account

# Published examples of the registry.
EXAMPLES = [
    "DE89370400440532013000",
    "GB29NWBK60161331926819",
    "FR1420041010050500013M02606",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
]


def build_iban(country: str, number: str) -> str:
    return country + check_digits(country, number) + number


letters = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
countries = st.text(letters, min_size=2, max_size=2)
numbers = st.text(st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), min_size=11, max_size=30)
ibans = st.builds(build_iban, countries, numbers)


@pytest.mark.parametrize("iban", EXAMPLES)
def test_a_published_example_is_an_iban(iban: str) -> None:
    assert why_not_iban(iban) is None


@given(ibans)
def test_what_is_built_with_its_check_digits_is_an_iban(iban: str) -> None:
    assert why_not_iban(iban) is None


@given(ibans, st.data())
def test_a_wrong_digit_is_noticed(iban: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([place for place, character in enumerate(iban) if character.isdigit()]))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != iban[place]]))
    assert why_not_iban(iban[:place] + other + iban[place + 1 :]) is not None


@given(ibans, st.data())
def test_two_swapped_digits_are_noticed(iban: str, data: st.DataObject) -> None:
    pairs = [place for place in range(4, len(iban) - 1) if iban[place : place + 2].isdigit()]
    pairs = [place for place in pairs if iban[place] != iban[place + 1]]
    if not pairs:
        return
    place = data.draw(st.sampled_from(pairs))
    swapped = iban[:place] + iban[place + 1] + iban[place] + iban[place + 2 :]
    assert why_not_iban(swapped) is not None


@given(st.text(max_size=60))
def test_any_text_is_judged_without_an_exception(text: str) -> None:
    assert why_not_iban(text) is None or why_not_iban(text)


@pytest.mark.parametrize("text", ["", "DE", "de89370400440532013000", "DE89 3704 0044 0532 0130 00", "DE" + "1" * 33])
def test_what_has_not_the_form_is_refused_for_its_form(text: str) -> None:
    reason = why_not_iban(text)
    assert reason is not None
    assert "two letters" in reason


def test_the_ibans_that_the_database_gives_out_are_ibans(ledger: psycopg.Connection) -> None:
    rows = ledger.execute("SELECT bank.iban_of(n) FROM generate_series(1, 500) n").fetchall()
    assert len({iban for (iban,) in rows}) == 500
    assert [why_not_iban(iban) for (iban,) in rows] == [None] * 500
    account = open_account(ledger)
    assert ledger.execute("SELECT iban FROM bank.accounts WHERE id = %s", (account,)).fetchone() == rows[account - 1]
