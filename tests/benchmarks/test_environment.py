"""The benchmarks' own environment."""

import re
import sys
import tomllib
from pathlib import Path

from benchmarks.environment import FOLDER, ROOT, fingerprint, make

NAME = re.compile(r"[A-Za-z0-9._-]+(?:\[[^]]*\])?")


def names(lines: list[str]) -> set[str]:
    return {match[0].lower() for line in lines if (match := NAME.match(line))}


def test_the_environment_has_everything_that_workhorse_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = names(project["dependencies"]) | names(project["optional-dependencies"]["embedded"])
    assert wanted <= names((FOLDER / "requirements.in").read_text().splitlines())


def test_every_requirement_is_locked_by_hash_and_names_no_registry() -> None:
    text = (FOLDER / "requirements.txt").read_text()
    requirements = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(requirements) > 10
    assert all("==" in each and "--hash=sha256:" in each for each in requirements)
    assert "://" not in text


def test_the_versions_are_those_of_the_development_environment() -> None:
    def pins(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", path.read_text(), re.MULTILINE))

    ours, theirs = pins(FOLDER / "requirements.txt"), pins(ROOT / "requirements" / "dev.txt")
    shared = ours.keys() & theirs.keys()
    assert {"fastapi", "granian", "psycopg"} <= shared
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def test_an_environment_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / ".ready").write_text(fingerprint(FOLDER / "requirements.txt", sys.executable, str(ROOT)))
    assert make(tmp_path) is False
