"""The app of planted weaknesses has the weaknesses, or nothing that the attacks say of the bank would count."""

import asyncio
from pathlib import Path

import pytest

from attack.checks import Check
from attack.hostile import framing, heads
from attack.target import serve_planted


@pytest.mark.slow
def test_our_own_attacks_find_what_is_planted(tmp_path: Path) -> None:
    async def main() -> dict[str, list[Check]]:
        async with serve_planted(tmp_path) as planted:
            attacks = (framing.ATTACK, heads.HOSTS, heads.TRAVERSAL, heads.INJECTION, heads.METHODS)
            return {attack.name: list(await attack.run(planted)) for attack in attacks}

    found = {name: [check for check in checks if not check.held] for name, checks in asyncio.run(main()).items()}
    assert len(found["framing"]) > 20
    assert any("2 replies" in check.observed for check in found["framing"])
    assert any("evil.example" in check.observed or "200" in check.observed for check in found["hosts"])
    assert any("the file is there" in check.observed for check in found["traversal"])
    assert any("a header was injected" in check.observed for check in found["injection"])
    assert len(found["methods"]) > 5
