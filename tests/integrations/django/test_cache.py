"""Django's cache framework on the service's stores: what Django promises, over all threads and processes."""

import asyncio
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

from tests.integrations.django.conftest import APPS, CHANGED, Project
from tests.integrations.django.serving import EVERYWHERE
from workhorse.embedded import Attachment
from workhorse.errors import StoreUnavailable
from workhorse.testing import service_client

BACKEND = "workhorse.integrations.django.cache.WorkhorseCache"
STORES = ["cache", "database", "memory"]
PREFIX = f"p{os.getpid()}"  # of the server that tests of other processes use as well


def use(project: Project, store: str, url: str, **more: Any) -> Any:
    """Two caches, and others beside them that share the store but not its keys."""
    one = {"BACKEND": BACKEND, "KEY_PREFIX": PREFIX, **more}
    project.configure(
        CACHES={"default": one, "other": {**one, "KEY_PREFIX": f"other{PREFIX}"}},
        WORKHORSE={"cache": {"store": store, **({"url": url} if store == "cache" else {})}, "log": {"access": False}},
    )
    CHANGED.send(sender=None, setting="CACHES", value=None, enter=True)
    return cast("Any", caches)["default"]


@pytest.fixture
def closing(project: Project) -> Iterator[None]:
    yield
    APPS.get_app_config("workhorse").close_caches()


@pytest.fixture(params=STORES)
def cache(project: Project, servers: Attachment, request: Any, closing: None) -> Iterator[Any]:
    assert servers.cache_url is not None
    made = use(project, request.param, servers.cache_url)
    made.clear()
    yield made
    made.clear()


def test_values_are_kept_until_their_time_or_a_deletion(cache: Any) -> None:
    cache.set("a", {"any": ["object", 1.5, None]})
    cache.set("brief", 1, timeout=0.3)
    cache.set("never", 1, timeout=0)
    cache.set("ever", 1, timeout=None)
    assert [cache.get(key) for key in ("a", "brief", "never", "ever", "none")] == [
        {"any": ["object", 1.5, None]},
        1,
        None,
        1,
        None,
    ]
    time.sleep(0.35)
    assert ("brief" in cache, cache.has_key("a")) == (False, True)
    assert [cache.delete("a"), cache.delete("a"), cache.get("a", "gone")] == [True, False, "gone"]
    cache.set("nothing", None)
    assert cache.get("nothing", "default") is None


def test_several_are_one_call(cache: Any) -> None:
    assert cache.set_many({f"k{number}": number for number in range(1_500)}, timeout=60) == []
    found = cache.get_many([f"k{number}" for number in range(0, 2_000, 3)])
    assert found == {f"k{number}": number for number in range(0, 1_500, 3)}
    cache.delete_many(["k0", "k3"])
    assert cache.get_many(["k0", "k3", "k6"]) == {"k6": 6}


def test_versions_and_prefixes_are_apart_and_clear_empties_one(cache: Any) -> None:
    other = cast("Any", caches)["other"]
    cache.set("a", 1)
    cache.set("a", 2, version=2)
    other.set("a", 3)
    assert [cache.get("a"), cache.get("a", version=2), other.get("a")] == [1, 2, 3]
    cache.incr_version("a", delta=2)
    assert [cache.get("a"), cache.get("a", version=3)] == [None, 1]
    cache.clear()
    assert [cache.get("a", version=3), cache.get("a", version=2), other.get("a")] == [None, None, 3]
    other.clear()


def test_one_of_all_who_add_succeeds_and_no_increment_is_lost(cache: Any) -> None:
    cache.set("count", 0, timeout=60)

    def work(number: int) -> bool:
        mine = cast("Any", caches)["default"]
        for _ in range(5):
            mine.incr("count")
        return bool(mine.add("lock", number))

    with ThreadPoolExecutor(6) as threads:
        added = list(threads.map(work, range(6)))
    assert (cache.get("count"), added.count(True)) == (30, 1)
    assert cache.get("lock") == added.index(True)
    assert cache.decr("count", 10) == 20
    with pytest.raises(ValueError, match="not found"):
        cache.incr("none")
    cache.set("text", "a")
    with pytest.raises(TypeError):
        cache.incr("text")
    cache.set("count", 1)
    assert cache.incr("count") == 2  # a failed change leaves no claim behind


def test_touch_and_get_or_set(cache: Any) -> None:
    cache.set("a", 1, timeout=0.4)
    assert [cache.touch("a", 60), cache.touch("none", 60)] == [True, False]
    time.sleep(0.45)
    assert cache.get("a") == 1
    assert cache.touch("a", 0)
    assert cache.get("a") is None
    assert [cache.get_or_set("made", lambda: 7), cache.get_or_set("made", lambda: 8)] == [7, 7]


def test_async_code_has_the_same(cache: Any) -> None:
    async def main() -> list[Any]:
        await cache.aset("a", 1, timeout=60)
        return [
            await cache.aget("a"),
            await cache.aincr("a", 4),
            await cache.aadd("a", 2),
            await cache.aadd("b", 2),
            await cache.aget_many(["a", "b", "c"]),
            await cache.atouch("b", 60),
            await cache.ahas_key("b"),
            await cache.adelete("b"),
            await cache.aset_many({"c": 3}),
            await cache.adelete_many(["c"]),
            await cache.aget_or_set("d", 9),
            await cache.aclear(),
            await cache.aget("a"),
        ]

    assert asyncio.run(main()) == [1, 5, False, True, {"a": 5, "b": 2}, True, True, True, [], None, 9, None, None]


def test_what_this_project_did_not_sign_is_not_unpickled(project: Project, cache: Any) -> None:
    line = APPS.get_app_config("workhorse").cache_line("")
    cache.set("a", 1)
    cache.set("b", 2)

    async def swap(store: Any) -> None:
        from workhorse.contracts import CacheEntry

        (kept,) = await store.get([f"django:{PREFIX}:1:b"])
        evil = b"0" * 16 + pickle.dumps(print)
        await store.set(
            [CacheEntry(f"django:{PREFIX}:1:a", kept.data, 60.0, (f"django:{PREFIX}",))]
        )  # signed, for another key
        await store.set([CacheEntry(f"django:{PREFIX}:1:c", evil, 60.0, (f"django:{PREFIX}",))])

    line.send(swap).result(5)
    assert [cache.get("a"), cache.get("b"), cache.get("c")] == [None, 2, None]
    assert cache.add("c", 3)
    project.configure(SECRET_KEY="another one", SECRET_KEY_FALLBACKS=["only in this test"])
    CHANGED.send(sender=None, setting="CACHES", value=None, enter=True)
    assert cast("Any", caches)["default"].get("b") == 2
    project.configure(SECRET_KEY_FALLBACKS=[])
    CHANGED.send(sender=None, setting="CACHES", value=None, enter=True)
    assert cast("Any", caches)["default"].get("b") is None


def test_a_store_that_is_away_raises_or_is_passed_by(project: Project, closing: None) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    cache = use(project, "auto", "", LOCATION=nowhere)
    with pytest.raises(StoreUnavailable):
        cache.get("a")
    cache = use(project, "auto", "", LOCATION=nowhere, OPTIONS={"away": "bypass"})
    cache.set("a", 1)
    assert [cache.get("a", 2), cache.add("a", 1), cache.delete("a"), cache.get_or_set("a", 5)] == [2, False, False, 5]


def test_too_large_values_and_malformed_options(project: Project, closing: None) -> None:
    cache = use(project, "memory", "", OPTIONS={"max_value_bytes": 1_000})
    cache.set("a", 1)
    assert cache.set_many({"a": "x" * 2_000, "b": 1}) == ["a"]
    assert [cache.get("a"), cache.get("b")] == [None, 1]
    for options, says in (({"away": "wait"}, "'raise' or 'bypass'"), ({"pool": 1}, "OPTIONS has pool")):
        with pytest.raises(cast("Any", ImproperlyConfigured), match=says):
            use(project, "memory", "", OPTIONS=options)


def test_views_sync_and_async_share_a_cache(project: Project, servers: Attachment, closing: None) -> None:
    assert servers.cache_url is not None
    cache = use(project, "cache", servers.cache_url)
    cache.clear()

    async def main() -> list[str]:
        async with service_client(project.service(*EVERYWHERE)) as client:
            return [(await client.get(path)).text for path in ("/counts", "/counts-async", "/counts")]

    assert asyncio.run(main()) == ["1", "2", "3"]
    assert cache.get("visits") == 3
