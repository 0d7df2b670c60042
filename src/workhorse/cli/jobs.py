"""`workhorse jobs list|show|retry|cancel|purge|workers`: what operators do with jobs.

It needs the database alone, not the service. Arguments of jobs are not shown: they may be personal data.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from workhorse.errors import SettingsError
from workhorse.jobs import History
from workhorse.jobs.desk import STATES, JobDesk, JobPage
from workhorse.service.rooms import find_urls
from workhorse.settings import load_settings
from workhorse.state.postgres.database import PostgresDatabase

__all__ = ["NAME", "SUMMARY", "configure", "render_page", "run"]

NAME: Final = "jobs"
SUMMARY: Final = "Look at background jobs; retry, cancel or forget them."
DEFAULTS: Final = History()

Verb = Callable[[JobDesk, argparse.Namespace], Coroutine[Any, Any, int]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(title="what to do", metavar="VERB", required=True)
    listed = verbs.add_parser("list", help="jobs that are not finished, the newest first")
    listed.add_argument("--state", choices=STATES)
    listed.add_argument("--queue")
    listed.add_argument("--name")
    listed.add_argument("--limit", type=int, default=50)
    listed.set_defaults(on_jobs=_list)
    for verb, summary, function in (
        ("show", "all that is known of one job", _show),
        ("cancel", "end a job, or ask its worker to", _cancel),
    ):
        one = verbs.add_parser(verb, help=summary)
        one.add_argument("id", type=_id)
        one.set_defaults(on_jobs=function)
    retry = verbs.add_parser("retry", help="try a dead job again, or a delayed one now")
    retry.add_argument("id", type=_id, nargs="?")
    retry.add_argument("--all-dead", action="store_true", help="every dead job (of --name), at most 1000 at once")
    retry.add_argument("--name")
    retry.add_argument("--attempts", type=int, default=1, help="how many more (default: %(default)s)")
    retry.set_defaults(on_jobs=_retry)
    purge = verbs.add_parser("purge", help="forget what is old; workers do so by themselves")
    purge.add_argument("--finished-days", type=float, default=DEFAULTS.finished_days)
    purge.add_argument("--dead-days", type=float, default=DEFAULTS.dead_days)
    purge.set_defaults(on_jobs=_purge)
    verbs.add_parser("workers", help="the workers that there are").set_defaults(on_jobs=_workers)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    settings = load_settings()
    async with find_urls(settings) as urls:
        database = PostgresDatabase(urls.database, pool_max=1)
        await database.open()
        try:
            verb: Verb = arguments.on_jobs
            return await verb(JobDesk(database), arguments)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        finally:
            await database.close()


async def _list(desk: JobDesk, arguments: argparse.Namespace) -> int:
    lines = await desk.find(state=arguments.state, queue=arguments.queue, name=arguments.name, limit=arguments.limit)
    rows = [("ID", "NAME", "QUEUE", "KEY", "STATE", "ATTEMPT", "RUN AT")]
    rows += [
        (
            str(line.id),
            line.name,
            line.queue,
            line.key or "-",
            line.state,
            f"{line.attempt} ({line.attempts_left} left)",
            _time(line.run_at),
        )
        for line in lines
    ]
    _say(_table(rows))
    return 0


async def _show(desk: JobDesk, arguments: argparse.Namespace) -> int:
    page = await desk.show(arguments.id)
    if page is None:
        return _missing(arguments.id)
    _say(render_page(page))
    return 0


async def _cancel(desk: JobDesk, arguments: argparse.Namespace) -> int:
    said = await desk.cancel(arguments.id)
    if said is None:
        return _missing(arguments.id)
    _say("cancelled" if said == "cancelled" else "it runs; its worker is asked to end it")
    return 0


async def _retry(desk: JobDesk, arguments: argparse.Namespace) -> int:
    if bool(arguments.id) == arguments.all_dead:
        raise SettingsError("name one job by its id, or all with --all-dead")
    ids = [arguments.id]
    if arguments.all_dead:
        ids = [line.id for line in await desk.find(state="dead", name=arguments.name, limit=1_000)]
    retried = sum([await desk.retry(one, attempts=arguments.attempts) for one in ids])
    _say(f"{retried} of {len(ids)} jobs are tried again")
    return 0 if retried == len(ids) else 1


async def _purge(desk: JobDesk, arguments: argparse.Namespace) -> int:
    await desk.purge(History(finished_days=arguments.finished_days, dead_days=arguments.dead_days))
    _say("purged")
    return 0


async def _workers(desk: JobDesk, _: argparse.Namespace) -> int:
    rows = [("WORKER", "QUEUES", "RUNNING", "HEARD OF")]
    rows += [
        (one.name, " ".join(one.queues), f"{one.running} of {one.concurrency}", f"{one.heard_of_seconds_ago:.0f} s ago")
        for one in await desk.workers()
    ]
    _say(_table(rows))
    return 0


def render_page(page: JobPage) -> str:
    """One job, for people."""
    facts: list[tuple[str, str]] = [
        ("id", str(page.id)),
        ("name", page.name),
        ("queue", page.queue),
        ("key", page.key or "-"),
        ("state", page.state),
        ("attempt", str(page.attempt)),
        ("enqueued", _time(page.enqueued_at)),
        ("run at", _time(page.run_at)),
        ("started", _time(page.started_at)),
        ("finished", _time(page.finished_at)),
        ("worker", page.worker or "-"),
        ("trace", str(page.origin.get("trace") or "-")),
        ("caller", str(page.origin.get("subject") or "-")),
        ("progress", "-" if page.progress is None else msgspec.json.encode(page.progress).decode()),
    ]
    lines = [f"{name:9} {value}" for name, value in facts]
    lines += [f"step      {step.name} ({_time(step.made_at)})" for step in page.steps]
    for failure in page.failures:
        lines.append(f"\nattempt {failure['attempt']} failed at {failure['at']} on {failure['worker']}:")
        lines.append(f"  {failure['error']}: {failure['message']}")
        lines += [f"  {line}" for line in str(failure.get("traceback", "")).splitlines()]
    return "\n".join(lines)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no job id, such as `workhorse jobs list` prints") from None


def _missing(job: UUID) -> int:
    sys.stderr.write(f"workhorse: there is no job {job}, or it is forgotten\n")
    return 1


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(UTC).isoformat(sep=" ", timespec="seconds")


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
