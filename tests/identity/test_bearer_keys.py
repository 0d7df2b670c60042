"""Keys that are fetched: how often the issuer is asked, and what holds while it is away, slow, or wrong."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.identity.certificates import tls_files
from tests.identity.oidc_server import (
    AUDIENCE,
    KEYS,
    METADATA,
    OAUTH_METADATA,
    OidcServer,
    SigningKey,
    good_claims,
    rsa_private,
    signing_key,
)
from workhorse.errors import SettingsError, StartupError
from workhorse.identity import Bearer, Credentials, Issuer, IssuerUnavailable, NotAuthenticated
from workhorse.identity.discovery import IssuerWrong, read_metadata
from workhorse.principal import Principal
from workhorse.telemetry import Log


class Clock:
    """The time when the test began, from which its other times are counted."""

    now = 0.0


@pytest.fixture(autouse=True)
def started() -> None:
    Clock.now = time.time()


@pytest.fixture
def oidc() -> Iterator[OidcServer]:
    with OidcServer() as server:
        yield server


def presented(token: str) -> Credentials:
    return Credentials(authorization=b"Bearer " + token.encode())


async def served(scheme: Bearer, token: str, at: float = 0) -> Principal:
    """Ask as the guard does, `at` seconds from now."""
    credentials = presented(token)
    known = scheme.recall(credentials, Clock.now + at)
    return known if known is not None else await scheme.verify(credentials, Clock.now + at)


async def refusal(scheme: Bearer, token: str, at: float = 0) -> str:
    with pytest.raises(NotAuthenticated) as refused:
        await served(scheme, token, at)
    return str(refused.value.reason)


def run(
    test: Callable[[Bearer], Awaitable[None]], oidc: OidcServer | str, log: Log | None = None, **options: Any
) -> None:
    """Run a test with a scheme that is closed behind it."""

    async def main() -> None:
        name = oidc if isinstance(oidc, str) else oidc.issuer
        scheme = Bearer(Issuer(name, **options), audience=AUDIENCE, log=log)
        try:
            await test(scheme)
        finally:
            await scheme.close()

    asyncio.run(main())


def test_the_keys_are_found_by_the_metadata_and_fetched_once(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        await scheme.open()
        for number in range(20):
            assert (await served(scheme, oidc.token(sub=f"user-{number}"))).subject == f"user-{number}"

    run(test, oidc)
    assert oidc.fetches == {METADATA: 1, KEYS: 1}


def test_without_open_the_first_token_fetches_the_keys(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        await served(scheme, oidc.token())

    run(test, oidc)
    assert oidc.fetches == {METADATA: 1, KEYS: 1}


def test_an_oauth_issuer_with_a_path_is_found_too() -> None:
    async def test(scheme: Bearer) -> None:
        await served(scheme, server.token())

    with OidcServer(path="/tenant") as server:
        server.metadata_path = f"{OAUTH_METADATA}/tenant"
        run(test, server)
        assert server.fetches == {f"/tenant{METADATA}": 1, f"{OAUTH_METADATA}/tenant": 1, KEYS: 1}


def test_a_given_url_of_keys_needs_no_metadata(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        await served(scheme, oidc.token())

    run(test, oidc, keys_url=oidc.base + KEYS)
    assert oidc.fetches == {KEYS: 1}


def test_a_known_token_is_recalled_without_a_signature_and_not_beyond_its_end(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        token = oidc.token(exp=Clock.now + 100)
        assert scheme.recall(presented(token), Clock.now) is None
        principal = await scheme.verify(presented(token), Clock.now)
        assert scheme.recall(presented(token), Clock.now + 99.9) is principal
        assert scheme.recall(presented(token), Clock.now + 100) is None
        # Within the clock skew it is good, and verified each time.
        assert (await scheme.verify(presented(token), Clock.now + 129)).subject == "alice"
        assert scheme.recall(presented(token), Clock.now + 129) is None
        assert await refusal(scheme, token, 130) == "expired"

    run(test, oidc)


def test_only_so_many_tokens_are_remembered_and_those_in_use_stay(oidc: OidcServer) -> None:
    async def main() -> None:
        scheme = Bearer(oidc.issuer, audience=AUDIENCE, max_known=10)
        used = presented(oidc.token(sub="used"))
        await scheme.verify(used, Clock.now)
        for number in range(50):
            await scheme.verify(presented(oidc.token(sub=f"user-{number}")), Clock.now)
            assert scheme.recall(used, Clock.now) is not None
            assert int(repr(scheme).partition(": ")[2].split()[0]) <= 20
        assert scheme.recall(presented(oidc.token(sub="user-1")), Clock.now) is None
        await scheme.close()
        assert scheme.recall(used, Clock.now) is None

    asyncio.run(main())


def test_after_a_rotation_the_first_new_token_fetches_the_key(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        await served(scheme, oidc.token())
        oidc.rotate()
        assert (await served(scheme, oidc.token(), 31)).subject == "alice"

    run(test, oidc)
    assert oidc.fetches[KEYS] == 2


def test_a_known_token_dies_when_its_key_is_no_longer_published(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        old = oidc.token()
        await served(scheme, old)
        assert scheme.recall(presented(old), Clock.now + 31) is not None
        oidc.rotate()
        await served(scheme, oidc.token(), 31)
        assert scheme.recall(presented(old), Clock.now + 31) is None
        assert await refusal(scheme, old, 31) == "unknown_key"

    run(test, oidc)


def test_a_known_token_dies_when_another_key_takes_the_name_of_its_own(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        old = oidc.token()
        await served(scheme, old)
        oidc.keys = [signing_key("ES256", oidc.keys[0].kid), signing_key()]
        await served(scheme, oidc.token(), 31)
        assert await refusal(scheme, old, 31) == "signature"

    run(test, oidc)


def test_a_known_token_outlives_the_arrival_of_further_keys(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        old = oidc.token()
        principal = await served(scheme, old)
        oidc.keys.append(signing_key("RS256"))
        await served(scheme, oidc.token(), 31)
        assert scheme.recall(presented(old), Clock.now + 200) is principal

    run(test, oidc)


def test_a_withdrawn_key_is_forgotten_even_if_no_new_one_is_ever_named(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        old = oidc.token(exp=Clock.now + 10_000)
        await served(scheme, old)
        oidc.rotate()
        assert (await served(scheme, old, 299)).subject == "alice"
        # From here on a fetch is under way, and this token did not wait for it.
        assert (await served(scheme, old, 301)).subject == "alice"
        while scheme.recall(presented(old), Clock.now + 302) is not None:
            assert time.time() < Clock.now + 10
            await asyncio.sleep(0.01)
        assert await refusal(scheme, old, 302) == "unknown_key"

    run(test, oidc)


def test_after_a_long_silence_the_first_token_waits_for_fresh_keys(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        old = oidc.token(exp=Clock.now + 10_000)
        await served(scheme, old)
        oidc.rotate()
        assert await refusal(scheme, old, 700) == "unknown_key"

    run(test, oidc)


def test_a_flood_of_made_up_key_names_makes_one_fetch_in_a_cooldown(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        await served(scheme, oidc.token())
        before = oidc.fetches[KEYS]
        for second in (31, 40, 60.9):
            flood = [signing_key("ES256").sign(good_claims(oidc.issuer)) for _ in range(30)]
            refused = await asyncio.gather(*(refusal(scheme, token, second) for token in flood))
            assert set(refused) == {"unknown_key"}
        assert oidc.fetches[KEYS] - before == 1
        assert await refusal(scheme, signing_key("ES256").sign(good_claims(oidc.issuer)), 62) == "unknown_key"
        assert oidc.fetches[KEYS] - before == 2
        assert (await served(scheme, oidc.token(), 62)).subject == "alice"

    run(test, oidc)


def test_tokens_that_would_be_refused_anyway_never_reach_the_issuer(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        stranger = signing_key()
        assert await refusal(scheme, stranger.sign(good_claims("https://evil.example"))) == "issuer"
        assert await refusal(scheme, stranger.sign(good_claims(oidc.issuer, aud="other"))) == "audience"
        assert await refusal(scheme, stranger.sign(good_claims(oidc.issuer, exp=Clock.now - 99))) == "expired"
        assert await refusal(scheme, "junk") == "malformed"

    run(test, oidc)
    assert not oidc.fetches


def test_many_first_tokens_share_one_fetch(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        oidc.gate.clear()
        waiting = [asyncio.ensure_future(served(scheme, oidc.token(sub=f"u{number}"))) for number in range(50)]
        await asyncio.sleep(0.1)
        waiting[0].cancel()  # the request that started it goes away
        oidc.gate.set()
        done = await asyncio.gather(*waiting[1:])
        assert [principal.subject for principal in done] == [f"u{number}" for number in range(1, 50)]

    run(test, oidc)
    assert oidc.fetches == {METADATA: 1, KEYS: 1}


def away(oidc: OidcServer, *, is_away: bool) -> None:
    oidc.statuses = {METADATA: 500, KEYS: 503} if is_away else {}


def test_while_the_issuer_is_away_known_keys_are_good_and_it_is_asked_every_five_seconds(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        old = oidc.token(exp=Clock.now + 100_000)
        await served(scheme, old)
        away(oidc, is_away=True)
        before = oidc.fetches.total()
        for tenth in range(7000, 7200):  # 20 s, in steps of 0.1 s
            assert (await served(scheme, old, tenth / 10)).subject == "alice"
        assert 4 <= oidc.fetches.total() - before <= 5
        # Between two tries, known tokens are recalled as ever.
        assert scheme.recall(presented(old), Clock.now + 719) is not None
        assert (await served(scheme, oidc.token(sub="bob", exp=Clock.now + 100_000), 3599)).subject == "bob"
        with pytest.raises(IssuerUnavailable):
            await served(scheme, old, 3601)
        away(oidc, is_away=False)
        assert (await served(scheme, old, 3607)).subject == "alice"

    run(test, oidc)


def test_without_any_keys_a_token_is_neither_good_nor_bad_but_503(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        away(oidc, is_away=True)
        await scheme.open()  # no fault: the pods start though the issuer is away
        started = oidc.fetches.total()
        for _ in range(30):
            with pytest.raises(IssuerUnavailable) as refused:
                await served(scheme, oidc.token(), 1)
            assert refused.value.status == 503
            assert (b"retry-after", b"1") in refused.value.headers
        assert oidc.fetches.total() == started
        away(oidc, is_away=False)
        assert (await served(scheme, oidc.token(), 6)).subject == "alice"

    run(test, oidc)


def test_a_slow_issuer_holds_a_token_no_longer_than_its_timeout(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        oidc.gate.clear()
        begun = time.monotonic()
        with pytest.raises(IssuerUnavailable):
            await served(scheme, oidc.token())
        assert 0.2 <= time.monotonic() - begun < 2

    run(test, oidc, timeout_seconds=0.2)


def test_a_slow_issuer_does_not_hold_up_tokens_when_keys_are_due(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        old = oidc.token(exp=Clock.now + 10_000)
        await served(scheme, old)
        oidc.gate.clear()
        begun = time.monotonic()
        assert (await served(scheme, old, 301)).subject == "alice"
        assert scheme.recall(presented(old), Clock.now + 302) is not None
        assert (await served(scheme, oidc.token(sub="bob"), 302)).subject == "bob"
        assert time.monotonic() - begun < 1

    run(test, oidc)


def test_a_fetch_under_way_ends_with_close(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        oidc.gate.clear()
        waiting = asyncio.ensure_future(served(scheme, oidc.token()))
        await asyncio.sleep(0.1)
        await scheme.close()
        with pytest.raises(IssuerUnavailable):
            await waiting

    run(test, oidc)


FAULTS: dict[str, Callable[[OidcServer], None]] = {
    "a document without end": lambda oidc: oidc.documents.update({KEYS: b" " * 300_000 + b'{"keys":[]}'}),
    "metadata without end": lambda oidc: oidc.documents.update({METADATA: b" " * 200_000 + b"{}"}),
    "no JSON": lambda oidc: oidc.documents.update({KEYS: b"<html>"}),
    "metadata that are no JSON": lambda oidc: oidc.documents.update({METADATA: b"<html>"}),
    "no list of keys": lambda oidc: oidc.documents.update({KEYS: b"{}"}),
    "more keys than anybody has": lambda oidc: oidc.documents.update({KEYS: json.dumps({"keys": [{}] * 101}).encode()}),
    "nothing there": lambda oidc: oidc.statuses.update({KEYS: 404}),
    "an error": lambda oidc: oidc.statuses.update({METADATA: 500}),
    "a success without content": lambda oidc: oidc.statuses.update({KEYS: 204}),
    "compressed, though not asked for": lambda oidc: oidc.headers.update({"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_this_fault_of_the_issuer_is_as_if_it_were_away(name: str, oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        await scheme.open()
        with pytest.raises(IssuerUnavailable):
            await served(scheme, oidc.token())

    FAULTS[name](oidc)
    run(test, oidc)


@pytest.mark.parametrize("path", [METADATA, KEYS])
def test_a_redirect_to_another_host_is_not_followed(path: str, oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        with pytest.raises(IssuerUnavailable):
            await served(scheme, oidc.token())

    with OidcServer() as other:
        other.keys = oidc.keys
        oidc.statuses = {path: 302}
        oidc.headers = {"Location": other.base + path}
        run(test, oidc)
        assert not other.fetches


WRONG: dict[str, tuple[str, Callable[[OidcServer], None]]] = {
    "another issuer": ("says that it is of 'https://evil", lambda oidc: oidc.metadata.update(issuer="https://evil")),
    "the issuer with a slash": (
        "name the issuer exactly so",
        lambda oidc: oidc.metadata.update(issuer=oidc.issuer + "/"),
    ),
    "no issuer": ("it is of None", lambda oidc: oidc.metadata.pop("issuer")),
    "no URL of keys": ("names no jwks_uri", lambda oidc: oidc.metadata.pop("jwks_uri")),
    "keys in plain text": ("https://", lambda oidc: oidc.metadata.update(jwks_uri="http://keys.example/k")),
    "keys in a file": ("must be a URL", lambda oidc: oidc.metadata.update(jwks_uri="file:///etc/passwd")),
    "no keys": ("no key that can be used", lambda oidc: oidc.keys.clear()),
    "only weak keys": (
        "1024 bits",
        lambda oidc: setattr(oidc, "keys", [SigningKey(rsa_private(1024), "RS256", "weak")]),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_this_fault_of_the_set_up_is_told_at_the_start(name: str, oidc: OidcServer) -> None:
    message, spoil = WRONG[name]

    async def test(scheme: Bearer) -> None:
        with pytest.raises(StartupError, match=message):
            await scheme.open()

    spoil(oidc)
    run(test, oidc)


def test_a_remote_issuer_cannot_point_to_keys_on_this_machine() -> None:
    issuer = "https://login.example.com"
    document = json.dumps({"issuer": issuer, "jwks_uri": "http://127.0.0.1:8080/keys"}).encode()
    with pytest.raises(IssuerWrong, match="keys on this machine"):
        read_metadata(issuer, document)


def test_an_issuer_that_empties_its_set_is_taken_at_its_word(oidc: OidcServer) -> None:
    async def test(scheme: Bearer) -> None:
        token = oidc.token(exp=Clock.now + 10_000)
        await served(scheme, token)
        oidc.keys = []
        assert await refusal(scheme, token, 700) == "unknown_key"

    run(test, oidc)


def test_changes_and_failures_are_told_in_the_log(oidc: OidcServer) -> None:
    reader, writer = os.pipe()
    log = Log(writer, format="json")

    async def test(scheme: Bearer) -> None:
        first = oidc.keys[0].kid
        await served(scheme, oidc.token())
        second = oidc.rotate().kid
        await served(scheme, oidc.token(), 31)
        away(oidc, is_away=True)
        await served(scheme, oidc.token(exp=Clock.now + 9000), 1000)
        log.close()
        events = [json.loads(line) for line in os.read(reader, 65536).splitlines()]
        assert [event["event"] for event in events] == [
            "identity.keys_changed",
            "identity.keys_changed",
            "identity.issuer_away",
        ]
        assert events[0]["added"] == [first]
        assert (events[1]["added"], events[1]["removed"]) == ([second], [first])
        assert events[2]["issuer"] == oidc.issuer
        assert "answers with status 503" in events[2]["why"]
        assert events[2]["keys_good_for_seconds"] == 3600 - 969

    try:
        run(test, oidc, log)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    "name",
    [
        "http://login.example.com",
        "http://127.0.0.1.evil.example",
        "ftp://login.example.com",
        "login.example.com",
        "https://",
        "https://login.example.com#x",
        "https://user@login.example.com",
        "https://login.example.com|alice",
        "https://login.example.com:x",
        "https://[::1",
        "",
        "urn:workhorse:development",
    ],
)
def test_a_name_that_cannot_be_trusted_to_lead_to_an_issuer_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        Bearer(name, audience=AUDIENCE)


@pytest.mark.parametrize(
    "options",
    [
        {"refresh_seconds": 0},
        {"timeout_seconds": -1},
        {"cooldown_seconds": float("nan")},
        {"stale_seconds": 599},
        {"stale_seconds": 86_401},
    ],
)
def test_times_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="seconds"):
        Issuer("https://login.example.com", **options)  # type: ignore[arg-type]


def test_the_issuers_certificate_must_be_of_an_authority_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, chain = tls_files(tmp_path)

    async def refused(scheme: Bearer) -> None:
        with pytest.raises(IssuerUnavailable):
            await served(scheme, server.token())

    async def taken(scheme: Bearer) -> None:
        assert (await served(scheme, server.token())).issuer.startswith("https://")

    with OidcServer(tls=chain) as server:
        run(refused, server)
        assert not server.fetches
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        run(taken, server)
