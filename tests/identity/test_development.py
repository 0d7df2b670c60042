"""Tokens for development: made offline, taken without an account, and worth nothing in production."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.identity.oidc_server import signing_key
from workhorse.errors import EmbeddedServerError, SettingsError, StartupError
from workhorse.identity import Bearer, Credentials, DevelopmentIssuer, Issuer, NotAuthenticated
from workhorse.identity.development import FILE_NAME, no_issuer
from workhorse.principal import Principal
from workhorse.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "pyproject.toml").touch()
    return load_settings(tmp_path)


def production(tmp_path: Path) -> Settings:
    return load_settings(
        tmp_path,
        environment="production",
        database={"url": "postgresql:///bank"},
        guard={"allowed_hosts": ("api.example.com",)},
    )


def verify(scheme: Bearer, token: str) -> Principal:
    return asyncio.run(scheme.verify(Credentials(authorization=b"Bearer " + token.encode()), time.time()))


def test_a_bearer_that_names_no_issuer_takes_what_the_development_issuer_signed(settings: Settings) -> None:
    token = DevelopmentIssuer(settings).mint(
        "alice", scopes=["a:read", "b:write"], claims={"tenant": "acme", "roles": ["teller"]}
    )
    principal = verify(Bearer(settings=settings), token)
    assert principal.id == "urn:workhorse:development|alice"
    assert principal.scopes == {"a:read", "b:write"}
    assert principal.tenant == "acme"
    assert principal.roles == {"teller"}
    assert 3500 < principal.expires - time.time() <= 3601


def test_its_tokens_are_checked_like_any_other(settings: Settings) -> None:
    issuer = DevelopmentIssuer(settings)
    scheme = Bearer(settings=settings, audience="https://api.bank.example")
    assert verify(scheme, issuer.mint("alice", audience="https://api.bank.example")).subject == "alice"
    refused = {
        "audience": issuer.mint("alice", audience="https://other.example"),
        "expired": issuer.mint("alice", lifetime_seconds=-60),
        "unknown_key": signing_key("EdDSA").sign({"iss": "urn:workhorse:development"} | good(issuer)),
    }
    for reason, token in refused.items():
        with pytest.raises(NotAuthenticated) as problem:
            verify(scheme, token)
        assert problem.value.reason == reason


def good(issuer: DevelopmentIssuer) -> dict[str, Any]:
    import jwt

    claims: dict[str, Any] = jwt.decode(issuer.mint("alice"), options={"verify_signature": False})
    return claims


def test_the_key_is_for_its_owner_only(settings: Settings) -> None:
    DevelopmentIssuer(settings)
    path = settings.embedded_folder / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (path.parent / ".gitignore").read_text() == "*\n"
    path.chmod(0o644)
    with pytest.raises(StartupError, match="others may use it: delete it"):
        DevelopmentIssuer(settings)


def test_the_embedded_servers_still_take_the_folder_for_theirs(settings: Settings) -> None:
    from workhorse.embedded.folder import Folder

    DevelopmentIssuer(settings)
    folder = Folder.at(settings.embedded_folder)
    folder.prepare()
    assert folder.is_ours()
    assert folder.path / FILE_NAME in folder.erase()


def test_a_folder_that_is_somebody_elses_is_left_alone(settings: Settings) -> None:
    settings.embedded_folder.mkdir()
    (settings.embedded_folder / "thesis.txt").touch()
    with pytest.raises(EmbeddedServerError, match="neither empty nor"):
        DevelopmentIssuer(settings)
    assert [path.name for path in settings.embedded_folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_broken_file_is_told_with_its_mend(content: bytes, settings: Settings) -> None:
    DevelopmentIssuer(settings)
    (settings.embedded_folder / FILE_NAME).write_bytes(content)
    with pytest.raises(StartupError, match="delete it, and a new one is made"):
        DevelopmentIssuer(settings)


def test_a_link_in_place_of_the_key_is_not_followed(settings: Settings, tmp_path: Path) -> None:
    DevelopmentIssuer(settings)
    path = settings.embedded_folder / FILE_NAME
    path.rename(tmp_path / "elsewhere.pem")
    path.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(StartupError, match="cannot be used"):
        DevelopmentIssuer(settings)


def test_processes_that_start_at_once_make_one_key(settings: Settings) -> None:
    program = (
        "import sys, time; from pathlib import Path; from workhorse.settings import load_settings\n"
        "from workhorse.identity import DevelopmentIssuer\n"
        "settings = load_settings(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.readline()\n"
        "print(DevelopmentIssuer(settings).key_set.decode())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(settings.project)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0] for process in started}
    assert len(said) == 1
    assert json.loads(said.pop())["keys"][0]["crv"] == "Ed25519"
    assert sorted(path.name for path in settings.embedded_folder.glob("development*")) == [FILE_NAME]


def test_a_service_that_runs_takes_tokens_of_a_key_that_was_made_anew(settings: Settings) -> None:
    scheme = Bearer(settings=settings)
    old = DevelopmentIssuer(settings).mint("alice")
    assert verify(scheme, old).subject == "alice"
    (settings.embedded_folder / FILE_NAME).unlink()
    assert verify(scheme, DevelopmentIssuer(settings).mint("bob")).subject == "bob"
    assert scheme.recall(Credentials(authorization=b"Bearer " + old.encode()), time.time()) is None


def test_an_app_that_is_only_looked_at_makes_no_files(settings: Settings) -> None:
    Bearer(settings=settings)
    assert not settings.embedded_folder.exists()


def test_open_makes_the_key(settings: Settings) -> None:
    async def main() -> None:
        scheme = Bearer(settings=settings)
        await scheme.open()
        await scheme.close()

    asyncio.run(main())
    assert (settings.embedded_folder / FILE_NAME).exists()


@pytest.mark.parametrize(
    "options",
    [
        {"subject": ""},
        {"subject": "alice", "scopes": ["a b"]},
        {"subject": "alice", "scopes": [""]},
        {"subject": "alice", "claims": {"iss": "https://login.example.com"}},
        {"subject": "alice", "claims": {"exp": 9_999_999_999}},
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(options: dict[str, Any], settings: Settings) -> None:
    with pytest.raises(SettingsError):
        DevelopmentIssuer(settings).mint(**options)


def test_in_production_nothing_of_it_works_though_the_file_is_there(settings: Settings, tmp_path: Path) -> None:
    issuer = DevelopmentIssuer(settings)
    in_production = production(tmp_path)
    assert (in_production.embedded_folder / FILE_NAME).exists()
    for use in (lambda: Bearer(settings=in_production), lambda: DevelopmentIssuer(in_production)):
        with pytest.raises(SettingsError, match="development issuer is not for production"):
            use()
    for name in ("urn:workhorse:development", "urn:workhorse:development:2"):
        with pytest.raises(SettingsError, match="cannot be named as an issuer"):
            Bearer(Issuer(name, keys=issuer.key_set), audience="urn:workhorse:development:api")
    named = Bearer(Issuer("https://login.example.com", keys=issuer.key_set), audience="urn:workhorse:development:api")
    with pytest.raises(NotAuthenticated) as refused:
        verify(named, issuer.mint("alice"))
    assert refused.value.reason == "issuer"


def test_without_settings_the_projects_own_are_loaded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verify(Bearer(), DevelopmentIssuer(settings).mint("alice")).subject == "alice"
    monkeypatch.setenv("WORKHORSE_ENVIRONMENT", "production")
    with pytest.raises(SettingsError, match="production"):
        asyncio.run(Bearer().open())


def test_what_production_is_told_names_the_setting_and_its_mend() -> None:
    fault = no_issuer()
    assert fault.name == "identity.issuers"
    assert "WORKHORSE_IDENTITY__ISSUERS=" in fault.mend


def token_command(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the verb as the command line does."""
    program = (
        "import argparse, sys; from workhorse.cli import token; from workhorse.errors import WorkhorseError\n"
        "parser = argparse.ArgumentParser(); token.configure(parser)\n"
        "try: code = token.run(parser.parse_args())\n"
        "except WorkhorseError as error: sys.stderr.write(f'workhorse: {error}\\n'); code = 2\n"
        "sys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_prints_a_token_that_the_service_takes_and_nothing_else(settings: Settings) -> None:
    done = token_command(
        settings.project,
        *("alice", "--scope", "transfers:write", "--scope", "accounts:read", "--for", "15m"),
        *("--claim", "tenant=acme", "--claim", 'roles=["teller", "auditor"]', "--claim", "level=3"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    token, end = done.stdout[:-1], done.stdout[-1]
    assert end == "\n"
    principal = verify(Bearer(settings=settings), token)
    assert principal.subject == "alice"
    assert principal.scopes == {"transfers:write", "accounts:read"}
    assert principal.tenant == "acme"
    assert principal.roles == {"teller", "auditor"}
    assert principal.claims["level"] == 3
    assert 800 < principal.expires - time.time() <= 901


def test_the_command_makes_tokens_for_another_audience(settings: Settings) -> None:
    token = token_command(settings.project, "alice", "--audience", "https://api.bank.example").stdout.strip()
    with pytest.raises(NotAuthenticated):
        verify(Bearer(settings=settings), token)
    assert verify(Bearer(settings=settings, audience="https://api.bank.example"), token).subject == "alice"


def test_the_command_refuses_in_production(settings: Settings) -> None:
    done = token_command(settings.project, "alice", WORKHORSE_ENVIRONMENT="production")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("workhorse: WORKHORSE_ENVIRONMENT is production, where development tokens are worth")
    assert not settings.embedded_folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--for", "1y"), "--for 1y is no time"),
        (("--for", "0s"), "--for 0s is no time"),
        (("--for", "9999d"), "--for 9999d is no time"),
        (("--claim", "tenant"), "--claim tenant is not NAME=VALUE"),
        (("--claim", "a=1", "--claim", "a=2"), "--claim a comes twice"),
        (("--claim", "sub=bob"), "not given as such, but as arguments: sub"),
        (("--scope", "a b"), "scopes without spaces"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], message: str, settings: Settings) -> None:
    done = token_command(settings.project, "alice", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
