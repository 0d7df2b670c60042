"""What the records of the tree have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict
from pydantic_settings import NoDecode

__all__ = ["Names", "Record", "split_commas"]


class Record(BaseModel):
    """A part of the tree: frozen, and it refuses names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def split_commas(value: object) -> object:
    """Read a list from an environment variable: names between commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode]
