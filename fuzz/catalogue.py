"""Every harness by its name: one explicit list, which the runner, the worker and the tests share."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fuzz.harness import Harness, require
from fuzz.harnesses import audit, bodies, configuration, credentials, growth, heads, outputs

__all__ = ["CANARY", "HARNESSES", "UnknownHarness", "chosen"]

PLANTED: Final = b"\x7fBUG"


class UnknownHarness(LookupError):
    """There is no harness of this name. The text lists those that there are."""


def fuzz_canary(data: bytes) -> None:
    """Breaks on one input in four thousand million, which a fuzzer that is guided finds in a second."""
    require(data[:4] != PLANTED, "the planted fault is found", data)


CANARY: Final = Harness(name="canary", run=fuzz_canary, seeds=(b"", b"abc"), max_bytes=16)
"""The fuzzer must find this one, or what it does not find elsewhere means nothing."""

HARNESSES: Final[Mapping[str, Harness]] = MappingProxyType(
    {
        harness.name: harness
        for module in (heads, bodies, credentials, outputs, configuration, audit, growth)
        for harness in module.HARNESSES
    }
)


def chosen(names: Iterable[str]) -> list[Harness]:
    """The harnesses of these names, each once. A name may end before its dot: `heads` is all of them.

    Raises:
        UnknownHarness: there is none of that name.
    """
    found: dict[str, Harness] = {}
    for name in names:
        fitting = {known: one for known, one in HARNESSES.items() if name in {known, known.partition(".")[0]}}
        if not fitting:
            raise UnknownHarness(f"there is no harness {name!r}; there are {', '.join(HARNESSES)}")
        found |= fitting
    return list((found or dict(HARNESSES)).values())
