"""Django's Tasks as jobs: enqueued with the caller's transaction, and done once with their own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from django.db import transaction
from django.tasks import signals, task_backends
from django.tasks.exceptions import InvalidTask

from tests.integrations.django.conftest import CHANGED, CONNECTIONS, Project
from tests.integrations.django.serving import EVERYWHERE, post
from workhorse.errors import SettingsError
from workhorse.testing import service_client

BACKEND = "workhorse.integrations.django.tasks.WorkhorseTasks"
LOOSE = {"BACKEND": BACKEND, "OPTIONS": {"atomic": False, "attempts": 1}}
TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": ["default", "mail"]}, "loose": LOOSE}
ATOMIC = cast("Any", transaction.atomic)
FAILURES = cast("type[Exception]", InvalidTask)
BACKENDS = cast("Any", task_backends)


def use(project: Project, tasks: dict[str, Any], **more: Any) -> None:
    project.configure(TASKS=tasks, **more)
    CHANGED.send(sender=None, setting="TASKS", value=tasks, enter=True)


@pytest.fixture
def tasks(project: Project) -> Any:
    use(project, TASKS, WORKHORSE={"log": {"access": False}, "jobs": {"in_process": "on"}})
    return import_module("tests.integrations.django.project.tasks")


def states(project: Project) -> list[str]:
    return [state for (state,) in project.sql("SELECT state FROM workhorse.jobs ORDER BY id")]


def run(project: Project, done: Callable[[], bool], begin: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> None:
    """Serve, with jobs in the process, until `done()`."""

    async def main() -> None:
        async with service_client(project.service(*EVERYWHERE)) as client:
            await begin(client)
            ends = time.monotonic() + 20
            while not await asyncio.to_thread(done):
                assert time.monotonic() < ends, (project.notes(), states(project), project.seen)
                await asyncio.sleep(0.05)

    asyncio.run(main())


def enqueue(function: Callable[[], Any]) -> Any:
    try:
        return function()
    finally:
        CONNECTIONS.close_all()


def test_a_task_is_enqueued_with_the_transaction_that_is_open(project: Project, tasks: Any) -> None:
    def alone() -> None:
        with ATOMIC():
            tasks.write.enqueue("undone")
            cast("Any", transaction.set_rollback)(rollback=True)
        assert project.jobs() == []
        with ATOMIC():
            tasks.write.enqueue("a")
            assert project.jobs() == []
        tasks.write.enqueue("b")

    enqueue(alone)
    assert project.jobs() == ["django.task:default"] * 2


def test_tasks_sync_and_async_run_in_one_transaction_each(project: Project, tasks: Any) -> None:
    async def begin(_: httpx.AsyncClient) -> None:
        await asyncio.to_thread(enqueue, lambda: tasks.write.enqueue("sync", times=2))
        await asyncio.to_thread(enqueue, lambda: asyncio.run(tasks.write_async.aenqueue("async")))

    run(project, lambda: len(project.notes()) == 3 and project.jobs() == [], begin)
    assert sorted(project.notes()) == ["async", "sync 0", "sync 1"]
    assert project.seen == ["one transaction: True"]


def test_a_view_enqueues_with_its_unit(project: Project, tasks: Any) -> None:
    async def begin(client: httpx.AsyncClient) -> None:
        for path in ("enqueues", "enqueues-async"):
            assert (await post(path, f"{path} refused", status=400)(client)).status_code == 400
            assert (await post(path, path, status=201)(client)).status_code == 201

    run(project, lambda: len(project.notes()) == 2 and project.jobs() == [], begin)
    assert sorted(project.notes()) == ["enqueues 0", "enqueues-async 0"]


def test_a_task_that_fails_is_undone_and_tried_again(project: Project, tasks: Any) -> None:
    told: list[str] = []

    def hear(task_result: Any, **_: Any) -> None:
        told.append(str(task_result.status.value))

    made: list[Any] = []

    async def begin(_: httpx.AsyncClient) -> None:
        made.append(await asyncio.to_thread(enqueue, lambda: tasks.fails_once.enqueue("again")))

        def sooner() -> bool:
            project.sql("UPDATE workhorse.jobs SET run_at = now() WHERE state = 'delayed'")
            return len(project.seen) == 2

        for _try in range(200):
            if await asyncio.to_thread(sooner):
                break
            await asyncio.sleep(0.05)

    every = [cast("Any", getattr(signals, f"task_{name}")) for name in ("enqueued", "started", "finished")]
    for one in every:
        one.connect(hear)
    try:
        run(project, lambda: project.notes() == ["again"] and project.jobs() == [], begin)
    finally:
        for one in every:
            one.disconnect(hear)
    assert project.seen == [f"attempt {number} of {made[0].id}" for number in (1, 2)]
    assert told == ["READY", "RUNNING", "FAILED", "RUNNING", "SUCCESSFUL"]


def test_a_backend_that_is_not_atomic_keeps_what_was_written(project: Project, tasks: Any) -> None:
    async def begin(_: httpx.AsyncClient) -> None:
        for one in (tasks.write_and_fail, tasks.write_async_and_fail):
            await asyncio.to_thread(enqueue, partial(one.enqueue, one.name))

    ended = "SELECT count(*) FROM workhorse.jobs WHERE state = 'dead'"
    run(project, lambda: project.sql(ended) == [(2,)], begin)
    assert sorted(project.notes()) == ["write_and_fail", "write_async_and_fail"]


def test_a_time_a_queue_and_a_priority_are_the_job_s(project: Project, tasks: Any) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    enqueue(lambda: tasks.write.using(run_after=later, queue_name="mail", priority=7).enqueue("a"))
    rows = project.sql("SELECT name, queue, priority, run_at, state FROM workhorse.jobs")
    assert rows == [("django.task:mail", "mail", 7, later, "delayed")]


def test_what_cannot_be_run_is_refused_where_it_is_enqueued(project: Project, tasks: Any) -> None:
    with pytest.raises(FAILURES, match="Queue 'nowhere' is not valid"):
        tasks.write.using(queue_name="nowhere")
    with pytest.raises(TypeError):
        enqueue(lambda: tasks.write.enqueue(object()))
    with pytest.raises(ValueError, match="at most 65536 are taken"):
        enqueue(lambda: tasks.write.enqueue("x" * 70_000))
    with pytest.raises(NotImplementedError):
        tasks.write.get_result("a")
    assert project.jobs() == []


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        ({"OPTIONS": {"atomik": True}}, "OPTIONS'] has atomik; it may have atomic, attempts"),
        ({"OPTIONS": {"attempts": 0}}, "'attempts'] is 0; it must be 1 to 1000"),
        ({"QUEUES": ["A mail"]}, "the queue 'A mail' is no name"),
        ({"BACKEND": "nowhere.Tasks"}, "Could not find backend 'nowhere.Tasks'"),
    ],
)
def test_a_malformed_backend_is_refused_with_the_service(project: Project, backend: dict[str, Any], says: str) -> None:
    use(project, {"default": {"BACKEND": BACKEND, **backend}})
    with pytest.raises(SettingsError) as refused:
        project.service()
    assert says in str(refused.value)


def test_a_name_in_the_database_that_is_no_task_is_not_called(project: Project, tasks: Any) -> None:
    enqueue(lambda: tasks.write.enqueue("a"))
    other = "jsonb_set(arguments::jsonb, '{task}', '\"os.getpid\"')"
    project.sql("UPDATE workhorse.jobs SET attempts_left = 1, arguments = " + other + "::text::json")  # noqa: S608

    async def begin(_: httpx.AsyncClient) -> None: ...

    run(project, lambda: "dead" in states(project) or "delayed" in states(project), begin)
    (failure,) = project.sql("SELECT failures::text FROM workhorse.jobs")[0]
    assert "'os.getpid' is no task" in failure


@pytest.mark.slow
def test_the_worker_of_manage_py_does_them_and_survives_its_death(project: Project, tasks: Any, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    environment = {
        **os.environ,
        "DATABASE_URL": project.url,
        "DJANGO_SETTINGS_MODULE": "tests.integrations.django.project.settings",
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }

    def start() -> "subprocess.Popen[bytes]":
        log = (tmp_path / "worker.log").open("ab")
        command = [sys.executable, "-m", "django", "workhorse_worker"]
        with log:
            return subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)

    def wait(done: Callable[[], bool]) -> None:
        ends = time.monotonic() + 60
        while not done():
            assert time.monotonic() < ends, (tmp_path / "worker.log").read_text()
            time.sleep(0.1)

    first = start()
    try:
        enqueue(lambda: tasks.write.enqueue("first"))
        wait(lambda: project.notes() == ["first 0"])
        enqueue(lambda: tasks.sleeps.enqueue("slow", 30))
        wait(lambda: project.sql("SELECT state FROM workhorse.jobs") == [("running",)])
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    second = start()
    try:
        project.sql("UPDATE workhorse.jobs SET arguments = jsonb_set(arguments::jsonb, '{args,1}', '0')::text::json")
        wait(lambda: project.notes() == ["first 0", "slow"])
        assert project.sql("SELECT count(*) FROM workhorse.jobs") == [(0,)]
        second.send_signal(signal.SIGTERM)
        assert second.wait(20) == 0
    finally:
        second.kill()
        second.wait()
