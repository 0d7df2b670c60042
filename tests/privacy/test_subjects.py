"""Keys of subjects on a real database: made once, wrapped, rotated, and destroyed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from secrets import token_bytes
from typing import Any

import psycopg
import pytest

from tests.units.databases import Sql, open_database
from workhorse.errors import SettingsError
from workhorse.migrations import WORKHORSE
from workhorse.privacy import CannotOpen, Erased, LocalKeys, SubjectKeys
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import Unit

OLD, NEW = token_bytes(32), token_bytes(32)
Script = Callable[[Any, Sql], Awaitable[Any]]


class GivenUp(Exception):
    """Rolls a unit back."""


def run(database_url: str, script: Script) -> Any:
    with psycopg.connect(database_url, autocommit=True) as connection:

        def sql(statement: str, *params: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

        async def main() -> Any:
            await apply_migrations(database_url, [WORKHORSE])
            async with open_database("pool", database_url) as database:
                return await script(database, sql)

        return asyncio.run(main())


async def sealed_phone(database: Any, keys: SubjectKeys, subject: str = "patient/1", text: str = "555-1234") -> bytes:
    async with Unit(database) as work:
        return (await keys.cipher(work, subject)).seal("patients.phone", text)


async def opened(database: Any, keys: SubjectKeys, sealed: bytes, subject: str = "patient/1") -> str:
    async with Unit(database) as work:
        return (await keys.cipher(work, subject)).open("patients.phone", sealed)


def test_what_one_process_seals_another_opens_and_the_database_alone_does_not(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        sealed = await sealed_phone(database, SubjectKeys(LocalKeys([OLD])))
        assert await opened(database, SubjectKeys(LocalKeys([OLD])), sealed) == "555-1234"
        with pytest.raises(CannotOpen, match="not configured any more"):
            await opened(database, SubjectKeys(LocalKeys([NEW])), sealed)
        sql("UPDATE workhorse.subject_keys SET subject = 'patient/2'")
        with pytest.raises(CannotOpen):  # a key that was moved to somebody else's row
            await opened(database, SubjectKeys(LocalKeys([OLD])), sealed, "patient/2")

    run(database_url, script)


def test_of_many_at_once_one_makes_the_key(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        sealed = await asyncio.gather(*(sealed_phone(database, SubjectKeys(LocalKeys([OLD]))) for _ in range(8)))
        keys = SubjectKeys(LocalKeys([OLD]))
        assert [await opened(database, keys, one) for one in sealed] == ["555-1234"] * 8
        assert sql("SELECT count(*) FROM workhorse.subject_keys") == [(1,)]

    run(database_url, script)


def test_a_key_whose_unit_rolls_back_is_not_remembered(database_url: str) -> None:
    keys = SubjectKeys(LocalKeys([OLD]))

    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            await keys.cipher(work, "patient/1")
            await work.execute("SAVEPOINT before")
            await work.execute("ROLLBACK TO SAVEPOINT before")
            assert (await keys.cipher(work, "patient/1")).subject == "patient/1"
        sql("TRUNCATE workhorse.subject_keys")  # as if the unit had rolled back
        keys_again = SubjectKeys(LocalKeys([OLD]))
        with suppress(GivenUp):
            async with Unit(database) as work:
                await keys_again.cipher(work, "patient/2")
                raise GivenUp
        sealed = await sealed_phone(database, keys_again, "patient/2")
        assert await opened(database, SubjectKeys(LocalKeys([OLD])), sealed, "patient/2") == "555-1234"

    run(database_url, script)


def test_a_key_that_its_own_unit_has_read_again_is_not_remembered_either(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        keys = SubjectKeys(LocalKeys([OLD]))
        with suppress(GivenUp):
            async with Unit(database) as work:
                await keys.cipher(work, "patient/1")
                async with work.savepoint():
                    await keys.cipher(work, "patient/1")
                raise GivenUp
        sealed = await sealed_phone(database, keys)
        assert sql("SELECT count(*) FROM workhorse.subject_keys") == [(1,)]
        assert await opened(database, SubjectKeys(LocalKeys([OLD])), sealed) == "555-1234"

    run(database_url, script)


def test_the_keys_of_many_are_asked_for_at_once(database_url: str) -> None:
    class Counting:
        """A unit that counts its statements."""

        def __init__(self, work: Any) -> None:
            self.work, self.statements = work, 0

        async def execute(self, sql: str, params: Any) -> Any:
            self.statements += 1
            return await self.work.execute(sql, params)

    async def script(database: Any, _sql: Sql) -> None:
        everybody = [f"patient/{number}" for number in range(100)]
        keys = SubjectKeys(LocalKeys([OLD]))
        async with Unit(database) as work:
            made = await keys.ciphers(work, everybody[:50])
            await keys.erase(work, "patient/7", reason="asked for")
        assert None not in made.values()
        for ask, statements in ((SubjectKeys(LocalKeys([OLD])), 1), (keys, 1)):
            async with Unit(database) as work:
                counting: Any = Counting(work)
                found = await ask.ciphers(counting, everybody, make=False)
                assert counting.statements == statements
            assert [subject for subject, cipher in found.items() if cipher is None] == ["patient/7", *everybody[50:]]
            sealed = {name: cipher.seal("f", "x") for name, cipher in made.items() if cipher}
            assert all(cipher.open("f", sealed[name]) == "x" for name, cipher in found.items() if cipher)

    run(database_url, script)


def test_an_erased_subject_can_be_read_by_nobody_and_gets_no_new_key(database_url: str) -> None:
    keys = SubjectKeys(LocalKeys([OLD]))

    async def script(database: Any, sql: Sql) -> None:
        sealed = await sealed_phone(database, keys)
        other = await sealed_phone(database, keys, "patient/2")
        assert await opened(database, keys, sealed) == "555-1234"
        async with Unit(database) as work:
            first = await keys.erase(work, "patient/1", reason="request 7")
            await keys.erase(work, "patient/never", reason="request 8")
        for subject in ("patient/1", "patient/never"):
            with pytest.raises(Erased, match="this person was erased"):
                await opened(database, keys, sealed, subject)
            with pytest.raises(Erased):
                await sealed_phone(database, SubjectKeys(LocalKeys([OLD])), subject)
        assert await opened(database, keys, other, "patient/2") == "555-1234"
        async with Unit(database) as work:
            again = await keys.erase(work, "patient/1", reason="another")
        assert (again.destroyed_at, again.reason) == (first.destroyed_at, "request 7")
        assert sql("SELECT wrapped FROM workhorse.subject_keys WHERE subject = 'patient/1'") == [(None,)]

    run(database_url, script)


def test_an_erasure_that_rolls_back_has_erased_nothing(database_url: str) -> None:
    keys = SubjectKeys(LocalKeys([OLD]))

    async def script(database: Any, _sql: Sql) -> None:
        sealed = await sealed_phone(database, keys)
        with suppress(GivenUp):
            async with Unit(database) as work:
                await keys.erase(work, "patient/1", reason="request 7")
                raise GivenUp
        assert await opened(database, keys, sealed) == "555-1234"

    run(database_url, script)


def test_the_wrapping_key_is_rotated_while_all_stays_readable(database_url: str) -> None:
    async def script(database: Any, _sql: Sql) -> None:
        before = SubjectKeys(LocalKeys([OLD]))
        sealed = {f"patient/{n}": await sealed_phone(database, before, f"patient/{n}") for n in range(5)}
        both = SubjectKeys(LocalKeys([NEW, OLD]))
        async with Unit(database) as work:
            await both.erase(work, "patient/4", reason="request 7")
        counts = []
        for _ in range(4):
            async with Unit(database) as work:
                counts.append(await both.rewrap(work, at_most=2))
            assert await opened(database, SubjectKeys(LocalKeys([NEW, OLD])), sealed["patient/3"], "patient/3")
        assert counts == [2, 2, 0, 0]
        after = SubjectKeys(LocalKeys([NEW]))
        for n in range(4):
            assert await opened(database, after, sealed[f"patient/{n}"], f"patient/{n}") == "555-1234"

    run(database_url, script)


def test_what_is_in_no_dump_is_the_text_and_the_key(database_url: str) -> None:
    keys = SubjectKeys(LocalKeys([OLD]))

    async def script(database: Any, sql: Sql) -> None:
        sql("CREATE TABLE patients (phone bytea)")
        sealed = await sealed_phone(database, keys, text="canary-555")
        sql("INSERT INTO patients VALUES (%s)", sealed)
        dump = repr(sql("SELECT * FROM patients")) + repr(sql("SELECT * FROM workhorse.subject_keys"))
        assert "canary" not in dump
        assert OLD.hex() not in dump
        assert "canary" not in repr(keys.__dict__)

    run(database_url, script)


@pytest.mark.parametrize("subject", ["", "x" * 201, "a\0b"])
def test_a_subject_that_no_row_can_have_is_refused(subject: str) -> None:
    work: Any = None  # it is not asked
    with pytest.raises(ValueError, match="1 to 200 characters"):
        asyncio.run(SubjectKeys(LocalKeys([OLD])).cipher(work, subject))


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD, OLD]])
def test_wrapping_keys_that_cannot_be_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(SettingsError, match="wrapping key"):
        LocalKeys(keys)
