"""Whether the policy that is found for a request is the one of the route that serves it.

A control that is chosen by another rule than the route is a control that can be walked around. The table of policies
prefers literal segments from the left, as the routers do that are tries; most take the first route that fits. So at the
start each route is held against each policy: where a path fits both, either the table must give the route's own policy,
or another route must be the one that serves it. Whatever could be seen in two ways is refused with the mend.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations, product
from typing import Final, NamedTuple

from workhorse.integrations.routes import SAMPLE, AppRoute, sample_of
from workhorse.policy import Policy, PolicyTable

__all__ = ["disagreements"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# A `{name:path}` that is not the last segment may be any number of them: so many are tried at most, as far as another
# template is long enough to meet it.
MAX_EXPANSION: Final = 24
MAX_PATH_PARAMETERS: Final = 2
_PARAMETER: Final = re.compile(r"\{[^{}]*\}")
_REST: Final = re.compile(r"\{[^{}]*:path\}")
# What any segment fits: no convertor, or Starlette's and Django's for text.
_ANYTHING: Final = re.compile(r"\{[^{}:]*(?::(?:str|path))?\}")

Segments = tuple[str, ...]


class Served(NamedTuple):
    """One method of a route, and the policy that its requests should find."""

    place: int
    """Of the route in the app's order."""
    route: AppRoute
    method: str
    asked: str
    """The method that policies are asked for: the handshake of a WebSocket is a GET."""
    policy: Policy


def disagreements(routes: Sequence[AppRoute], table: PolicyTable, *, first_wins: bool) -> Iterator[str]:
    """What is wrong, a line each.

    Args:
        routes: those of the app, in its own order.
        table: the policies.
        first_wins: whether the app's router takes the first route that fits; else the one that is literal earlier.
    """
    served = [one for place, route in enumerate(routes) for one in _served(place, route, table)]
    told: set[tuple[str, str]] = set()
    for one in served:
        fault = _without_its_own(one)
        if fault and (key := (one.route.path, one.policy.pattern)) not in told:
            told.add(key)
            yield fault
    yield from _told_apart_by_host(routes)
    longest = max((path.count("/") for path in (*(r.path for r in routes), *(p.path for p in table))), default=0)
    by_begin = _by_begin(table)
    routed = {shapes(route.path) for route in routes}
    for one in served:
        for other in by_begin(one.route.path):
            if other is one.policy or not _answers(other, one.asked):
                continue
            if shapes(other.path) not in routed and covers(one.route.path, other.path, longest):
                continue  # for some values of the route's own parameters, which is what its author wants
            path = _stolen(one, other, table, served, longest=longest, first_wins=first_wins)
            if path is not None and (key := (one.route.path, other.pattern)) not in told:
                told.add(key)
                yield (
                    f"{one.method} {path.replace(SAMPLE, 'x')} is served by {one.route.path}, and would be let in by"
                    f" {other.pattern!r}: put the route that this policy is for before {one.route.path} in the app, or"
                    " make the paths such that no request fits both"
                )


def _served(place: int, route: AppRoute, table: PolicyTable) -> Iterator[Served]:
    """The methods of a route that have a policy; all others are refused to everybody."""
    words = METHODS if route.method == "*" else ("GET", "HEAD") if route.method == "GET" else (route.method,)
    for word in words:
        asked = "GET" if word == "WEBSOCKET" else word
        policy = table.find(asked, sample_of(route.path))
        if policy is not None:
            yield Served(place, route, word, asked, policy)


def _answers(policy: Policy, method: str) -> bool:
    return policy.method in {"*", method} or (method == "HEAD" and policy.method == "GET")


def _stolen(
    one: Served, other: Policy, table: PolicyTable, served: Sequence[Served], *, longest: int, first_wins: bool
) -> str | None:
    """A path that the route serves and another's policy lets in; None if there is none."""
    if not may_meet(one.route.path, other.path):
        return None
    for path in meeting_paths(one.route.path, other.path, longest):
        found = table.find(one.asked, path)
        if found is None or found is one.policy:
            continue
        segments = tuple(path.split("/")[1:])
        if not any(
            rival.policy is found
            and rival.method == one.method
            and _comes_before(rival, one, first_wins=first_wins)
            and takes(rival.route.path, segments, longest, all_values=first_wins)
            for rival in served
        ):
            return path
    return None


def _comes_before(rival: Served, one: Served, *, first_wins: bool) -> bool:
    """Whether the router takes `rival` where both fit."""
    if first_wins:
        return rival.place < one.place
    theirs, ours = rival.route.path.split("/")[1:], one.route.path.split("/")[1:]
    for left, right in zip(theirs, ours, strict=False):
        ranks = _rank(left), _rank(right)
        if ranks[0] != ranks[1] or ranks[0] == 1:
            return ranks[0] < ranks[1]
    return False


def _rank(segment: str) -> int:
    """What Litestar's router tries first at a place: a literal, then what takes all the rest, then any segment."""
    return 0 if "{" not in segment else 1 if _REST.fullmatch(segment) else 2


def _by_begin(table: PolicyTable) -> Callable[[str], Iterable[Policy]]:
    """Finds the policies that may meet a path, by its first segment: nearly all of a large app do not."""
    named: dict[str, list[Policy]] = {}
    for policy in table:
        first = policy.segments[0]
        named.setdefault("{" if "{" in first else first, []).append(policy)

    def find(path: str) -> Iterable[Policy]:
        first = path.split("/")[1]
        return table if "{" in first else (*named.get(first, ()), *named.get("{", ()))

    return find


def _without_its_own(one: Served) -> str:
    """The fault of a route that is served under a policy which speaks of another; empty if there is none."""
    if speaks_of(one.policy, one.route):
        return ""
    mend = f"add Policy({f'{one.method} {one.route.path}'!r}, ...)"
    if any("{" in segment and not _PARAMETER.fullmatch(segment) for segment in one.route.path.split("/")):
        mend = (
            "a policy cannot speak of a part of a segment, so make the parameter a whole one, or write a policy for"
            " all below the path, which ends in {rest:path}"
        )
    return (
        f"{one.method} {one.route.path} has no policy of its own, and would be served under {one.policy.pattern!r},"
        f" which is written for another path: {mend}"
    )


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


def shapes(path: str) -> Segments:
    """The template, its parameters without their names."""
    return tuple(map(shape, path.rstrip("/").split("/")))


def covers(template: str, path: str, longest: int) -> bool:
    """Whether every path of one template is one of the other's, too."""
    given = tuple(SAMPLE if _PARAMETER.fullmatch(segment) else segment for segment in path.split("/")[1:])
    return ":path}" not in path and takes(template, given, longest, all_values=False)


def shape(segment: str) -> str:
    """The segment, its parameters without their names."""
    return "{rest}" if _REST.fullmatch(segment) else _PARAMETER.sub("{}", segment)


def may_meet(one: str, other: str) -> bool:
    """Whether a path could fit both, by a first look: two literals at one place that differ say no."""
    for left, right in zip(one.split("/")[1:], other.split("/")[1:], strict=False):
        if ":path}" in left or ":path}" in right:
            return True
        if left != right and "{" not in left and "{" not in right:
            return False
    return True


def takes(template: str, path: Segments, longest: int, *, all_values: bool) -> bool:
    """Whether the template takes every path like this one, in which `SAMPLE` is any segment.

    `all_values`: a parameter with a convertor, such as for numbers, takes not every segment, but leaves the rest to
    other routes. A trie does not: it never goes back.
    """
    return any(_takes(segments, path, all_values=all_values) for segments in variants(template, longest))


def _takes(segments: Segments, path: Segments, *, all_values: bool) -> bool:
    if segments and _REST.search(segments[-1]):
        segments = fill(segments, len(path))
    return len(segments) == len(path) and all(
        _takes_segment(segment, given, all_values=all_values) for segment, given in zip(segments, path, strict=True)
    )


def _takes_segment(segment: str, given: str, *, all_values: bool) -> bool:
    if "{" not in segment:
        return segment == given
    if _PARAMETER.fullmatch(segment):
        return not all_values or bool(_ANYTHING.fullmatch(segment))
    return given != SAMPLE and meet_segment(segment, given) is not None


def meeting_paths(one: str, other: str, longest: int) -> Iterator[str]:
    """Paths that fit both templates, with `SAMPLE` where anything may stand."""
    seen: set[str] = set()
    for left, right in product(variants(one, longest), variants(other, longest)):
        met = meet(left, right)
        if met is not None and met not in seen:
            seen.add(met)
            yield met


@lru_cache(maxsize=4096)
def variants(template: str, longest: int) -> tuple[Segments, ...]:
    """The template's segments, those of many in the middle as one parameter and more, up to the longest template."""
    segments = template.split("/")[1:]
    many = [number for number, segment in enumerate(segments[:-1]) if _REST.search(segment)][:MAX_PATH_PARAMETERS]
    most = max(1, min(longest - len(segments) + 2, MAX_EXPANSION))
    found: list[Segments] = []
    for lengths in product(range(1, most + 1), repeat=len(many)):
        expanded = list(segments)
        for number, length in reversed(list(zip(many, lengths, strict=True))):
            expanded[number : number + 1] = ["{}"] * length
        found.append(tuple(expanded))
    return tuple(found)


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
