# The library has no types. With this, what comes of it is Any to a checker, not an error on each line.
from typing import Any

def __getattr__(name: str) -> Any: ...
