"""The reference of checks names every control that the code can give, and none that it cannot."""

import re
from pathlib import Path

from tests.docs.blocks import ROOT
from workhorse.identity.reason import Reason

PAGE = ROOT / "docs" / "checks.md"
# The first argument of a refusal, and the name that an inspector gives its own.
GIVEN = re.compile(r'(?:Refusal\(\s*|control = |^    control: str = |return )"([a-z_]+\.[a-z_]+)"', re.MULTILINE)


def controls_in_code() -> set[str]:
    found: set[str] = {"deadline", "disconnect", "overload"}
    for path in Path(ROOT / "src" / "workhorse" / "guard").rglob("*.py"):
        found |= set(GIVEN.findall(path.read_text(encoding="utf-8")))
    found |= {"csrf.site", "csrf.origin", "websocket.size", "websocket.rate"}
    return found | {f"rate.{per}" for per in ("caller", "key", "address", "route")}


def test_every_control_is_explained_and_no_other() -> None:
    named = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", PAGE.read_text(encoding="utf-8")))
    rooms = {control.partition(".")[0] for control in controls_in_code()}
    explained = {word for word in named if word.partition(".")[0] in rooms and not word.startswith("guard.")}
    reasons = {f"identity.{reason.value}" for reason in Reason}
    missing = controls_in_code() - explained - reasons
    assert not missing, f"docs/checks.md does not explain {sorted(missing)}"
    invented = {word for word in explained if "." in word} - controls_in_code() - reasons
    assert not invented, f"docs/checks.md explains what there is not: {sorted(invented)}"
