"""The statement that measures a table, in the words of one engine.

The templates are in the .sql files; what stands in their holes are names of columns that were checked when the table
was declared, and numbers. Values are parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from workhorse.contracts.warehouse import Kind, Question

__all__ = ["Asked", "asked", "odd_name", "starts_of"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement and its values."""

    statement: str
    params: list[object]


def odd_name(column: str) -> str:
    """The column beside a column, with what is not of its kind."""
    return f"{column}__odd"


def asked(template: str, question: Question, *, place: str, types: Mapping[Kind, str]) -> Asked:
    """Fill the template in.

    Args:
        template: with holes in braces.
        question: what is asked.
        place: how the engine writes the place of a value.
        types: how it calls the kinds of columns.
    """
    only = [
        f'"{name}" IS NULL' if value is None else f'"{name}" = CAST({place} AS {types[question.shape.columns[name]]})'
        for name, value in question.only.items()
    ]
    numbers = [name for name in (question.sum, question.min, question.max, question.average) if name is not None]
    used = dict.fromkeys([*question.by, *question.only, *numbers])
    statement = template.format(
        table=question.shape.table,
        own=question.own_seconds,
        seconds=question.seconds,
        since=(question.since - EPOCH) // MICROSECOND,
        until=(question.until - EPOCH) // MICROSECOND,
        only="".join(f" AND {one}" for one in only),
        by="".join(f', "{name}"' for name in question.by),
        rejected=" OR ".join(f'"{name}" IS NULL' for name in dict.fromkeys(numbers)) or "false",
        odd=" OR ".join(f'"{odd_name(name)}" IS NOT NULL' for name in used) or "false",
        **{key: _number(getattr(question, key)) for key in ("sum", "min", "max", "average")},
        **{f"{key}_scale": _scale(getattr(question, key)) for key in ("sum", "min", "max", "average")},
        at_most=question.at_most,
    )
    return Asked(statement, [value for value in question.only.values() if value is not None])


def starts_of(seconds: int) -> datetime:
    """The beginning of a window, from seconds since 1970."""
    return EPOCH + timedelta(seconds=seconds)


def _number(name: str | None) -> str:
    return "CAST(NULL AS DECIMAL)" if name is None else f'"{name}"'


def _scale(name: str | None) -> str:
    return "CAST(NULL AS INTEGER)" if name is None else f'"{name}__scale"'
