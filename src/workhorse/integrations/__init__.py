"""What Workhorse does for the frameworks that it knows. Each is imported only if the app has imported it already."""

import sys
from importlib import import_module
from typing import Final

__all__ = ["adopt", "is_routed"]

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


def is_routed(app: object, method: str, path: str) -> bool:
    """Whether `app` has a route for this method (`*`: any) and path template.

    True as well for an app of a framework that we do not know, whose routes cannot be asked.
    """
    if "starlette" not in sys.modules:
        return True
    starlette = import_module("workhorse.integrations.starlette")
    routed: bool = starlette.is_routed(app, method, path)
    return routed
