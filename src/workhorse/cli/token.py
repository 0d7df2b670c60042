"""`workhorse token alice --scope transfers:write`: a token of the development issuer, to call your own service with.

    curl -H "Authorization: Bearer $(workhorse token alice --scope accounts:read)" http://localhost:8000/accounts/1

Only the token goes to standard output. Nothing is started and no network is needed.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

from workhorse.errors import SettingsError
from workhorse.settings import load_settings

__all__ = ["NAME", "SUMMARY", "configure", "parse_claims", "parse_duration", "run"]

NAME: Final = "token"
SUMMARY: Final = "Print a token of the development issuer. Never in production."
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_SECONDS: Final = 366 * 86_400


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("subject", help="who the token is for, such as alice")
    parser.add_argument("--scope", action="append", default=[], metavar="SCOPE", help="what it allows; may be repeated")
    parser.add_argument(
        "--for", dest="lifetime", default="1h", metavar="TIME", help="such as 90s, 15m, 1h (default), 7d"
    )
    parser.add_argument("--audience", help="whom it is to be shown to; by default whoever takes these tokens")
    parser.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further claim, its value JSON or else a string: tenant=acme, roles='[\"teller\"]'; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a token."""
    # Before the settings are read, which in production may have faults of their own to tell.
    if os.environ.get("WORKHORSE_ENVIRONMENT", "").lower() == "production":
        raise SettingsError(
            "WORKHORSE_ENVIRONMENT is production, where development tokens are worth nothing: ask your issuer for one"
        )
    claims, seconds = parse_claims(arguments.claim), parse_duration(arguments.lifetime)
    settings = load_settings()
    # Not at the top: the other verbs need no cryptography.
    from workhorse.identity import DevelopmentIssuer  # noqa: PLC0415

    issuer = DevelopmentIssuer(settings)
    audience = {} if arguments.audience is None else {"audience": arguments.audience}
    token = issuer.mint(arguments.subject, scopes=arguments.scope, lifetime_seconds=seconds, claims=claims, **audience)
    sys.stdout.write(token + "\n")
    return 0


def parse_duration(text: str) -> int:
    """Read a time such as `15m`, in seconds.

    Raises:
        SettingsError: it is none, or more than a year.
    """
    match = re.fullmatch(r"([0-9]{1,8})([smhd])", text)
    seconds = int(match[1]) * UNITS[match[2]] if match is not None else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise SettingsError(f"--for {text} is no time from a second to a year; write one such as 90s, 15m, 1h or 7d")
    return seconds


def parse_claims(texts: Sequence[str]) -> dict[str, Any]:
    """Read `NAME=VALUE`s.

    Raises:
        SettingsError: one has no name or no value, or a name comes twice.
    """
    claims: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise SettingsError(f"--claim {text} is not NAME=VALUE; write for example --claim tenant=acme")
        if name in claims:
            raise SettingsError(f'--claim {name} comes twice; write a list as --claim \'{name}=["a", "b"]\'')
        try:
            claims[name] = json.loads(value)
        except ValueError:
            claims[name] = value
    return claims
