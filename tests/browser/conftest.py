"""One Chromium for all tests of this folder; an empty window, with no cookies, for each.

They run only where they are asked for (`-m browser`), because not every machine has a browser.
"""

from collections.abc import Iterator

import pytest

from tests.browser.chromium import Browser, Page, chromium


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs Chromium; runs only when asked for with -m browser")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "browser" in config.getoption("markexpr"):
        return
    deselected = [item for item in items if item.get_closest_marker("browser")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.new_page()
