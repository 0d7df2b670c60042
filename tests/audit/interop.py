"""Holds our trees, proofs, notes and cosignatures against Go's golang.org/x/mod/sumdb, in both directions.

    python -m tests.audit.interop            fails if Go, or its package, is not there

Go makes the vectors anew, which must be the committed ones; then Go checks what we make. Without a Go module proxy:
`apt-get install golang-go golang-golang-x-mod-dev`, whose place is the default of GOPATH here.
"""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.audit.kit import SEEN, signer
from workhorse.audit.keys import COSIGNATURE
from workhorse.audit.notes import Note
from workhorse.audit.tiles import Growth, TileNodes
from workhorse.audit.tree import leaf_hash, prove_consistency, prove_inclusion, root_of

HERE = Path(__file__).parent
DEBIAN_GOPATH = "/usr/share/gocode"
SIZE = 1_500
SECONDS = 300


def material() -> dict[str, Any]:
    """What we make, for Go to check."""
    entries = [b"entry %d" % number for number in range(SIZE)]
    leaves = [leaf_hash(entry) for entry in entries]
    nodes = TileNodes(Growth().append(entries).get, SIZE)
    sizes = sorted({*range(1, 34), 255, 256, 257, 511, 512, 513, 1_024, SIZE})
    roots = {size: text(root_of(leaves[:size])) for size in sizes}
    return {
        "Inclusion": [
            {
                "Index": index,
                "Size": size,
                "Leaf": text(leaves[index]),
                "Root": roots[size],
                "Proof": [text(one) for one in prove_inclusion(nodes, index, size)],
            }
            for size in sizes
            for index in sorted({0, size // 2, size - 1})
        ],
        "Consistency": [
            {
                "Old": old,
                "Size": size,
                "OldRoot": roots[old],
                "Root": roots[size],
                "Proof": [text(one) for one in prove_consistency(nodes, old, size)],
            }
            for old in sizes
            for size in sizes
            if old <= size
        ],
        "Notes": [
            {
                "Signer": key.reveal(),
                "Verifier": str(key.verifier),
                "Text": said,
                "Note": Note(said).sign(key).encode().decode(),
            }
            for key in (signer("bank.example/audit"), signer("\u00fcn\u00efcode/\u6728"))
            for said in ("one line\n", "with\n\nempty lines\n\n", f"bank.example/audit\n5\n{roots[5]}\n")
        ],
        "Cosigned": [
            {"Verifier": str(key.verifier), "Note": Note(said).sign(key, seconds=seconds).encode().decode()}
            for key in (signer("witness.example/w1", COSIGNATURE),)
            for said in (f"bank.example/audit\n5\n{roots[5]}\n",)
            for seconds in (0, SEEN, 2**63 - 1)
        ],
    }


def run(*arguments: str, given: str = "") -> str:
    go = shutil.which("go")
    if go is None:
        raise SystemExit("go is not there: apt-get install golang-go golang-golang-x-mod-dev")
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": os.environ.get("GOPATH", DEBIAN_GOPATH), "GOFLAGS": ""}
    done = subprocess.run(
        [go, "run", "main.go", *arguments],
        cwd=HERE / "go",
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"go run main.go {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    if json.loads(run("vectors")) != json.loads((HERE / "go_vectors.json").read_text()):
        raise SystemExit("Go makes other vectors than the committed ones: tests/audit/go_vectors.json is out of date")
    sys.stdout.write(run("check", given=json.dumps(material())))
    broken = material()
    broken["Inclusion"][-1]["Proof"][0] = text(leaf_hash(b"broken"))
    try:
        run("check", given=json.dumps(broken))
    except SystemExit:
        return
    raise SystemExit("Go let a broken proof pass, so its check says nothing")


def text(raw: bytes) -> str:
    return b64encode(raw).decode()


if __name__ == "__main__":
    main()
