"""Texts that come from outside and are to be kept: names of users, of sessions, of keys.

Not every store can keep every text. Postgres has no U+0000, and no encoding has half of a surrogate pair, which JSON
can say all the same. What could never have been kept is looked for nowhere: there is no such user, session or key. What
is to be kept now and cannot be is refused as the client's fault, whichever store there is.
"""

from workhorse.errors import PROBLEM_PREFIX, Problem

__all__ = ["TextRefused", "is_text"]


class TextRefused(Problem, ValueError):
    """422: a text of the request cannot be kept. For code that made the text up itself it is a ValueError."""

    status = 422
    type = PROBLEM_PREFIX + "text-refused"
    title = "A text of the request cannot be kept"


def is_text(*texts: str) -> bool:
    """Whether every store can keep them: no U+0000, no half of a surrogate pair."""
    return not any("\0" in text or any("\ud800" <= character <= "\udfff" for character in text) for text in texts)
