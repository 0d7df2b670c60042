"""What of a page its Content-Security-Policy would stop: a small part of CSP level 3, as far as pages here need it.

A source list is read for `'self'`, nonces and origins; whatever else a policy allows counts as forbidden, so that a
page which needs it is found out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

Attributes = list[tuple[str, str | None]]

LOADS = {
    ("script", "src"): "script-src",
    ("img", "src"): "img-src",
    ("iframe", "src"): "frame-src",
    ("object", "data"): "object-src",
    ("embed", "src"): "object-src",
    ("form", "action"): "form-action",
}
LINKS = {"stylesheet": "style-src", "icon": "img-src", "shortcut icon": "img-src", "manifest": "manifest-src"}
# What `default-src` does not speak for (section 6.1).
ALONE = {"form-action", "base-uri", "frame-ancestors"}


def parse_policy(policy: str) -> dict[str, list[str]]:
    """The sources by directive; the first of a name counts."""
    found: dict[str, list[str]] = {}
    for directive in policy.split(";"):
        name, *sources = directive.split() or [""]
        if name:
            found.setdefault(name.lower(), sources)
    return found


@dataclass
class Reading(HTMLParser):
    """One pass over a page."""

    address: str
    policy: dict[str, list[str]]
    violations: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    """Absolute addresses of what it loads."""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        given = {name: value or "" for name, value in attrs}
        for name, value in given.items():
            if name.startswith("on") or name == "style":
                self.violations.append(f"<{tag} {name}> stands in the page")
            if value.strip().lower().startswith("javascript:"):
                self.violations.append(f"<{tag} {name}> is a script")
        if tag == "style" or (tag == "script" and "src" not in given):
            nonce = f"'nonce-{given['nonce']}'" if given.get("nonce") else None
            if nonce not in self._sources(f"{tag}-src"):
                self.violations.append(f"<{tag}> stands in the page")
        if tag == "base":
            self.violations.append("<base> moves the page's address")
        for directive, url in self._loads(tag, given):
            self._load(tag, directive, urljoin(self.address, url))

    def _loads(self, tag: str, given: dict[str, str]) -> Iterator[tuple[str, str]]:
        if tag == "link":
            directive = LINKS.get(given.get("rel", "").lower())
            if directive is not None:
                yield directive, given["href"]
        for (element, attribute), directive in LOADS.items():
            if element == tag and attribute in given:
                yield directive, given[attribute]

    def _load(self, tag: str, directive: str, url: str) -> None:
        self.loaded.append(url)
        own, other = urlsplit(self.address), urlsplit(url)
        origin = f"{other.scheme}://{other.netloc}"
        same = (own.scheme, own.netloc) == (other.scheme, other.netloc)
        sources = self._sources(directive)
        if not (same and "'self'" in sources) and origin not in sources:
            self.violations.append(f"<{tag}> loads {url}, which {directive} forbids")

    def _sources(self, directive: str) -> list[str]:
        fallback = [] if directive in ALONE else self.policy.get("default-src", [])
        return self.policy.get(directive, fallback)


def read_page(html: str, *, address: str, policy: str) -> Reading:
    """Read a page that came from `address` with this policy."""
    reading = Reading(address, parse_policy(policy))
    reading.feed(html)
    reading.close()
    return reading
