"""The process that hatches contestants: it imports what they share once, and forks a child for each.

    python -m benchmarks.guard.nest < order

Each contestant is alone in its process, because several of them configure their process (Django, structlog,
Prometheus' registry); and all start from the same memory. The nest reads an `Order` and says what it found, a `Figure`
a line. Where instructions are counted it was started under callgrind, and each method of each contestant has a process.
Where times are taken all contestants live at once and take turns, a short while each, so that what slows the machine
slows all of them.

What is there before the first request is frozen, as far as the garbage collector goes: in a process that has served for
a while it is not looked at either. What the requests leave behind is collected, and counts.
"""

import asyncio
import gc
import importlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec
import uvloop

from benchmarks.guard.callgrind import Counter, read_total
from benchmarks.guard.messages import Figure, Order
from benchmarks.guard.traffic import BODY, METHODS, Method, Traffic, serve_all

__all__ = ["main", "use_source_only"]

CHILD_SECONDS: Final = 300
"""How long one contestant may take to be built, tried and warmed up, or to be counted."""
LIFESPAN_SECONDS: Final = 20.0
MAX_REASON: Final = 300
PERF_MAP: Final = "/tmp/perf-{}.map"  # noqa: S108 - CPython's place, which perf reads
SOURCE: Final = str(Path(__file__).resolve().parents[2] / "src")


def use_source_only(below: str = SOURCE) -> None:
    """Import what lies below a folder from its source in this process, also where a compiled build stands beside it."""

    def find(path: str) -> FileFinder:
        if not path.startswith(below):
            raise ImportError(path)  # somebody else's: the next hook finds it
        return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, find)
    sys.path_importer_cache.clear()


class Hatched:
    """One contestant in its own process."""

    def __init__(self, name: str, order: Order) -> None:
        # Imported in the nest by now, which has chosen between source and compiled build first.
        from benchmarks.guard.contestants import ALL, Stage

        self._order = order
        self._number = 0
        self._built = ALL[name].build(Stage(order.credentials, serving=order.mode == "time"))
        self._traffic = Traffic(order.credentials, csrf=self._built.csrf or order.credentials.csrf)

    async def prepare(self, methods: Sequence[Method]) -> None:
        """Start the app's lifespan, try its controls, and warm it up.

        Raises:
            UnexpectedAnswer: a control has no effect, or a request was not served.
        """
        from benchmarks.guard.probes import check_controls

        await _start_lifespan(self._built.app)
        await check_controls(self._built.app, self._traffic, self._built.controls)
        await self.serve(methods[0], self._tokens_met() if self._built.remembers_tokens else 0)
        for method in methods:
            await self.serve(method, self._order.warmup)
        self._number = 0
        await asyncio.sleep(self._built.settle_seconds)
        gc.collect()
        gc.freeze()

    def _tokens_met(self) -> int:
        """How many different tokens the measured requests have. To verify a thousand takes minutes under valgrind."""
        tokens = len(self._order.credentials.tokens)
        return tokens if self._order.mode == "time" else min(tokens, self._order.requests)

    async def serve(self, method: Method, count: int, *, before: Callable[[], Any] = gc.collect) -> None:
        """Serve the next `count` requests, made before `before` is called."""
        scopes = [self._traffic.scope(method, number) for number in range(self._number, self._number + count)]
        self._number += count
        before()
        await serve_all(self._built.app, scopes, BODY if method == "POST" else b"")

    async def count(self, counter: Counter, method: Method) -> None:
        """Count the instructions of the order's requests, and of what they leave to be written."""
        if self._order.mode == "profile" and sys.version_info >= (3, 12):
            sys.activate_stack_trampoline("perf")
        await self.prepare([method])
        await self.serve(method, self._order.requests, before=counter.start)
        self._built.flush()
        counter.stop(method)

    async def take_time(self, method: Method) -> float:
        """Microseconds of CPU time per request, of all threads."""
        started = 0.0

        def start() -> None:
            nonlocal started
            started = time.process_time()

        await self.serve(method, self._order.requests, before=start)
        return (time.process_time() - started) / self._order.requests * 1e6


async def _start_lifespan(app: Any) -> None:
    """Start what the app starts with. One that knows no lifespan may raise, or say nothing."""
    started = asyncio.get_running_loop().create_future()
    forever: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asked = False

    async def receive() -> Any:
        nonlocal asked
        if asked:
            await forever
        asked = True
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        if not started.done():
            started.set_result(message["type"])

    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.ensure_future(app(scope, receive, send))
    await asyncio.wait({task, started}, timeout=LIFESPAN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.exception()
    else:
        RUNNING.add(task)


RUNNING: Final[set[Any]] = set()
"""The lifespans of this process, which the event loop itself holds only weakly."""


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_REASON]


def _say(figure: Figure) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(figure) + b"\n")
    sys.stdout.buffer.flush()


def _in_child(work: Callable[[IO[bytes]], None]) -> tuple[int, IO[bytes]]:
    """Fork a child that runs `work`, which writes into a pipe; return its process id and the pipe's end to read.

    What it raises it writes as `failed`. It ends by itself after `CHILD_SECONDS` without an alarm set anew.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, os.fdopen(reading, "rb")
    os.close(reading)
    signal.alarm(CHILD_SECONDS)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the peers log of the refusals that they are tried with
    with os.fdopen(writing, "wb", buffering=0) as output:
        try:
            work(output)
        except BaseException as error:  # noqa: BLE001 - whatever a peer raises is its result
            with suppress(OSError):
                output.write(b"failed " + _reason(error).encode().replace(b"\n", b" ") + b"\n")
    os._exit(0)  # without the parent's clean-up


def count_all(order: Order) -> None:
    """Count the instructions of each contestant and method, on as many processes as there are cores."""
    counter = Counter()
    wanted: Iterator[tuple[str, Method]] = ((name, method) for name in order.contestants for method in METHODS)
    running: dict[int, tuple[tuple[str, Method], IO[bytes]]] = {}
    while True:
        while len(running) < (os.cpu_count() or 1) and (next_one := next(wanted, None)) is not None:
            pid, output = _in_child(partial(_count_one, order, counter, *next_one))
            running[pid] = (next_one, output)
        if not running:
            return
        pid, status = os.wait()
        if pid in running:
            (name, method), output = running.pop(pid)
            with output:
                said = output.read().decode()
            failed = said.removeprefix("failed ").strip() or _how_it_ended(status)
            if order.mode == "profile":
                with suppress(OSError):
                    shutil.move(PERF_MAP.format(pid), Path(order.counts) / f"{pid}.map")
            _say(_counted(order, pid, name, method, failed))


def _count_one(order: Order, counter: Counter, name: str, method: Method, _: IO[bytes]) -> None:
    hatched = Hatched(name, order)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hatched.count(counter, method))


def _counted(order: Order, pid: int, name: str, method: Method, failed: str) -> Figure:
    for file in sorted(Path(order.counts).glob(f"{pid}.[0-9]*")):
        found = read_total(file.read_text(encoding="utf-8", errors="replace"))
        if order.mode == "count":
            file.unlink()
        if found is not None and found[0] == method:
            return Figure(contestant=name, method=method, per_request=found[1] / order.requests)
    return Figure(contestant=name, method=method, failed=failed)


def _how_it_ended(status: int) -> str:
    return f"it was ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "it ended without a word"


class Child(NamedTuple):
    """A process that takes times."""

    pid: int
    output: IO[bytes]
    giving: int
    """Where it is told what to measure; closed, it ends."""


def time_all(order: Order) -> None:
    """Take the times of all contestants in turns."""
    children: dict[str, Child] = {}
    for name in order.contestants:
        ordering, giving = os.pipe()
        nests_ends = [giving, *(child.giving for child in children.values())]
        pid, output = _in_child(partial(_time_one, order, name, ordering, nests_ends))
        os.close(ordering)
        children[name] = Child(pid, output, giving)
        if (line := output.readline()) != b"ready\n":
            _say(Figure(contestant=name, failed=_failure(line)))
            _end(*children.pop(name))
    for _ in range(order.rounds):
        for method in METHODS:
            for name, child in list(children.items()):
                with suppress(BrokenPipeError):  # it has ended, and said nothing more
                    os.write(child.giving, method.encode() + b"\n")
                line = child.output.readline()
                try:
                    _say(Figure(contestant=name, method=method, per_request=float(line)))
                except ValueError:
                    _say(Figure(contestant=name, method=method, failed=_failure(line)))
                    _end(*children.pop(name))
    for child in children.values():
        _end(*child)


def _time_one(order: Order, name: str, ordering: int, nests_ends: Sequence[int], output: IO[bytes]) -> None:
    for end in nests_ends:
        os.close(end)  # or it would not be seen when the nest closes them
    hatched = Hatched(name, order)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hatched.prepare(METHODS))
        output.write(b"ready\n")
        for method in _methods(ordering):
            signal.alarm(CHILD_SECONDS)
            output.write(b"%r\n" % runner.run(hatched.take_time(method)))


def _failure(line: bytes) -> str:
    return line.decode(errors="replace").removeprefix("failed ").strip() or "it ended without a word"


def _methods(ordering: int) -> Iterator[Method]:
    """What is asked for, until the nest closes its end."""
    with os.fdopen(ordering, "rb") as orders:
        for line in orders:
            yield "POST" if line == b"POST\n" else "GET"


def _end(pid: int, output: IO[bytes], giving: int) -> None:
    os.close(giving)
    output.close()
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def main() -> int:
    """Read the order, and carry it out."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    if order.source_only:
        use_source_only()
    # Only now, and here once for all children: it imports our code.
    from benchmarks.guard.contestants import SHARED_MODULES

    for name in ("benchmarks.guard.probes", *SHARED_MODULES):
        # One that is not there is reported for those that need it.
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    if order.mode == "time":
        time_all(order)
    else:
        count_all(order)
    return 0


if __name__ == "__main__":
    sys.exit(main())
