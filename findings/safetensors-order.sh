#!/usr/bin/env bash
# safetensors 0.8.0, safetensors.numpy: an array in column order is saved with its values in other places; 0.7.0 saved it right.
#
# Seen: save({"w": x.T}) or of np.asfortranarray(x) writes the shape of the array and its memory as it lies, so load() gives an array of the
#   right shape and type with the values permuted. No error, no warning; a square matrix comes back transposed, all sums and norms agree.
#   0.7.0 copied the values in row order (`tobytes`), and they load right. The documentation asks for arrays that are
#   "contiguous and dense"; an array in column order is both in numpy's words (flags.f_contiguous), and safetensors.torch refuses the like.
# Guessed: the same bytes from both releases, or a refusal as safetensors.torch has it; not a change of meaning between two minor versions.
# Matters to: whoever converts weights with numpy: kernels are transposed between Keras or JAX and torch layouts by `.T`, and MATLAB files and
#   .npy files of MATLAB or R origin are read in column order. A converted checkpoint is then wrong in a way that only its outputs show.
#
# Needs python3 (3.10 or later) and a connection to PyPI; exits 1 when the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/seen.py" <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

x = np.arange(6.0).reshape(2, 3)
arrays = {"rows": x, "transposed": x.T, "column order": np.asfortranarray(x), "copied to rows": np.ascontiguousarray(x.T)}
print("safetensors", safetensors.__version__)
right = {}
for name, array in arrays.items():
    assert array.flags.c_contiguous or array.flags.f_contiguous
    back = load(save({"w": array}))["w"]
    right[name] = np.array_equal(back, array)
    print(f"  {name:15} {array.tolist()} -> {back.tolist()}  {'right' if right[name] else 'WRONG'}")
expected = sys.argv[1].split(",")
sys.exit([name for name in arrays if not right[name]] != [name for name in expected if name])
PY
still=true
for release in "0.7.0:" "0.8.0:transposed,column order"; do
  python3 -m venv "$folder/${release%%:*}"
  "$folder/${release%%:*}/bin/pip" install --quiet --disable-pip-version-check "safetensors==${release%%:*}" numpy==2.2.6
  "$folder/${release%%:*}/bin/python" "$folder/seen.py" "${release#*:}" || still=false
done
$still && echo "as described" || { echo "CHANGED: this is not what the header describes"; exit 1; }
