"""Reads the tree from its four places, and says what is wrong there: all at once, with the nearest right name."""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from workhorse.errors import SettingsError
from workhorse.settings.production import unsafe_settings
from workhorse.settings.records import Settings, leaves

__all__ = ["find_project", "load_settings"]

PREFIX: Final = "WORKHORSE_"
CONVENTIONAL: Final = {"DATABASE_URL": ("database", "url"), "CACHE_URL": ("cache", "url")}


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
    known = {name for name, _, _ in leaves(Settings.model_construct())}
    faults = [
        *_unknown_variables(os.environ, known),
        *(_unknown(f"[tool.workhorse] {name}", name, known) for name in _flat(from_file) if name not in known),
        *(_unknown(name, name, known) for name in _flat(given) if name not in known),
    ]
    if faults:
        raise SettingsError("\n".join(faults))

    class ProjectSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Code, then environment, then pyproject.toml."""
            del dotenv_settings, file_secret_settings  # pydantic's other sources, of which an operator would not think
            conventional = InitSettingsSource(settings_cls, conventional_values(os.environ))
            return init_settings, env_settings, conventional, InitSettingsSource(settings_cls, from_file)

    try:
        settings: Settings = ProjectSettings(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(_malformed(error))) from error
    settings.with_sources(_sources(given, os.environ, from_file))
    if settings.production and (unsafe := unsafe_settings(settings)):
        lines = (f"  {fault.name}: {fault.reason}\n    mend: {fault.mend}" for fault in unsafe)
        raise SettingsError("environment is production, which refuses these settings:\n" + "\n".join(lines))
    return settings


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
