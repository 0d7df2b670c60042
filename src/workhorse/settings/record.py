"""What the records of the tree have in common."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr
from pydantic_settings import NoDecode

__all__ = ["Names", "Record", "Secrets"]


class Record(BaseModel):
    """A part of the tree: frozen, and it refuses names that it does not know, and numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _split_commas(value: object) -> object:
    """Read a list from an environment variable: names between commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
"""A list of names; in an environment variable between commas."""
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_commas)]
"""A list of secrets, likewise."""
