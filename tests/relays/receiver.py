"""A receiver of webhooks on a real socket, which does as it is told: takes, fails, hangs, drops, redirects."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Behaviour = Callable[[int], str]
"""What is done with the request of this number, from 0: a status line such as `200 OK`, `hang`, or `drop`."""


@dataclass
class Receiver:
    url: str
    behave: Behaviour
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if ": " in line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            number = len(self.got)
            self.got.append((headers, body))
            what = self.behave(number)
            if what == "hang":
                await asyncio.sleep(30)
            elif what != "drop":
                more = "location: http://127.0.0.1:1/\r\n" if what.startswith("3") else ""
                endless = "content-length: 1000000000\r\n"
                writer.write(f"HTTP/1.1 {what}\r\n{more}{endless}\r\n".encode() + b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0.01)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the sender has given up
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def until(self, count: int, seconds: float = 10) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(seconds):
            while len(self.got) < count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def receiving(behave: Behaviour = lambda _: "200 OK") -> AsyncGenerator[Receiver]:
    receiver = Receiver("", behave)
    tasks: set[asyncio.Task[None]] = set()

    def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(receiver.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(came, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks?a=b"
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()
