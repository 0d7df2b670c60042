"""An engine by its URL."""

from workhorse.contracts.warehouse import Engine
from workhorse.errors import SettingsError

__all__ = ["open_engine"]


def open_engine(url: str, *, statement_timeout_seconds: float = 300) -> Engine:
    """The engine of a URL: `postgresql://...`, or `duckdb:` and the path of a file. It connects when it is used.

    Args:
        url: where it is.
        statement_timeout_seconds: longest run of one statement.

    Raises:
        SettingsError: the URL is of no engine that is known.
    """
    scheme, _, rest = url.partition(":")
    if scheme in {"postgresql", "postgres"}:
        from workhorse.state.warehouses.postgres import PostgresEngine  # noqa: PLC0415 - one of them is used

        return PostgresEngine(url, statement_timeout_seconds=statement_timeout_seconds)
    if scheme == "duckdb" and rest.removeprefix("//"):
        from workhorse.state.warehouses.duckdb import DuckEngine  # noqa: PLC0415 - as above

        return DuckEngine(rest.removeprefix("//"), statement_timeout_seconds=statement_timeout_seconds)
    raise SettingsError(
        f"analytics.warehouse_url begins with {scheme!r}; write postgresql://user@host/database, or"
        " duckdb:///path/of/a/file"
    )
