"""The code blocks of a Markdown page, and what each kind of block asks of a reader.

    ```python title=shop.py    a file to write down
    ```python                  a program that runs by itself
    ```console                 lines after `$ ` are typed; what follows is what one sees
    ```toml title=x.toml       a file, too

In expected output `...` stands for anything. Blocks of other kinds (sh, text, sql, json) are shown, not run; a test
looks that commands in them exist.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE: Final = re.compile(r"^```(?P<kind>[a-z]*)(?: title=(?P<title>\S+))?$")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    kind: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    kind: str | None = None
    title, start, text = "", 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if kind is None and (match := FENCE.match(line)):
            kind, title, start, text = match["kind"], match["title"] or "", number, []
        elif kind is not None and line == "```":
            yield Block(page, start, kind, title, "\n".join(text) + "\n")
            kind = None
        elif kind is not None:
            text.append(line)
    assert kind is None, f"{page.name}:{start}: the block is not closed"


@dataclass(frozen=True)
class Step:
    """One command of a console block, and what it should print."""

    command: str
    expected: str


def steps(block: Block) -> list[Step]:
    """The commands of a console block. A command goes on in the next line after a backslash."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif found and found[-1][0][-1].endswith("\\") and not found[-1][1]:
            found[-1][0].append(line)
        else:
            assert found, f"{block}: output comes before the first command"
            found[-1][1].append(line)
    return [Step("\n".join(command), "\n".join(output).strip()) for command, output in found]


def matches(expected: str, got: str) -> bool:
    """Whether `got` is what was expected, `...` standing for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, got.strip(), re.DOTALL) is not None
