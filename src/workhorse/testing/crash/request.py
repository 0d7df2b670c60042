"""The request that a crash test sends, and what came back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Reply", "Request"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request, which is sent again, unchanged, after a crash.

    Args:
        method: such as POST.
        path: and query.
        json: the body, as what JSON can say; or `content`, its bytes.
        key: the Idempotency-Key. Without one, only a safe method (RFC 9110, section 9.2.1) is sent again.
        headers: further ones, such as those of `as_caller`.
    """

    method: str
    path: str
    json: Any = field(default=None, kw_only=True)
    content: bytes | None = field(default=None, kw_only=True)
    key: str | None = field(default=None, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], kw_only=True)

    def __post_init__(self) -> None:
        if self.json is not None and self.content is not None:
            raise ValueError("a request has either json or content as its body")

    @property
    def repeatable(self) -> bool:
        """Whether a client may send it again without knowing what became of it."""
        return self.key is not None or self.method.upper() in _SAFE

    def all_headers(self) -> dict[str, str]:
        """Its headers and the key."""
        return {**self.headers, **({"idempotency-key": self.key} if self.key is not None else {})}

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client heard: a status, or for a program its exit code, and the body."""

    status: int
    body: bytes = b""

    def __str__(self) -> str:
        text = self.body[:120].decode("utf-8", "replace")
        return f"{self.status} {text}".strip()
