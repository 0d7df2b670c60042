"""What each tool's output means. Pure: text in, findings and the number of observations out."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

__all__ = ["Findings", "read_schemathesis", "read_slowhttptest", "read_sqlmap", "read_wapiti"]

_OPERATION: Final = re.compile(r"^_{3,} (.+?) _{3,}$")
_SECTION: Final = re.compile(r"^={3,} (.+?) ={3,}$")
_FAILURE: Final = re.compile(r"^- (ST\d+ .+)$")
_STATUS: Final = re.compile(r"^\[(\d{3})\]")
_CASES: Final = re.compile(r"(\d+) generated")
_TESTED: Final = re.compile(r"testing '", re.IGNORECASE)
_POINT: Final = re.compile(r"^Parameter: (.+)$", re.MULTILINE)
_CLEAN: Final = "do not appear to be injectable"
_COUNTED: Final = re.compile(r"^\s*(?:pending|connected|closed|error):\s+(\d+)", re.MULTILINE)
_OPEN: Final = re.compile(r"^\s*connected:\s+(\d+)", re.MULTILINE)
_AVAILABLE: Final = re.compile(r"service available:\s+(YES|NO)")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a tool found, and how often it looked."""

    found: Sequence[str]
    observed: int


def read_schemathesis(output: str) -> Findings:
    """Each failure with its operation and status, and each operation that was not tested; how many requests were made.

    501 is no server error: it is what a method gets that nothing here answers (RFC 9110, section 15.6.2).
    """
    text = _COLOUR.sub("", output)
    found: set[str] = set()
    section = operation = failure = ""
    for line in map(str.strip, text.splitlines()):
        if match := _SECTION.match(line):
            section, operation, failure = match[1], "", ""
        elif match := _OPERATION.match(line):
            operation, failure = match[1], ""
            if section == "ERRORS":
                found.add(f"{operation}: could not be tested")
        elif operation and (match := _FAILURE.match(line)):
            failure = match[1]
        elif failure and (match := _STATUS.match(line)):
            if match[1] != "501":
                found.add(f"{operation}: {failure} ({match[1]})")
            failure = ""
    return Findings(sorted(found), sum(int(count) for count in _CASES.findall(text)))


def read_wapiti(report: str) -> Findings:
    """Each vulnerability and anomaly; how many pages were looked at."""
    try:
        decoded: Any = json.loads(report)
    except ValueError:
        return Findings([], 0)
    if not isinstance(decoded, dict):
        return Findings([], 0)
    document = cast("dict[str, Any]", decoded)
    found: list[str] = []
    for kind in ("vulnerabilities", "anomalies"):
        for name, entries in cast("dict[str, list[dict[str, Any]]]", document.get(kind, {})).items():
            found += [f"{name}: {entry.get('method')} {entry.get('path')} {entry.get('info', '')}" for entry in entries]
    infos = cast("dict[str, Any]", document.get("infos", {}))
    return Findings(found, int(infos.get("crawled_pages_nbr") or 0))


def read_sqlmap(output: str) -> Findings:
    """Each parameter that can be injected into; how many tests were made."""
    observed = len(_TESTED.findall(output)) + output.count(_CLEAN)
    return Findings(sorted(set(_POINT.findall(output))), observed)


def read_slowhttptest(output: str) -> Findings:
    """Connections that were still open at the end, and whether the service was there; how many there were."""
    text = _COLOUR.sub("", output)
    counted = [int(count) for count in _COUNTED.findall(text)]
    held = [int(count) for count in _OPEN.findall(text)]
    available = _AVAILABLE.findall(text)
    found: list[str] = []
    if "NO" in available:
        found.append("the service was not available at times")
    if held and held[-1] > 0 and "No open connections left" not in text:
        found.append(f"{held[-1]} connections were still open at the end")
    return Findings(found, max(counted, default=0) if available else 0)
