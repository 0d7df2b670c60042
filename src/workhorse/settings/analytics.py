"""The settings of analytics: how much of the database it may have, and for how long."""

from pydantic import Field, SecretStr

from workhorse.settings.record import Record

__all__ = ["AnalyticsSettings"]


class AnalyticsSettings(Record):
    """Analytics, which runs on connections of its own, out of the transactions' way."""

    url: SecretStr | None = Field(
        default=None,
        description="Connection URL of the database that is asked. None: `database.replica_url`, else `database.url`.",
    )
    warehouse_url: SecretStr | None = Field(
        default=None,
        description="Where the service's warehouse is: `postgresql://...` of another server, or `duckdb:` and a path.",
    )
    connections: int = Field(
        default=2, ge=1, le=100, description="Queries that each worker process runs at a time; others wait."
    )
    acquire_timeout_seconds: float = Field(default=5, gt=0, description="Longest wait of a query for its turn.")
    statement_timeout_seconds: float = Field(
        default=300, gt=0, description="Longest run of one query, which includes sending its rows."
    )
    max_rows: int = Field(
        default=10_000_000, ge=1, description="Rows of one reply; one with more is cut off, and says so."
    )
    batch_bytes: int = Field(
        default=1024 * 1024, ge=16 * 1024, le=64 * 1024 * 1024, description="Bytes that are read at a time."
    )
    work_mem_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=64 * 1024,
        description="Memory of one sort or hash of a query, before it uses disk.",
    )
    parallel_workers: int = Field(
        default=0, ge=0, le=64, description="Further processes of the database that one query may use."
    )
