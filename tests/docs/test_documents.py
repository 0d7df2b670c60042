"""Every page is followed as a reader would: its files written, its programs run, its commands typed."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, Block, blocks, matches, steps
from workhorse.settings import Settings

RUNNABLE = {"python", "console", "toml"}
SHOWN = {"sh", "text", "sql", "json", "js", ""}
# The environment is set up already; and the package is not on an index from which a test may take it.
INSTALLS = re.compile(r"^pip install ")


@pytest.fixture
def reader(tmp_path: Path, empty_database_url: str) -> Iterator["Reader"]:
    someone = Reader(tmp_path, empty_database_url)
    yield someone
    someone.leave()


class Reader:
    """Follows a page in an empty folder, with a database and a port of their own."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        scripts = Path(sys.executable).parent
        self.environment = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "DATABASE_URL": database_url,
            "WORKHORSE_SERVER__PORT": str(self.port),
            "WORKHORSE_LOG__ACCESS": "false",
            "PYTHONPATH": str(ROOT / "examples" / "bank"),
        }
        self.servers: list[subprocess.Popen[bytes]] = []

    def write(self, block: Block) -> None:
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text.replace("8000", str(self.port)), encoding="utf-8")

    def run(self, block: Block) -> None:
        path = self.folder / f"block_{block.line}.py"
        path.write_text(block.text, encoding="utf-8")
        done = self.shell(f"{sys.executable} {path.name}")
        assert done.returncode == 0, f"{block} fails:\n{done.stdout}{done.stderr}"

    def type(self, block: Block) -> None:
        for step in steps(block):
            command = step.command.replace("8000", str(self.port))
            expected = step.expected.replace("8000", str(self.port))
            if INSTALLS.match(command):
                continue
            if command.endswith("&"):
                self.serve(command.removesuffix("&").strip(), expected, block)
                continue
            if command == "kill %1":
                self.leave()
                continue
            done = self.shell(command)
            got = (done.stdout + done.stderr).strip()
            assert matches(expected, got), f"{block}: $ {command}\nexpected: {expected}\ngot:      {got}"

    def serve(self, command: str, expected: str, block: Block) -> None:
        output = self.folder / f"server-{len(self.servers)}.out"
        with output.open("wb") as out:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.servers.append(server)
        until = time.monotonic() + 30
        last = expected.splitlines()[-1] if expected else "serving"
        while last not in output.read_text(errors="replace"):
            assert server.poll() is None, f"{block}: $ {command} ended:\n{output.read_text()}"
            assert time.monotonic() < until, f"{block}: $ {command} did not say {last!r}:\n{output.read_text()}"
            time.sleep(0.05)

    def shell(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def leave(self) -> None:
        for server in self.servers:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
                server.wait(20)
        self.servers.clear()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Path, reader: Reader) -> None:
    for block in blocks(page):
        assert block.kind in RUNNABLE | SHOWN, f"{block}: nobody knows how to run a {block.kind!r} block"
        if block.title:
            reader.write(block)
        elif block.kind == "python":
            reader.run(block)
        elif block.kind == "console":
            reader.type(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_every_make_command_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"]:
        for name in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert name in targets, f"{page.name} names `make {name}`, which does not exist"


def test_every_file_that_architecture_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([\w/.]+(?:\.py|\.sql|/))`", text):
        places = [ROOT / name, ROOT / "src" / "workhorse" / name]
        assert any(place.exists() for place in places), f"ARCHITECTURE.md names {name}, which is not there"


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for row in Settings().rows():
        line = next((line for line in text.splitlines() if line.startswith(f"| `{row.name}` ")), None)
        assert line is not None, f"docs/settings.md lacks {row.name}"
        assert row.description in line, f"docs/settings.md describes {row.name} in other words"
        if row.name != "project":
            assert f"| {shown(row.value)} |" in line, f"docs/settings.md has another default for {row.name}"


def shown(value: object) -> str:
    if value is None or value in ((), ""):
        return "none"
    if isinstance(value, tuple):
        return "`" + ", ".join(value) + "`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_every_metric_that_exists_is_documented() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "workhorse").rglob("*.py"))
    names = set(re.findall(r'"((?:http_server|workhorse)_[a-z_]+(?:_total|_seconds|_requests))"', source))
    text = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    assert names, "no metric was found, so nothing was tested"
    assert not {name for name in names if f"`{name}`" not in text}
