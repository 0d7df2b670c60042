"""Sessions under attack, through a whole guard: stolen, planted, replayed, tampered with, and ended while in use."""

import asyncio
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from secrets import token_urlsafe
from typing import Any

import pytest

from tests.identity.sessions_kit import COOKIE, Bank, age, login, run, secret_of, set_cookies
from tests.state.counters_kit import Place, migrated_place
from tests.state.sessions_kit import opened
from workhorse.context import current_request
from workhorse.embedded import Attachment
from workhorse.errors import Problem
from workhorse.identity import LoginThrottle, NotAuthenticated, Session, SessionChanged
from workhorse.identity.scheme import Credentials
from workhorse.identity.texts import TextRefused
from workhorse.migrations import WORKHORSE
from workhorse.principal import ANONYMOUS
from workhorse.state.postgres.counters import PostgresCounters
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.postgres.sessions import PostgresSessions


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


def test_the_store_never_sees_the_secret_and_what_it_has_opens_nothing() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login()
        (record,) = await bank.store.list("alice", now=time.time())
        assert secret.encode() not in repr(record).encode()
        stolen = [record.digest.hex(), token_urlsafe(32), record.public_id]
        stolen.append(urlsafe_b64encode(record.digest).rstrip(b"=").decode())
        for text in stolen:
            assert await bank.whose(text) == ""
            assert (await bank.ask(cookie=text, path="/known")).status == 401

    run(main)


def test_a_secret_that_was_planted_before_the_login_is_worth_nothing_after_it() -> None:
    async def main() -> None:
        bank = Bank()
        planted = await bank.login("mallory")
        secret = await bank.login("alice", cookie=planted)
        assert secret != planted
        assert await bank.whose(planted) == ""
        assert await bank.store.list("mallory", now=time.time()) == []
        made_up = token_urlsafe(32)
        assert await bank.login("alice", cookie=made_up) != made_up
        assert await bank.whose(made_up) == ""

    run(main)


def test_after_a_logout_the_cookie_opens_nothing_and_the_browser_forgets_it() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login()
        other = await bank.login()

        async def leave() -> bool:
            await bank.sessions.logout()
            assert current_request().principal is ANONYMOUS
            return await bank.sessions.current() is None

        seen = await bank.ask(leave, cookie=secret, path="/known")
        assert seen.json() is True
        assert set_cookies(seen) == [f"{COOKIE}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"]
        assert seen.header("clear-site-data") is None
        assert (await bank.ask(cookie=secret, path="/known")).status == 401
        assert await bank.whose(other) == "alice"
        assert set_cookies(await bank.ask(leave)) == set_cookies(seen)

    run(main)


def test_a_write_that_is_under_way_during_a_logout_does_not_bring_the_session_back() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login(data={"cart": 1})
        read, left = asyncio.Event(), asyncio.Event()

        async def slow() -> str:
            session = await bank.sessions.current()
            assert session is not None
            read.set()
            await left.wait()
            await bank.sessions.write(session, {"cart": 2})
            return "written"

        async def leave() -> None:
            await bank.sessions.logout()

        writing = asyncio.create_task(bank.ask(slow, cookie=secret, path="/known"))
        await read.wait()
        assert (await bank.ask(leave, cookie=secret, path="/known")).status == 200
        left.set()
        refused = await writing
        assert refused.status == 409
        assert refused.json()["type"] == SessionChanged.type
        assert await bank.whose(secret) == ""
        assert await bank.store.list("alice", now=time.time()) == []

    run(main)


@pytest.mark.parametrize("backend", ["memory", "redis", "postgres"])
def test_a_session_lives_and_ends_the_same_on_every_store(backend: str, place: Place) -> None:
    async def main() -> None:
        async with opened(backend, place) as store:
            bank, elsewhere = Bank(store), Bank(store)
            subject = f"alice-{token_urlsafe(8)}"
            planted = await bank.login(subject)
            secret = await bank.login(subject, cookie=planted, scopes=["read"], data={"n": 0})
            assert [await elsewhere.whose(one) for one in (planted, secret)] == ["", subject]

            all_have_read = asyncio.Barrier(4)

            async def count() -> None:
                session = await bank.sessions.current()
                assert session is not None
                async with asyncio.timeout(20):
                    await all_have_read.wait()
                await bank.sessions.write(session, {"n": session.data["n"] + 1})

            async def count_later() -> None:
                session = await bank.sessions.current()
                assert session is not None
                await asyncio.sleep(0.01)
                await bank.sessions.write(session, {"n": session.data["n"] + 1})

            async def leave() -> None:
                await elsewhere.sessions.logout()

            async def renew() -> None:
                await bank.sessions.renew(scopes=["vault"])

            seen = await asyncio.gather(*(bank.ask(count, cookie=secret, path="/known") for _ in range(4)))
            assert sorted(one.status for one in seen) == [200, 409, 409, 409]
            renewed = secret_of(await bank.ask(renew, cookie=secret, path="/known"))
            assert (await bank.ask(cookie=secret, path="/known")).status == 401
            assert (await elsewhere.ask(cookie=renewed, path="/vault")).status == 200
            under_way = [bank.ask(count_later, cookie=renewed, path="/known") for _ in range(4)]
            await asyncio.gather(*under_way, elsewhere.ask(leave, cookie=renewed, path="/known"))
            assert (await bank.ask(cookie=renewed, path="/known")).status == 401
            assert await store.list(subject, now=time.time()) == []

    run(main)


def tampered(secret: str) -> Iterable[tuple[str, str, str]]:
    name = COOKIE
    last = "A" if secret[-1] != "A" else "B"
    return [
        ("its last bits changed", f"{name}={secret[:-1]}{last}", "unknown"),
        ("twice the same", f"{name}={secret}; {name}={secret}", "ambiguous"),
        ("a planted one first", f"{name}={'A' * 43}; {name}={secret}", "ambiguous"),
        ("quoted", f'{name}="{secret}"', "malformed"),
        ("too short", f"{name}={secret[:-1]}", "malformed"),
        ("too long", f"{name}={secret}A", "malformed"),
        ("padded", f"{name}={secret}=", "malformed"),
        ("empty", f"{name}=", "malformed"),
        ("with a NUL", f"{name}={secret[:-1]}\0", "malformed"),
        ("not ASCII", f"{name}={secret[:-1]}é", "malformed"),
        ("enormous", f"{name}={'A' * 6000}", "malformed"),
    ]


@pytest.mark.parametrize("row", range(11), ids=[row[0] for row in tampered("x" * 43)])
def test_a_cookie_that_is_no_good_is_as_none_and_the_log_knows_why(row: int) -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login()
        _, header, reason = list(tampered(secret))[row]
        credentials = Credentials(cookie=header.encode("latin-1"))
        assert bank.sessions.presents(credentials)
        assert bank.sessions.recall(credentials, time.time()) is None
        with pytest.raises(NotAuthenticated) as refused:
            await bank.sessions.verify(credentials, time.time())
        assert refused.value.reason == reason
        assert await bank.whose(header) == ""
        seen = await bank.ask(cookie=header, path="/known")
        assert seen.status == 401
        assert set_cookies(seen) == []
        assert secret_of(await bank.ask(lambda: login(bank, "alice"), cookie=header)) not in header

    run(main)


@pytest.mark.parametrize(
    "header", ["session={}", "__host-session={}", "__Host-session", "x__Host-session={}", "a=__Host-session={}"]
)
def test_a_cookie_of_another_name_is_not_looked_at(header: str) -> None:
    async def main() -> None:
        bank = Bank()
        header_sent = header.format(await bank.login())
        assert not bank.sessions.presents(Credentials(cookie=header_sent.encode()))
        assert await bank.whose(header_sent + "; x=1") == ""

    run(main)


def test_a_renewal_does_not_bring_back_a_session_that_ended_meanwhile() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login()

        async def renew() -> None:
            await bank.store.delete_all("alice")
            await bank.sessions.renew(scopes=["vault"])

        seen = await bank.ask(renew, cookie=secret, path="/known")
        assert seen.status == 409
        assert set_cookies(seen) == []
        assert await bank.store.list("alice", now=time.time()) == []

    run(main)


def test_an_owner_lists_and_ends_own_sessions_and_no_others() -> None:
    async def main() -> None:
        bank = Bank()
        phone, laptop = await bank.login(), await bank.login()
        stranger = await bank.login("bob")
        (bobs,) = await bank.store.list("bob", now=time.time())

        async def look() -> list[list[Any]]:
            return [[one.public_id, one.current] for one in await bank.sessions.list("alice")]

        listed = (await bank.ask(look, cookie=laptop, path="/known")).json()
        assert sorted(current for _, current in listed) == [False, True]
        (other,) = [public_id for public_id, current in listed if not current]

        async def end() -> list[bool]:
            return [await bank.sessions.revoke(one) for one in (other, other, bobs.public_id)]

        seen = await bank.ask(end, cookie=laptop, path="/known")
        assert seen.json() == [True, False, False]
        assert set_cookies(seen) == []
        assert [await bank.whose(one) for one in (phone, laptop, stranger)] == ["", "alice", "bob"]
        assert (await bank.ask(end)).status == 401

        async def end_own() -> bool:
            session = await bank.sessions.current()
            assert session is not None
            return await bank.sessions.revoke(session.public_id)

        assert "Max-Age=0" in set_cookies(await bank.ask(end_own, cookie=laptop, path="/known"))[0]
        assert await bank.whose(laptop) == ""

    run(main)


def test_a_handler_that_runs_again_leaves_one_session_and_one_cookie() -> None:
    async def main() -> None:
        bank = Bank()

        async def again() -> None:
            current_request().set_cookies.append(b"theme=dark; Path=/")
            await bank.sessions.login("alice")
            await bank.sessions.login("alice")

        seen = await bank.ask(again)
        secret = secret_of(seen)
        assert len(set_cookies(seen)) == 2
        assert await bank.whose(secret) == "alice"
        assert len(await bank.store.list("alice", now=time.time())) == 1

    run(main)


def test_what_no_release_wrote_is_nobody() -> None:
    async def main() -> None:
        bank = Bank()
        for changes in ({"grants": b"\xc1"}, {"data": b"\x93"}, {"data": b"\xa1\xff"}, {"grants": b"\x91" * 5000}):
            secret = await bank.login()
            await age(bank, secret, **changes)
            assert await bank.whose(secret) == ""
            assert (await bank.ask(cookie=secret, path="/known")).status == 401

    run(main)


def test_a_session_shows_no_secret_and_no_data_when_it_is_printed() -> None:
    async def main() -> None:
        bank = Bank()
        shown: list[str] = []

        async def show() -> None:
            session: Session = await bank.sessions.login("alice", data={"iban": "DE02"})
            shown.append(f"{session!r} {current_request().principal!r} {bank.sessions!r}")

        secret = secret_of(await bank.ask(show))
        assert secret not in shown[0]
        assert "DE02" not in shown[0]

    run(main)


@pytest.mark.parametrize("kind", ["a refusal", "an error"])
def test_a_login_within_a_request_that_fails_hands_out_no_session(kind: str) -> None:
    async def main() -> None:
        bank = Bank()

        async def handler() -> None:
            current_request().set_cookies.append(b"theme=dark; Path=/")
            await bank.sessions.login("alice")
            if kind == "a refusal":
                raise Problem("the second factor is missing")
            raise RuntimeError("the database is away")

        seen = await bank.ask(handler)
        assert seen.status >= 400
        assert set_cookies(seen) == ["theme=dark; Path=/"]

    run(main)


def test_a_logout_within_a_request_that_fails_is_one_all_the_same() -> None:
    async def main() -> None:
        bank = Bank()
        secret = await bank.login()

        async def handler() -> None:
            await bank.sessions.logout()
            raise Problem("and then something went wrong")

        seen = await bank.ask(handler, cookie=secret)
        assert seen.status >= 400
        assert any("Max-Age=0" in line for line in set_cookies(seen))
        assert await bank.whose(secret) == ""

    run(main)


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["U+0000", "half a pair"])
def test_a_text_that_no_store_can_keep_is_nobodys_and_logs_in_nobody(text: str, database_url: str) -> None:
    async def main() -> None:
        await apply_migrations(database_url, [WORKHORSE])
        database = PostgresDatabase(database_url)
        await database.open()
        bank = Bank(PostgresSessions(database))
        counters = PostgresCounters(database)
        throttle = LoginThrottle(counters, key=b"k" * 32)
        mine = await bank.login()

        async def nobody() -> list[object]:
            sessions = bank.sessions
            return [
                await sessions.revoke(text),
                await sessions.revoke("x", subject=text),
                await sessions.revoke_all(text),
                len(await sessions.list(text)),
                (await throttle.admit(text, "192.0.2.1")).known_device,
            ]

        assert (await bank.ask(nobody, cookie=mine)).json() == [False, False, 0, 0, False]

        async def text_itself() -> None:
            await bank.sessions.login(text)

        refused = await bank.ask(text_itself)
        assert (refused.status, refused.json()["type"]) == (422, TextRefused.type)
        assert await bank.whose(mine) == "alice"
        await database.close()

    asyncio.run(main())
