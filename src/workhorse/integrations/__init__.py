"""What Workhorse does for the frameworks that it knows. Each is imported only if the app has imported it already."""

import sys
from importlib import import_module
from typing import Final

__all__ = ["adopt"]

# The framework's module, and ours that adopts its apps; the more special one first.
_ADOPTERS: Final = (
    ("fastapi", "workhorse.integrations.fastapi"),
    ("starlette", "workhorse.integrations.starlette"),
)


def adopt(app: object) -> bool:
    """Make `app` answer its errors as RFC 9457 problem documents, where it has no handlers of its own for them.

    Returns whether a framework was recognised. An app of any other kind is left as it is, and served all the same.
    """
    return any(framework in sys.modules and import_module(adopter).adopt(app) for framework, adopter in _ADOPTERS)
