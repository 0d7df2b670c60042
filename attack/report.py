"""The report: a table for a person, and JSON for whoever keeps it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from attack.checks import Outcome
from attack.environment import Tool

__all__ = ["table", "write"]

SHOWN_FAILURES: Final = 40


def table(outcomes: Sequence[Outcome], tools: Mapping[str, Tool]) -> str:
    """What is printed."""
    lines = ["tools: " + ", ".join(f"{tool.name} {tool.version}" for tool in tools.values()), ""]
    lines.append(f"{'attack':<16} {'checks':>6} {'failed':>6} {'planted':>8} {'seconds':>8}  verdict")
    for one in outcomes:
        verdict = "ERROR" if one.error else "FAILED" if one.failed else "held"
        lines.append(
            f"{one.name:<16} {len(one.checks):>6} {len(one.failed):>6} {one.caught:>8} {one.seconds:>8.0f}  {verdict}"
        )
    for one in outcomes:
        if one.error:
            lines += ["", f"{one.name} says nothing: {one.error}"]
        failed = one.failed
        if failed:
            lines += ["", f"{one.name}: {one.threat}"]
            lines += [
                f"  {check.name}: expected {check.expected}; got {check.observed}" for check in failed[:SHOWN_FAILURES]
            ]
            if len(failed) > SHOWN_FAILURES:
                lines.append(f"  and {len(failed) - SHOWN_FAILURES} more, which are in the report")
    held = sum(one.passed for one in outcomes)
    lines += ["", f"{held} of {len(outcomes)} attacks held"]
    return "\n".join(lines)


def write(path: Path, outcomes: Sequence[Outcome], tools: Mapping[str, Tool], witness: Mapping[str, object]) -> None:
    """Write the report."""
    document = {
        "passed": all(one.passed for one in outcomes),
        "tools": {tool.name: {"found": tool.path is not None, "version": tool.version} for tool in tools.values()},
        "witness": witness,
        "attacks": [{**asdict(one), "passed": one.passed} for one in outcomes],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
