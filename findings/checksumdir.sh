#!/usr/bin/env bash
# checksumdir 1.3.0: the checksum of a folder does not depend on which file holds what.
#
# Seen: dirhash(folder, "sha256") is the same for a data set, for one whose train and test files changed places, for one whose files were
#   renamed and moved into other folders. Only the multiset of file
#   contents counts: the digests of the files are sorted before they are hashed. `include_paths=True` tells them apart; it is off by default.
# Guessed: a checksum of a folder covers the names in it, as git's trees, `find | sort | sha256sum`, nix and dirhash do; with a strong hash
#   chosen by name one expects that two folders of one checksum are two copies.
# Matters to: whoever takes it as the identity of a data set, e.g. as the key of a cache or to check that a run goes on with the data it began
#   with: labels swapped between splits, or class folders (`cats/`, `dogs/`) that changed names, are the same data to it.
#
# Needs python3 and a connection to PyPI; exits 1 when the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check checksumdir==1.3.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import importlib.metadata
import os
import sys

from checksumdir import dirhash

print("checksumdir", importlib.metadata.version("checksumdir"))


def data_set(name, files):
    for path, content in files.items():
        path = os.path.join(sys.argv[1], name, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(content)
    return os.path.join(sys.argv[1], name)


folders = [
    data_set("published", {"train/labels": "7 2 1 0", "test/labels": "5 0 4 1"}),
    data_set("splits swapped", {"train/labels": "5 0 4 1", "test/labels": "7 2 1 0"}),
    data_set("renamed", {"cats/a": "7 2 1 0", "dogs/kept/b": "5 0 4 1"}),
    data_set("another label", {"train/labels": "7 2 1 9", "test/labels": "5 0 4 1"}),
]
plain = [dirhash(folder, "sha256") for folder in folders]
with_paths = [dirhash(folder, "sha256", include_paths=True) for folder in folders]
for folder, a, b in zip(folders, plain, with_paths):
    print(f"{os.path.basename(folder):16} default {a[:16]}   include_paths=True {b[:16]}")
still = plain[0] == plain[1] == plain[2] != plain[3] and len(set(with_paths)) == 4
print("as described" if still else "CHANGED: this is not what the header describes")
sys.exit(not still)
PY
