"""Loads the service that a command line names."""

import importlib
import sys
from pathlib import Path

from workhorse.errors import SettingsError
from workhorse.service import Service

__all__ = ["load_service", "split_target"]


def split_target(target: str) -> tuple[str, str]:
    """Cut `module:attribute` in two, and put the working folder on the path, where such modules are looked for.

    Raises:
        SettingsError: the target is malformed.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise SettingsError(f"{target!r} is not MODULE:ATTRIBUTE; write for example `bank.app:service`")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return module, attribute


def load_service(target: str) -> Service:
    """Import `module:attribute`.

    Raises:
        SettingsError: there is no such module or attribute, or it is no `Service`.
    """
    module_name, attribute = split_target(target)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SettingsError(f"the module {module_name!r} cannot be imported from {Path.cwd()}: {error}") from error
    service = getattr(module, attribute, None)
    if not isinstance(service, Service):
        raise SettingsError(f"{target!r} is {type(service).__name__}, not a workhorse.Service")
    return service
