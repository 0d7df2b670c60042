"""Who calls the bank while it is shown and tried: tellers, who act for its customers, and an auditor, who only reads.

Each has a token of the development issuer, whose key lies with the project's embedded servers: a bank that was started
from the same settings takes them, and no other bank in the world does. Real ones come from the bank's own issuer.
"""

from dataclasses import dataclass
from typing import Final

from workhorse.identity import DevelopmentIssuer
from workhorse.settings import Settings

__all__ = ["AUDITOR_SCOPES", "TELLER_SCOPES", "Callers", "issue_tokens"]

TELLER_SCOPES: Final = (
    "accounts:read",
    "accounts:write",
    "transfers:read",
    "transfers:write",
    "payments:write",
    "standing-orders:read",
    "standing-orders:write",
)
AUDITOR_SCOPES: Final = ("books:read", "reports:read")
# Longer than anybody watches a demo.
LIFE_SECONDS: Final = 7 * 86_400


@dataclass(frozen=True, slots=True, repr=False)
class Callers:
    """Their tokens. Secrets: not for a log."""

    tellers: tuple[str, ...]
    auditor: str

    def teller(self, number: int) -> str:
        """The token of a teller; they take turns."""
        return self.tellers[number % len(self.tellers)]


def issue_tokens(settings: Settings, *, tellers: int = 8) -> Callers:
    """Make the tokens.

    Args:
        settings: those of the bank's project, which say where the key is.
        tellers: how many.

    Raises:
        SettingsError: the environment is production, which takes no such tokens.
        StartupError: the key cannot be made or read.
    """
    issuer = DevelopmentIssuer(settings)
    return Callers(
        tellers=tuple(
            issuer.mint(f"teller-{number}", scopes=TELLER_SCOPES, lifetime_seconds=LIFE_SECONDS)
            for number in range(1, tellers + 1)
        ),
        auditor=issuer.mint("auditor", scopes=AUDITOR_SCOPES, lifetime_seconds=LIFE_SECONDS),
    )
