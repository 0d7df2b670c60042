"""Exports that a client asks for, comes back for, and downloads in as many parts as its connection needs.

    downloads = Downloads(tables, store=open_store("exports"), queries={"entries": entries})

    ticket = await downloads.begin("entries", {"account": 7})     # in a handler: 202, with ticket.location
    return Download(downloads, id)                                # 202 until the file is there; then 200, 206, 304

A query that runs again may give other rows, so parts of two runs make no whole. Here a job writes the file once, and
what is downloaded is that file: its tag is its digest, and a part is continued only where the tag is the same.

The job is enqueued in the request's unit. What stands in the store:

    <id>/data-<token>.<ending>   the file; each attempt of the job has a name of its own
    <id>/about.json              which of them it is, whose, and until when; put there once, by the first who was done
    _ends/<hour>/<id>            when it is to be deleted, so that it is found without looking at each

The file has what its owner could see when it was asked for: the caller's scopes go along with the job for that alone.
Only the same caller gets it.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from contextvars import Token
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any, Final
from uuid import UUID

import msgspec

from workhorse.analytics.exports.file import write_file
from workhorse.analytics.exports.manifest import ExportedFile, claim
from workhorse.analytics.tables import Format, Selection, Tables
from workhorse.context import CURRENT, RequestContext
from workhorse.contracts import Query
from workhorse.contracts.objects import ObjectStore
from workhorse.errors import PROBLEM_PREFIX, Problem, SettingsError
from workhorse.jobs import Job, Retries, current_job, job
from workhorse.jobs.arguments import Signature
from workhorse.principal import ANONYMOUS, Kind, Principal
from workhorse.sql import load_queries

__all__ = ["Downloads", "ExportFailed", "NoSuchExport", "Ready", "Ticket"]

# Of one run of the job: more are left to the next.
MOST_ENDS: Final = 100


class NoSuchExport(Problem):
    """404: there is no such export, not any more, or it is another caller's."""

    status = 404
    type = PROBLEM_PREFIX + "no-such-export"
    title = "There is no such export"


class ExportFailed(Problem):
    """410: the export could not be made, and will not be tried again."""

    status = 410
    type = PROBLEM_PREFIX + "export-failed"
    title = "The export could not be made"


@dataclass(frozen=True, slots=True)
class Ticket:
    """An export that was asked for."""

    id: UUID
    location: str
    """Where it will be."""


class Ready(msgspec.Struct, frozen=True):
    """A file that can be downloaded."""

    name: str
    """In the store."""
    file_name: str
    """For who downloads it."""
    format: str
    rows: int
    bytes: int
    sha256: str
    owner: str
    ends: float
    """When it will be deleted, in seconds since 1970."""

    @property
    def tag(self) -> str:
        """Its strong entity tag (RFC 9110, section 8.8.3)."""
        return f'"{self.sha256}"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has asked, as far as the query and the owner's check need it."""

    key: str = ANONYMOUS.key
    subject: str = ""
    issuer: str = ""
    tenant: str = ""
    kind: str = Kind.ANONYMOUS.value
    scopes: list[str] = field(default_factory=list[str])

    @classmethod
    def current(cls) -> "Caller":
        """Of the request that is being served."""
        request = CURRENT.get(None)
        who = ANONYMOUS if request is None else request.principal
        return cls(who.key, who.subject, who.issuer, who.tenant, who.kind.value, sorted(who.scopes))

    def principal(self) -> Principal:
        """As the query is to know it."""
        return Principal(
            subject=self.subject,
            issuer=self.issuer,
            tenant=self.tenant,
            kind=Kind(self.kind),
            scopes=frozenset(self.scopes),
        )


class Downloads:
    """Makes files of queries, by a job, and knows which are there.

    Args:
        tables: where the queries run; the service's own.
        store: where files are kept. Every process of the service and each worker must see the same: a local folder is
            for one machine.
        queries: by name; each takes the arguments of one export and returns its `tables.select(...)`.
        at: the path below which they are served, for `Ticket.location`.
        keep: how long files are kept.
        name: of the job, which tells it apart where a service has several of these.
        deadline_seconds: of one attempt to make one.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        store: ObjectStore,
        queries: Mapping[str, Callable[..., Selection]],
        at: str = "/exports",
        keep: timedelta = timedelta(days=1),
        name: str = "workhorse-export",
        deadline_seconds: float = 3_600,
    ) -> None:
        if not timedelta(minutes=1) <= keep <= timedelta(days=366):
            raise SettingsError(f"keep is {keep}; files are kept for a minute to a year")
        self._tables = tables
        self._store = store
        self._queries = dict(queries)
        self._signatures = {name: Signature(query, name) for name, query in queries.items()}
        self._at = at.rstrip("/")
        self._keep = keep
        self._job = job(name=name, retries=Retries(attempts=3), deadline_seconds=deadline_seconds)(self._make)

    def __repr__(self) -> str:
        return f"<Downloads of {', '.join(self._queries)}>"

    @property
    def store(self) -> ObjectStore:
        """Where files are kept."""
        return self._store

    @property
    def job(self) -> Job[Any, Any]:
        """The job that makes files: give it to the service, `Service(jobs=[downloads.job])`."""
        return self._job

    async def begin(
        self,
        query: str,
        arguments: Mapping[str, object] | None = None,
        *,
        format: Format = Format.PARQUET,  # noqa: A002 - what it is
    ) -> Ticket:
        """Have a file made if, and only if, this unit commits.

        Args:
            query: one of those that were declared.
            arguments: of it, by name. They are checked by its annotations, and travel as JSON.
            format: of the file.

        Raises:
            SettingsError: there is no such query.
            NoUnit: no unit is being served here.
            TypeError, ValueError: the query does not take these arguments.
        """
        given = self._signature(query).encode((), dict(arguments or {}))
        id_ = await self._job.enqueue(query, given.decode(), format.word, Caller.current())
        return Ticket(id_, f"{self._at}/{id_}")

    async def find(self, id_: UUID) -> Ready | None:
        """The file of an export; None: it is not made yet.

        Raises:
            NoSuchExport: there is none, not any more, or it is another caller's.
            ExportFailed: it could not be made.
        """
        about = await self._about(id_)
        if about is not None:
            if about.owner != Caller.current().key or about.ends <= datetime.now(UTC).timestamp():
                raise NoSuchExport
            return about
        database = self._tables.database
        if database is None:
            raise SettingsError("the tables of these downloads have no database yet: give them to a Service")
        standing = load_queries("workhorse.analytics.exports", "sql/queries.sql")["standing"]
        rows = await database.run(Query(standing, (id_, id_)), repeatable=True)
        if not rows:
            raise NoSuchExport
        if rows[0][0] in {"dead", "cancelled"}:
            raise ExportFailed("Ask for it anew, or ask who runs this service.")
        if rows[0][0] == "done" and (about := await self._about(id_)) is None:
            raise NoSuchExport  # it was, and its time is over
        return about

    async def delete_ended(self) -> int:
        """Delete files whose time is over. The job does so by itself, each time that it has made one.

        Returns:
            How many have gone, of a hundred at most.
        """
        now = datetime.now(UTC)
        due = [name for name in await self._store.names("_ends/") if name.split("/")[1] <= _hour(now)][:MOST_ENDS]
        gone = 0
        for name in due:
            id_ = name.rpartition("/")[2]
            about = await self._about(UUID(id_))
            if about is not None and about.ends > now.timestamp():
                continue
            for file in await self._store.names(f"{id_}/"):
                await self._store.delete(file)
            await self._store.delete(name)
            gone += 1
        return gone

    def _signature(self, query: str) -> Signature:
        if query not in self._signatures:
            known = ", ".join(sorted(self._signatures))
            raise SettingsError(f"there is no query {query!r} to export; there are: {known}")
        return self._signatures[query]

    async def _make(self, query: str, arguments: str, format: str, caller: Caller) -> None:  # noqa: A002 - as above
        """The job."""
        running = current_job()
        if await self._about(running.id) is not None:
            return
        format_ = next(one for one in Format if one.word == format)
        source = self._queries[query](**self._signature(query).decode(arguments))
        ends = datetime.now(UTC) + self._keep
        loop = asyncio.get_running_loop()
        told = loop.time()
        reports: set[asyncio.Task[None]] = set()

        def tell(rows: int) -> None:
            nonlocal told
            if loop.time() - told > 1 and not reports:
                told = loop.time()
                task = loop.create_task(running.progress({"rows": rows}))
                reports.add(task)
                task.add_done_callback(reports.discard)

        with tempfile.TemporaryDirectory(prefix="workhorse-export-") as folder:
            path = Path(folder) / f"data.{format}"
            token = _act_for(caller)
            try:
                made: ExportedFile = await write_file(source, path, format_, progress=tell)
            finally:
                CURRENT.reset(token)
            # Before the file, so that none is forgotten. An hour later than the end, as those of an hour go together.
            await self._store.put_new(f"_ends/{_hour(ends + timedelta(hours=1))}/{running.id}", b"")
            name = f"{running.id}/data-{token_hex(8)}.{format}"
            await self._store.upload(name, path)
        about = Ready(
            name=name,
            file_name=f"{source.name}.{format}",
            format=format,
            rows=made.rows,
            bytes=made.bytes,
            sha256=made.sha256,
            owner=caller.key,
            ends=ends.timestamp(),
        )
        stands = await claim(self._store, f"{running.id}/about.json", msgspec.json.encode(about))
        if msgspec.json.decode(stands, type=Ready) != about:
            await self._store.delete(name)
        await self.delete_ended()

    async def _about(self, id_: UUID) -> Ready | None:
        found = await self._store.read(f"{id_}/about.json")
        return None if found is None else msgspec.json.decode(found, type=Ready)


def _act_for(caller: Caller) -> Token[RequestContext]:
    """Read as the caller who asked, from here on."""
    request, here = RequestContext(), CURRENT.get(None)
    if here is not None:
        request.deadline, request.request_id, request.trace_id = here.deadline, here.request_id, here.trace_id
    request.principal = caller.principal()
    return CURRENT.set(request)


def _hour(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H")
