"""Sessions as they are set up: options, environments, stores, and how long they are taken for alive."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest

from tests.identity.sessions_kit import COOKIE, Away, Bank, Handler, login, run, secret_of, set_cookies
from workhorse.context import current_request
from workhorse.errors import SettingsError, StartupError
from workhorse.identity import Identity, Sessions
from workhorse.identity.scheme import Credentials, Surroundings
from workhorse.principal import ANONYMOUS
from workhorse.settings import Environment, load_settings
from workhorse.state.memory.sessions import MemorySessions


def test_a_recalled_session_asks_no_store_and_ends_here_at_once_and_elsewhere_in_time() -> None:
    async def main() -> None:
        store = Away()
        here, elsewhere = Bank(store, recall_seconds=0.5), Bank(store, recall_seconds=0.5)
        secret = await here.login()
        for bank in (here, elsewhere):
            assert await bank.whose(secret) == "alice"
        asked = store.finds
        assert (await here.ask(cookie=secret, path="/known")).status == 200
        assert store.finds == asked

        async def leave() -> None:
            await here.sessions.logout()

        await here.ask(leave, cookie=secret, path="/known")
        assert await here.whose(secret) == ""
        assert await elsewhere.whose(secret) == "alice"
        assert (await elsewhere.ask(elsewhere_current(elsewhere), cookie=secret, path="/known")).json() is True
        await asyncio.sleep(0.55)
        assert await elsewhere.whose(secret) == ""

    run(main)


def elsewhere_current(bank: Bank) -> Handler:
    async def ended() -> bool:
        return await bank.sessions.current() is None

    return ended


def test_what_is_remembered_is_bounded_and_forgotten_when_it_changes() -> None:
    async def main() -> None:
        bank = Bank(recall_seconds=60, max_known=16)
        secrets = [await bank.login(data={"n": 0}) for _ in range(40)]
        for secret in secrets:
            await bank.whose(secret)
        assert 0 < len(bank.sessions._known) <= 16

        async def write() -> None:
            session = await bank.sessions.current()
            assert session is not None
            await bank.sessions.write(session, {"n": 1})

        async def read() -> Any:
            return current_request().principal.claims["n"]

        assert (await bank.ask(write, cookie=secrets[-1])).status == 200
        assert (await bank.ask(read, cookie=secrets[-1])).json() == 1

        async def end() -> int:
            return await bank.sessions.revoke_all("alice")

        assert (await bank.ask(end)).json() == 40
        assert not bank.sessions._known
        await bank.identity.close()

    run(main)


def test_without_recall_every_request_asks_the_store() -> None:
    async def main() -> None:
        store = Away()
        bank = Bank(store)
        secret = await bank.login()
        await bank.whose(secret)
        await bank.store.delete_all("alice")
        assert await bank.whose(secret) == ""
        assert not bank.sessions._known

    run(main)


def bound(bank: Bank, folder: Path, environment: Environment) -> None:
    settings = load_settings(folder).model_copy(update={"environment": environment})
    bank.identity.bind(Surroundings(settings=settings))


LOOPBACK: Sequence[str] = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


@pytest.mark.parametrize(
    ("environment", "option", "scheme", "address", "plain"),
    [
        (Environment.DEVELOPMENT, True, "http", LOOPBACK[0], True),
        (Environment.TEST, True, "http", LOOPBACK[1], True),
        (Environment.DEVELOPMENT, True, "http", LOOPBACK[2], True),
        (Environment.DEVELOPMENT, True, "https", LOOPBACK[0], False),
        (Environment.DEVELOPMENT, True, "http", "192.0.2.7", False),
        (Environment.DEVELOPMENT, True, "http", "", False),
        (Environment.DEVELOPMENT, False, "http", LOOPBACK[0], False),
        (Environment.PRODUCTION, True, "http", LOOPBACK[0], False),
    ],
)
def test_a_cookie_goes_without_tls_in_development_on_this_machine_only(
    tmp_path: Path, *, environment: Environment, option: bool, scheme: str, address: str, plain: bool
) -> None:
    async def main() -> None:
        bank = Bank(plain_http_in_development=option)
        bound(bank, tmp_path, environment)
        wire: dict[str, Any] = {"scheme": scheme, "client": (address, 1)}
        seen = await bank.ask(lambda: login(bank, "alice"), **wire)
        name = "session" if plain else COOKIE
        secret = secret_of(seen, name)
        (line,) = [line for line in set_cookies(seen) if line.startswith(f"{name}={secret}")]
        assert ("; Secure" in line) is not plain
        assert "; HttpOnly; SameSite=Lax" in line
        assert (await bank.ask(cookie=f"{name}={secret}", **wire)).json() == "alice"
        if plain:
            both = f"session={secret}; {COOKIE}={token_urlsafe(32)}"
            assert (await bank.ask(cookie=both, **wire)).json() == ""
        elif environment is Environment.PRODUCTION or not option:
            assert (await bank.ask(cookie=f"session={secret}", **wire)).json() == ""

    run(main)


def test_without_a_store_it_takes_the_services_or_says_what_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        settings = load_settings(tmp_path)
        lonely = Identity(Sessions())
        lonely.bind(Surroundings(settings=settings))
        with pytest.raises(StartupError, match="has no store"):
            await lonely.open()
        served = Identity(Sessions())
        served.bind(Surroundings(settings=settings, sessions=MemorySessions()))
        async with served:
            assert served.recall(Credentials(), time.time()) is ANONYMOUS

    run(main)


@pytest.mark.parametrize(
    "options",
    [
        {"idle_seconds": 59},
        {"idle_seconds": 50_000},
        {"absolute_seconds": 401 * 86_400},
        {"recall_seconds": -1},
        {"recall_seconds": 61},
        {"max_known": 0},
        {"max_data_bytes": 1},
        {"cookie": ""},
        {"cookie": "__Host-session"},
        {"cookie": "ses sion"},
        {"cookie": "session\n"},
        {"cookie": "s" * 65},
        {"same_site": "None"},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Sessions(MemorySessions(), **options)


@pytest.mark.parametrize(
    ("subject", "data"),
    [
        ("", {}),
        ("a" * 1001, {}),
        ("a\0b", {}),
        ("\ud800", {}),
        ("alice", {"x": "y" * 20_000}),
        ("alice", {1: "x"}),
        ("alice", {"x": object()}),
        ("alice", {"x": "\ud800"}),
    ],
)
def test_what_no_store_could_keep_is_refused_before_anything_is_done(subject: str, data: dict[Any, Any]) -> None:
    async def main() -> None:
        bank = Bank()
        caught: list[ValueError] = []

        async def refused() -> None:
            try:
                await bank.sessions.login(subject, data=data)
            except ValueError as error:
                caught.append(error)

        seen = await bank.ask(refused)
        assert caught
        assert set_cookies(seen) == []
        assert not await bank.store.list(subject, now=time.time())

    run(main)
