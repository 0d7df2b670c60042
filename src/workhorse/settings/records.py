"""The records of the tree: every setting there is, with its unit in its name, its safe default and its sentence.

A record is frozen and refuses names that it does not know: a misspelt limit must not silently be no limit.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, Field, PrivateAttr, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from workhorse.settings.analytics import AnalyticsSettings
from workhorse.settings.audit import AuditSettings
from workhorse.settings.guard import GuardSettings
from workhorse.settings.record import Names, Record, Secrets

__all__ = [
    "AnalyticsSettings",
    "CacheSettings",
    "DatabaseSettings",
    "EmbeddedSettings",
    "Environment",
    "EventsSettings",
    "GuardSettings",
    "IdempotencySettings",
    "IdentitySettings",
    "JobsSettings",
    "LogSettings",
    "OperationsSettings",
    "RecordsSettings",
    "ServerSettings",
    "SettingRow",
    "Settings",
    "leaves",
]


class Environment(StrEnum):
    """Where the service runs, which decides what it may do without being told."""

    DEVELOPMENT = "development"
    """A person's machine: embedded servers, automatic migrations, readable log."""
    TEST = "test"
    """A test run: as development, and nothing is shared with it."""
    PRODUCTION = "production"
    """Real data: named servers only; unsafe settings are refused at start-up."""


class DatabaseSettings(Record):
    """The Postgres that holds the business rows and everything that commits with them."""

    url: SecretStr | None = Field(default=None, description="Connection URL (libpq). None: the embedded Postgres.")
    replica_url: SecretStr | None = Field(
        default=None, description="Connection URL of a replica, for the routes whose policy is read_only. None: `url`."
    )
    pooler_url: SecretStr | None = Field(
        default=None,
        description="Connection URL of a pooler in transaction mode (PgBouncer) before `url`, over which units run.",
    )
    pool_min: int = Field(default=1, ge=0, description="Connections that each worker process keeps open.")
    pool_max: int = Field(default=16, ge=1, le=500, description="Connections that each worker process may open.")
    acquire_timeout_seconds: float = Field(default=5, gt=0, description="Longest wait for a free connection.")
    connect_timeout_seconds: int = Field(
        default=5, ge=2, description="Longest wait for the server to accept a connection."
    )
    statement_timeout_seconds: float = Field(default=30, gt=0, description="Longest run of one statement of a unit.")
    idle_timeout_seconds: float = Field(
        default=60, gt=0, description="Longest pause inside a transaction before it is ended."
    )
    attempts: int = Field(
        default=5, ge=1, le=20, description="How often a request runs when others' commits conflict with it."
    )
    insecure_plain_text: bool = Field(
        default=False, description="Allow, in production, a database across the network without TLS."
    )


class CacheSettings(Record):
    """The Redis-compatible server, and what is kept where."""

    url: SecretStr | None = Field(default=None, description="Connection URL. None: the embedded Valkey.")
    store: Literal["auto", "cache", "database", "memory"] = Field(
        default="auto", description="Where `Caches()` keep values. auto: the cache if there is one, else the database."
    )
    lease_store: Literal["cache", "database", "memory"] = Field(
        default="database", description="Where `Leases()` are. Only the database keeps them over a failover."
    )


class EmbeddedSettings(Record):
    """The real servers that Workhorse starts itself where none is named. Never in production."""

    folder: Path = Field(default=Path(".workhorse"), description="Where their data lives, relative to the project.")
    postgres_bin: Path | None = Field(default=None, description="The bin folder of a system's Postgres to use instead.")
    linger_seconds: float = Field(default=5, ge=0, description="How long they outlive the last process that used them.")
    start_timeout_seconds: float = Field(default=60, gt=0, description="Longest wait for them to be ready.")


class ServerSettings(Record):
    """The process that listens."""

    kind: Literal["granian", "uvicorn", "hypercorn"] = Field(
        default="granian", description="Which server runs the app."
    )
    runtime: Literal["asyncio", "trio"] = Field(
        default="asyncio", description="What the app's code waits on; trio with hypercorn only (docs/frameworks.md)."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(default=1, ge=1, le=256, description="Worker processes.")
    reload: bool = Field(default=False, description="Restart the workers when a file changes (development only).")
    backlog: int = Field(
        default=1024, ge=64, description="Connections that may wait to be accepted (the kernel's somaxconn caps it)."
    )
    max_connections: int | None = Field(
        default=None,
        ge=16,
        description="Open connections per worker process; near it the longest idle are closed. None: 16384, or what the"
        " limit on open files leaves.",
    )
    head_timeout_seconds: float = Field(
        default=15, gt=0, description="Longest time from a request's first byte to the end of its head."
    )
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        description="How long a connection may be idle. Must exceed the load balancer's own limit (often 60).",
    )
    max_head_bytes: int = Field(
        default=64 * 1024,
        ge=8192,
        description="Largest request line and headers together that are read at all; the guard's limits are narrower.",
    )
    reply_pause_seconds: float = Field(
        default=30, gt=0, description="Longest wait for a client to take more of its reply."
    )
    reply_bytes_per_second: int = Field(
        default=500, ge=0, description="Least rate at which a client takes a reply that waits for it; 0: none."
    )
    drain_seconds: float = Field(
        default=0, ge=0, description="Pause between not ready and closing, for the load balancer to notice."
    )
    start_timeout_seconds: float = Field(
        default=300, gt=0, description="Longest time for the app's own lifespan to start."
    )
    stop_timeout_seconds: int = Field(
        default=20, ge=1, description="Longest time for requests under way to end at a stop."
    )


class IdentitySettings(Record):
    """Who calls, where the code leaves it to the deployment."""

    issuers: Names = Field(
        default=(),
        description="Issuers whose tokens `Bearer()` takes, by their exact `iss`. None: the development issuer, which"
        " production refuses.",
    )
    audience: Names = Field(
        default=(), description="What this service is called in a token's `aud`; one of several is enough."
    )
    clock_skew_seconds: float = Field(
        default=30, ge=0, le=300, description="How far the issuers' clocks may be from ours."
    )
    session_store: Literal["auto", "cache", "database", "memory"] = Field(
        default="auto", description="Where sessions are kept. auto: the cache if there is one, else the database."
    )
    login_keys: Secrets = Field(
        default=(),
        description="Secrets of `LoginThrottle`, of 32 characters or more. The first one signs, all are taken.",
    )


class IdempotencySettings(Record):
    """Retried requests."""

    keep_seconds: int = Field(default=86_400, ge=60, description="How long a key is answered with its first reply.")
    refuse_stale_seconds: int = Field(
        default=7 * 86_400, ge=0, description="How long after that the key is refused as stale instead of run anew."
    )
    max_reply_bytes: int = Field(
        default=2 * 1024 * 1024, ge=0, description="Largest reply body that is kept for a retry."
    )
    purge_every_seconds: float = Field(default=300, gt=0, description="Pause between two clean-ups of kept replies.")
    reply_keys: Secrets = Field(
        default=(),
        description="Keys of 32 random bytes, in base64, that kept replies are encrypted with. The first one encrypts,"
        " all can read. None: they are kept as they are.",
    )


class JobsSettings(Record):
    """Background jobs."""

    in_process: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether the service's own processes run jobs, beside `workhorse worker`. auto: not in production.",
    )


class EventsSettings(Record):
    """The journal of events."""

    keep_months: int = Field(
        default=0, ge=0, description="Whole months of events that are kept, beside the current one; 0: all."
    )
    required_readers: Names = Field(
        default=(),
        description="Feeds that must have read a month before it is dropped, even where they have never run yet.",
    )


class RecordsSettings(Record):
    """Audit records of what has no unit: denials, failures, logins (docs/audit-records.md)."""

    denials: Literal["audited", "all"] = Field(
        default="audited", description="Which refused requests are recorded: those of audited routes, or all."
    )
    logins: bool = Field(default=True, description="Record logins, failed logins and logouts.")
    fail_closed: bool = Field(
        default=False, description="Send no refusal, and let nobody log in, before the record of it is stored."
    )
    max_waiting: int = Field(
        default=10_000, ge=1, description="Records that wait to be stored at most; more are dropped, and counted."
    )
    store_timeout_seconds: float = Field(
        default=5, gt=0, description="Longest wait for a record that is to be stored before its reply."
    )


class LogSettings(Record):
    """What the process writes to standard output."""

    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text in development, else JSON lines."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is written."
    )
    access: bool = Field(default=True, description="Write one line per request.")


class OperationsSettings(Record):
    """The endpoints under /-/."""

    metrics_networks: Names = Field(
        default=("127.0.0.0/8", "::1/128"),
        description="Networks that may read /-/metrics directly, that is, not through a proxy.",
    )
    token: SecretStr | None = Field(default=None, description="Bearer token that may read /-/metrics from anywhere.")
    worker_address: str | None = Field(
        default=None,
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.-]+):[0-9]{1,5}$",
        description="host:port on which `workhorse worker` answers /-/live, /-/ready and /-/metrics; none: nowhere.",
    )


class SettingRow(NamedTuple):
    """One setting as an operator reads it. `unit` is empty for what has none."""

    name: str
    value: object
    unit: str
    source: str
    description: str


class Settings(BaseSettings):
    """The whole tree. `load_settings` reads it; a test may build it directly.

    Raises:
        pydantic.ValidationError: a value given in code is malformed.
    """

    model_config = SettingsConfigDict(
        env_prefix="WORKHORSE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    environment: Environment = Field(default=Environment.DEVELOPMENT, description="development, test or production.")
    project: Path = Field(default_factory=Path.cwd, description="The project's folder.")
    database: DatabaseSettings = DatabaseSettings()
    cache: CacheSettings = CacheSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    server: ServerSettings = ServerSettings()
    guard: GuardSettings = GuardSettings()
    identity: IdentitySettings = IdentitySettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    jobs: JobsSettings = JobsSettings()
    events: EventsSettings = EventsSettings()
    audit: AuditSettings = AuditSettings()
    records: RecordsSettings = RecordsSettings()
    log: LogSettings = LogSettings()
    operations: OperationsSettings = OperationsSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def embedded_folder(self) -> Path:
        """The absolute folder of the embedded servers."""
        return (self.project / self.embedded.folder).absolute()

    @property
    def production(self) -> bool:
        """Whether real data is at stake."""
        return self.environment is Environment.PRODUCTION

    def rows(self) -> Iterator[SettingRow]:
        """Each setting once, in the order of the tree, with the place that its value came from."""
        for name, field, value in leaves(self):
            unit = next((unit for unit in ("seconds", "bytes") if name.endswith("_" + unit)), "")
            yield SettingRow(name, value, unit, self._sources.get(name, "default"), field)

    def with_sources(self, sources: Mapping[str, str]) -> Self:
        """Note where the values came from, for `rows`."""
        self._sources.update(sources)
        return self


def leaves(record: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, object]]:
    """Each setting below `record` as its dotted name, its description and its value."""
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or "", value
