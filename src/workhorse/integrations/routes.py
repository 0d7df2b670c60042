"""The routes of an app, whatever its framework, as far as they can be listed: what policies have to cover.

A sample path stands for a template: each parameter is replaced by a segment that no policy spells out. What policy a
sample finds is the policy that the route's requests get.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workhorse.policy import Policy, PolicyTable

__all__ = ["AppRoute", "fits", "policies_of", "sample_of", "sorted_routes", "source_of", "uncovered"]

# Any segment, but not one that somebody would write into a policy.
SAMPLE: Final = "~"
_PARAMETER: Final = re.compile(r"\{[^/{}:]*(?P<kind>:[^{}]*)?\}")


@dataclass(frozen=True, slots=True, order=True)
class AppRoute:
    """One method on one path template."""

    path: str
    """With parameters as `{name}`, or `{name:path}` for any number of segments."""
    method: str
    """`*` for all, `WEBSOCKET` for a socket's handshake."""
    source: str = ""
    """Where its handler is written: `module/file.py:12`; empty where that cannot be told."""
    handler: str = ""
    """The handler's name."""
    host: str = ""
    """The template of the hosts that it is for; empty: all."""


def sample_of(template: str) -> str:
    """A path that `template` takes."""
    return _PARAMETER.sub(lambda match: f"{SAMPLE}/{SAMPLE}" if match["kind"] == ":path" else SAMPLE, template)


def fits(policy: Policy, route: AppRoute) -> bool:
    """Whether requests of `route` may be ones that `policy` is for."""
    method = "GET" if route.method in {"WEBSOCKET", "*"} else route.method
    if policy.method not in {"*", method} and route.method != "*" and not (policy.method == "GET" and method == "HEAD"):
        return False
    one = PolicyTable([policy])
    if one.find(policy.method if policy.method != "*" else method, sample_of(route.path)) is not None:
        return True
    # The other way round: the policy spells out what is a parameter of the route.
    reverse = PolicyTable([Policy(f"GET {_as_policy_path(route.path)}")])
    return reverse.find("GET", sample_of(policy.path)) is not None


def uncovered(routes: Iterable[AppRoute], table: PolicyTable) -> list[AppRoute]:
    """The routes whose requests find no policy."""
    return [route for route in routes if not policies_of(route, table)]


def policies_of(route: AppRoute, table: PolicyTable) -> list[tuple[str, Policy]]:
    """The methods of `route` and their policies. Of a route of all methods, those that have a policy."""
    sample = sample_of(route.path)
    methods = table.methods(sample) if route.method == "*" else [route.method]
    # The handshake of a WebSocket is a GET.
    found = [(method, table.find("GET" if method == "WEBSOCKET" else method, sample)) for method in methods]
    return [(method, policy) for method, policy in found if policy is not None]


def _as_policy_path(template: str) -> str:
    """The template with nothing but what the path of a policy may have."""
    segments: list[str] = []
    for segment in template.split("/"):
        match = _PARAMETER.fullmatch(segment)
        if match is not None:
            segments.append("{x:path}" if match["kind"] == ":path" else "{x}")
        else:
            segments.append("{x}" if "{" in segment else segment)
    # Only the last segment may take many.
    return "/".join(
        part if number == len(segments) - 1 else part.replace(":path", "") for number, part in enumerate(segments)
    )


def source_of(handler: Callable[..., Any] | None) -> str:
    """Where `handler` is written, below the folder that is worked in if it is."""
    if handler is None:
        return ""
    unwrapped = inspect.unwrap(getattr(handler, "func", handler))
    try:
        file, line = inspect.getsourcefile(unwrapped), inspect.getsourcelines(unwrapped)[1]
    except (OSError, TypeError):
        return ""
    path = Path(file or "")
    if "site-packages" in path.parts:  # a library's, whose line moves with each version
        return str(getattr(unwrapped, "__module__", ""))
    try:
        path = path.relative_to(Path.cwd())
    except ValueError:
        path = Path(*path.parts[-2:])
    return f"{path.as_posix()}:{line}"


def sorted_routes(routes: Sequence[AppRoute]) -> list[AppRoute]:
    """By path, then method, each once: two routes that are told apart only by their parameters' types are one here."""
    return sorted({(route.path, route.method): route for route in reversed(routes)}.values())
