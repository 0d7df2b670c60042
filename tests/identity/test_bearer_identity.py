"""Several schemes as one, what a client is told, and what the front door loads."""

import asyncio
import json
import subprocess
import sys
import time
from base64 import b64encode
from typing import Any

import pytest

from tests.identity.certificates import certificate, der
from tests.identity.oidc_server import AUDIENCE, good_claims, signing_key
from workhorse.errors import SettingsError, StartupError
from workhorse.identity import (
    Bearer,
    Certificates,
    Credentials,
    Identity,
    Issuer,
    MutualTls,
    NotAllowed,
    NotAuthenticated,
    Scheme,
)
from workhorse.principal import ANONYMOUS, Kind, Principal
from workhorse.problems import render_problem

ISSUER = "https://login.example.com"
KEY = signing_key()
TOKEN = b"Bearer " + KEY.sign(good_claims(ISSUER, exp=time.time() + 86_400)).encode()
STRUCTURED = b":" + b64encode(der(certificate("payments"))) + b":"


class Badge:
    """The least that a scheme can be: one secret, and a note of when it was opened and closed."""

    challenge = b'Badge realm="door"'

    def __init__(self, calls: list[str] | None = None, *, fault: str = "") -> None:
        self.calls = calls if calls is not None else []
        self.fault = fault

    def presents(self, credentials: Credentials) -> bool:
        return credentials.api_key is not None

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        return None

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        if credentials.api_key != b"secret":
            raise NotAuthenticated(challenges=(self.challenge,))
        return Principal(subject="bob", kind=Kind.KEY)

    async def open(self) -> None:
        if self.fault == "open":
            raise StartupError("the badge reader is broken")
        self.calls.append("open")

    async def close(self) -> None:
        self.calls.append("close")
        if self.fault == "close":
            raise OSError("stuck")


def bearer(certificates: Certificates | None = None) -> Bearer:
    keys = json.dumps({"keys": [KEY.jwk]}).encode()
    return Bearer(Issuer(ISSUER, keys=keys), audience=AUDIENCE, realm="bank", certificates=certificates)


def ask(identity: Identity, **credentials: Any) -> Principal:
    """Ask as the guard does."""
    presented, now = Credentials(**credentials), time.time()
    known = identity.recall(presented, now)
    return known if known is not None else asyncio.run(identity.verify(presented, now))


def reason(identity: Identity, **credentials: bytes | None) -> str:
    with pytest.raises(NotAuthenticated) as refused:
        ask(identity, **credentials)
    return str(refused.value.reason)


def test_each_scheme_knows_its_own_credentials() -> None:
    identity = Identity(bearer(), Badge(), MutualTls("client-cert"))
    assert ask(identity, authorization=TOKEN).subject == "alice"
    assert ask(identity, api_key=b"secret").subject == "bob"
    assert ask(identity, certificate=STRUCTURED).subject == "CN=payments,O=Bank"
    assert ask(identity) is ANONYMOUS
    assert ask(identity, cookie=b"theme=dark") is ANONYMOUS


def test_a_token_that_is_known_needs_no_waiting() -> None:
    identity = Identity(bearer(), Badge())
    first = ask(identity, authorization=TOKEN)
    assert identity.recall(Credentials(authorization=TOKEN), time.time()) is first


def test_two_kinds_of_credentials_are_refused_though_each_is_good() -> None:
    for identity in (Identity(bearer(), Badge()), Identity(Badge(), bearer())):
        ask(identity, authorization=TOKEN)
        assert reason(identity, authorization=TOKEN, api_key=b"secret") == "ambiguous"


def test_a_certificate_gives_way_to_what_the_request_itself_proves() -> None:
    identity = Identity(MutualTls("client-cert"), bearer())
    assert ask(identity, authorization=TOKEN, certificate=STRUCTURED).subject == "alice"
    assert reason(identity, authorization=b"Bearer x", certificate=STRUCTURED) == "malformed"


def test_an_authorization_that_nobody_reads_is_refused_and_never_taken_for_none() -> None:
    identity = Identity(bearer())
    for value in (b"Basic YWxpY2U6c2VjcmV0", b"Bearerx", b"Digest", b""):
        assert reason(identity, authorization=value) == "scheme"


def test_bad_credentials_are_never_taken_for_none() -> None:
    identity = Identity(bearer(), Badge())
    assert reason(identity, authorization=b"Bearer") == "malformed"
    assert reason(identity, authorization=b"bearer x") == "malformed"
    assert reason(identity, api_key=b"wrong") == "missing"


def test_the_scheme_is_written_in_any_case() -> None:
    assert ask(Identity(bearer()), authorization=b"bEARER   " + TOKEN[7:]).subject == "alice"


def test_without_credentials_the_challenge_names_each_scheme_and_no_error() -> None:
    problem = Identity(bearer(), Badge(), MutualTls("pem")).challenge()
    reply = render_problem(problem, instance="")
    assert reply.status == 401
    challenges = [value for name, value in reply.headers if name == b"www-authenticate"]
    assert challenges == [b'Bearer realm="bank"', b'Badge realm="door"']
    assert problem.reason == "missing"


def test_a_bad_token_is_told_to_be_invalid_and_not_why() -> None:
    expired = b"Bearer " + KEY.sign(good_claims(ISSUER, exp=time.time() - 100)).encode()
    with pytest.raises(NotAuthenticated) as refused:
        ask(Identity(bearer()), authorization=expired)
    reply = render_problem(refused.value, instance="")
    assert (b"www-authenticate", b'Bearer realm="bank", error="invalid_token"') in reply.headers
    assert refused.value.reason == "expired"
    assert b"expired" not in reply.body


def test_a_lack_of_scopes_is_told_with_those_that_are_needed() -> None:
    reply = render_problem(NotAllowed(["b:write", "a:read", 'c"', "d e"]), instance="")
    assert reply.status == 403
    assert (b"www-authenticate", b'Bearer error="insufficient_scope", scope="a:read b:write"') in reply.headers


def test_opening_is_all_or_nothing() -> None:
    calls: list[str] = []
    with pytest.raises(StartupError, match="broken"):
        asyncio.run(Identity(Badge(calls), Badge(calls, fault="open")).open())
    assert calls[0] == "open"
    assert calls[1:] == ["close", "close"]


def test_one_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    calls: list[str] = []
    with pytest.raises(ExceptionGroup):
        asyncio.run(Identity(Badge(calls), Badge(fault="close"), Badge(calls)).close())
    assert calls == ["close", "close"]


def test_an_identity_has_a_scheme() -> None:
    with pytest.raises(SettingsError, match="no way to prove"):
        Identity()


def test_ours_are_schemes() -> None:
    schemes: list[Scheme] = [bearer(), MutualTls("pem"), Badge()]
    assert all(isinstance(scheme.challenge, bytes) for scheme in schemes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no audience is named"),
        ({"audience": ""}, "audience is empty"),
        ({"audience": AUDIENCE, "clock_skew_seconds": 301}, "0 to 300"),
        ({"audience": AUDIENCE, "clock_skew_seconds": -1}, "0 to 300"),
        ({"audience": AUDIENCE, "clock_skew_seconds": float("nan")}, "0 to 300"),
        ({"audience": AUDIENCE, "realm": 'a"b'}, "realm"),
        ({"audience": AUDIENCE, "realm": "a\nb"}, "realm"),
        ({"audience": AUDIENCE, "max_token_bytes": 10}, "max_token_bytes"),
        ({"audience": AUDIENCE, "max_known": 0}, "max_known"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Bearer(ISSUER, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "https://a|b", "https://a\n"])
def test_an_issuer_has_a_name_that_cannot_run_into_a_subject(name: str) -> None:
    with pytest.raises(SettingsError, match="an issuer is named"):
        Issuer(name, keys=b"{}")


def test_an_issuer_is_named_once() -> None:
    with pytest.raises(SettingsError, match="twice"):
        Bearer(ISSUER, ISSUER, audience=AUDIENCE)


def in_a_fresh_python(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_the_front_door_and_the_words_of_a_scheme_load_no_library() -> None:
    done = in_a_fresh_python(
        "import sys, workhorse.identity as i\n"
        "i.Identity, i.Credentials, i.NotAuthenticated\n"
        "print([name for name in ('jwt', 'cryptography', 'httpx') if name in sys.modules])"
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("library", ["jwt", "cryptography", "httpx"])
def test_a_missing_library_is_told_with_the_extra_that_brings_it(library: str) -> None:
    done = in_a_fresh_python(f"import sys; sys.modules[{library!r}] = None\nfrom workhorse.identity import Bearer")
    assert "LibraryMissing: Bearer needs " in done.stderr
    assert "pip install 'workhorse[identity]'" in done.stderr


def test_a_tool_that_reads_every_name_passes_over_what_a_missing_library_brings() -> None:
    done = in_a_fresh_python(
        "import sys; sys.modules['jwt'] = None\n"
        "import workhorse.identity as i\n"
        "def told(name):\n"
        "    try: return getattr(i, name) is None\n"
        "    except ImportError: return True\n"  # as freezegun does
        "print([name for name in ('Bearer', 'OidcLogin', 'Identity') if told(name)])"
    )
    assert done.stdout == "['Bearer', 'OidcLogin']\n", done.stderr


def test_a_name_that_is_not_offered_is_said() -> None:
    with pytest.raises(ImportError, match="Bearrer"):
        from workhorse.identity import Bearrer  # noqa: F401
