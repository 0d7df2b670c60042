"""The laws of the session cookie: whatever a client sends is read without failing, and one way only."""

import string
from secrets import token_urlsafe

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.identity.cookies import CookieRules, cookie_values, is_loopback
from workhorse.identity.reason import Reason, Refused

RULES = [CookieRules(), CookieRules(plain_allowed=True), CookieRules(name="a")]
SECRETS = st.text(string.ascii_letters + string.digits + "-_", min_size=43, max_size=43).map(str.encode)
NAMES = st.sampled_from([b"__Host-session", b"session", b"a", b"__Host-a", b"__host-session", b"", b"x"])
VALUES = st.one_of(SECRETS, st.binary(max_size=60), st.just(b""))
PAIRS = st.builds(
    lambda before, name, equals, value, after: before + name + equals + value + after,
    st.sampled_from([b"", b" ", b"\t", b"\x0b"]),
    NAMES,
    st.sampled_from([b"=", b"", b" = ", b"=="]),
    VALUES,
    st.sampled_from([b"", b" "]),
)
HEADERS = st.one_of(st.none(), st.binary(max_size=300), st.lists(PAIRS, max_size=6).map(b";".join))


def outcome_of(rules: CookieRules, header: bytes | None) -> bytes | Reason:
    try:
        return rules.read(header)
    except Refused as refused:
        return refused.reason


@given(header=HEADERS, rules=st.sampled_from(RULES))
def test_whatever_is_sent_it_is_read_or_refused_with_a_reason(header: bytes | None, rules: CookieRules) -> None:
    outcome = outcome_of(rules, header)
    assert (outcome is Reason.MISSING) is not rules.is_presented(header)
    if isinstance(outcome, bytes):
        assert len(outcome) == 43
        assert header is not None
        assert outcome in header


@given(secrets=st.lists(SECRETS, min_size=1, max_size=3), others=st.lists(st.tuples(NAMES, SECRETS), max_size=4))
def test_one_cookie_of_the_name_is_read_and_several_are_not(
    secrets: list[bytes], others: list[tuple[bytes, bytes]]
) -> None:
    rules = CookieRules()
    pairs = [(name, value) for name, value in others if name != b"__Host-session"]
    pairs += [(b"__Host-session", secret) for secret in secrets]
    header = b"; ".join(name + b"=" + value for name, value in pairs)
    if len(secrets) == 1:
        assert rules.read(header) == secrets[0]
    else:
        assert outcome_of(rules, header) is Reason.AMBIGUOUS


@given(plain_allowed=st.booleans(), plain=st.booleans())
def test_a_browser_sends_back_the_one_secret_it_was_given(*, plain_allowed: bool, plain: bool) -> None:
    rules, secret = CookieRules(plain_allowed=plain_allowed), token_urlsafe(32)
    kept: dict[bytes, bytes] = {b"__Host-session": b"o" * 43, b"session": b"p" * 43, b"theme": b"dark"}
    kept = {name: value for name, value in kept.items() if plain_allowed or name != b"session"}

    def receive(lines: list[bytes]) -> bytes:
        for line in lines:
            name, _, rest = line.partition(b"=")
            assert rules.is_ours(line)
            assert not name.startswith(b"__Host-") or (b"; Secure" in line and b"; Path=/;" in line)
            if b"; Max-Age=0;" in line:
                kept.pop(name, None)
            else:
                kept[name] = rest.partition(b";")[0]
        return b"; ".join(name + b"=" + value for name, value in kept.items())

    assert rules.read(receive(rules.given(secret, plain=plain))) == secret.encode()
    assert not rules.is_presented(receive(rules.taken()))
    assert kept == {b"theme": b"dark"}
    assert not rules.is_ours(b"theme=dark; Path=/")


@given(header=st.binary(max_size=200), name=NAMES.filter(bool))
def test_values_never_hold_what_ends_them(header: bytes, name: bytes) -> None:
    assert all(b";" not in value for value in cookie_values(header, name))


@pytest.mark.parametrize(
    ("client", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_only_an_address_of_this_machine_is_its_own(client: str, *, loopback: bool) -> None:
    assert is_loopback(client) is loopback
