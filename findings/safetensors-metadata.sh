#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata give another file each time they are saved.
#
# Seen: twenty calls of save() in one process with the same arrays and six metadata entries give many different files; what they hold is
#   equal. Metadata are kept in a hash map whose order is drawn anew for every map, and are written in that order. Without metadata, or with
#   one entry (as most converters write, {"format": "pt"}), the file is always the same, so a test with either passes.
# Guessed: the format is canonical enough to be hashed: tensors are sorted and aligned, and a library in Rust that makes a point of a
#   fixed layout would sort the strings beside them.
# Matters to: whoever takes the hash of a checkpoint for its identity (content-addressed stores, caches of scores by hash of the weights,
#   checks that a training run is reproducible bit for bit): equal runs differ, and the store keeps every copy. Hash the tensors instead,
#   or sort: write at most one entry, e.g. one JSON text.
#
# Needs python3 (3.10 or later) and a connection to PyPI; exits 1 when the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PY'
import hashlib
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

print("safetensors", safetensors.__version__)
weights = {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.zeros(3)}
different = {}
for entries in 0, 1, 2, 6:
    metadata = {f"key{i}": str(i) for i in range(entries)} or None
    files = [save(weights, metadata=metadata) for _ in range(20)]
    assert all(np.array_equal(load(file)["kernel"], weights["kernel"]) for file in files)
    different[entries] = len({hashlib.sha256(file).hexdigest() for file in files})
    print(f"{entries} entries of metadata: 20 saves, {different[entries]} different files")
still = different[0] == different[1] == 1 and different[6] > 1
print("as described" if still else "CHANGED: this is not what the header describes")
sys.exit(not still)
PY
