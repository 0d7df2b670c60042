"""Loads the service that a command line names."""

import importlib
import sys
from pathlib import Path

from workhorse.errors import SettingsError
from workhorse.service import Service

__all__ = ["load_service"]


def load_service(target: str) -> Service:
    """Import `module:attribute`.

    Raises:
        SettingsError: there is no such module or attribute, or it is no `Service`.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise SettingsError(f"{target!r} is not MODULE:ATTRIBUTE; write for example `bank.app:service`")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SettingsError(f"the module {module_name!r} cannot be imported from {here}: {error}") from error
    service = getattr(module, attribute, None)
    if not isinstance(service, Service):
        raise SettingsError(f"{target!r} is {type(service).__name__}, not a workhorse.Service")
    return service
