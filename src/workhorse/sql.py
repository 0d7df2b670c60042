"""SQL lives in .sql files, and each query there has a name and a sentence.

    -- name: post_transfer
    -- Moves an amount from one account to another, or says why not.
    SELECT ...

`load_queries` reads such a file from a package and gives the queries by name. A file that names a query twice, or
holds SQL before the first name, is refused when it is loaded, not when the query is first run.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Final

__all__ = ["Queries", "load_queries", "parse_queries", "quoted_name"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_NAME: Final = re.compile(r"^--\s*name:\s*(?P<name>[a-z][a-z0-9_]*)\s*$")


class Queries(Mapping[str, str]):
    """The queries of one file, by name. An unknown name raises a KeyError that lists the known ones."""

    def __init__(self, queries: Mapping[str, str], *, origin: str) -> None:
        self._queries = dict(queries)
        self._origin = origin

    def __getitem__(self, name: str) -> str:
        """Return the SQL of the query `name`."""
        try:
            return self._queries[name]
        except KeyError:
            known = ", ".join(sorted(self._queries))
            raise KeyError(f"{self._origin} has no query {name!r}; it has: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._queries)

    def __len__(self) -> int:
        return len(self._queries)

    def __repr__(self) -> str:
        return f"<Queries {self._origin}: {', '.join(self._queries)}>"


def parse_queries(text: str, *, origin: str) -> Queries:
    """Split the text of a .sql file into its named queries, leaving the comment lines out.

    Raises:
        ValueError: a name stands twice, a query is empty, or SQL comes before the first name.
    """
    queries: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _NAME.match(line):
            if match["name"] in queries:
                raise ValueError(f"{origin}:{number}: the query {match['name']!r} is there twice; rename one")
            current = queries[match["name"]] = []
        elif line.lstrip().startswith("--") or not line.strip():
            continue
        elif current is None:
            raise ValueError(f"{origin}:{number}: SQL before the first `-- name:` line; give it a name")
        else:
            current.append(line)
    empty = [name for name, lines in queries.items() if not lines]
    if empty:
        raise ValueError(f"{origin}: the query {empty[0]!r} has no SQL")
    return Queries({name: "\n".join(lines).rstrip().rstrip(";") for name, lines in queries.items()}, origin=origin)


def load_queries(package: str, path: str) -> Queries:
    """Read the named queries of the file `path` inside the importable `package`."""
    text = files(package).joinpath(path).read_text(encoding="utf-8")
    return parse_queries(text, origin=f"{package}/{path}")


def quoted_name(name: str) -> str:
    """The name of a table or column, such as `surgery.patients`, quoted for SQL.

    Raises:
        ValueError: it is none of letters, digits and underscores. (Postgres knows more; a `%` among them would be read
            as a place for a value.)
    """
    parts = name.split(".")
    if len(parts) > 2 or not all(_IDENTIFIER.fullmatch(part) for part in parts):
        raise ValueError(
            f"{name!r} is no name of letters, digits and underscores, such as patients or surgery.patients"
        )
    return ".".join(f'"{part}"' for part in parts)
