"""What is remembered of credentials: who they are, and never what they are."""

import gc
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.identity.known import DIGESTED, Known


def test_what_was_kept_is_found_and_forgotten_a_generation_later() -> None:
    known: Known[int] = Known(capacity=2, max_bytes=1_000)
    secrets = [os.urandom(size) for size in (1, DIGESTED - 1, DIGESTED, DIGESTED + 1, 700)]
    for number, secret in enumerate(secrets):
        known.keep(secret, number)
        assert known.find(secret) == number
    assert known.find(secrets[0]) is None
    assert [known.find(secret) for secret in secrets[2:]] == [2, 3, 4]
    known.clear()
    assert known.find(secrets[4]) is None


def test_what_is_too_long_is_never_known() -> None:
    known: Known[int] = Known(capacity=2, max_bytes=200)
    known.keep(b"x" * 201, 1)
    assert known.find(b"x" * 201) is None


@given(head=st.binary(max_size=40), other=st.binary(max_size=40), tail=st.binary(max_size=2 * DIGESTED))
def test_nobody_is_known_by_what_only_ends_like_it(head: bytes, other: bytes, tail: bytes) -> None:
    known: Known[str] = Known(capacity=10, max_bytes=1_000)
    known.keep(head + tail, "it")
    assert known.find(other + tail) == ("it" if other == head else None)


@pytest.mark.parametrize("size", [20, DIGESTED, 700])
def test_no_copy_of_the_credentials_is_left_in_memory(size: int) -> None:
    known: Known[str] = Known(capacity=10, max_bytes=1_000)
    secret = bytearray(os.urandom(size))
    known.keep(bytes(secret), "it")
    held: list[Any] = [known]
    kept = b""
    while held:  # all that the cache holds
        one = held.pop()
        kept += one if isinstance(one, bytes) else b""
        held += gc.get_referents(one) if not isinstance(one, type) else ()
    assert bytes(secret[-min(size, DIGESTED) :]) not in kept
    assert known.find(bytes(secret)) == "it"
