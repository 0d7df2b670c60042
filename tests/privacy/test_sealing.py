"""The laws of sealed fields and blind indexes."""

from secrets import token_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.errors import SettingsError
from workhorse.privacy import BlindIndex, CannotOpen
from workhorse.privacy.sealing import open_sealed, seal

KEY = bytes(range(32))
texts = st.text(max_size=40)


@given(st.binary(max_size=200), texts, texts)
def test_what_is_sealed_opens_for_its_subject_and_field(plain: bytes, subject: str, field: str) -> None:
    sealed = seal(KEY, plain, subject=subject, field=field)
    assert open_sealed(KEY, sealed, subject=subject, field=field) == plain
    assert sealed != seal(KEY, plain, subject=subject, field=field)  # nobody sees that two are the same


@given(st.binary(max_size=50), texts, texts, texts, texts)
def test_it_opens_for_no_other(plain: bytes, subject: str, field: str, other_subject: str, other_field: str) -> None:
    sealed = seal(KEY, plain, subject=subject, field=field)
    if (subject, field) != (other_subject, other_field):
        with pytest.raises(CannotOpen):
            open_sealed(KEY, sealed, subject=other_subject, field=other_field)
    with pytest.raises(CannotOpen):
        open_sealed(token_bytes(32), sealed, subject=subject, field=field)


@given(st.binary(max_size=40), st.data())
def test_no_change_of_a_sealed_field_goes_unnoticed(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, plain, subject="s", field="f"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CannotOpen):
        open_sealed(KEY, bytes(sealed), subject="s", field="f")
    with pytest.raises(CannotOpen):
        open_sealed(KEY, bytes(sealed[:place]), subject="s", field="f")


@given(texts, texts)
def test_a_blind_index_is_the_same_for_what_is_the_same(one: str, other: str) -> None:
    index = BlindIndex(KEY)
    assert index.of("patients.phone", one) == index.of("patients.phone", one)
    assert index.of("patients.phone", one) != index.of("patients.mail", one)
    assert index.of("patients.phone", one) != BlindIndex(token_bytes(32)).of("patients.phone", one)
    if one.casefold() != other.casefold() and one.isascii() and other.isascii() and one.strip() != other.strip():
        assert (index.of("f", one) == index.of("f", other)) is (one.casefold().strip() == other.casefold().strip())


def test_a_blind_index_makes_no_difference_of_case_and_accents_spelling() -> None:
    index = BlindIndex(KEY)
    assert index.of("f", " Ångström ") == index.of("f", "A\u030angstro\u0308m".upper())


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(SettingsError, match="and this one has 16"):
        BlindIndex(bytes(16))
