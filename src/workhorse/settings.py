"""One tree of settings, read once, from four places, of which the earlier wins.

1. what the code gives: `Settings(...)` or `load_settings(server={"port": 9000})`
2. the environment: `WORKHORSE_SERVER__PORT=9000`, and the conventional `DATABASE_URL` and `CACHE_URL`
3. `[tool.workhorse]` of the project's `pyproject.toml`
4. the defaults below, which are safe

A name that stands in none of the records is refused with the nearest right one, wherever it was written: a
misspelt limit must not silently be no limit. In production, values that are unsafe are refused together, each
with its mend. Durations are in seconds and sizes in bytes, and the name says so.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self, cast
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from workhorse.errors import SettingsError

__all__ = [
    "CacheSettings",
    "DatabaseSettings",
    "EmbeddedSettings",
    "Environment",
    "GuardSettings",
    "IdempotencySettings",
    "LogSettings",
    "OperationsSettings",
    "ServerSettings",
    "SettingRow",
    "Settings",
    "UnsafeSetting",
    "find_project",
    "load_settings",
    "unsafe_settings",
]

PREFIX: Final = "WORKHORSE_"
CONVENTIONAL: Final = {"DATABASE_URL": ("database", "url"), "CACHE_URL": ("cache", "url")}
NETWORK_SCHEMES: Final = {"redis", "valkey"}


class Environment(StrEnum):
    """Where the service runs, which decides what it may do without being told."""

    DEVELOPMENT = "development"
    """A person's machine: embedded servers, automatic migrations, readable log."""
    TEST = "test"
    """A test run: as development, and nothing is shared with it."""
    PRODUCTION = "production"
    """Real data: named servers only; unsafe settings are refused at start-up."""


class Record(BaseModel):
    """A part of the tree: frozen, and it refuses names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode]


class DatabaseSettings(Record):
    """The Postgres that holds the business rows and everything that commits with them."""

    url: SecretStr | None = Field(default=None, description="Connection URL (libpq). None: the embedded Postgres.")
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
    """The Redis-compatible server."""

    url: SecretStr | None = Field(default=None, description="Connection URL. None: the embedded Valkey.")


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
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(default=1, ge=1, le=256, description="Worker processes.")
    reload: bool = Field(default=False, description="Restart the workers when a file changes (development only).")
    backlog: int = Field(default=1024, ge=64, description="Connections that may wait to be accepted.")
    drain_seconds: float = Field(
        default=0, ge=0, description="Pause between not ready and closing, for the load balancer to notice."
    )
    stop_timeout_seconds: int = Field(
        default=20, ge=1, description="Longest time for requests under way to end at a stop."
    )


class GuardSettings(Record):
    """The way in."""

    allowed_hosts: Names = Field(
        default=(),
        description="Host names served; `*.example.com` for all below. None: this machine's, in development.",
    )
    insecure_any_host: bool = Field(default=False, description="Serve whatever Host a client sends.")
    max_body_bytes: int = Field(
        default=1024 * 1024, ge=0, description="Largest request body; a policy may set its own."
    )
    max_header_bytes: int = Field(default=32 * 1024, ge=1024, description="Largest sum of a request's header bytes.")
    max_target_bytes: int = Field(default=8 * 1024, ge=256, description="Longest request target (path and query).")
    hsts_seconds: int = Field(
        default=63_072_000, ge=0, description="Strict-Transport-Security on replies over TLS; 0: none."
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _commas(cls, value: object) -> object:
        return _split_commas(value)


class IdempotencySettings(Record):
    """Retried requests."""

    keep_seconds: int = Field(default=86_400, ge=60, description="How long a key is answered with its first reply.")
    refuse_stale_seconds: int = Field(
        default=30 * 86_400, ge=0, description="How long after that the key is refused as stale instead of run anew."
    )
    max_reply_bytes: int = Field(default=256 * 1024, ge=0, description="Largest reply body that is kept for a retry.")
    purge_every_seconds: float = Field(default=300, gt=0, description="Pause between two clean-ups of kept replies.")


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

    @field_validator("metrics_networks", mode="before")
    @classmethod
    def _commas(cls, value: object) -> object:
        return _split_commas(value)


class Settings(BaseSettings):
    """The whole tree. `load_settings` reads it; a test may build it directly.

    Raises:
        pydantic.ValidationError: a value given in code is malformed.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
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
    idempotency: IdempotencySettings = IdempotencySettings()
    log: LogSettings = LogSettings()
    operations: OperationsSettings = OperationsSettings()

    pyproject: ClassVar[Path | None] = None
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def embedded_folder(self) -> Path:
        """The absolute folder of the embedded servers."""
        return (self.project / self.embedded.folder).absolute()

    @property
    def production(self) -> bool:
        """Whether real data is at stake."""
        return self.environment is Environment.PRODUCTION

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Code, then environment, then pyproject.toml."""
        return (
            init_settings,
            EnvSettingsSource(settings_cls),
            InitSettingsSource(settings_cls, conventional_values(os.environ)),
            InitSettingsSource(settings_cls, pyproject_values(cls.pyproject) if cls.pyproject else {}),
        )

    def rows(self) -> Iterator["SettingRow"]:
        """Each setting once, in the order of the tree, with the place that its value came from."""
        for name, field, value in _leaves(self):
            unit = next((unit for unit in ("seconds", "bytes") if name.endswith("_" + unit)), "")
            yield SettingRow(name, value, unit, self._sources.get(name, "default"), field)

    def with_sources(self, sources: Mapping[str, str]) -> Self:
        """Note where the values came from, for `rows`."""
        self._sources.update(sources)
        return self


class SettingRow(NamedTuple):
    """One setting as an operator reads it. `unit` is empty for what has none."""

    name: str
    value: object
    unit: str
    source: str
    description: str


class UnsafeSetting(NamedTuple):
    """A value that production refuses, why, and the mend."""

    name: str
    reason: str
    mend: str


def find_project(start: Path) -> Path:
    """Return the nearest folder at or above `start` that holds a pyproject.toml; else `start` itself."""
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file():
            return folder
    return start


def conventional_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the conventional names of the environment say, as a tree."""
    values: dict[str, Any] = {}
    for name, (record, field) in CONVENTIONAL.items():
        if environ.get(name):
            values[record] = {field: environ[name]}
    return values


def pyproject_values(path: Path) -> dict[str, Any]:
    """The table [tool.workhorse] of a pyproject.toml; empty where there is none.

    Raises:
        SettingsError: the file is not TOML, or the table is not a table.
    """
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("workhorse", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: [tool.workhorse] must be a table, not {table!r}")
    return cast("dict[str, Any]", table)


def load_settings(start: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings for the project around `start` (the working directory, where it is not given).

    Args:
        start: a folder in the project.
        overrides: values that win over every other place, as nested dicts.

    Raises:
        SettingsError: a name is unknown, a value is malformed, or production refuses a value. All faults are named.
    """
    project = find_project((start or Path.cwd()).absolute())
    pyproject = project / "pyproject.toml"
    given: dict[str, Any] = {"project": project, **overrides}
    from_file = pyproject_values(pyproject)
    known = {name for name, _, _ in _leaves(Settings.model_construct())}
    faults = [
        *_unknown_variables(os.environ, known),
        *(_unknown(f"[tool.workhorse] {name}", name, known) for name in _flat(from_file) if name not in known),
        *(_unknown(name, name, known) for name in _flat(given) if name not in known),
    ]
    if faults:
        raise SettingsError("\n".join(faults))

    class ProjectSettings(Settings):
        pyproject = project / "pyproject.toml"

    try:
        settings: Settings = ProjectSettings(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(_malformed(error))) from error
    settings.with_sources(_sources(given, os.environ, from_file))
    if settings.production and (unsafe := unsafe_settings(settings)):
        lines = (f"  {fault.name}: {fault.reason}\n    mend: {fault.mend}" for fault in unsafe)
        raise SettingsError("environment is production, which refuses these settings:\n" + "\n".join(lines))
    return settings


def unsafe_settings(settings: Settings) -> list[UnsafeSetting]:
    """Every value that must not be used with real data, with its mend. Pure, so that a test can list them."""
    faults: list[UnsafeSetting] = []
    database, cache, guard = settings.database.url, settings.cache.url, settings.guard
    if database is None:
        faults.append(
            UnsafeSetting("database.url", "embedded servers are for development", "set DATABASE_URL to your Postgres")
        )
    elif not settings.database.insecure_plain_text and _plain_text_postgres(database.get_secret_value()):
        faults.append(
            UnsafeSetting(
                "database.url",
                "the connection crosses the network and may be in plain text",
                "add ?sslmode=verify-full to DATABASE_URL (or set database.insecure_plain_text and know why)",
            )
        )
    if cache is not None and _plain_text_cache(cache.get_secret_value()):
        faults.append(
            UnsafeSetting("cache.url", "the connection crosses the network in plain text", "use rediss:// in CACHE_URL")
        )
    if guard.insecure_any_host:
        faults.append(
            UnsafeSetting("guard.insecure_any_host", "any Host header is served", "name them in guard.allowed_hosts")
        )
    elif not guard.allowed_hosts:
        faults.append(
            UnsafeSetting(
                "guard.allowed_hosts",
                "no host name is served",
                'name the public ones: WORKHORSE_GUARD__ALLOWED_HOSTS="api.example.com"',
            )
        )
    if settings.server.reload:
        faults.append(UnsafeSetting("server.reload", "reloading is for development", "set server.reload to false"))
    if settings.log.level == "debug":
        faults.append(UnsafeSetting("log.level", "debug lines may hold personal data", "set log.level to info"))
    return faults


def _local(host: str | None) -> bool:
    return not host or host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"}


def _plain_text_postgres(url: str) -> bool:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host = parts.hostname or (query["host"][0] if "host" in query else None)
    return not _local(host) and query.get("sslmode", ["prefer"])[0] not in {"require", "verify-ca", "verify-full"}


def _plain_text_cache(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in NETWORK_SCHEMES and not _local(parts.hostname)


def _leaves(record: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, object]]:
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or "", value


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        else:
            yield prefix + name


def _unknown(place: str, name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else "; `workhorse config` lists them all"
    return f"{place}: there is no such setting{hint}"


def _unknown_variables(environ: Mapping[str, str], known: set[str]) -> Iterator[str]:
    variables = {PREFIX + name.upper().replace(".", "__"): name for name in known}
    for variable in environ:
        if variable.upper().startswith(PREFIX) and variable.upper() not in variables:
            near = difflib.get_close_matches(variable.upper(), variables, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else "; `workhorse config` lists them all"
            yield f"environment variable {variable}: there is no such setting{hint}"


def _malformed(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        yield f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def _sources(given: Mapping[str, Any], environ: Mapping[str, str], from_file: Mapping[str, Any]) -> dict[str, str]:
    sources = dict.fromkeys(_flat(from_file), "pyproject.toml")
    for variable, (record, field) in CONVENTIONAL.items():
        if environ.get(variable):
            sources[f"{record}.{field}"] = variable
    for variable in environ:
        if variable.upper().startswith(PREFIX):
            sources[variable.upper().removeprefix(PREFIX).lower().replace("__", ".")] = variable
    sources.update(dict.fromkeys((name for name in _flat(given) if name != "project"), "code"))
    sources.setdefault("project", "found")
    return sources
