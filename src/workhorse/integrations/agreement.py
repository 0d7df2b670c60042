"""Whether the policy that is found for a request is the one of the route that serves it.

A control that is chosen by another rule than the route is a control that can be walked around. The table of policies
prefers literal segments; most routers take the first route that fits. So the two are compared at the start, over the
routes in the order of the app, and whatever they could see differently is refused with the mend.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Final

from workhorse.integrations.routes import SAMPLE, AppRoute, policies_of, sample_of
from workhorse.policy import Policy, PolicyTable

__all__ = ["disagreements"]

# A `{name:path}` that is not the last segment may be any number of them: so many are tried.
EXPANSIONS: Final = (1, 2, 3)
MAX_PATH_PARAMETERS: Final = 3
_PARAMETER: Final = re.compile(r"\{[^{}]*\}")
_REST: Final = re.compile(r"\{[^{}]*:path\}")

Segments = tuple[str, ...]


def disagreements(routes: Sequence[AppRoute], table: PolicyTable, *, first_wins: bool) -> Iterator[str]:
    """What is wrong, a line each.

    Args:
        routes: those of the app, in its own order.
        table: the policies.
        first_wins: whether the app's router takes the first route that fits.
    """
    chosen = {id(route): policies_of(route, table) for route in routes}
    for route in routes:
        for method, policy in chosen[id(route)]:
            if not speaks_of(policy, route):
                yield (
                    f"{method} {route.path} has no policy of its own, and would be served under {policy.pattern!r},"
                    f" which is written for another path: add Policy({f'{method} {route.path}'!r}, ...)"
                )
    yield from _told_apart_by_host(routes)
    if not first_wins:
        return
    for earlier, later in combinations(routes, 2):
        for method, policy in chosen[id(earlier)]:
            found = chosen[id(later)]
            if all(other is policy for one, other in found if one == method) or not any(m == method for m, _ in found):
                continue
            for path in meeting_paths(earlier.path, later.path):
                other = table.find("GET" if method == "WEBSOCKET" else method, path)
                if other is not None and other is not policy:
                    yield (
                        f"{method} {path.replace(SAMPLE, 'x')} is served by {earlier.path}, which stands first in the"
                        f" app, and would be let in by {other.pattern!r}: put the route {later.path} first, or make"
                        " the paths such that no request fits both"
                    )
                    break


def _told_apart_by_host(routes: Sequence[AppRoute]) -> Iterator[str]:
    """A policy knows no host: one that opens a path for one host opens it for all."""
    for one, other in combinations(routes, 2):
        if one.host != other.host and one.method == other.method and one.path == other.path:
            yield (
                f"{one.method} {one.path} is there for {one.host or 'all hosts'} and for {other.host or 'all hosts'},"
                " and policies do not tell hosts apart: give them different paths, or make each host an app and a"
                " Service of its own"
            )


def speaks_of(policy: Policy, route: AppRoute) -> bool:
    """Whether the policy is written for this route: the same template, names aside, or all below a prefix."""
    last = policy.segments[-1]
    if _REST.fullmatch(last):
        return True
    ours, theirs = policy.path.rstrip("/").split("/"), route.path.rstrip("/").split("/")
    return list(map(shape, ours)) == list(map(shape, theirs))


def shape(segment: str) -> str:
    """The segment, with whatever has a parameter in it as one."""
    if _REST.fullmatch(segment):
        return "{rest}"
    return "{}" if "{" in segment else segment


def meeting_paths(one: str, other: str) -> Iterator[str]:
    """Paths that fit both templates, with `SAMPLE` where anything may stand."""
    seen: set[str] = set()
    for left, right in product(variants(one), variants(other)):
        met = meet(left, right)
        if met is not None and met not in seen:
            seen.add(met)
            yield met


def variants(template: str) -> Iterator[Segments]:
    """The template's segments, those of many in the middle as one, two and three parameters."""
    segments = template.split("/")[1:]
    many = [number for number, segment in enumerate(segments[:-1]) if _REST.search(segment)]
    for lengths in product(EXPANSIONS, repeat=min(len(many), MAX_PATH_PARAMETERS)):
        expanded = list(segments)
        for number, length in reversed(list(zip(many, lengths, strict=False))):
            expanded[number : number + 1] = ["{}"] * length
        yield tuple(expanded)


def meet(left: Segments, right: Segments) -> str | None:
    """A path that fits both, or None."""
    if left and _REST.search(left[-1]):
        left = fill(left, len(right) if not _REST.search(right[-1]) else max(len(left), len(right)))
    if right and _REST.search(right[-1]):
        right = fill(right, len(left))
    if len(left) != len(right):
        return None
    path: list[str] = []
    for one, other in zip(left, right, strict=True):
        met = meet_segment(one, other)
        if met is None:
            return None
        path.append(met)
    return "/" + "/".join(path)


def fill(segments: Segments, length: int) -> Segments:
    """A template of many as one of so many segments."""
    return (*segments[:-1], *["{}"] * max(0, length - len(segments) + 1))


def meet_segment(one: str, other: str) -> str | None:
    """A segment that fits both, or None."""
    if "{" not in one and "{" not in other:
        return one if one == other else None
    if "{" in one and "{" in other:
        pattern = one if not _PARAMETER.fullmatch(one) else other
        return sample_of(pattern)
    literal, pattern = (other, one) if "{" in one else (one, other)
    expression = "[^/]+".join(re.escape(part) for part in _PARAMETER.split(pattern))
    return literal if literal and re.fullmatch(expression, literal) else None
