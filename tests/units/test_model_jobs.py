"""Requests, their jobs, and the workers that run, fail, abandon and wake up for them, against one simple model.

The model of the requests is that of `test_model.py`. Here the jobs that they enqueue are claimed and run by real
attempts on the real database. A job's effects are there once, with its end, or not at all; a worker that died holds its
jobs until another takes them back; and whoever wakes up for a job that is not its own any more leaves nothing behind.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from tests.units.test_model import Machine
from workhorse import unit
from workhorse.jobs import current_job, step
from workhorse.jobs.attempt import Attempt, Ended, Tools
from workhorse.jobs.desk import JobDesk
from workhorse.jobs.engine import Claimed, Engine
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units.work import NO_KINDS

WORKERS = 2
CONFLICT = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"
KILL = "SELECT pg_terminate_backend(pg_backend_pid())"
# A worker that has said nothing for so long, in seconds, is taken for dead.
LEASE = 60.0

# What becomes of an attempt: it commits; it raises; it loses once to another transaction; its connection is killed; it
# enqueues another job and commits; it does a step and commits; it does a step and raises; its worker dies before.
FATES = ["ok", "ok", "raise", "conflict", "kill", "child", "step", "step, raise", "die"]
fates = st.sampled_from(FATES)
awake = st.sampled_from([fate for fate in FATES if fate != "die"])
whos = st.integers(0, WORKERS - 1)


@dataclass
class Modelled:
    """A job as it should be."""

    number: str
    state: str = "ready"
    left: int = 2
    attempt: int = 0
    holder: UUID | None = None
    asked: bool = False
    """Somebody wants it cancelled while it runs."""
    stepped: bool = False


@dataclass
class Held:
    """A claim, as the worker has it that got it."""

    engine: Engine
    claimed: Claimed


@dataclass
class Modelling:
    """The jobs of the model."""

    jobs: dict[UUID, Modelled] = field(default_factory=dict[UUID, Modelled])
    ends: Counter[str] = field(default_factory=Counter[str])

    def of(self, state: str) -> list[UUID]:
        return [one for one, job in self.jobs.items() if job.state == state]


class JobsMachine(Machine):
    """Plays orders, and workers for the jobs that follow."""

    def __init__(self, url: str, kind: str) -> None:
        super().__init__(url, kind)
        self.jobs = Modelling()
        self.claims: list[Held] = []
        self.fates: dict[UUID, str] = {}
        self.threads = ThreadPoolExecutor(1)
        # Workers speak of themselves on connections of their own, whatever the units run on.
        self.control = PostgresDatabase(url, pool_min=1, pool_max=4)
        self.run(self.control.open())
        self.desk = JobDesk(self.control)
        self.engines = [self.run(self.enrol()) for _ in range(WORKERS)]

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    async def enrol(self) -> Engine:
        engine = Engine(self.control, uuid4(), ["default"])
        await engine.register("model", 10)
        return engine

    async def follow(self, number: int) -> None:
        """What a job does: a row, an event, and what its fate says."""
        me = current_job().id
        fate = self.fates[me]
        if fate.startswith("step"):
            await step("once", self.step_of, f"step {me}")
        work = await unit()
        await work.execute("INSERT INTO lines (name) VALUES (%s)", (f"job {me}",))
        await work.emit("line.added", subject=f"job {me}")
        if fate == "child":
            await self.later.enqueue(number)
        elif fate == "conflict":
            self.fates[me] = "ok"
            await work.execute(CONFLICT)
        elif fate == "kill":
            await work.execute(KILL)
        elif fate.endswith("raise"):
            raise RuntimeError(fate)

    async def step_of(self, name: str) -> str:
        await (await unit()).execute("INSERT INTO lines (name) VALUES (%s)", (name,))
        return name

    def learn(self) -> None:
        """Take in the jobs that were enqueued since, which are all new and ready."""
        for one, number in self.sql("SELECT id, arguments->>'number' FROM workhorse.jobs"):
            self.jobs.jobs.setdefault(one, Modelled(number))

    def enqueued(self) -> Counter[str]:
        self.learn()
        return Counter(job.number for job in self.jobs.jobs.values())

    @rule(who=whos, most=st.integers(1, 3), given=st.lists(fates, min_size=3, max_size=3))
    def work(self, who: int, most: int, given: list[str]) -> None:
        """A worker claims jobs, and sees to some of them."""
        self.learn()
        engine, ready = self.engines[who], set(self.jobs.of("ready"))
        claims: list[Claimed] = self.run(engine.turn([], most, stepped=False))
        assert len(claims) == min(most, len(ready))
        assert {one.id for one in claims} <= ready
        chosen: list[tuple[Held, str]] = []
        for claimed, fate in zip(claims, given, strict=False):
            job = self.jobs.jobs[claimed.id]
            job.state, job.attempt, job.left, job.holder = "running", job.attempt + 1, job.left - 1, engine.worker
            assert (claimed.attempt, claimed.attempts_left) == (job.attempt, job.left)
            self.claims.append(Held(engine, claimed))
            if fate != "die":
                chosen.append((self.claims[-1], fate))
        self.play(chosen)

    @rule(data=st.data(), fate=awake)
    def wake_up(self, data: st.DataObject, fate: str) -> None:
        """A worker that was frozen goes on with what it had, whosever that is by now."""
        if self.claims:
            self.play([(data.draw(st.sampled_from(self.claims)), fate)])

    def play(self, chosen: list[tuple[Held, str]]) -> None:
        """Run attempts at once, and hold how each ended against the model."""
        for held, fate in chosen:
            self.fates[held.claimed.id] = fate

        async def settle(call: Callable[[], Any]) -> Any:
            return await call()

        async def attempt(held: Held) -> Ended:
            tools = Tools(
                database=self.database,
                engine=held.engine,
                threads=self.threads,
                worker_name="model",
                events=NO_KINDS,
                settle=settle,
            )
            return await Attempt(held.claimed, self.later, tools).run()

        async def main() -> list[Ended]:
            return await asyncio.gather(*(attempt(held) for held, _ in chosen))

        for (held, fate), ended in zip(chosen, self.run(main()), strict=True):
            assert ended is self.expect(held, fate), (held, fate)

    def expect(self, held: Held, fate: str) -> Ended:
        """What must come of an attempt, noted in the model."""
        one, job = held.claimed.id, self.jobs.jobs[held.claimed.id]
        if (job.state, job.holder, job.attempt) != ("running", held.engine.worker, held.claimed.attempt):
            return Ended.LOST
        if fate.startswith("step") and not job.stepped:
            job.stepped = True
            self.model.rows[f"step {one}"] += 1
        if fate not in {"kill", "raise", "step, raise"}:
            self.model.rows[f"job {one}"] += 1
            self.model.events[f"job {one}"] += 1
            self.model.jobs[job.number] += fate == "child"
            self.end(job, "done")
            return Ended.COMMITTED
        if job.asked:
            self.end(job, "cancelled")
            return Ended.CANCELLED
        job.holder, job.state = None, "ready" if job.left > 0 else "dead"
        return Ended.RETRIED if job.left > 0 else Ended.DEAD

    def end(self, job: Modelled, outcome: str) -> None:
        job.state, job.holder = "gone", None
        self.jobs.ends[outcome] += 1

    @rule(who=whos)
    def bury(self, who: int) -> None:
        """A worker is not heard of any more: another takes its jobs, and it lives on under a new id only."""
        dead, other = self.engines[who], self.engines[1 - who]
        held = [job for job in self.jobs.jobs.values() if job.holder == dead.worker]
        self.sql("UPDATE workhorse.job_workers SET beat_at = now() - interval '1 hour' WHERE id = %s", dead.worker)
        beats = [self.run(other.beat(LEASE, [])) for _ in range(2)]
        assert sum(beat.lost for beat in beats) == len(held)
        assert not self.run(dead.beat(LEASE, [])).alive
        for job in held:
            job.holder = None
            job.state = "dead" if job.left <= 0 else "delayed" if job.attempt > 1 else "ready"
        assert self.run(dead.turn([], 3, stepped=False)) == [], "who was taken for dead gets nothing"
        self.engines[who] = self.run(self.enrol())

    @rule(who=whos)
    def time_passes(self, who: int) -> None:
        """What was delayed becomes due."""
        self.sql("UPDATE workhorse.jobs SET run_at = now() WHERE state = 'delayed'")
        delayed = self.jobs.of("delayed")
        assert self.run(self.engines[who].line_up(100)) == len(delayed)
        for one in delayed:
            self.jobs.jobs[one].state = "ready"

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.learn()
        if self.jobs.jobs:
            one = data.draw(st.sampled_from(sorted(self.jobs.jobs)))
            job = self.jobs.jobs[one]
            said = self.run(self.desk.cancel(one))
            assert said == {"gone": None, "running": "asked"}.get(job.state, "cancelled")
            if said == "asked":
                job.asked = True
            elif said == "cancelled":
                self.end(job, "cancelled")

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        self.learn()
        if self.jobs.jobs:
            one = data.draw(st.sampled_from(sorted(self.jobs.jobs)))
            job = self.jobs.jobs[one]
            assert self.run(self.desk.retry(one, attempts=1)) == (job.state in {"dead", "delayed"})
            if job.state in {"dead", "delayed"}:
                job.left = 1 if job.state == "dead" else job.left
                job.state = "ready"

    @invariant()
    def the_table_is_as_the_model(self) -> None:
        self.learn()
        there: dict[UUID, str] = dict(self.sql("SELECT id, state::text FROM workhorse.jobs"))
        assert there == {one: job.state for one, job in self.jobs.jobs.items() if job.state != "gone"}

    def teardown(self) -> None:
        try:
            ends = self.sql("SELECT outcome::text, count(*) FROM workhorse.finished_jobs GROUP BY 1")
            assert Counter(dict(ends)) == +self.jobs.ends
            left = "SELECT count(*) FROM workhorse.job_steps WHERE job NOT IN (SELECT id FROM workhorse.jobs)"
            assert self.sql(left) == [(0,)], "a step is kept of no job"
        finally:
            self.run(self.control.close())
            super().teardown()
            self.threads.shutdown()
            self.sql("TRUNCATE workhorse.job_workers, workhorse.job_steps")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pool", "sqlalchemy over psycopg"])
def test_whatever_becomes_of_workers_each_job_has_its_effects_once(kind: str, database_url: str) -> None:
    class Here(JobsMachine):
        def __init__(self) -> None:
            super().__init__(database_url, kind)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
