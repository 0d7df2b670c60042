"""A proxy that breaks the wire for real, at a moment that a test chooses.

    async with FaultProxy(database_url) as proxy:
        fault = proxy.cut_after_commit()
        ...                        # the app talks to proxy.url, and never hears whether it has committed
        assert fault.happened

It passes bytes through unchanged, and on Postgres' wire it knows the moments of `Conversation`. On any other it counts
nothing, and can do what needs no counting. It listens on a free TCP port of this machine, or on a Unix socket.

Encryption cannot be read, so a request for it is declined, as by a server that has none; a client that insists goes
away. The proxy's own URL therefore says nothing of TLS.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from workhorse.errors import StartupError
from workhorse.testing.addresses import Address, is_postgres, read_address, redirect
from workhorse.testing.conversation import Answer, Conversation, Moment, MomentKind, Pass
from workhorse.testing.faults import Cut, Fault, Faults
from workhorse.testing.messages import WireError

__all__ = ["FaultProxy", "Watcher"]

CHUNK_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 1_000
CONNECT_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 5.0

Watcher = Callable[[Moment], Awaitable[Cut | None]]
"""Is told each moment before what it is about is passed on, and may ask for a cut there."""


class FaultProxy:
    """Stands between clients and one server. A context manager; everything is cut at its end.

    Args:
        target_url: the server's, `postgresql://`, `redis://`, `valkey://` or `unix://`.
        folder: listen on a Unix socket in this folder, instead of on a TCP port.
        watcher: see `Watcher`; what it waits for, the connection's direction waits for.

    Raises:
        SettingsError: the URL is of a server that it cannot stand before.
    """

    def __init__(self, target_url: str, *, folder: Path | None = None, watcher: Watcher | None = None) -> None:
        self._target_url = target_url
        self._target = read_address(target_url)
        self._postgres = is_postgres(target_url)
        self._folder = folder
        self._watcher = watcher
        self._faults = Faults()
        self._server: asyncio.Server | None = None
        self._address: Address | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay_seconds = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self.accepted = 0
        """Connections that were accepted so far."""
        self.round_trips = 0
        """Round trips that the server has answered so far."""
        self.commits = 0
        """Transactions that the server has said to have committed."""

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            StartupError: the socket cannot be made.
        """
        try:
            if self._folder is None:
                self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
                self._address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])
            else:
                path = self._folder / (".s.PGSQL.5432" if self._postgres else "redis.sock")
                self._server = await asyncio.start_unix_server(self._accept, path)
                self._address = Address(path=str(path))
        except OSError as error:
            raise StartupError(f"the fault proxy before {self._target} cannot listen: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut everything, and listen no longer."""
        assert self._server is not None
        self._server.close()
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), CLOSE_SECONDS)
        if self._address is not None and self._address.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._address.path)  # noqa: PTH108 - a moment's work, and no path object to wait for

    def __repr__(self) -> str:
        return f"<FaultProxy before {self._target}: {len(self._links)} connections, {self.round_trips} round trips>"

    @property
    def url(self) -> str:
        """The target's URL, by way of this proxy.

        Raises:
            StartupError: it does not listen yet.
        """
        if self._address is None:
            raise StartupError("the fault proxy does not listen yet: use it as `async with FaultProxy(...) as proxy`")
        return redirect(self._target_url, self._address)

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    @property
    def resting(self) -> bool:
        """Whether the server owes no client an answer, and no transaction is open."""
        return all(link.talk is None or link.talk.resting for link in self._links)

    def cut_after(self, *, roundtrips: int = 0, messages: int = 0) -> Fault:
        """Cut the connection that ends so many round trips from now, answered, or sends so many messages, passed on.

        Raises:
            ValueError: not just one of the two is given, or the target is no Postgres.
        """
        if bool(roundtrips) == bool(messages):
            raise ValueError("cut_after takes either roundtrips or messages")
        kind = MomentKind.ROUND_TRIP_ANSWERED if roundtrips else MomentKind.MESSAGE_SENT
        return self._plan(kind, roundtrips or messages, Cut.BEHIND)

    def cut_before(self, *, roundtrip: int) -> Fault:
        """Cut the connection that begins the so-manieth round trip from now; nothing of that reaches the server.

        Raises:
            ValueError: the number is less than 1, or the target is no Postgres.
        """
        return self._plan(MomentKind.ROUND_TRIP_SENT, roundtrip, Cut.BEFORE)

    def cut_unheard(self, *, roundtrip: int) -> Fault:
        """Cut where the server has done the so-manieth round trip from now, and the client has not heard of its end.

        Raises:
            ValueError: the number is less than 1, or the target is no Postgres.
        """
        return self._plan(MomentKind.ROUND_TRIP_ANSWERED, roundtrip, Cut.BEFORE)

    def cut_before_commit(self, *, nth: int = 1) -> Fault:
        """Cut exactly before the n-th COMMIT from now reaches the server: it rolls back.

        Raises:
            ValueError: the number is less than 1, or the target is no Postgres.
        """
        return self._plan(MomentKind.COMMIT_SENT, nth, Cut.BEFORE)

    def cut_after_commit(self, *, nth: int = 1) -> Fault:
        """Cut where the server has done the n-th COMMIT from now, before the client hears: the outcome is unknown.

        Raises:
            ValueError: the number is less than 1, or the target is no Postgres.
        """
        return self._plan(MomentKind.COMMIT_ANSWERED, nth, Cut.BEFORE)

    def cut(self) -> int:
        """Cut all connections now. Returns how many there were."""
        links = list(self._links)
        for link in links:
            link.abort()
        return len(links)

    def half_close(self, *, towards_server: bool = False) -> None:
        """End the stream of bytes towards the clients, or the server; the other direction goes on."""
        for link in list(self._links):
            with contextlib.suppress(OSError, RuntimeError):
                (link.server if towards_server else link.client).write_eof()

    def delay(self, seconds: float) -> None:
        """From now on keep back all that passes, in both directions, for so long."""
        self._delay_seconds = seconds

    def stall(self) -> None:
        """From now on accept, read and never answer, as a machine does that has vanished behind its firewall."""
        self._flowing.clear()

    def refuse(self) -> None:
        """From now on close new connections at once."""
        self._refusing = True

    def heal(self) -> None:
        """Pass everything through again: no delay, no stall, no refusal, and no cut that has not happened."""
        self._faults.clear()
        self._delay_seconds = 0.0
        self._refusing = False
        self._flowing.set()

    def _plan(self, kind: MomentKind, count: int, cut: Cut) -> Fault:
        if not self._postgres:
            raise ValueError(f"only Postgres' wire is read, and {self._target} speaks another: use cut()")
        return self._faults.add(kind, count, cut)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        link: _Link | None = None
        try:
            if self._refusing or len(self._links) >= MAX_CONNECTIONS:
                return
            await self._flowing.wait()
            link = await self._connect(reader, writer)
            if link is not None:
                self._links.add(link)
                await self._serve(link)
        except asyncio.CancelledError:
            # Only `__aexit__` cancels, and 3.11's streams would log it as an error of the callback.
            pass
        finally:
            self._tasks.discard(task)
            if link is not None:
                self._links.discard(link)
                link.abort()
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> "_Link | None":
        target = self._target
        opening = (
            asyncio.open_unix_connection(target.path)
            if target.path
            else asyncio.open_connection(target.host, target.port)
        )
        try:
            server_reader, server_writer = await asyncio.wait_for(opening, CONNECT_SECONDS)
        except (OSError, TimeoutError):
            return None  # as the client would find the server itself
        return _Link(reader, writer, server_reader, server_writer, Conversation() if self._postgres else None)

    async def _serve(self, link: "_Link") -> None:
        """Pass on both directions until both have ended, or one was cut."""
        pumps = [
            asyncio.create_task(self._pump(link, from_client=True)),
            asyncio.create_task(self._pump(link, from_client=False)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            for pump in done:
                pump.exception()  # looked at; whatever it was has ended the connection
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _pump(self, link: "_Link", *, from_client: bool) -> None:
        """Pass on one direction.

        Raises:
            OSError: the connection was lost, or cut here.
        """
        reader = link.client_reader if from_client else link.server_reader
        writer = link.server if from_client else link.client
        while data := await reader.read(CHUNK_BYTES):
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            await self._flowing.wait()
            await self._pass(link, data, from_client=from_client)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _pass(self, link: "_Link", data: bytes, *, from_client: bool) -> None:
        writer = link.server if from_client else link.client
        if link.talk is None:
            writer.write(data)
            return
        try:
            steps = link.talk.from_client(data) if from_client else link.talk.from_server(data)
        except WireError as error:
            raise ConnectionAbortedError(str(error)) from error
        last = False
        for step in steps:
            match step:
                case Moment():
                    cut = await self._meet(step)
                    if cut is Cut.BEFORE:
                        raise ConnectionAbortedError(step.kind)
                    last = last or cut is Cut.BEHIND
                case Answer():
                    link.client.write(step.data)
                case Pass():
                    writer.write(step.data)
                    if last:
                        await _end(writer)
                        raise ConnectionAbortedError("cut")

    async def _meet(self, moment: Moment) -> Cut | None:
        """Count a moment, tell the watcher, and say whether to cut here."""
        self.round_trips += moment.kind is MomentKind.ROUND_TRIP_ANSWERED
        self.commits += moment.kind is MomentKind.COMMIT_ANSWERED
        cut = self._faults.meet(moment.kind)
        if cut is None and self._watcher is not None:
            cut = await self._watcher(moment)
        return cut


class _Link:
    """One client's connection, and the proxy's own to the server for it."""

    __slots__ = ("client", "client_reader", "server", "server_reader", "talk")

    def __init__(
        self,
        client_reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        talk: Conversation | None,
    ) -> None:
        self.client_reader = client_reader
        self.client = client
        self.server_reader = server_reader
        self.server = server
        self.talk = talk

    def abort(self) -> None:
        """Drop both ends, with what is still to be sent."""
        self.client.transport.abort()
        self.server.transport.abort()


async def _end(writer: asyncio.StreamWriter) -> None:
    """Close one end, after what was written to it has left."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), CLOSE_SECONDS)
