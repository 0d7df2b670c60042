"""Random requests with keys, retries, savepoints, refusals, conflicts and lost connections, against a simple model.

The model is what the promise says: a request's rows, events and jobs are there all together and once, or not at all,
and a key gets the same reply for ever. The machine plays orders (what one request's handler does) through the real
layer on the real database, alone or several at once, and compares replies after each step and the whole tables at the
end. What becomes of the jobs is played in `test_model_jobs.py`.
"""

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from starlette.requests import Request
from starlette.responses import JSONResponse

from tests.asgi_client import Seen, call
from tests.units.databases import Sql, layered, migrated, open_database
from workhorse import Policy, Problem, unit
from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.jobs import Job, Retries, job
from workhorse.units import Work

KEYS = ["a", "b", "c"]


class Undo(Exception):
    """Leaves a block that is to be undone."""


class Refused(Problem):
    status = 409
    type = "urn:test:problem:refused"


@dataclass(frozen=True)
class Order:
    """What one request's handler does. `steps` are words, and blocks of words with how they end."""

    steps: tuple[Any, ...]
    ending: str
    """ok, refuse, keep (a refusal that stands), crash."""
    trouble: str
    """none, or what happens to its first run: conflict, kill."""


words = st.sampled_from(["row", "event", "job", "flush"])
blocks = st.recursive(
    words,
    lambda inner: st.tuples(st.lists(inner, max_size=3).map(tuple), st.booleans()),
    max_leaves=5,
)
orders = st.builds(
    Order,
    steps=st.lists(blocks, max_size=4).map(tuple),
    ending=st.sampled_from(["ok", "ok", "ok", "refuse", "keep", "crash"]),
    trouble=st.sampled_from(["none", "none", "none", "conflict", "kill"]),
)


def effects(steps: tuple[Any, ...]) -> Counter[str]:
    """What stands of the steps if the request commits."""
    found: Counter[str] = Counter()
    for step in steps:
        if isinstance(step, tuple):
            inner, undone = step
            if not undone:
                found += effects(inner)
        elif step != "flush":
            found[step] += 1
    return found


async def do(work: Work, steps: tuple[Any, ...], name: str, later: Job[[int], Any], *, depth: int = 0) -> None:
    """Do the steps in a unit. `later` is the job that is enqueued."""
    for step in steps:
        if isinstance(step, tuple):
            inner, undone = step
            with contextlib.suppress(Undo):
                async with work.savepoint():
                    await do(work, inner, name, later, depth=depth + 1)
                    if undone:
                        raise Undo
        elif step == "row":
            await work.execute("INSERT INTO lines (name) VALUES (%s)", (name,))
        elif step == "event":
            await work.emit("line.added", subject=name)
        elif step == "job":
            await later.enqueue(int(name))
        elif not depth:
            await work.flush()


@dataclass
class Model:
    """What must be in the tables, and what each key gets."""

    rows: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    replies: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)
    """By key: the number of the order, status and body."""


class Machine(RuleBasedStateMachine):
    """Plays orders."""

    def __init__(self, url: str, kind: str) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = Model()
        self.orders: list[Order] = []
        self.runs: Counter[int] = Counter()
        self.context = open_database(kind, url)
        self.sql: Sql = self.loop.run_until_complete(migrated_once(url))
        self.database = self.loop.run_until_complete(self.context.__aenter__())
        self.services = [self.service() for _ in range(2)]

        @job(name="later", retries=Retries(attempts=2, first_seconds=0.0))
        async def later(number: int) -> None:
            await self.follow(number)

        self.later = later

    def service(self) -> ASGIApp:
        policies = [Policy("POST /usual", idempotent=True)]
        policies += [Policy("POST /strict", idempotent=True, isolation="serializable")]
        return layered(self.app, self.database, *policies, attempts=10)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = json.loads(await Request(scope, receive).body())
        self.runs[number] += 1
        order, run = self.orders[number], self.runs[number]
        work = await unit()
        await do(work, order.steps, f"{number}", self.later)
        if order.trouble != "none" and run == 1:
            trouble = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"
            if order.trouble == "kill":
                trouble = "SELECT pg_terminate_backend(pg_backend_pid())"
            await work.execute(trouble)
        if order.ending == "crash":
            raise RuntimeError
        if order.ending != "ok":
            if order.ending == "keep":
                work.keep()
            raise Refused
        await JSONResponse({"number": number, "run": run})(scope, receive, send)

    async def follow(self, number: int) -> None:
        """What the job of an order does: here it is only enqueued."""
        raise NotImplementedError(number)

    def place(self, order: Order) -> int:
        self.orders.append(order)
        return len(self.orders) - 1

    def send(self, *requests: tuple[int, str | None, str]) -> list[Seen]:
        """Send requests at once: number of the order, key, path. They go to two layers in turn."""

        async def main() -> list[Seen]:
            return await asyncio.gather(
                *[
                    call(
                        self.services[position % 2],
                        "POST",
                        path,
                        headers=[] if key is None else [("idempotency-key", key)],
                        body=json.dumps(number).encode(),
                    )
                    for position, (number, key, path) in enumerate(requests)
                ]
            )

        return self.loop.run_until_complete(main())

    def took_effect(self, number: int, key: str | None, seen: Seen) -> None:
        """Note in the model what an order that was run must have left."""
        order = self.orders[number]
        assert seen.status == {"ok": 200, "refuse": 409, "keep": 409, "crash": 500}[order.ending]
        assert seen.header("idempotent-replayed") is None
        if order.ending in {"ok", "keep"}:
            model = self.model
            for kind, tally in (("row", model.rows), ("event", model.events), ("job", model.jobs)):
                tally[f"{number}"] += effects(order.steps)[kind]
            if key is not None:
                self.model.replies[key] = (number, seen.status, seen.body)

    @rule(order=orders, path=st.sampled_from(["/usual", "/strict"]))
    def without_a_key(self, order: Order, path: str) -> None:
        number = self.place(order)
        (seen,) = self.send((number, None, path))
        self.took_effect(number, None, seen)

    @rule(order=orders, key=st.sampled_from(KEYS))
    def with_a_key(self, order: Order, key: str) -> None:
        """A first request, or another content under a key that stands."""
        number = self.place(order)
        (seen,) = self.send((number, key, "/usual"))
        if key in self.model.replies:
            assert seen.status == 422
            assert self.runs[number] == 0
        else:
            self.took_effect(number, key, seen)

    @rule(key=st.sampled_from(KEYS), copies=st.integers(1, 3))
    def retried(self, key: str, copies: int) -> None:
        """What stands is answered as it was."""
        if key not in self.model.replies:
            return
        number, status, body = self.model.replies[key]
        before = self.runs[number]
        for seen in self.send(*[(number, key, "/usual")] * copies):
            assert (seen.status, seen.body) == (status, body)
            assert seen.header("idempotent-replayed") == "true"
        assert self.runs[number] == before

    @rule(order=orders, key=st.sampled_from(KEYS), copies=st.integers(2, 4))
    def at_once(self, order: Order, key: str, copies: int) -> None:
        """The same new request several times at once: one effect, and one reply for all if it stands."""
        if key in self.model.replies:
            return
        number = self.place(order)
        seen = self.send(*[(number, key, "/usual")] * copies)
        if order.ending in {"ok", "keep"}:
            first = [one for one in seen if one.header("idempotent-replayed") is None]
            assert len(first) == 1, "more than one of them ran to its end"
            assert len({(one.status, one.body) for one in seen}) == 1
            self.took_effect(number, key, first[0])
        else:
            for one in seen:
                self.took_effect(number, key, one)

    @rule(many=st.lists(orders, min_size=2, max_size=4), path=st.sampled_from(["/usual", "/strict"]))
    def side_by_side(self, many: list[Order], path: str) -> None:
        """Different requests at once do not touch each other."""
        numbers = [self.place(order) for order in many]
        replies = self.send(*[(number, None, path) for number in numbers])
        for number, seen in zip(numbers, replies, strict=True):
            self.took_effect(number, None, seen)

    def enqueued(self) -> Counter[str]:
        """The jobs that there ever were, by the number of their order."""
        return Counter(dict(self.sql("SELECT arguments->>'number', count(*) FROM workhorse.jobs GROUP BY 1")))

    def teardown(self) -> None:
        """Compare the whole tables."""
        try:
            by_name = "SELECT {0}, count(*) FROM {1} GROUP BY {0}".format
            rows: Counter[str] = Counter(dict(self.sql(by_name("name", "lines"))))
            events: Counter[str] = Counter(dict(self.sql(by_name("subject", "workhorse.events"))))
            assert rows == +self.model.rows
            assert events == +self.model.events
            assert self.enqueued() == +self.model.jobs
            assert self.sql("SELECT count(*) FROM workhorse.replies") == [(len(self.model.replies),)]
            idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%%'"
            assert self.sql(idle) == [(0,)], "a transaction was left open"
        finally:
            self.loop.run_until_complete(self.context.__aexit__(None, None, None))
            self.sql("TRUNCATE lines, workhorse.events, workhorse.replies, workhorse.jobs, workhorse.finished_jobs")
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()


async def migrated_once(url: str) -> Sql:
    """As `migrated`, with the model's table, and of no effect the second time."""

    def ask(statement: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    if ask("SELECT to_regclass('lines')") == [(None,)]:
        await migrated(url)
        ask("CREATE TABLE lines (name text)")
    return ask


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pool", "sqlalchemy over psycopg"])
def test_whatever_the_requests_do_the_tables_are_what_the_promise_says(kind: str, database_url: str) -> None:
    class Here(Machine):
        def __init__(self) -> None:
            super().__init__(database_url, kind)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
