"""Which build is under test: `make test-compiled` says that it wants the compiled one, and must get it."""

import importlib
import os
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

EXPECTED = os.environ.get("WORKHORSE_TESTED_BUILD", "plain")


def hot_modules() -> list[str]:
    """The modules that setup.py compiles."""
    source = (ROOT / "setup.py").read_text(encoding="utf-8").partition("if os.environ")[0]
    namespace: dict[str, object] = {"__file__": str(ROOT / "setup.py")}
    exec(compile(source, "setup.py", "exec"), namespace)  # noqa: S102 - our own file, up to where it would build
    hot = namespace["HOT"]
    assert isinstance(hot, list)
    return [str(path).removeprefix("src/").removesuffix(".py").replace("/", ".") for path in hot]


@pytest.mark.parametrize("name", hot_modules())
def test_each_hot_module_is_of_the_build_under_test(name: str) -> None:
    file = Path(importlib.import_module(name).__file__ or "")
    assert file.suffix == (".py" if EXPECTED == "plain" else ".so"), f"{name} is {file}"


def test_the_modules_that_wait_are_never_compiled() -> None:
    for name in ("layer", "body", "permission", "disconnect", "sockets"):
        assert f"workhorse.guard.{name}" not in hot_modules()
        assert Path(importlib.import_module(f"workhorse.guard.{name}").__file__ or "").suffix == ".py"
