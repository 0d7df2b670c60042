"""What an API key looks like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.errors import SettingsError
from workhorse.identity import KeyText
from workhorse.identity.key_text import BASE62, checksum

TEXT = KeyText()


def test_a_key_is_65_characters_that_name_themselves() -> None:
    new = TEXT.new()
    assert len(new.text) == 65
    assert new.text.startswith(new.prefix + "_")
    assert TEXT.prefix_of(new.text.encode()) == new.prefix
    assert set(new.text) <= set(BASE62 + "_")
    assert new.text[20:] not in repr(new)


def test_no_two_keys_are_alike() -> None:
    made = [TEXT.new() for _ in range(500)]
    assert len({new.prefix for new in made}) == len({new.digest for new in made}) == 500
    # All 62 characters are about as frequent in the random part.
    letters = "".join(new.text[16:59] for new in made)
    assert all(200 < letters.count(letter) < 520 for letter in BASE62)


@given(place=st.integers(3, 64), letter=st.sampled_from(BASE62))
def test_one_wrong_character_is_recognised_without_a_store(place: int, letter: str) -> None:
    text = "wh_4mT9kQ2xBv7a_" + "0Yt3" * 10 + "abc"
    whole = text + checksum(text.encode())
    assert TEXT.prefix_of(whole.encode()) == "wh_4mT9kQ2xBv7a"
    wrong = whole[:place] + letter + whole[place + 1 :]
    assert (TEXT.prefix_of(wrong.encode()) is None) == (wrong != whole)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(junk: bytes) -> None:
    assert TEXT.prefix_of(junk) is None


def test_the_checksum_is_a_known_one() -> None:
    # CRC-32 of "123456789" is 0xCBF43926 (the check value of ISO 3309) = 3421780262.
    assert sum(BASE62.index(digit) * 62**place for place, digit in enumerate(reversed(checksum(b"123456789")))) == (
        0xCBF43926
    )


def test_brands_do_not_take_each_others_keys() -> None:
    live, test = KeyText("acme_live"), KeyText("acme_test")
    new = live.new()
    assert live.prefix_of(new.text.encode()) == new.prefix
    assert test.prefix_of(new.text.encode()) is None


@pytest.mark.parametrize("brand", ["", "Acme", "a-b", "_a", "a_", "a__b", "a" * 21, "é"])
def test_a_brand_that_would_need_quotes_is_refused(brand: str) -> None:
    with pytest.raises(SettingsError, match="lower-case letters"):
        KeyText(brand)
