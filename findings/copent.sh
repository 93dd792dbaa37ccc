#!/usr/bin/env bash
# copent 0.5.7: a constant carries as much information about x as an exact copy of x.
#
# Seen: copent(x, constant) on 1,000 normal numbers is 5.06 nats, to the last digit what copent(x, x) is. Ten balanced class labels drawn
#   independently of x give 1.3 nats, an independent flag that is set for one sample in a hundred 4.97. There is no warning. Ranks are taken
#   with ties averaged, so a tied column stays a step function where the estimator of the copula's entropy assumes a uniform marginal; what
#   the marginal lacks in entropy is counted as dependence. Two independent normal variables give about 0, as they should.
# Guessed: about 0 for what is independent, and 0, NaN or a refusal for a constant. Ranks remove units and outliers; they do not look like
#   something that turns a column without information into the best one.
# Matters to: whoever ranks features, latent coordinates or layers by this estimator where one of them may collapse, be binary, or be a label:
#   the collapsed one comes first. Scores can be compared only between columns that have no ties.
#
# Needs python3 (3.10 or later) and a connection to PyPI; exits 1 when the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check copent==0.5.7 numpy==2.2.6 scipy==1.15.3
"$folder/venv/bin/python" - <<'PY'
import importlib.metadata
import sys

import numpy as np
from copent import copent

print("copent", importlib.metadata.version("copent"))
n = 1000
rng = np.random.default_rng(3)
x = rng.normal(size=n)
columns = {
    "an exact copy": x,
    "another normal variable": rng.normal(size=n),
    "a constant": np.ones(n),
    "ten balanced labels": rng.permutation(np.repeat(np.arange(10), n // 10)),
    "a flag set in 1 of 100": rng.permutation(np.arange(n) < n // 100),
}
nats = {name: float(copent(np.stack([x, column.astype(float)], 1))) for name, column in columns.items()}
for name, value in nats.items():
    print(f"x and {name:24} {value:7.3f} nats")
still = (
    abs(nats["a constant"] - nats["an exact copy"]) < 1e-9
    and abs(nats["another normal variable"]) < 0.2
    and nats["ten balanced labels"] > 1
    and nats["a flag set in 1 of 100"] > 4
)
print("as described" if still else "CHANGED: this is not what the header describes")
sys.exit(not still)
PY
