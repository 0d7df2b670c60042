"""The demo of analytics: real rows, and every way to a figure gives the same one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_brings_measures_asks_and_exports_public_data_and_its_figures_agree(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "names.demo", "--since", "2012", "--keep", str(tmp_path / "kept")],
        cwd=ROOT / "examples" / "names",
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Of the file itself: six years and two sexes.
    assert "import of some.parquet: 198,775 rows" in done.stdout
    assert "a measure counts what was told: 12 events, 21,872,039 births" in done.stdout
    assert "198,775 rows in 12 files" in done.stdout
    assert "all ways to a figure gave the same one" in done.stdout


def test_figures_that_differ_end_the_demo() -> None:
    code = "from names.demo import same; same('births', 1, 2)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "examples" / "names", capture_output=True, text=True, check=False
    )
    assert "births differ: 1, 2" in done.stderr
