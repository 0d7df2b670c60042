"""What the demo shows: one line a step with its seconds, a line that moves while traffic runs, and the sum of it all.

On a terminal a step's line is written when it begins and replaced when it ends; elsewhere, in a log, only the end is
written, and the moving line stands still for five seconds at a time.
"""

import contextlib
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

from bank.auditor import Finding
from bank.traffic_report import TrafficReport

__all__ = ["Outcome", "Screen", "Step", "find_faults", "progress_line", "summary"]

QUIET_SECONDS: Final = 5.0
ERASE_LINE: Final = "\r\x1b[K"


@dataclass(slots=True)
class Step:
    """A step under way. `detail` is shown when it ends."""

    name: str
    detail: str = ""


class Screen:
    """Writes to `out`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._moves = out.isatty()
        self._moved = 0.0

    def say(self, text: str) -> None:
        """Write a line."""
        self._write(f"{self._clear}{text}\n")

    @contextlib.contextmanager
    def step(self, name: str) -> Generator[Step]:
        """Show that `name` is being done, and in the end how long it took."""
        started = time.monotonic()
        step = Step(name)
        if self._moves:
            self._write(f"         {name} ...")
        yield step
        self.say(f"  {time.monotonic() - started:4.1f} s  {name}{': ' if step.detail else ''}{step.detail}")

    def move(self, text: str) -> None:
        """Show how things stand, in place of what stood there."""
        if self._moves:
            self._write(f"{self._clear}         {text}")
        elif time.monotonic() - self._moved >= QUIET_SECONDS:
            self._moved = time.monotonic()
            self._write(f"          {text}\n")

    @property
    def _clear(self) -> str:
        return ERASE_LINE if self._moves else ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo found. `audit` is what GET /books/audit said, `waited` the jobs left when the traffic ended."""

    traffic: TrafficReport
    audit: Mapping[str, Any]
    waited: int = 0
    edit: Finding | None = None
    """What an auditor found of an amount that was changed in the journal."""


def progress_line(report: TrafficReport) -> str:
    """The traffic so far, in one line."""
    return (
        f"{report.seconds:3.0f} s of traffic: {report.posted:,} transfers posted ({report.transfers_per_second:,.0f}/s,"
        f" p99 {_duration(report.p99_ms)}), {report.one_effect:,} retried keys with one effect,"
        f" {sum(report.problems.values()):,} requests refused"
    )


def find_faults(outcome: Outcome) -> list[str]:
    """What is not as promised; nothing, if all is well."""
    traffic, audit = outcome.traffic, outcome.audit
    faults = list(traffic.examples)
    if traffic.wrong > len(traffic.examples):
        faults.append(f"and {traffic.wrong - len(traffic.examples)} more like these")
    if traffic.one_effect != traffic.repeated:
        faults.append(f"{traffic.repeated - traffic.one_effect} retried keys had more than one effect")
    faults += [
        f"{count} answers were of status {status}" for status, count in traffic.statuses.items() if status >= 500
    ]
    if not traffic.posted:
        faults.append("no transfer was posted")
    if not traffic.repeated:
        faults.append("no key was retried")
    if audit.get("balanced") is not True:
        faults.append(f"the books do not balance: {audit}")
    told = audit["advices"]
    if told["waiting"]:
        faults.append(f"{told['waiting']} jobs still wait to write advices")
    elif not told["transfers"] == told["announced"] == told["advised"]:
        faults.append(f"not every transfer has exactly one event and one advice: {told}")
    if outcome.edit is not None and not outcome.edit.found:
        faults.append(f"the changed amount of event {outcome.edit.event} was not named: {outcome.edit.said}")
    return faults


def summary(outcome: Outcome) -> str:
    """The figures, a line each."""
    traffic, audit = outcome.traffic, outcome.audit
    refused = ", ".join(f"{count:,} {problem.rpartition(':')[2]}" for problem, count in traffic.problems.items())
    accounts = sum(currency["accounts"] for currency in audit["currencies"])
    told = audit["advices"]
    proof = f"{audit['transfers']:,} transfers over {accounts:,} accounts in {len(audit['currencies'])} currencies"
    rows = [
        ("transfers", f"{traffic.posted:,} posted in {traffic.seconds:.0f} s: {traffic.transfers_per_second:,.0f}/s"),
        ("latency", f"p50 {_duration(traffic.p50_ms)}, p99 {_duration(traffic.p99_ms)}"),
        ("retried keys", f"{traffic.repeated:,} sent again or twice at once; {traffic.one_effect:,} had one effect"),
        ("refused", f"{sum(traffic.problems.values()):,} requests: {refused or 'none'}"),
        *(
            ("pain.001 file", f"one commit of {file.transactions}: {file.posted} posted, {file.refused} refused")
            for file in traffic.files
        ),
        ("books", f"balanced: {'yes' if audit['balanced'] else 'NO'} ({proof}, each proved from the journal)"),
        (
            "advices",
            f"{told['advised']:,} written and {told['announced']:,} events for {told['transfers']:,} transfers",
        ),
        ("jobs", f"{told['waiting']:,} waiting; {outcome.waited:,} when the traffic ended"),
    ]
    if outcome.edit is not None:
        named = f"named event {outcome.edit.event}" if outcome.edit.found else "did NOT name it"
        rows.append(("audit log", f"{outcome.edit.sealed:,} events; the verifier {named}, whose amount was changed"))
    if traffic.sent_again:
        rows.append(("sent again", f"{traffic.sent_again:,} requests, because the bank asked for it or hung up"))
    return "\n".join(f"  {name:<14} {text}" for name, text in rows)


def _duration(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f} ms"
