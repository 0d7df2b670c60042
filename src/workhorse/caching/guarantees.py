"""Refuses at start-up what a store cannot promise: a wish is checked against the store's own declaration."""

from enum import Flag

from workhorse.errors import SettingsError

__all__ = ["require"]


def require(wish: Flag, have: Flag, *, where: str) -> None:
    """Check that a store promises what is wished.

        require(LeaseGuarantee.DURABLE, store.guarantees, where="the leases of redis")

    Raises:
        SettingsError: it does not.
    """
    missing = wish & ~have
    if missing:
        raise SettingsError(
            f"{where} cannot promise {spell(missing)}; they promise {spell(have)}."
            " Wish for less, or choose a store that does (docs/cache.md and docs/leases.md list them)"
        )


def spell(flags: Flag) -> str:
    """The names of the members, as in a sentence."""
    return ", ".join(str(flag.name).lower() for flag in flags) or "nothing"
