"""Each line of the reference of guarantees names tests that show it, and each of these tests exists."""

import re

from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def tables() -> list[list[list[str]]]:
    """The cells of each table, without its rule."""
    found = [table.group().splitlines() for table in TABLE.finditer(PAGE.read_text(encoding="utf-8"))]
    return [[[cell.strip() for cell in row[1:-1].split("|")] for row in (rows[0], *rows[2:])] for rows in found]


def shown_by() -> dict[str, list[tuple[str, str]]]:
    """For each number the tests of it, as file and name."""
    proofs: dict[str, list[tuple[str, str]]] = {}
    number = ""
    for mark, file, names in tables()[-1][1:]:
        number = mark or number
        path = re.search(r"\((\S+)\)", file)
        assert path is not None, file
        proofs.setdefault(number, []).extend((path[1], name) for name in re.findall(r"`(\w+)`", names))
    return proofs


def test_every_test_that_shows_a_guarantee_exists() -> None:
    for number, proofs in shown_by().items():
        assert proofs, f"nothing shows {number}"
        for path, name in proofs:
            text = (PAGE.parent / path).read_text(encoding="utf-8")
            assert re.search(rf"^def test_{name}\(", text, re.MULTILINE), f"{number}: {path} has no test_{name}"


def test_every_guarantee_is_shown_and_every_number_is_used() -> None:
    proofs, used = shown_by(), set[str]()
    for head, *rows in tables()[:-1]:
        assert head[-1] == "shown by", f"this table does not say what shows it: {head}"
        for row in rows:
            assert row[-1], f"nothing is said to show {row[0]!r}"
            used |= set(row[-1].split(", "))
    assert used == set(proofs)
