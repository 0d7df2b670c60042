"""Sessions through a whole guard: what a browser gets, what its caller is, and what ends when."""

import time
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any

import pytest

from tests.identity.sessions_kit import COOKIE, Away, Bank, age, login, run, secret_of, set_cookies
from workhorse.context import current_request
from workhorse.identity import NotAuthenticated
from workhorse.identity.scheme import Credentials
from workhorse.identity.session import principal_of
from workhorse.identity.sessions import digest_of
from workhorse.principal import Kind


def test_a_login_gives_a_cookie_that_only_the_host_itself_gets_over_tls_and_no_script_reads() -> None:
    async def main() -> None:
        bank = Bank()
        seen = await bank.ask(lambda: login(bank, "alice"))
        (line,) = set_cookies(seen)
        secret = secret_of(seen)
        assert line == f"{COOKIE}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax"
        assert len(secret) == 43
        assert seen.header("cache-control") == "no-store"
        parsed = SimpleCookie(line)
        assert parsed[COOKIE].value == secret
        assert await bank.whose(secret) == "alice"
        assert (await bank.ask(cookie=secret, path="/known")).status == 200

    run(main)


def test_the_caller_is_what_the_login_said_and_nothing_of_it_opens_the_session() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login(scopes=["vault", "read"], roles=["clerk"], tenant="acme", data={"theme": "dark"})
        principal = None

        async def look() -> None:
            nonlocal principal
            principal = current_request().principal

        assert (await bank.ask(look, cookie=secret, path="/vault")).status == 200
        assert principal is not None
        assert (principal.subject, principal.kind, principal.tenant) == ("alice", Kind.SESSION, "acme")
        assert sorted(principal.scopes) == ["read", "vault"]
        assert sorted(principal.roles) == ["clerk"]
        assert dict(principal.claims) == {"theme": "dark"}
        assert 43_190 < principal.expires - time.time() <= 43_200
        assert secret not in repr(principal)
        assert await bank.whose(principal.credential) == ""
        plain = await bank.login(scopes=["read"])
        assert (await bank.ask(cookie=plain, path="/vault")).status == 403

    run(main)


def test_of_two_writes_that_read_the_same_the_second_is_told_so() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login(data={"n": 0})

        async def twice() -> list[Any]:
            session = await bank.sessions.current()
            assert session is not None
            written = await bank.sessions.write(session, {"n": 1})
            again = await bank.sessions.current()
            assert again is not None
            await bank.sessions.write(written, {"n": 2})
            return [again.data["n"], current_request().principal.claims["n"]]

        assert (await bank.ask(twice, cookie=secret, path="/known")).json() == [1, 2]

        async def lost() -> None:
            session = await bank.sessions.current()
            assert session is not None
            await bank.sessions.write(session, {"n": 3})
            await bank.sessions.write(session, {"n": 4})

        assert (await bank.ask(lost, cookie=secret, path="/known")).status == 409
        (record,) = await bank.store.list("alice", now=time.time())
        assert dict(principal_of(record).claims) == {"n": 3}

    run(main)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seen": -1801.0}, "unknown"),
        ({"created": -43_201.0}, "expired"),
        ({"expires": -1.0}, "unknown"),
        ({"seen": -1801.0, "idle_seconds": 90_000}, "expired"),
    ],
    ids=["idle", "too old by what is set now", "at its end", "idle by what is set now"],
)
def test_a_session_ends_by_its_own_times_and_by_those_that_are_set_now(
    changes: Mapping[str, float], reason: str
) -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login()
        now = time.time()
        await age(bank, secret, **{name: now + by if by < 0 else by for name, by in changes.items()})
        with pytest.raises(NotAuthenticated) as refused:
            await bank.sessions.verify(Credentials(cookie=f"{COOKIE}={secret}".encode()), now)
        assert refused.value.reason == reason
        assert (await bank.ask(cookie=secret, path="/known")).status == 401
        assert await bank.whose(secret) == ""

    run(main)


def test_a_use_is_noted_once_a_minute_and_keeps_the_session_alive() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login()
        digest = digest_of(secret.encode())

        async def seen() -> float:
            record = await bank.store.find(digest, now=time.time())
            assert record is not None
            return time.time() - record.seen

        await age(bank, secret, seen=time.time() - 50)
        await bank.whose(secret)
        assert await seen() > 49
        await age(bank, secret, seen=time.time() - 1790)
        await bank.whose(secret)
        assert await seen() < 5

    run(main)


def test_a_session_gets_another_secret_and_further_scopes_and_stays_the_same_session() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login(scopes=["read"], roles=["clerk"], data={"n": 1})
        (before,) = await bank.store.list("alice", now=time.time())

        async def renew() -> list[Any]:
            session = await bank.sessions.renew(scopes=["read", "vault"])
            return [session.public_id, sorted(session.scopes), sorted(session.roles), dict(session.data)]

        seen = await bank.ask(renew, cookie=secret, path="/known")
        fresh = secret_of(seen)
        assert seen.json() == [before.public_id, ["read", "vault"], ["clerk"], {"n": 1}]
        assert (await bank.ask(cookie=secret, path="/known")).status == 401
        assert (await bank.ask(cookie=fresh, path="/vault")).status == 200
        (after,) = await bank.store.list("alice", now=time.time())
        assert (after.created, after.expires) == (before.created, before.expires)
        assert (await bank.ask(renew)).status == 401

    run(main)


def test_all_sessions_of_a_subject_end_and_the_own_one_only_if_it_is_not_kept() -> None:
    async def main() -> None:
        bank = Bank()
        own, other, stranger = await bank.login(), await bank.login(), await bank.login("bob")

        async def others() -> int:
            return await bank.sessions.revoke_all("alice", keep_current=True)

        async def all_of_them() -> int:
            return await bank.sessions.revoke_all("alice")

        seen = await bank.ask(others, cookie=own, path="/known")
        assert (seen.json(), set_cookies(seen)) == (1, [])
        assert [await bank.whose(one) for one in (own, other, stranger)] == ["alice", "", "bob"]
        seen = await bank.ask(all_of_them, cookie=stranger, path="/known")
        assert (seen.json(), set_cookies(seen)) == (1, [])
        assert [await bank.whose(one) for one in (own, stranger)] == ["", "bob"]

    run(main)


def test_a_store_that_is_away_logs_nobody_out_and_lets_nobody_in() -> None:
    async def main() -> None:
        store = Away()
        bank = Bank(store)
        secret = await bank.login()

        async def leave() -> None:
            await bank.sessions.logout()

        store.away = frozenset({"find"})
        assert (await bank.ask(cookie=secret, path="/known")).status == 503
        assert (await bank.ask(cookie=secret)).status == 503
        store.away = frozenset({"delete"})
        seen = await bank.ask(leave, cookie=secret, path="/known")
        assert (seen.status, set_cookies(seen)) == (503, [])
        store.away = frozenset({"insert"})
        seen = await bank.ask(lambda: login(bank, "bob"), cookie=secret)
        assert (seen.status, set_cookies(seen)) == (503, [])
        store.away = frozenset({"touch"})
        await age(bank, secret, seen=time.time() - 90)
        assert await bank.whose(secret) == "alice"

    run(main)
