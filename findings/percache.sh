#!/usr/bin/env bash
# percache 0.4.4: a cached function of an array answers for other arrays with the first one's result.
#
# Seen: with `@percache.Cache(file)` a function of one array of 5,000 numbers returns the result for zeros when it is called with zeros whose
#   inner 4,800 are ones, in this process and, as the cache is a file, in every later one. The key is made of `repr` of the arguments, and
#   numpy shortens the repr of more than 1,000 numbers to the first and last three: every data set with black margins has the same key.
#   Arrays of up to 1,000 numbers are told apart, so tests on small inputs pass.
# Guessed: that arguments are told apart by content (pickled or hashed, as joblib.Memory, diskcache and cachier do), or that an argument
#   that cannot be a key is refused. That the key is `repr` is documented, that repr of an array is lossy is well known; that both meet
#   without a word is what one does not expect.
# Matters to: whoever keeps features, estimates of information or scores of a data set in such a cache: a second data set of the same shape
#   gets the first one's numbers.
#
# Needs python3 (3.10 or later) and a connection to PyPI; exits 1 when the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check percache==0.4.4 numpy==2.2.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import importlib.metadata
import os
import sys

import numpy as np
import percache

print("percache", importlib.metadata.version("percache"))


def through_cache(size):
    cache = percache.Cache(os.path.join(sys.argv[1], f"cache-{size}"))

    @cache
    def mean(array):
        return float(array.mean())

    first, second = np.zeros(size), np.zeros(size)
    second[size // 50 : -size // 50] = 1
    answers = mean(first), mean(second)
    print(f"{size} numbers: mean {first.mean()} answered {answers[0]}; mean {second.mean()} answered {answers[1]}")
    return answers[1] == second.mean()


small, large = through_cache(1000), through_cache(5000)
still = small and not large
print("as described" if still else "CHANGED: this is not what the header describes")
sys.exit(not still)
PY
