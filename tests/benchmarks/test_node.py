"""The peer in Node, where there is none."""

from pathlib import Path

import pytest

from benchmarks.bank.node import SOURCE, node_version, prepare_fastify


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prepare_fastify(tmp_path / "fastify") == "node is missing"
    assert node_version() == ""
    (tmp_path / "node").write_text("#!/bin/sh\necho v9.8.7\n", encoding="utf-8")
    (tmp_path / "node").chmod(0o700)
    assert prepare_fastify(tmp_path / "fastify") == "npm is missing"
    assert not (tmp_path / "fastify").exists()


def test_the_packages_are_locked_by_hash_and_no_registry_is_named() -> None:
    lock = (SOURCE / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert lock.count('"integrity": "sha512-') == lock.count('"node_modules/')
