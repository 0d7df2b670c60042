"""What a check says: nothing, which admits the request, or a refusal that names the control."""

from typing import NamedTuple

from workhorse.errors import Problem

__all__ = ["Refusal"]


class Refusal(NamedTuple):
    """A request that is not let in.

    `control` is for the operator: one word, the same in the log line and in the metric. `problem` is for the
    client, and tells no more than it needs.
    """

    control: str
    problem: Problem
