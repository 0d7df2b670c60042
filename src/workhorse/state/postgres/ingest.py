"""Record batches into a table, by COPY in binary form (ADBC).

The driver sends each column as its Arrow type says, and the server takes the bytes for the column's own type without
looking: an int64 for a float8 is stored as 5e-324. So whoever calls this has cast each column to the exact type.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from workhorse.errors import SettingsError
from workhorse.state.postgres.frames import told

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PostgresIngest"]


class PostgresIngest:
    """One connection that writes (see `contracts.FrameSink`). Made in the thread that uses it.

    Args:
        url: a libpq connection URL.
        statement_timeout_seconds: the server ends a longer statement, such as the loading of one chunk.
        lock_timeout_seconds: longest wait for a lock of others.

    Raises:
        DatabaseUnavailable: the server cannot be reached.
        SettingsError: the driver is not installed.
    """

    def __init__(self, url: str, *, statement_timeout_seconds: float = 300, lock_timeout_seconds: float = 10) -> None:
        try:
            import adbc_driver_postgresql.dbapi as adbc  # noqa: PLC0415 - an optional library, of 30 MB
        except ImportError as error:
            raise SettingsError("imports need a driver: pip install 'workhorse[analytics]'") from error
        options = (
            f"{conninfo_to_dict(url).get('options') or ''}"
            f" -c statement_timeout={int(statement_timeout_seconds * 1000)}"
            f" -c lock_timeout={int(lock_timeout_seconds * 1000)}"
            f" -c idle_in_transaction_session_timeout={int(statement_timeout_seconds * 1000)}"
        ).strip()
        conninfo = make_conninfo(url, options=options, application_name="workhorse import", client_encoding="UTF8")
        try:
            self._connection: Any = adbc.connect(conninfo, autocommit=False)
        except Exception as error:
            raise told(error) from error

    def __repr__(self) -> str:
        return "<PostgresIngest>"

    def ask(self, statement: str, params: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """See `contracts.FrameSink`."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, tuple(params) or None)
                rows: list[tuple[object, ...]] = cursor.fetchall() if cursor.description else []
                return rows
        except Exception as error:
            raise told(error) from error

    def load(self, schema: str, table: str, batches: "Sequence[pa.RecordBatch]") -> None:
        """See `contracts.FrameSink`."""
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
        try:
            with self._connection.cursor() as cursor:
                cursor.adbc_ingest(table, reader, mode="append", db_schema_name=schema)
        except Exception as error:
            raise told(error) from error

    def commit(self) -> None:
        """See `contracts.FrameSink`."""
        try:
            self._connection.commit()
        except Exception as error:
            raise told(error) from error

    def rollback(self) -> None:
        """See `contracts.FrameSink`."""
        try:
            self._connection.rollback()
        except Exception as error:
            raise told(error) from error

    def close(self) -> None:
        """See `contracts.FrameSink`."""
        self._connection.close()
