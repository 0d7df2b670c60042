"""The four tools against a target: schemathesis, wapiti, sqlmap and slowhttptest.

No tool is let out of this machine: modules that ask a host elsewhere, or fetch lists from the internet, are left out.
"""

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from attack.checks import Attack, AttackError, Check, Checks, shown
from attack.environment import Tool
from attack.scanners.running import Said, run_tool
from attack.scanners.words import Findings, read_schemathesis, read_slowhttptest, read_sqlmap, read_wapiti
from attack.target import Target

__all__ = ["scanner_attacks"]

SCHEMATHESIS_SECONDS: Final = 100
WAPITI_SECONDS: Final = 100
SQLMAP_SECONDS: Final = 120
SLOW_SECONDS: Final = 40

WAPITI_MODULES: Final = (
    "crlf,csrf,exec,file,htaccess,ldap,methods,permanentxss,redirect,shellshock,sql,timesql,upload,xss"
)
# All but two: that valid data is always accepted (which a ledger cannot promise: two accounts may be one, and a key may
# have been used), and that a caller sees its own objects only (the attacker is a teller, who sees all).
CONFORMANCE: Final = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,"
    "allow_header_conformance,use_after_free,ensure_resource_availability,ignored_auth"
)
INJECTABLE: Final = (
    ("/accounts/1*", ""),
    ("/accounts/1/statement?limit=5*&before=9*", ""),
    ("/transfers/1*", ""),
    ("/accounts", '{"owner": "Jane*", "currency": "EUR*"}'),
    ("/transfers", '{"debtor": 1, "creditor": 2, "currency": "EUR*", "amount": 5, "reference": "a*"}'),
)
PLANTED: Final = (("/account?id=1*", ""),)
IGNORED_STATUSES: Final = "400,401,403,404,405,409,415,422,429"

Run = Callable[[Tool, Target, Path], Awaitable[Findings]]


def scanner_attacks(tools: Mapping[str, Tool], folder: Path) -> Sequence[Attack]:
    """An attack by each tool. One that is missing raises when it is run, so that the report has it."""
    numbers = itertools.count()

    def by(name: str, threat: str, run: Run) -> Attack:
        async def attack(target: Target) -> Checks:
            tool = tools[name]
            if tool.path is None:
                raise AttackError(f"{name} is {tool.version}")
            findings = await run(tool, target, folder / f"{name}-{next(numbers)}")
            if not findings.observed:
                raise AttackError(f"{name} observed nothing of {target.name}")
            return _checks(name, findings)

        return Attack(name=name, threat=threat, run=attack)

    return (
        by("schemathesis", "replies that the API's description does not know of, and failures", _schemathesis),
        by("wapiti", "injection, scripts in pages, files, redirects (CWE-79, CWE-89, CWE-22, CWE-601)", _wapiti),
        by("sqlmap", "SQL injection (CWE-89)", _sqlmap),
        by("slowhttptest", "slow heads, bodies and readers, as another tool makes them (CWE-400)", _slowhttptest),
    )


def _checks(name: str, findings: Findings) -> Checks:
    if not findings.found:
        return [Check(name=name, expected="nothing", observed=f"nothing, {findings.observed} observed", held=True)]
    return [Check(name=name, expected="nothing", observed=shown(found), held=False) for found in findings.found]


def _header_options(target: Target, option: str) -> list[str]:
    return [part for name, value in target.headers.items() for part in (option, f"{name}: {value}")]


async def _schemathesis(tool: Tool, target: Target, folder: Path) -> Findings:
    command = (
        tool.path or "",
        *("run", f"{target.url}/openapi.json", "--checks", CONFORMANCE, "--workers", "1", "--max-examples", "60"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--suppress-health-check", "all", "--max-failures", "200"),
        *("--continue-on-failure", "--request-timeout", "20", "--warnings", "off", "--no-shrink"),
        *("--max-time", str(SCHEMATHESIS_SECONDS), "--seed", "1"),
        *_header_options(target, "--header"),
    )
    said = await run_tool(command, folder=folder, seconds=SCHEMATHESIS_SECONDS)
    _must_have_run("schemathesis", said, {0, 1})
    return read_schemathesis(said.output)


async def _wapiti(tool: Tool, target: Target, folder: Path) -> Findings:
    report = folder / "report.json"
    command = (
        tool.path or "",
        *("--url", f"{target.url}/", "--swagger", f"{target.url}/openapi.json", "--module", WAPITI_MODULES),
        *("--format", "json", "--output", str(report), "--scope", "folder", "--flush-session", "--no-bugreport"),
        *("--max-scan-time", str(WAPITI_SECONDS), "--max-attack-time", "20", "--timeout", "10", "--level", "2"),
        *("--store-session", str(folder / "session"), "--store-config", str(folder / "config"), "--verbose", "0"),
        *_header_options(target, "--header"),
    )
    said = await run_tool(command, folder=folder, seconds=WAPITI_SECONDS)
    if not report.is_file():
        raise AttackError(f"wapiti left no report. It said: {said.tail()}")
    return read_wapiti(report.read_text(encoding="utf-8"))


async def _sqlmap(tool: Tool, target: Target, folder: Path) -> Findings:
    found: list[str] = []
    observed = 0
    places = PLANTED if target.name == "planted" else INJECTABLE
    for number, (place, body) in enumerate(places):
        command = (
            tool.path or "",
            *("--url", f"{target.url}{place}", "--batch", "--disable-coloring", "--level", "1"),
            *("--risk", "1", "--technique", "BEU", "--threads", "2", "--timeout", "10", "--retries", "0"),
            *("--ignore-code", IGNORED_STATUSES, "--output-dir", str(folder / f"{number}"), "--flush-session"),
            *("--time-limit", str(SQLMAP_SECONDS // len(places))),
            *(("--data", body, "--headers", "Content-Type: application/json\nIdempotency-Key: s") if body else ()),
            *_header_options(target, "--header"),
        )
        said = await run_tool(command, folder=folder / f"{number}", seconds=SQLMAP_SECONDS / len(places))
        findings = read_sqlmap(said.output)
        if not findings.observed:
            raise AttackError(f"sqlmap tested nothing at {place}. It said: {said.tail()}")
        found += [f"{place}: {parameter}" for parameter in findings.found]
        observed += findings.observed
    return Findings(found, observed)


async def _slowhttptest(tool: Tool, target: Target, folder: Path) -> Findings:
    found: list[str] = []
    observed = 0
    for number, mode in enumerate((("-H",), ("-B", "-t", "POST", "-s", "100000"))):
        command = (
            tool.path or "",
            *mode,
            *(
                "-c",
                "150",
                "-r",
                "75",
                "-i",
                "5",
                "-l",
                str(SLOW_SECONDS),
                "-p",
                "5",
                "-u",
                f"{target.url}{target.page}",
            ),
        )
        said = await run_tool(command, folder=folder / f"{number}", seconds=SLOW_SECONDS)
        findings = read_slowhttptest(said.output)
        if not findings.observed:
            raise AttackError(f"slowhttptest {mode[0]} opened nothing. It said: {said.tail()}")
        found += [f"{mode[0]}: {what}" for what in findings.found]
        observed += findings.observed
    return Findings(found, observed)


def _must_have_run(name: str, said: Said, codes: set[int]) -> None:
    if said.timed_out or said.code not in codes:
        how = "did not end in time" if said.timed_out else f"ended with code {said.code}"
        raise AttackError(f"{name} {how}. It said: {said.tail()}")
