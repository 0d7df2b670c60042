"""The queue against a model of it: whatever is said in whatever order, both tell the same.

The model is a list of jobs in the order of their enqueueing. A key's first unfinished job is the only one on its way;
a claim takes what is ready by priority and age; a finish counts only with the worker and the attempt that has the job.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

WORKERS: Final = 3
Said = Callable[[st.DataObject], None]
MADE: Final = st.lists(
    st.tuples(
        st.sampled_from([None, "a", "b"]),  # key
        st.integers(0, 2),  # priority
        st.integers(1, 3),  # attempts
        st.booleans(),  # whether it blocks its key
        st.sampled_from([None, None, "x", "y"]),  # unique key
    ),
    min_size=1,
    max_size=4,
)


@dataclass
class Modelled:
    """One job."""

    id: UUID
    key: str | None
    priority: int
    left: int
    blocks: bool
    state: str = "new"
    attempt: int = 0
    worker: int | None = None
    unique: str | None = None


@dataclass
class Model:
    """What should be."""

    jobs: list[Modelled] = field(default_factory=list[Modelled])
    uniques: dict[str, UUID] = field(default_factory=dict[str, UUID])

    def advance(self) -> None:
        """Of each key the first that waits goes, where none is on its way. What has no key does not wait."""
        for one in self.jobs:
            if one.state == "new":
                one.state = "waiting" if one.key else "ready"
        for one in self.jobs:
            if one.state == "waiting" and not any(self.heads(one.key)):
                one.state = "ready"

    def heads(self, key: str | None) -> list[Modelled]:
        """Who holds this key."""
        held = ("ready", "running", "delayed")
        return [
            one for one in self.jobs if one.key == key and (one.state in held or (one.state == "dead" and one.blocks))
        ]

    def end(self, one: Modelled) -> None:
        """It is over."""
        self.jobs.remove(one)
        self.free(one)
        self.advance()

    def free(self, one: Modelled) -> None:
        """It may be enqueued again."""
        if one.unique is not None and self.uniques.get(one.unique) == one.id:
            del self.uniques[one.unique]


class Queue(RuleBasedStateMachine):
    """Says the same to both."""

    connection: psycopg.Connection[tuple[Any, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.given = 0
        self.workers = [self.next_id() for _ in range(WORKERS)]
        self.ask("TRUNCATE workhorse.jobs, workhorse.job_uniques, workhorse.finished_jobs, workhorse.job_workers")
        for worker in self.workers:
            self.register(worker)

    def next_id(self) -> UUID:
        """The same in each replay."""
        self.given += 1
        return UUID(int=self.given)

    def ask(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), params)
        return cursor.fetchall() if cursor.description else []

    def register(self, worker: UUID) -> None:
        told = "INSERT INTO workhorse.job_workers (id, name, queues, concurrency) VALUES (%s, 'w', '{q}', 1)"
        self.ask(told, worker)

    @rule(data=st.data())
    def say(self, data: st.DataObject) -> None:
        """One of what can be said now. A single rule, because Hypothesis leaves out whole rules in most of its runs."""
        jobs = self.model.jobs
        running = [one for one in jobs if one.state == "running"]
        can: list[Said] = [self.enqueue]
        if jobs:
            can += [self.claim, self.claim, self.finish_what_is_not_ones_own, self.cancel]
        if running:
            can += [self.finish, self.finish, self.fail, self.fail, self.die]
        if any(one.state == "delayed" for one in jobs):
            can += [self.time_passes]
        if any(one.state == "dead" for one in jobs):
            can += [self.retry]
        data.draw(st.sampled_from(can))(data)

    def enqueue(self, data: st.DataObject) -> None:
        made = data.draw(MADE)
        rows: list[dict[str, object]] = []
        for key, priority, attempts, blocks, unique in made:
            rows.append(
                {
                    "id": str(self.next_id()), "name": "n", "queue": "q", "version": 1, "key": key,
                    "priority": priority,
                    "attempts": attempts, "blocks": blocks, "arguments": {},
                    "unique_digest": unique and str(UUID(bytes=unique.encode() * 16)),
                }
            )  # fmt: skip
        # Of several with one unique key in one statement, the one with the least id is written.
        first: dict[str, str] = {}
        for row, (*_, unique) in zip(rows, made, strict=True):
            if unique is not None:
                first[unique] = min(first.get(unique, "~"), str(row["id"]))
        keyed = any(row["key"] for row in rows)
        written = self.ask(
            "SELECT workhorse.enqueue_jobs(%s, %s, %s)", json.dumps(rows), keyed, any(unique for *_, unique in made)
        )
        expected = 0
        for row, (key, priority, attempts, blocks, unique) in zip(rows, made, strict=True):
            if unique is not None and (first[unique] != row["id"] or unique in self.model.uniques):
                continue
            one = Modelled(UUID(str(row["id"])), key, priority, attempts, blocks, unique=unique)
            self.model.jobs.append(one)
            if unique is not None:
                self.model.uniques[unique] = one.id
            expected += 1
        self.model.advance()
        assert written == [(expected,)]

    def claim(self, data: st.DataObject) -> None:
        worker, most = data.draw(st.integers(0, WORKERS - 1)), data.draw(st.integers(1, 3))
        rows = self.ask(
            "SELECT id, attempt FROM workhorse.claim_jobs(%s, '{q}', %s) ORDER BY priority DESC, seq",
            self.workers[worker],
            most,
        )
        ready = sorted(
            (one for one in self.model.jobs if one.state == "ready"), key=lambda one: -one.priority
        )[:most]  # fmt: skip
        for one in ready:
            one.state, one.worker, one.attempt, one.left = "running", worker, one.attempt + 1, one.left - 1
        assert rows == [(one.id, one.attempt) for one in ready]

    def finish(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([one for one in self.model.jobs if one.state == "running"]))
        assert one.worker is not None
        assert self.said_finished(one, self.workers[one.worker], one.attempt) == [(one.id,)]
        self.model.end(one)

    def finish_what_is_not_ones_own(self, data: st.DataObject) -> None:
        """With another worker's id, another attempt, or after it was given back."""
        worker, off = data.draw(st.integers(0, WORKERS - 1)), data.draw(st.integers(-1, 1))
        one = data.draw(st.sampled_from(self.model.jobs))
        if one.worker == worker:
            off = off or 1
        assert self.said_finished(one, self.workers[worker], one.attempt + off) == []

    def said_finished(self, one: Modelled, worker: UUID, attempt: int) -> list[tuple[Any, ...]]:
        """What the database makes of it."""
        said = "SELECT workhorse.finish_jobs(%s, ARRAY[%s], ARRAY[%s]::smallint[], false)"
        return self.ask(said, worker, one.id, attempt)

    def fail(self, data: st.DataObject) -> None:
        retried = data.draw(st.booleans())
        one = data.draw(st.sampled_from([one for one in self.model.jobs if one.state == "running"]))
        assert one.worker is not None
        rows = self.ask(
            "SELECT workhorse.fail_job(%s, %s, %s::smallint, '{}', %s)",
            one.id,
            self.workers[one.worker],
            one.attempt,
            0 if retried else None,
        )
        one.worker = None
        one.state = "ready" if retried and one.left > 0 else "dead"
        assert rows == [("retried" if one.state == "ready" else "dead",)]
        if one.state == "dead":
            self.model.free(one)
            self.model.advance()

    def die(self, data: st.DataObject) -> None:
        """A worker is missed. Its jobs come back, at once or later, or are dead."""
        worker = data.draw(st.integers(0, WORKERS - 1))
        lost = self.workers[worker]
        self.ask("UPDATE workhorse.job_workers SET beat_at = now() - interval '1 hour' WHERE id = %s", lost)
        ((taken,),) = self.ask("SELECT workhorse.reap_job_workers(60)")
        mine = [one for one in self.model.jobs if one.worker == worker]
        assert taken == len(mine)
        assert self.ask("SELECT id FROM workhorse.claim_jobs(%s, '{q}', 5)", lost) == []
        for one in mine:
            one.worker = None
            one.state = "dead" if one.left <= 0 else "delayed" if one.attempt > 1 else "ready"
            if one.state == "dead":
                self.model.free(one)
        self.model.advance()
        self.workers[worker] = self.next_id()
        self.register(self.workers[worker])

    def time_passes(self, _: st.DataObject) -> None:
        self.ask("UPDATE workhorse.jobs SET run_at = now() - interval '1 second' WHERE state = 'delayed'")
        ((counted,),) = self.ask("SELECT workhorse.line_up_jobs('{q}', 1000)")
        late = [one for one in self.model.jobs if one.state == "delayed"]
        assert counted == len(late)
        for one in late:
            one.state = "ready"

    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.model.jobs))
        ((said,),) = self.ask("SELECT workhorse.cancel_job(%s)", one.id)
        assert said == ("asked" if one.state == "running" else "cancelled")
        if one.state != "running":
            self.model.end(one)

    def retry(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([one for one in self.model.jobs if one.state == "dead"]))
        assert self.ask("SELECT workhorse.retry_job(%s, 2::smallint)", one.id) == [(True,)]
        one.left, one.state = 2, "new"
        free = one.key is None or not self.model.heads(one.key)
        one.state = "ready" if free else "waiting"

    @invariant()
    def both_tell_the_same(self) -> None:
        rows = self.ask(
            "SELECT id, state::text, attempt, attempts_left, worker FROM workhorse.jobs ORDER BY seq"
        )  # fmt: skip
        expected = [
            (one.id, one.state, one.attempt, one.left, None if one.worker is None else self.workers[one.worker])
            for one in self.model.jobs
        ]
        assert rows == expected

    @invariant()
    def no_lane_waits_for_nobody(self) -> None:
        assert self.ask("SELECT workhorse.mend_job_lanes(100)") == [(0,)]


@pytest.mark.slow
def test_the_queue_does_as_its_model(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        Queue.connection = connection
        run_state_machine_as_test(Queue, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))
