"""Finds a measure whose definition has changed, and its version has not.

What one definition has counted means nothing to another, so both must not share a version. The first process that
starts with a version notes its definition; each one that starts later with another one is refused, before it counts or
reads anything. A version that was counted before definitions were noted gets the first one that comes.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from workhorse.analytics.measures.measure import Measure
from workhorse.errors import StartupError
from workhorse.sql import Queries
from workhorse.units import Work

__all__ = ["DefinitionChanged", "changes", "definition_of", "digest_of", "note_definition"]


class DefinitionChanged(StartupError):
    """A measure is not what its version counts already: it needs another one."""

    def __init__(self, measure: Measure, noted: Mapping[str, Any]) -> None:
        told = "; ".join(changes(noted, definition_of(measure)))
        super().__init__(
            f"the measure {measure.name!r} has changed under version {measure.version}, which has counted otherwise:"
            f" {told}. Give it a version that it never had, such as version={measure.version + 1}, counted from"
            " the beginning of the journal, or put the old definition back. If nobody needs what was counted, stop"
            f" all that run it and `await forget_version(database, {measure.name!r}, {measure.version})`"
        )


def definition_of(measure: Measure) -> dict[str, Any]:
    """All that its figures depend on, in one form: what is not measured is left out, lengths of time are seconds.

    What is left out stays out when a later release can measure more, so that a definition keeps its digest.
    """
    return {
        "of": measure.of,
        "by": sorted(measure.by),
        "window": [window.seconds for window in measure.windows],
        **{name: path for name, path in measure.paths.items() if path is not None},
    }


def digest_of(definition: Mapping[str, Any]) -> str:
    """SHA-256 of its canonical text, in 64 hexadecimal digits."""
    return sha256(json.dumps(definition, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def changes(noted: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What differs, each with what it was and what it is."""
    names = [*current, *(name for name in noted if name not in current)]
    return [
        f"{name} was {noted.get(name)!r} and is {current.get(name)!r}"
        for name in names
        if noted.get(name) != current.get(name)
    ]


async def note_definition(work: Work, measure: Measure, queries: Queries) -> None:
    """Note what a version counts, or hold it against what was noted.

    Raises:
        DefinitionChanged: it is another one.
    """
    definition = definition_of(measure)
    digest = digest_of(definition)
    own = (measure.name, measure.version)
    # Of two that start at once the second one waits here, and finds what the first one noted.
    await work.execute(queries["note_definition"], (*own, digest, json.dumps(definition)))
    found: Any = await (await work.execute(queries["noted_definition"], own)).fetchone()
    if found is not None and found[0] != digest:
        raise DefinitionChanged(measure, found[1])
