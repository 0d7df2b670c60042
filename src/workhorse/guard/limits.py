"""Rate limits: which counters a request takes from, and what the client is told of them.

The counters are a store's (`contracts.CounterStore`); here is only what can be decided without one.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from workhorse.asgi import Headers
from workhorse.contracts import Grant
from workhorse.guard.problems import TooManyRequests
from workhorse.guard.routes import Limit
from workhorse.guard.verdict import Refusal
from workhorse.networks import network_of
from workhorse.principal import ANONYMOUS, Principal
from workhorse.rate import Per, Quota

__all__ = ["check_grants", "key_of", "limit_headers", "quotas_of"]

MAX_KEY: Final = 120


def quotas_of(limits: Sequence[Limit], client: str, principal: Principal) -> list[Quota]:
    """The quotas that a request of this sender takes from.

    An anonymous caller is known by nothing but its address; nor has it a credential.
    """
    return [Quota(key_of(limit, client, principal), limit.interval_us, limit.capacity) for limit in limits]


def key_of(limit: Limit, client: str, principal: Principal) -> str:
    """The counter of one limit that a request of this sender takes from."""
    per = limit.per
    if per == "caller" and principal is not ANONYMOUS:
        key = f"{limit.prefix}={principal.key}"
    else:
        key = limit.prefix + _whose(per, client, principal)
    return key if len(key) <= MAX_KEY else limit.prefix[:40] + blake2b(key.encode(), digest_size=24).hexdigest()


def _whose(per: Per, client: str, principal: Principal) -> str:
    if per == "route":
        return ""
    if per == "address" or principal is ANONYMOUS:
        return network_of(client)
    # With the issuer: two may give their tokens the same number.
    return f"#{principal.issuer}#{principal.credential}" if principal.credential else "=" + principal.key


def check_grants(limits: Sequence[Limit], grants: Sequence[Grant]) -> Refusal | None:
    """Refuse a request that is over one of its limits.

    Threat: one caller that takes what all need, and guessing by trying (CWE-770, CWE-799, CWE-307).
    Method: GCRA (see `workhorse.rate`) in a store that all processes share.
    Assumes: the address is the sender's, so that proxies in front are trusted ones.
    Standard: RFC 6585, section 4; draft-ietf-httpapi-ratelimit-headers-10; OWASP ASVS 5.0.0 V2.4.1; OWASP API4:2023.
    """
    worst = -1
    for place, grant in enumerate(grants):
        if not grant[0] and (worst < 0 or grant.retry_after_us > grants[worst].retry_after_us):
            worst = place
    if worst < 0:
        return None
    limit, grant = limits[worst], grants[worst]
    seconds = -(-grant.retry_after_us // 1_000_000)
    return Refusal(
        f"rate.{limit.per}",
        TooManyRequests(
            f"At most {limit.rate.limit} are served to one {limit.per}."
            if limit.per != "route"
            else f"At most {limit.rate.limit} are served.",
            headers=((b"retry-after", b"%d" % max(1, seconds)),),
        ),
    )


def limit_headers(limits: Sequence[Limit], grants: Sequence[Grant]) -> Headers:
    """RateLimit-Policy and RateLimit, as structured fields: what is left, and the seconds until all of it is back."""
    left = [_left(limit, grants[place]) for place, limit in enumerate(limits)]
    return [
        (b"ratelimit-policy", b", ".join([limit.described for limit in limits])),
        (b"ratelimit", b", ".join(left)),
    ]


def _left(limit: Limit, grant: Grant) -> bytes:
    return limit.left % (grant.remaining, -(-grant.reset_us // 1_000_000))
