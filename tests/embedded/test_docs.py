"""The documented programs run, and the documented fixtures are what they say."""

import re
import subprocess
import sys
from pathlib import Path

from tests.embedded.kit import processes_of
from workhorse.embedded import stop

PAGE = Path(__file__).parents[2] / "docs" / "embedded.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_programs_of_the_page_run_one_after_the_other(tmp_path: Path) -> None:
    first, second, fixtures = PROGRAMS
    (tmp_path / "first.py").write_text(first)
    (tmp_path / "second.py").write_text(second)
    (tmp_path / "conftest.py").write_text(fixtures)
    (tmp_path / "test_it.py").write_text(
        "def test_it(database_url: str) -> None:\n    assert 'fresh_' in database_url\n"
    )

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("first.py") == "('app',)\n"
    shown = run("second.py")
    assert "running=True" in shown, "the servers linger"
    assert ".workhorse/postgres'" in shown.splitlines()[-1]
    assert "1 passed" in run("-m", "pytest", "-q", f"--basetemp={tmp_path / 'base'}", "test_it.py")
    stop(tmp_path / "base" / "servers")
    assert not processes_of(tmp_path)
