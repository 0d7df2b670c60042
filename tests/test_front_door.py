"""What `import workhorse` offers and costs."""

import subprocess
import sys

import pytest

import workhorse

HEAVY = (
    "psycopg",
    "psycopg_pool",
    "pydantic",
    "pydantic_settings",
    "fastapi",
    "starlette",
    "granian",
    "msgspec",
    "asyncio",
)


def test_every_promised_name_is_there_and_no_module_takes_its_place() -> None:
    for name in workhorse.__all__:
        value = getattr(workhorse, name)
        assert not isinstance(value, type(sys)), f"the module {value} hides the name {name}"
        assert name in dir(workhorse)


def test_an_unknown_name_lists_what_is_offered() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'Untit'; it offers: .*unit"):
        _ = workhorse.Untit


def test_import_loads_no_driver_and_no_framework() -> None:
    code = f"import sys, workhorse; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_function_unit_is_not_hidden_by_its_room() -> None:
    code = "import workhorse.units.asgi; from workhorse import unit; print(unit.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "unit"
