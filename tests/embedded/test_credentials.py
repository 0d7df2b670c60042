"""Postgres runs whoever we are: a normal user, root with user namespaces, and root where those are forbidden."""

import os
from pathlib import Path

from tests.embedded.kit import NOBODY, public_folder, run_as_nobody, run_without_namespaces
from workhorse.embedded import attach, stop
from workhorse.embedded.credentials import Disguise, choose_identity

SCRIPT = """
import os, sys
from pathlib import Path
import psycopg, valkey
from workhorse.embedded import attach, stop
folder = Path(sys.argv[1])
for expected in (None, 7):
    with attach(folder) as servers, psycopg.connect(servers.database_url) as connection:
        if expected is None:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
        with valkey.Valkey.from_url(servers.cache_url) as cache:
            assert cache.ping()
    assert stop(folder)
print("uid", os.geteuid(), "data", (folder / "postgres").stat().st_uid)
"""


def test_an_unprivileged_user_with_an_empty_environment_gets_servers() -> None:
    with public_folder() as public:
        done = run_as_nobody(SCRIPT, str(public / "servers"))
        assert done.returncode == 0, done.stderr
        user = NOBODY if os.geteuid() == 0 else os.geteuid()
        assert done.stdout.split() == ["uid", str(user), "data", str(user)]


def test_the_identity_is_another_one_than_root_and_its_files_are_ours() -> None:
    identity = choose_identity()
    if os.geteuid() != 0:
        assert (identity.disguise, identity.uid) == (Disguise.NONE, os.geteuid())
    elif identity.disguise is Disguise.NAMESPACE:
        assert identity.uid == 0
    else:  # a machine may forbid namespaces, or have no more of them for the moment
        assert identity.disguise is Disguise.USER
        assert identity.uid != 0


def test_root_without_user_namespaces_hands_the_data_to_an_unprivileged_user() -> None:
    if os.geteuid() != 0:
        assert choose_identity().disguise is Disguise.NONE, "only root needs another identity"
        return
    with public_folder() as public:
        folder = public / "servers"
        done = run_without_namespaces(SCRIPT, str(folder))
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["uid", "0", "data", str(NOBODY)]
        # The same data again where namespaces are allowed: they come back to us.
        attach(folder, cache=False).close()
        stop(folder)
        assert (folder / "postgres").stat().st_uid == 0


def test_a_folder_that_the_unprivileged_user_cannot_reach_is_named(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert choose_identity().disguise is Disguise.NONE, "only root needs another identity"
        return
    tmp_path.chmod(0o700)
    script = SCRIPT.replace("attach(folder)", "attach(folder, cache=False)")
    done = run_without_namespaces(script, str(tmp_path / "servers"))
    assert done.returncode == 1
    assert f"the user nobody cannot pass through {tmp_path}" in done.stderr
    stop(tmp_path / "servers")
