"""A token belongs to one cookie, one session, one key and a span of time."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.errors import SettingsError
from workhorse.guard.checks.csrf_token import (
    COOKIE,
    FIELD,
    HEADER,
    check_csrf_token,
    compile_csrf_token,
    csrf_cookie,
    mask_token,
    new_token,
    token_cookie,
    verify_token,
)
from workhorse.guard.facts import Facts, read_facts

KEY, OTHER = b"k" * 32, b"o" * 40
RULES = compile_csrf_token(keys=(KEY,), lifetime_seconds=3600)
NOW = 1_800_000_000.5
COOKIE_VALUE = new_token(RULES, binding=b"session-1", now=NOW)


def verify(token: bytes | str, cookie: bytes = COOKIE_VALUE, binding: bytes = b"session-1", now: float = NOW) -> bool:
    return verify_token(RULES, token=token, cookie=cookie, binding=binding, now=now)


def test_the_masked_token_and_the_cookie_itself_are_taken() -> None:
    assert verify(mask_token(COOKIE_VALUE))
    assert verify(mask_token(COOKIE_VALUE).encode())
    assert verify(COOKIE_VALUE)


def test_each_reply_has_another_token_for_one_cookie() -> None:
    tokens = {mask_token(COOKIE_VALUE) for _ in range(50)}
    assert len(tokens) == 50
    assert all(verify(token) for token in tokens)
    assert all(COOKIE_VALUE.decode() not in token for token in tokens)


def changed(text: bytes, position: int) -> bytes:
    plain = bytearray(urlsafe_b64decode(text))
    plain[position % len(plain)] ^= 1
    return urlsafe_b64encode(bytes(plain))


ATTACKER = new_token(RULES, binding=b"session-2", now=NOW)
FORGED = new_token(compile_csrf_token(keys=(OTHER,)), binding=b"session-1", now=NOW)

HOSTILE: list[tuple[str, bytes | str, bytes]] = [
    ("an empty token", b"", COOKIE_VALUE),
    ("an empty cookie", COOKIE_VALUE, b""),
    ("both empty", b"", b""),
    ("the attacker's own pair, planted", mask_token(ATTACKER), ATTACKER),
    ("the attacker's token, the user's cookie", mask_token(ATTACKER), COOKIE_VALUE),
    ("a pair signed with another key", mask_token(FORGED), FORGED),
    ("a pair without signature", urlsafe_b64encode(bytes(54)), urlsafe_b64encode(bytes(54))),
    ("equal rubbish", b"x" * 72, b"x" * 72),
    ("two tokens of the session", new_token(RULES, binding=b"session-1", now=NOW), COOKIE_VALUE),
    ("a token cut short", COOKIE_VALUE[:-4], COOKIE_VALUE),
    ("a mask alone", urlsafe_b64encode(bytes(108)), COOKIE_VALUE),
    ("a token with blanks, which a lenient decoder skips", b" " + COOKIE_VALUE, COOKIE_VALUE),
    ("a token in the other alphabet", COOKIE_VALUE.replace(b"-", b"+").replace(b"_", b"/") + b"=", COOKIE_VALUE),
    ("a very long token", b"A" * 1_000_000, COOKIE_VALUE),
    ("no ASCII", "\u20ac" * 72, COOKIE_VALUE),
    ("a surrogate", "\ud800", COOKIE_VALUE),
]


@pytest.mark.parametrize(("token", "cookie"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_what_does_not_belong_together_is_refused(token: bytes | str, cookie: bytes) -> None:
    assert not verify(token, cookie)


@given(st.integers(0, 53))
def test_no_byte_of_the_cookie_can_be_changed(position: int) -> None:
    cookie = changed(COOKIE_VALUE, position)
    assert not verify(cookie, cookie)
    assert not verify(mask_token(cookie), cookie)


@given(st.integers(0, 107))
def test_no_byte_of_the_token_can_be_changed(position: int) -> None:
    assert not verify(changed(mask_token(COOKIE_VALUE).encode(), position))


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_token_holds_for_its_own_session_only(mine: bytes, other: bytes) -> None:
    cookie = new_token(RULES, binding=mine, now=NOW)
    assert verify(mask_token(cookie), cookie, mine)
    assert verify(mask_token(cookie), cookie, other) == (mine == other)


@given(st.binary(max_size=250), st.binary(max_size=250))
def test_no_pair_of_values_makes_the_check_raise(token: bytes, cookie: bytes) -> None:
    assert not verify(token, cookie)


AGES = [(-61.0, False), (-59.0, True), (0.0, True), (3599.0, True), (3601.0, False), (1e12, False), (-1e12, False)]


@pytest.mark.parametrize(("age", "expected"), AGES)
def test_a_token_is_taken_for_its_lifetime(age: float, expected: bool) -> None:  # noqa: FBT001
    assert verify(mask_token(COOKIE_VALUE), now=NOW + age) is expected


def test_a_key_is_changed_without_refusing_anybody() -> None:
    rotated = compile_csrf_token(keys=(OTHER, KEY))
    token = mask_token(COOKIE_VALUE)
    assert verify_token(rotated, token=token, cookie=COOKIE_VALUE, binding=b"session-1", now=NOW)
    fresh = new_token(rotated, binding=b"session-1", now=NOW)
    ended = compile_csrf_token(keys=(OTHER,))
    assert verify_token(ended, token=mask_token(fresh), cookie=fresh, binding=b"session-1", now=NOW)
    assert not verify_token(ended, token=token, cookie=COOKIE_VALUE, binding=b"session-1", now=NOW)


def request(*headers: tuple[str, str]) -> Facts:
    return read_facts(http_scope("POST", "/", headers))


def verdict(facts: Facts) -> str:
    refusal = check_csrf_token(RULES, facts, binding=b"session-1", now=NOW)
    return refusal.control if refusal is not None else "served"


PAIR = f"{COOKIE}={COOKIE_VALUE.decode()}"
TOKEN = (HEADER, mask_token(COOKIE_VALUE))

REQUESTS: list[tuple[str, list[tuple[str, str]], str]] = [
    ("cookie and header", [("cookie", PAIR), TOKEN], "served"),
    ("among other cookies", [("cookie", f"a=b; {PAIR};c=d"), TOKEN], "served"),
    ("in a line of its own", [("cookie", PAIR), ("cookie", "a=b"), TOKEN], "served"),
    ("no header", [("cookie", PAIR)], "csrf.token_missing"),
    ("no cookie", [TOKEN], "csrf.token_missing"),
    ("a planted second cookie", [("cookie", f"{PAIR}; {COOKIE}=x"), TOKEN], "csrf.token_missing"),
    ("a planted second cookie in a line of its own", [("cookie", PAIR), ("cookie", PAIR), TOKEN], "csrf.token_missing"),
    ("a cookie without the prefix", [("cookie", PAIR.removeprefix("__Host-")), TOKEN], "csrf.token_missing"),
    ("the field's name as a header", [("cookie", PAIR), (FIELD, TOKEN[1])], "csrf.token_missing"),
    ("a wrong header", [("cookie", PAIR), (HEADER, "x")], "csrf.token"),
]


@pytest.mark.parametrize(("headers", "expected"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
def test_requests(headers: list[tuple[str, str]], expected: str) -> None:
    assert verdict(request(*headers)) == expected


def test_the_cookie_comes_back_as_it_was_set() -> None:
    name, value = token_cookie(RULES, COOKIE_VALUE)
    assert name == b"set-cookie"
    pair, *attributes = value.decode().split("; ")
    assert pair == PAIR
    assert attributes == ["Max-Age=3600", "Path=/", "Secure", "SameSite=Lax", "HttpOnly"]
    assert csrf_cookie(request(("cookie", pair))) == COOKIE_VALUE


def test_only_a_cookies_value_can_be_masked() -> None:
    with pytest.raises(ValueError, match="make one with new_token"):
        mask_token(b"x")


def test_the_keys_are_not_in_the_repr() -> None:
    assert "kkkk" not in repr(RULES)
    assert "1 keys" in repr(RULES)


WRONG: list[tuple[tuple[bytes, ...], int, str]] = [
    ((), 3600, "are 0; name 1 to 8"),
    ((KEY, KEY), 3600, "2; name 1 to 8 different ones"),
    (tuple(bytes([number]) * 32 for number in range(9)), 3600, "are 9"),
    ((KEY, b"short-secret"), 3600, "key 2 of the CSRF token has 12 bytes"),
    ((KEY,), 59, "59 seconds; it is 60 or more"),
]


@pytest.mark.parametrize(("keys", "lifetime", "message"), WRONG, ids=[row[2] for row in WRONG])
def test_a_wrong_setting_is_refused_at_start_up_without_showing_a_key(
    keys: tuple[bytes, ...], lifetime: int, message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        compile_csrf_token(keys=keys, lifetime_seconds=lifetime)
    assert "short-secret" not in str(caught.value)
