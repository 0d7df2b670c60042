"""A retried key gets the first reply; nobody else ever does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_client import Seen, call, http_scope
from tests.units.conftest import Serving, Sql
from workhorse import Problem, unit
from workhorse.units.idempotency import KeyMalformed, make_claim, parse_key


class Broke(Problem):
    status = 409
    type = "urn:test:problem:broke"


def counting_app(runs: list[str]) -> FastAPI:
    app = FastAPI()

    @app.post("/notes", status_code=201)
    async def add(request: Request) -> JSONResponse:
        runs.append("notes")
        work = await unit()
        text = (await request.json())["text"]
        row = await (await work.execute("INSERT INTO notes (text) VALUES (%s) RETURNING id", (text,))).fetchone()
        if text.startswith("slow"):
            await asyncio.sleep(0.3)
        if text.startswith("refuse"):
            raise Broke
        if text.startswith("decide"):
            work.keep()
            raise Broke("Decided.")
        if text.startswith("big"):
            return JSONResponse("x" * 3_000_000)
        return JSONResponse({"id": row[0], "text": text}, 201, headers={"x-run": str(len(runs))})

    @app.post("/must")
    async def must() -> str:
        runs.append("must")
        return "ran"

    @app.post("/other")
    async def other() -> str:
        runs.append("other")
        return "ran"

    return app


def keyed(key: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [("idempotency-key", key), *more]


def run(serving: Serving, script: Callable[[Any], Any], runs: list[str] | None = None, **overrides: Any) -> Any:
    async def main() -> Any:
        async with serving(counting_app(runs if runs is not None else []), **overrides) as service:
            return await script(service)

    return asyncio.run(main())


def test_a_retried_key_gets_the_first_reply_byte_for_byte_and_has_one_effect(serving: Serving, sql: Sql) -> None:
    runs: list[str] = []

    async def script(service: Any) -> tuple[Seen, Seen]:
        first = await call(service, "POST", "/notes", headers=keyed("k1"), as_json={"text": "a"})
        return first, await call(service, "POST", "/notes", headers=keyed("k1"), as_json={"text": "a"})

    first, second = run(serving, script, runs)
    assert first.status == second.status == 201
    assert first.body == second.body
    assert first.header("x-run") == second.header("x-run") == "1"
    assert first.header("idempotent-replayed") is None
    assert second.header("idempotent-replayed") == "true"
    assert second.header("content-type") == first.header("content-type")
    assert runs == ["notes"]
    assert sql("SELECT count(*) FROM notes") == [(1,)]


def test_a_key_in_flight_makes_the_second_wait_for_the_first(serving: Serving, sql: Sql) -> None:
    runs: list[str] = []

    async def script(service: Any) -> list[Seen]:
        calls = [call(service, "POST", "/notes", headers=keyed("k"), as_json={"text": "slow"}) for _ in range(20)]
        return await asyncio.gather(*calls)

    replies = run(serving, script, runs, database={"pool_max": 2})
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body for reply in replies}) == 1
    assert runs == ["notes"]
    assert sql("SELECT count(*) FROM notes") == [(1,)]


def test_two_processes_with_one_key_have_one_effect(serving: Serving, sql: Sql) -> None:
    """Two services on one database stand for two processes: they share nothing else."""
    runs: list[str] = []

    async def main() -> list[Seen]:
        async with serving(counting_app(runs)) as one, serving(counting_app(runs)) as two:
            calls = [
                call(service, "POST", "/notes", headers=keyed("k"), as_json={"text": "slow"})
                for service in (one, two)
                for _ in range(4)
            ]
            return await asyncio.gather(*calls)

    replies = asyncio.run(main())
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body for reply in replies}) == 1
    assert runs == ["notes"]
    assert sql("SELECT count(*) FROM notes") == [(1,)]


def test_the_same_key_with_another_body_is_refused(serving: Serving, sql: Sql) -> None:
    async def script(service: Any) -> Seen:
        await call(service, "POST", "/notes", headers=keyed("k"), as_json={"text": "a"})
        return await call(service, "POST", "/notes", headers=keyed("k"), as_json={"text": "b"})

    seen = run(serving, script)
    assert seen.status == 422
    assert seen.json()["type"] == "urn:workhorse:problem:idempotency-key-reused"
    assert seen.json()["errors"] == [{"pointer": "Idempotency-Key", "reason": "was used before with another body"}]
    assert sql("SELECT text FROM notes") == [("a",)]


def test_another_caller_with_the_same_key_is_another_request(serving: Serving, sql: Sql) -> None:
    async def script(service: Any) -> list[Seen]:
        one = keyed("k", ("authorization", "Bearer one"))
        two = keyed("k", ("authorization", "Bearer two"))
        return [
            await call(service, "POST", "/notes", headers=one, as_json={"text": "of one"}),
            await call(service, "POST", "/notes", headers=two, as_json={"text": "of two"}),
            await call(service, "POST", "/notes", headers=one, as_json={"text": "of one"}),
        ]

    one, two, again = run(serving, script)
    assert one.json()["text"] == again.json()["text"] == "of one"
    assert two.json()["text"] == "of two"
    assert two.header("idempotent-replayed") is None
    assert sql("SELECT count(*) FROM notes") == [(2,)]


def test_a_refusal_frees_the_key_and_a_kept_one_is_replayed(serving: Serving, sql: Sql) -> None:
    runs: list[str] = []

    async def script(service: Any) -> list[Seen]:
        return [
            await call(service, "POST", "/notes", headers=keyed(key), as_json={"text": text})
            for key, text in [("r", "refuse"), ("r", "refuse"), ("d", "decide"), ("d", "decide")]
        ]

    refused, again, decided, replayed = run(serving, script, runs)
    assert {reply.status for reply in (refused, again, decided, replayed)} == {409}
    assert again.header("idempotent-replayed") is None
    assert replayed.header("idempotent-replayed") == "true"
    assert replayed.body == decided.body
    assert runs == ["notes"] * 3
    assert sql("SELECT text FROM notes") == [("decide",)]


def test_a_stale_key_is_refused_and_not_run_again(serving: Serving, sql: Sql) -> None:
    runs: list[str] = []

    async def script(service: Any) -> Seen:
        await call(service, "POST", "/notes", headers=keyed("k"), as_json={"text": "a"})
        sql("UPDATE workhorse.replies SET created_at = now() - interval '1 day 1 minute'")
        return await call(service, "POST", "/notes", headers=keyed("k"), as_json={"text": "a"})

    seen = run(serving, script, runs)
    assert seen.status == 409
    assert seen.json()["type"] == "urn:workhorse:problem:idempotency-key-stale"
    assert runs == ["notes"]


def test_a_reply_too_large_to_keep_is_not_sent_twice_nor_run_twice(serving: Serving, sql: Sql) -> None:
    runs: list[str] = []

    async def script(service: Any) -> tuple[Seen, Seen]:
        first = await call(service, "POST", "/notes", headers=keyed("k"), as_json={"text": "big"})
        return first, await call(service, "POST", "/notes", headers=keyed("k"), as_json={"text": "big"})

    first, second = run(serving, script, runs)
    assert (first.status, len(first.body)) == (200, 3_000_002)
    assert second.json()["type"] == "urn:workhorse:problem:idempotent-reply-not-kept"
    assert runs == ["notes"]


def test_a_streamed_reply_takes_effect_once_and_is_not_replayable(serving: Serving, sql: Sql) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def add() -> StreamingResponse:
        await (await unit()).execute("INSERT INTO notes (text) VALUES ('s')")

        async def chunks() -> AsyncIterator[str]:
            yield "a"
            yield "b"

        return StreamingResponse(chunks())

    async def main() -> tuple[Seen, Seen]:
        async with serving(app) as service:
            first = await call(service, "POST", "/notes", headers=keyed("k"), body=b"")
            return first, await call(service, "POST", "/notes", headers=keyed("k"), body=b"")

    first, second = asyncio.run(main())
    assert (first.status, first.body) == (200, b"ab")
    assert (second.status, second.json()["status"]) == (409, 409)
    assert sql("SELECT count(*) FROM notes") == [(1,)]


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, '"unclosed', "caf\xe9"])
def test_a_malformed_key_is_refused(key: str, serving: Serving, sql: Sql) -> None:
    async def script(service: Any) -> Seen:
        return await call(service, "POST", "/notes", headers=keyed(key), as_json={"text": "a"})

    seen = run(serving, script)
    if key == '"unclosed':
        assert seen.status == 201, "a lone quote is visible ASCII, and a key"
    else:
        assert (seen.status, seen.json()["type"]) == (400, "urn:workhorse:problem:idempotency-key-malformed")


def test_a_route_that_requires_a_key_refuses_a_request_without(serving: Serving, sql: Sql) -> None:
    runs: list[str] = []

    async def script(service: Any) -> tuple[Seen, Seen]:
        without = await call(service, "POST", "/must", body=b"")
        return without, await call(service, "POST", "/must", headers=keyed("k"), body=b"")

    without, with_key = run(serving, script, runs)
    assert (without.status, without.json()["type"]) == (400, "urn:workhorse:problem:idempotency-key-missing")
    assert with_key.status == 200
    assert runs == ["must"]


def test_a_route_without_the_policy_ignores_the_header(serving: Serving, sql: Sql) -> None:
    runs: list[str] = []

    async def script(service: Any) -> None:
        for _ in range(2):
            await call(service, "POST", "/other", headers=keyed("k"), body=b"")

    run(serving, script, runs)
    assert runs == ["other", "other"]


def test_a_key_may_be_quoted_as_in_the_draft() -> None:
    assert parse_key(b'"8e03978e-40d5-43dd-bc93-6894a57f9324"') == parse_key(b"8e03978e-40d5-43dd-bc93-6894a57f9324")


@given(st.binary(max_size=300))
def test_any_header_value_is_a_key_or_malformed(value: bytes) -> None:
    try:
        key = parse_key(value)
    except KeyMalformed:
        return
    assert 1 <= len(key) <= 255
    assert key.isascii()
    assert key.isprintable()


parts = st.tuples(
    st.text(max_size=5), st.sampled_from(["/a", "/b"]), st.sampled_from(["k", "kk"]), st.binary(max_size=5)
)


@given(parts, parts)
def test_claims_are_equal_exactly_when_their_requests_are(
    one: tuple[str, str, str, bytes], two: tuple[str, str, str, bytes]
) -> None:
    claims = [
        make_claim(http_scope("POST", path), caller=caller, key=key, body=body)
        for caller, path, key, body in (one, two)
    ]
    assert (claims[0].scope == claims[1].scope) == (one[:3] == two[:3])
    assert (claims[0].digest == claims[1].digest) == (one[3] == two[3])
    assert -(2**63) <= claims[0].lock_key < 2**63


def test_a_prefix_under_which_the_app_is_mounted_does_not_switch_its_policies_off(serving: Serving, sql: Sql) -> None:
    runs: list[str] = []

    async def script(service: Any) -> tuple[Seen, Seen]:
        mounted: dict[str, Any] = {"root_path": "/api"}
        without = await call(service, "POST", "/api/must", body=b"", **mounted)
        return without, await call(service, "POST", "/api/must", headers=keyed("k"), body=b"", **mounted)

    without, with_key = run(serving, script, runs)
    assert without.json()["type"] == "urn:workhorse:problem:idempotency-key-missing"
    assert with_key.status == 200
    assert runs == ["must"]


@pytest.mark.parametrize("declare", [True, False])
def test_a_reply_in_pieces_is_kept_if_it_says_how_long_it_is(declare: bool, serving: Serving, sql: Sql) -> None:  # noqa: FBT001
    """As every reply is, behind Starlette's BaseHTTPMiddleware."""
    app = FastAPI()
    runs: list[int] = []

    @app.post("/notes", status_code=201)
    async def add() -> dict[str, str]:
        runs.append(1)
        await (await unit()).execute("INSERT INTO notes (text) VALUES ('x')")
        return {"text": "x" * 100_000}

    @app.middleware("http")
    async def pass_on(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        if not declare:
            del response.headers["content-length"]
        return response

    async def main() -> tuple[Seen, Seen]:
        async with serving(app) as service:
            first = await call(service, "POST", "/notes", headers=keyed("k"), body=b"{}")
            return first, await call(service, "POST", "/notes", headers=keyed("k"), body=b"{}")

    first, second = asyncio.run(main())
    assert first.status == 201
    assert len(first.body) == 100_011
    assert runs == [1]
    if declare:
        assert (second.status, second.body) == (201, first.body)
        assert second.header("idempotent-replayed") == "true"
    else:
        assert second.json()["type"] == "urn:workhorse:problem:idempotent-reply-not-kept"


def test_a_kept_reply_gives_no_cookie_to_who_replays_it(serving: Serving) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def guest() -> JSONResponse:
        await unit()
        return JSONResponse({"guest": True}, headers={"set-cookie": "guest=1", "x-kept": "yes"})

    async def main() -> None:
        async with serving(app) as service:
            headers = [("idempotency-key", "1")]
            first = await call(service, "POST", "/notes", headers=headers)
            again = await call(service, "POST", "/notes", headers=headers)
            assert first.header("set-cookie") == "guest=1"
            assert (again.header("set-cookie"), again.header("x-kept")) == (None, "yes")
            assert again.header("idempotent-replayed") == "true"

    asyncio.run(main())


def test_a_caller_whose_name_is_no_text_has_keys_of_its_own() -> None:
    scope = http_scope("POST", "/notes")
    names = ["a\0b", "a\0c", "a\ud800b", "a\ud801b", "a?b", "ab"]
    claims = {make_claim(scope, caller=name, key="k", body=b"").scope for name in names}
    assert len(claims) == len(names)
