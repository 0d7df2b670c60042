import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.identity.key_text import KeyText
from workhorse.telemetry.redaction import MASK, is_secret_name, redact_mapping, redact_text, redact_url

SECRET = "hunter2"
JWT = "eyJhbGciOiJIUzI1NiJ9eyJhbGci.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLWhlcmU"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIhunter2\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://app:hunter2@db:5432/bank", "postgresql://app:***@db:5432/bank"),
        ("postgresql://app:hun@ter2@db/bank", "postgresql://app:***@db/bank"),
        ("postgresql://app:hun/ter2@db/bank", "postgresql://app:***@db/bank"),
        ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ("postgresql:///bank?host=/run&password=hunter2&user=a", "postgresql:///bank?host=/run&password=***&user=a"),
        ("postgresql:///bank?sslpassword=hunter2", "postgresql:///bank?sslpassword=***"),
        ("https://x/y?access_token=hunter2&page=2", "https://x/y?access_token=***&page=2"),
        ("https://s3/x?X-Amz-Signature=hunter2&X-Amz-Date=1", "https://s3/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://blob/x?sv=1&sig=hunter2", "https://blob/x?sv=1&sig=***"),
        ("GET /callback?code=hunter2&state=hunter2#x 302", "GET /callback?code=***&state=***#x 302"),
        ("host=db user=a password=hunter2 dbname=b", "host=db user=a password=*** dbname=b"),
        ("host=db password = 'hunter2 \\' x' dbname=b", "host=db password = '***' dbname=b"),
    ],
)
def test_the_secrets_of_a_url_are_masked_and_the_rest_is_kept(url: str, expected: str) -> None:
    assert redact_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app@db:5432/bank?sslmode=verify-full",
        "http://localhost:8000/path?email=x@y",
        "redis://cache:6379/0",
        "https://example.com/a?page=2&sort=name",
    ],
)
def test_a_url_without_a_secret_is_kept(url: str) -> None:
    assert redact_url(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer hunter2",
        "authorization: Basic hunter2==",
        "headers were [(b'authorization', b'Bearer hunter2'), (b'host', b'x')]",
        "{'Authorization': 'Bearer hunter2'}",
        "Cookie: a=1; session=hunter2",
        "KeyError({'__Host-session': 'hunter2', 'theme': 'dark'})",
        "jar __Secure-login-1=hunter2; theme=dark",
        "Set-Cookie: session=hunter2; HttpOnly",
        'body {"password": "hunter2"}',
        'body {"password":"a\\"hunter2"}',
        'body "{\\"client_secret\\": \\"hunter2\\"}"',
        "connect(user='a', password='hunter2')",
        "api_key=hunter2",
        "X-Api-Key: hunter2",
        "AWS_SECRET_ACCESS_KEY=hunter2",
        "session_id=hunter2",
        "PASSWORD = hunter2",
        "passphrase: hunter2",
        "pwd=hunter2;Database=x",
        "sent Bearer hunter2hunter2hunter2",
        "password='hunter2 and no end",
        "password='hunter2\\",
        "-----BEGIN PRIVATE KEY-----\nhunter2 and no end",
        f"key {PEM} here",
        "could not connect to postgresql://app:hunter2@db/bank: timeout",
    ],
)
def test_what_looks_like_a_secret_in_text_is_masked(text: str) -> None:
    redacted = redact_text(text)
    assert SECRET not in redacted
    assert MASK in redacted
    assert redact_text(redacted) == redacted, "what is masked already must stay as it is"


def test_an_api_key_is_masked_and_its_public_part_kept() -> None:
    key = KeyText("acme_live").new()
    assert redact_text(f"looked up {key.text}, twice") == f"looked up {key.prefix}_***, twice"


def test_what_has_the_shape_of_a_jwt_is_masked() -> None:
    assert redact_text(f"got {JWT}, refused") == "got ***, refused"
    assert redact_text(f"x={JWT[:40]}") == "x=***"
    assert redact_text(f"x-{JWT}") == "x-***"


@pytest.mark.parametrize(
    "text",
    [
        "",
        'password authentication failed for user "app"',
        "the token is expired",
        "GET /accounts/7 took 12 ms",
        "duplicate key value violates unique constraint",
        "idempotency_key=abc",
        "order 1234567890123456 of 2026",
        "4111 1111 1111 1112 is no card",
    ],
)
def test_plain_text_is_kept(text: str) -> None:
    assert redact_text(text) == text


def test_values_of_secret_names_are_masked_whatever_they_are() -> None:
    assert redact_mapping(
        {"user": "a", "password": 7, "nested": {"api-key": ["x"], "list": ["token=hunter2", 1]}, "n": None}
    ) == {"user": "a", "password": "***", "nested": {"api-key": "***", "list": ["token=***", 1]}, "n": None}


def test_what_is_nested_too_deep_to_be_looked_at_is_masked() -> None:
    value: object = "hunter2"
    for _ in range(20):
        value = [value]
    assert SECRET not in str(redact_mapping({"a": value}))


@pytest.mark.parametrize("name", ["password", "PGPASSWORD", "x-api-key", "Set-Cookie", "client_secret", "sig", "pwd"])
def test_a_name_of_a_secret_is_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["account", "keyboard", "idempotency_key", "bypass", "design", "author", "passenger"])
def test_a_harmless_name_is_let_pass(name: str) -> None:
    assert not is_secret_name(name)


FRAGMENTS = (
    *("password", "token", "sig", "authorization", "Bearer ", "eyJ", "-----BEGIN ", "PRIVATE KEY-----", "***"),
    *("=", ":", " ", "'", '"', "\\", "://", "@", ",", "\n", "/", "&", "-", "a", "1", "x" * 20),
)
fragments = st.sampled_from(FRAGMENTS)


@given(
    st.text(alphabet=st.characters(categories=["L", "N"]), min_size=4, max_size=20),
    st.sampled_from(["password={}", "'token': '{}'", "https://u:{}@h/", "Authorization: Bearer {}", "?sig={}&a=1"]),
    st.text(max_size=20),
)
def test_no_secret_after_a_secret_name_gets_through(secret: str, place: str, before: str) -> None:
    marked = f"QZX{secret}QZX"
    assert "QZX" not in redact_text(f"{before} {place.format(marked)}")


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "eyJ",
        "eyJ.",
        "-eyJ",
        "://a:",
        "://",
        "://a:@",
        "password",
        "password=",
        "password='",
        'password="\\',
        "token-",
        "bearer ",
        "bearer aaaaaaaaaaaaaaaa",
        "authorization: ",
        "authorization",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "sig",
        "session_",
        "\\",
        "'\\",
        "key ",
        "password \t\n",
    ],
)
def test_hostile_text_of_any_size_costs_a_bounded_time(unit: str) -> None:
    text = unit * (2_000_000 // len(unit))
    began = time.process_time()
    redacted = redact_text(text)
    assert time.process_time() - began < 0.5
    assert len(redacted) < 200_000


@given(st.lists(fragments, min_size=1, max_size=5).map("".join))
def test_any_repetition_costs_a_bounded_time(unit: str) -> None:
    text = unit * (16_384 // len(unit))
    began = time.process_time()
    redact_text(text)
    assert time.process_time() - began < 0.5


def test_what_was_not_looked_at_is_cut() -> None:
    text = "x " * 8192 + "password=hunter2"
    assert redact_text(text).endswith("... (16 more characters)")


@pytest.mark.parametrize(
    "text",
    [
        'token: "api_key": "Tr0ub4dor3"',
        "token: token: Tr0ub4dor3",
        "password= secret: 'Tr0ub4dor3 and more'",
        "api_key=token= Tr0ub4dor3",
    ],
)
def test_a_name_that_stands_before_another_name_hides_no_secret(text: str) -> None:
    assert "Tr0ub4dor3" not in redact_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DETAIL:  Key (phone)=(hunter2) already exists.", "DETAIL:  Key (phone)=(***) already exists."),
        (
            "Key (a, lower(b))=(1, hun)ter2\nx) is not present in table",
            "Key (a, lower(b))=(***) is not present in table",
        ),
        ("DETAIL:  Failing row contains (7, hunter2, null).\nnext", "DETAIL:  Failing row contains (***).\nnext"),
        ("Failing row contains (7, hunter2", "Failing row contains (***"),
        (
            'invalid input syntax for type integer: "hunter2"\nLINE 1',
            'invalid input syntax for type integer: "***"\nLINE 1',
        ),
    ],
)
def test_rows_that_postgres_quotes_are_masked_and_their_columns_kept(text: str, expected: str) -> None:
    assert redact_text(text) == expected
