"""In what an app's own security header is weaker than the one that the guard would have sent.

An app may have its reasons, so its header wins; but whoever answers for the service must learn of it, and from the
service itself rather than from a scanner a year later. Each answer is a sentence for the log, or nothing.
"""

from collections.abc import Callable, Mapping
from typing import Final

from workhorse.guard.headers import HeaderRules

__all__ = ["weakened"]

Sources = Mapping[str, list[str]]

# From the strictest on (Referrer Policy, section 3).
_REFERRER: Final = (
    "no-referrer",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "origin",
    "origin-when-cross-origin",
    "no-referrer-when-downgrade",
    "unsafe-url",
)
_OPENER: Final = frozenset({"same-origin", "same-origin-plus-coep"})
_EMBEDDER: Final = frozenset({"require-corp", "credentialless"})
_ANYWHERE: Final = frozenset({"*", "http:", "https:", "data:", "blob:", "filesystem:", "ws:", "wss:"})


def weakened(rules: HeaderRules, name: bytes, own: bytes) -> str:
    """In what an app's own header is weaker than ours; empty if it is as strict, or none of ours.

    Threat: a protection that is taken away by a setting that nobody looks at any more (CWE-1021, CWE-693, CWE-79).
    Method: each header by its own grammar, as browsers read it: what they do not know is as if it were not there.
    Assumes: the header is one that took the place of ours (`reply_headers`).
    Standard: CSP level 3, section 6; HTML, sections 7.1.3 and 7.1.4; Referrer Policy; RFC 6797, section 6.1; OWASP ASVS
        5.0.0 V3.4.1 and V3.4.3 to V3.4.8, V3.5.8 and V14.3.2.

    Args:
        rules: ours.
        name: of the header.
        own: the app's value.
    """
    compare = _COMPARE.get(name.lower())
    return compare(rules, own.decode("latin-1").strip().lower()) if compare is not None else ""


def _nosniff(rules: HeaderRules, own: str) -> str:  # noqa: ARG001 - one signature for all
    # Only the first of a list counts (Fetch, section 3.6).
    return "" if own.partition(",")[0].strip() == "nosniff" else "is not `nosniff`, so browsers guess the type"


def _frame_options(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    if own == "deny":
        return ""
    if own == "sameorigin":
        return "lets pages of the same origin frame it"
    return f"is {own!r}, which no browser heeds; write DENY, or frame-ancestors in Content-Security-Policy"


def _referrer(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    # The last word that a browser knows counts.
    known = [word for word in (word.strip() for word in own.split(",")) if word in _REFERRER]
    if not known:
        return f"is {own!r}, which no browser knows"
    rank = _REFERRER.index(known[-1])
    if rank <= 1:
        return ""
    return "tells other sites the origin" if rank <= 5 else "tells other sites the whole address"


def _hsts(rules: HeaderRules, own: str) -> str:
    if not rules.hsts:
        return ""
    ours, theirs = _directives(rules.hsts.decode()), _directives(own)
    if _seconds(theirs) < _seconds(ours):
        return f"holds for {_seconds(theirs)} seconds instead of {_seconds(ours)}"
    if "includesubdomains" in ours and "includesubdomains" not in theirs:
        return "leaves the subdomains out"
    return ""


def _opener(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    return "" if _word(own) in _OPENER else "lets windows of other origins keep hold of the page"


def _embedder(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    return "" if _word(own) in _EMBEDDER else "lets the page load what did not opt in"


def _resource(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    if own == "same-origin":
        return ""
    return "lets other hosts of the site load it" if own == "same-site" else "lets every site load it"


def _permissions(rules: HeaderRules, own: str) -> str:
    denied = {item.replace(" ", "") for item in own.split(",")}
    open_ = [feature for feature in rules.denied_features if f"{feature}=()" not in denied]
    return f"does not deny {', '.join(open_)}" if open_ else ""


def _agent_cluster(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    return "" if _word(own) == "?1" else "lets the page share its process with other origins of the site"


def _cross_domain(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    return "" if own in {"none", "none-this-response"} else "lets documents of other sites read it"


def _cache(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    given = _directives(own.replace(",", ";"))
    if "no-store" in given:
        return ""
    if "private" in given and "public" not in given and "s-maxage" not in given:
        return ""
    return "lets a cache keep one caller's reply for others; add private or no-store"


def _reporting(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    return "" if own else "names no place for reports"


def _content_security(rules: HeaderRules, own: str) -> str:  # noqa: ARG001
    # All policies of a list hold, so what one of them forbids is forbidden.
    faults: list[str] | None = None
    for policy in own.split(","):
        if policy.strip():
            found = _policy_faults(_parse_policy(policy))
            faults = found if faults is None else [fault for fault in faults if fault in found]
    return "; ".join(faults) if faults is not None else "is empty"


def _parse_policy(policy: str) -> Sources:
    """The directives and their sources; the first of a name counts (CSP level 3, section 2.2.1)."""
    found: dict[str, list[str]] = {}
    for directive in policy.split(";"):
        words = directive.split()
        if words:
            found.setdefault(words[0], words[1:])
    return found


def _policy_faults(policy: Sources) -> list[str]:
    faults: list[str] = []
    ancestors = policy.get("frame-ancestors")
    if ancestors is None:
        faults.append("does not say who may frame it (frame-ancestors)")
    elif _open(ancestors):
        faults.append("lets every site frame it")
    if policy.get("default-src") == ["'none'"] and not any(
        name in policy for name in ("script-src", "script-src-elem", "script-src-attr", "style-src", "object-src")
    ):
        return faults  # data, not a page
    sandbox = policy.get("sandbox")
    if sandbox is None or "allow-scripts" in sandbox:
        faults += _script_faults(policy)
    styles = _effective(policy, "style-src")
    if styles is None or _open(styles) or _inline(styles):
        faults.append("lets styles run that stand in the page, or come from anywhere")
    if _effective(policy, "object-src") not in (["'none'"], []):
        faults.append("lets plug-ins run (object-src)")
    base = policy.get("base-uri")
    if base is None or _open(base):
        faults.append("lets a page move its own address (base-uri)")
    action = policy.get("form-action")
    if action is None or _open(action):
        faults.append("lets forms be sent anywhere (form-action)")
    return faults


def _script_faults(policy: Sources) -> list[str]:
    faults: list[str] = []
    for name in ("script-src-elem", "script-src-attr", "script-src"):
        if name != "script-src" and name not in policy:
            continue
        sources = _effective(policy, name)
        # Where scripts are trusted by nonce and by who loads them, no browser looks at hosts.
        if sources is None or (_open(sources) and "'strict-dynamic'" not in sources):
            faults.append("lets scripts of any site run")
        elif _inline(sources):
            faults.append("lets scripts run that stand in the page ('unsafe-inline')")
        if sources is not None and "'unsafe-eval'" in sources:
            faults.append("lets scripts make scripts of text ('unsafe-eval')")
    return list(dict.fromkeys(faults))


def _effective(policy: Sources, name: str) -> list[str] | None:
    """The sources that hold for `name`, by default those of `default-src`; None: any."""
    sources = policy.get(name)
    return sources if sources is not None else policy.get("default-src")


def _open(sources: list[str]) -> bool:
    return not _ANYWHERE.isdisjoint(sources)


def _inline(sources: list[str]) -> bool:
    """Whether what stands in the page runs: a nonce or a hash takes 'unsafe-inline' back."""
    return "'unsafe-inline'" in sources and not any(
        source.startswith(("'nonce-", "'sha256-", "'sha384-", "'sha512-")) or source == "'strict-dynamic'"
        for source in sources
    )


def _word(own: str) -> str:
    """The value of a structured header without its parameters."""
    return own.partition(";")[0].strip()


def _directives(value: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in value.lower().split(";")]
    return {name.strip(): given.strip().strip('"') for name, _, given in pairs if name.strip()}


def _seconds(directives: Mapping[str, str]) -> int:
    given = directives.get("max-age", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else 0


_COMPARE: Final[Mapping[bytes, Callable[[HeaderRules, str], str]]] = {
    b"cache-control": _cache,
    b"content-security-policy": _content_security,
    b"cross-origin-embedder-policy": _embedder,
    b"cross-origin-opener-policy": _opener,
    b"cross-origin-resource-policy": _resource,
    b"origin-agent-cluster": _agent_cluster,
    b"permissions-policy": _permissions,
    b"referrer-policy": _referrer,
    b"reporting-endpoints": _reporting,
    b"strict-transport-security": _hsts,
    b"x-content-type-options": _nosniff,
    b"x-frame-options": _frame_options,
    b"x-permitted-cross-domain-policies": _cross_domain,
}
