"""What is promised of an object store holds of each: whole objects, of which the first stays."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.analytics.exports.conftest import MakeStore
from workhorse.contracts.objects import ObjectStoreFailed
from workhorse.errors import SettingsError
from workhorse.state.objects import FolderStore, open_store


def test_of_many_who_put_one_object_one_wins_and_its_bytes_stay(make_store: MakeStore) -> None:
    async def main() -> None:
        stores = [make_store() for _ in range(8)]
        won = await asyncio.gather(*(store.put_new("a/b.json", b"%d" % n) for n, store in enumerate(stores)))
        assert won.count(True) == 1
        assert await stores[0].read("a/b.json") == b"%d" % won.index(True)

    asyncio.run(main())


def test_an_upload_is_read_in_parts_listed_and_deleted(make_store: MakeStore, tmp_path: Path) -> None:
    data = bytes(range(256)) * 50_000
    file = tmp_path / "file"
    file.write_bytes(data)

    async def main() -> None:
        store = make_store()
        await store.upload("day=1/part.parquet", file)
        await store.put_new("_export/x.json", b"{}")
        assert await store.size("day=1/part.parquet") == len(data)
        assert await store.names() == ["_export/x.json", "day=1/part.parquet"]
        assert await store.names("_export/") == ["_export/x.json"]
        part = b"".join([part async for part in store.stream("day=1/part.parquet", 1_000, 12_000_001)])
        assert part == data[1_000:12_000_001]
        await store.delete("day=1/part.parquet")
        await store.delete("day=1/part.parquet")
        assert await store.size("day=1/part.parquet") is None
        assert await store.read("day=1/part.parquet") is None

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "../x", "a//b", "/etc/passwd", "a/./b", "a/..", "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(make_store: MakeStore, name: str) -> None:
    with pytest.raises(ValueError, match="no name of an object"):
        asyncio.run(make_store().put_new(name, b""))


def test_an_address_of_no_store_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SettingsError, match=r"ftp://.*s3://"):
        open_store("ftp://somewhere")


def test_without_the_library_a_bucket_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(SettingsError, match=r"workhorse\[objects\]"):
        open_store("s3://bucket/prefix")


def test_a_bucket_that_is_not_there_says_so(s3_endpoint: str) -> None:
    keys = {"access_key_id": "test", "secret_access_key": "test"}
    store = open_store("s3://nobodys", config={"endpoint": s3_endpoint, "region": "us-east-1", **keys})
    for asked in (store.put_new("a", b""), store.names()):
        with pytest.raises(ObjectStoreFailed, match="s3://nobodys failed"):
            asyncio.run(asked)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ObjectStoreFailed, match="the folder failed"):
        asyncio.run(FolderStore(tmp_path / "file" / "store").put_new("a", b""))


def test_a_folder_shows_nothing_of_what_a_crash_left_half_written(tmp_path: Path) -> None:
    (tmp_path / ".1234.part").write_bytes(b"half")

    async def main() -> None:
        store = FolderStore(tmp_path)
        await store.put_new("whole", b"")
        assert await store.names() == ["whole"]

    asyncio.run(main())
