"""Migrations begin with nothing."""

import pytest


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """An empty database of this test's own."""
    return empty_database_url
