"""What an operator writes: policies, rates, settings. No stranger does, but a mistake must be named and not served."""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from fuzz.harness import Harness, Splitter, require
from workhorse.errors import SettingsError
from workhorse.guard.plan import Plan, compile_plan
from workhorse.policy import Policy, PolicyTable
from workhorse.rate import Rate
from workhorse.settings import GuardSettings, load_settings

__all__ = ["HARNESSES"]

Made = TypeVar("Made")

METHODS: Final = ("GET", "POST", "HEAD", "PURGE")


def fuzz_policies(data: bytes) -> None:
    """The table finds the policy that a naive walk over all of them finds."""
    lines = data.decode("utf-8", "replace").split("\n")
    path, patterns = "/" + lines[0].lstrip("/"), lines[1:9]
    policies = [policy for pattern in patterns if (policy := _policy(pattern)) is not None]
    try:
        table = PolicyTable(policies)
    except SettingsError:
        return
    for method in METHODS:
        found = table.find(method, path)
        fitting = [policy for policy in policies if _fits(policy, method, path)]
        require((found is None) == (not fitting), "a policy is overlooked, or found where none is", method, path, found)
        if found is not None:
            require(found in fitting, "a policy that does not fit", method, path, found)
            best = min(_openness(policy) for policy in fitting)
            require(_openness(found) == best, "another policy fits better", method, path, found, fitting)


def fuzz_rate(data: bytes) -> None:
    """A rate that is taken says what it says."""
    text = data.decode("utf-8", "replace")
    try:
        rate = Rate(text)
    except SettingsError as error:
        require(len(str(error)) < len(text) * 10 + 400, "the message is long", str(error))
        return
    require(rate.requests > 0 and rate.period_seconds > 0 and rate.interval_us > 0, "a rate of nothing", rate)
    # Never above what was written.
    require(rate.interval_us * rate.requests >= rate.period_seconds * 1_000_000, "more than was written", rate)
    require(re.fullmatch(r"[0-9]+/([0-9]+ ?)?(second|minute|hour|day)s?", text), "a rate of other words", text)


def fuzz_guard_settings(data: bytes) -> None:
    """Hosts, networks and origins are compiled or refused with a sentence, never with anything else."""
    names: tuple[str, ...] = tuple(data.decode("utf-8", "replace").split("\n")[:6])
    for field in ("allowed_hosts", "trusted_proxies", "cors_origins", "csrf_origins", "cors_headers", "methods"):
        _compiled(partial(_plan, {field: names}))
    _compiled(partial(_plan, {"client_certificate_header": names[0], "trusted_proxies": ("10.0.0.0/8",)}))


def fuzz_pyproject(data: bytes) -> None:
    """A pyproject.toml of any content is read or refused with a sentence; what is not known is never ignored."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        (Path(folder) / "pyproject.toml").write_bytes(data)
        settings = _compiled(lambda: load_settings(Path(folder)))
        if settings is not None:
            require(settings.project == Path(folder), "another project", settings.project)
            again = load_settings(Path(folder))
            require(settings.model_dump() == again.model_dump(), "read twice, two readings", data)
            if b"workhorse" not in data:
                require(settings.guard == GuardSettings(), "a file without the table changes a setting", data)


def fuzz_environment(data: bytes) -> None:
    """A variable of any name and value is read or refused with a sentence."""
    split = Splitter(data)
    names = ("GUARD__METHODS", "SERVER__PORT", "DATABASE__URL", "LOG__LEVEL", "GUARD__ALLOWED_HOSTS", "")
    name = names[split.number(len(names))] or re.sub(r"[^A-Z_0-9]", "_", split.piece().decode("latin-1").upper())
    value = split.rest().replace(b"\0", b"").decode("utf-8", "surrogateescape")
    variable = f"WORKHORSE_{name}"
    os.environ[variable] = value
    try:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            _compiled(lambda: load_settings(Path(folder)))
    finally:
        del os.environ[variable]


def _plan(given: Mapping[str, object]) -> Plan:
    return compile_plan(GuardSettings.model_validate(given))


def _policy(pattern: str) -> Policy | None:
    return _compiled(lambda: Policy(pattern))


def _compiled(make: Callable[[], Made]) -> Made | None:
    """What `make` returns; None where it refuses, which only a `SettingsError` may do."""
    try:
        return make()
    except SettingsError as error:
        require(str(error).strip(), "a refusal without a word")
        return None


def _fits(policy: Policy, method: str, path: str) -> bool:
    if policy.method not in {method, "*"} and not (method == "HEAD" and policy.method == "GET"):
        return False
    wanted, given = policy.segments, path.split("/")[1:]
    if wanted[-1].endswith(":path}"):
        wanted, given = wanted[:-1], given[: len(wanted) - 1] if len(given) >= len(wanted) else [""] * 1000
    return len(wanted) == len(given) and all(
        bool(have) if want.startswith("{") else want == have for want, have in zip(wanted, given, strict=True)
    )


def _openness(policy: Policy) -> str:
    """A letter a segment, in the order in which they are preferred: a literal, any segment, the rest of a path."""
    return "".join(
        "c" if segment.endswith(":path}") else "b" if segment.startswith("{") else "a" for segment in policy.segments
    )


def _lines(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def _seeds(texts: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts)


HARNESSES: Final = (
    Harness(
        name="configuration.policies",
        run=fuzz_policies,
        seeds=(
            _lines("/a/b", "GET /a/{x}", "* /a/b", "POST /{y}/b", "GET /{rest:path}"),
            _lines("/files/a/b/c", "GET /files/{name:path}", "GET /files/a/{name:path}", "HEAD /files/{a}/{b}/{c}"),
        ),
        max_bytes=512,
    ),
    Harness(
        name="configuration.rate",
        run=fuzz_rate,
        seeds=_seeds(("600/minute", "1000/15 minutes", "1/day", "9/0 second")),
        max_bytes=64,
    ),
    Harness(
        name="configuration.guard",
        run=fuzz_guard_settings,
        seeds=_seeds(
            ("api.example.com\n*.shop.example", "10.0.0.0/8\nunix\n::1/128", "https://*.example.com\nnull", "PUT")
        ),
        max_bytes=256,
    ),
    Harness(
        name="configuration.pyproject",
        run=fuzz_pyproject,
        seeds=_seeds(
            (
                '[tool.workhorse]\nenvironment = "test"\n',
                "[tool.workhorse.guard]\nmax_headers = 50\n",
                "[tool]\nworkhorse = 1",
            )
        ),
        max_bytes=512,
    ),
    Harness(
        name="configuration.environment",
        run=fuzz_environment,
        seeds=(b'\x00["GET"]', b"\x018000", b"\x02postgresql://a:b@c/d", b"\x05\x04HOST", b"\x04a.example,b.example"),
        max_bytes=256,
    ),
)
