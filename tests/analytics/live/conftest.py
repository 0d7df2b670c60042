"""Real servers for the tests that need one."""

from tests.servers.conftest import start

__all__ = ["start"]
