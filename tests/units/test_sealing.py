"""Kept replies are unreadable without their key, whoever holds the database."""

import asyncio
import logging
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import Seen, call
from tests.units.databases import Sql, layered, on
from workhorse import unit
from workhorse.errors import SettingsError
from workhorse.units.sealing import CannotOpen, Seal, key_id_of

ONE, TWO = bytes(range(32)), bytes(range(1, 33))
SCOPE = UUID(int=7)


def secret_app(runs: list[int]) -> FastAPI:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> JSONResponse:
        runs.append(1)
        await unit()
        return JSONResponse({"iban": "DE02120300000000202051"}, headers={"x-account": "DE02120300000000202051"})

    return app


def post_with(url: str, *steps: tuple[dict[str, Any], str], between: str = "") -> tuple[list[Seen], int, Any]:
    """Send a request with the same key under each of the options. Returns replies, runs, and the kept row."""
    runs: list[int] = []

    async def script(database: Any, sql: Sql) -> Any:
        seen: list[Seen] = []
        for options, key in steps:
            service = layered(secret_app(runs), database, **options)
            seen.append(await call(service, "POST", "/notes", headers=[("idempotency-key", key)], body=b"{}"))
            if between:
                sql(between)
        return seen, len(runs), sql("SELECT headers, body, key_id FROM workhorse.replies ORDER BY created_at")

    return asyncio.run(on("pool", url, script))  # type: ignore[no-any-return]


def test_a_sealed_reply_is_replayed_and_cannot_be_read_in_the_table(database_url: str) -> None:
    seen, runs, rows = post_with(database_url, ({"reply_key": ONE}, "k"), ({"reply_key": ONE}, "k"))
    assert (seen[0].status, seen[0].body) == (seen[1].status, seen[1].body)
    assert seen[1].header("x-account") == seen[0].header("x-account")
    assert runs == 1
    ((headers, body, key_id),) = rows
    assert b"DE02" not in headers + body
    assert b"content-type" not in headers
    assert key_id == key_id_of(ONE)


def test_without_a_key_they_are_kept_as_they_are(database_url: str) -> None:
    _, _, rows = post_with(database_url, ({}, "k"))
    assert b"DE02" in rows[0][1]
    assert rows[0][2] is None


def test_keys_rotate_and_replies_from_before_the_first_key_are_read(database_url: str) -> None:
    seen, runs, rows = post_with(
        database_url,
        ({}, "plain"),
        ({"reply_key": ONE}, "one"),
        ({"reply_key": TWO, "former_reply_keys": [ONE]}, "plain"),
        ({"reply_key": TWO, "former_reply_keys": [ONE]}, "one"),
        ({"reply_key": TWO, "former_reply_keys": [ONE]}, "two"),
    )
    assert [one.status for one in seen] == [200] * 5
    assert runs == 3
    assert [key_id for *_, key_id in rows] == [None, key_id_of(ONE), key_id_of(TWO)]


@pytest.mark.parametrize("options", [{}, {"reply_key": TWO}], ids=["no key", "another key"])
def test_a_reply_whose_key_is_gone_is_not_sent_and_nothing_is_run_again(
    options: dict[str, Any], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen, runs, _ = post_with(database_url, ({"reply_key": ONE}, "k"), (options, "k"))
    assert (seen[1].status, seen[1].json()["type"]) == (409, "urn:workhorse:problem:idempotent-reply-not-kept")
    assert runs == 1
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_a_reply_that_was_changed_in_the_table_is_not_sent(database_url: str) -> None:
    change = "UPDATE workhorse.replies SET body = set_byte(body, 20, get_byte(body, 20) # 1)"
    seen, runs, _ = post_with(database_url, ({"reply_key": ONE}, "k"), ({"reply_key": ONE}, "k"), between=change)
    assert seen[1].status == 409
    assert runs == 1


@given(st.binary(max_size=200))
def test_what_is_sealed_opens_as_it_was_and_only_in_its_place(content: bytes) -> None:
    seal = Seal([ONE])
    sealed = seal.seal(SCOPE, b"body", content)
    assert seal.open(seal.key_id, SCOPE, b"body", sealed) == content
    assert seal.seal(SCOPE, b"body", content) != sealed
    for scope, field in ((uuid4(), b"body"), (SCOPE, b"headers")):
        with pytest.raises(CannotOpen):
            seal.open(seal.key_id, scope, field, sealed)
    with pytest.raises(CannotOpen, match="not configured any more"):
        Seal([TWO]).open(seal.key_id, SCOPE, b"body", sealed)


@pytest.mark.parametrize("sealed", [b"", b"short", b"x" * 12, b"x" * 40])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    seal = Seal([ONE])
    with pytest.raises(CannotOpen):
        seal.open(seal.key_id, SCOPE, b"body", sealed)


@pytest.mark.parametrize(
    ("keys", "said"),
    [([b"short"], "5 bytes"), ([ONE, ONE], "there twice"), ([], "are none"), ([ONE, b"x" * 33], "33 bytes")],
)
def test_keys_that_are_none_are_refused(keys: list[bytes], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Seal(keys)


def test_a_key_shows_in_no_text() -> None:
    from workhorse.units.asgi import UnitOptions

    options = UnitOptions(reply_key=ONE, former_reply_keys=[TWO])
    assert repr(ONE)[2:12] not in repr(options)
    assert "reply_key" not in repr(options)
    assert repr(Seal([ONE])) == f"<Seal {key_id_of(ONE).hex()}>"
