"""Reads a run's event files with TensorBoard's own reader and compares them with metrics.jsonl."""

import json
import math
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {"loss": "loss", "accuracy": "accuracy_L1", "izx_bits": "I_XZ", "izy_bits": "I_YZ"}


def main(run_dir: Path) -> None:
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    compared = 0
    for split in ("train", "test"):
        events = EventAccumulator(str(run_dir / "tensorboard" / split))
        events.Reload()
        scalars = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
        for row in (r for r in rows if r["split"] == split):
            for metric, tag in TAGS.items():
                found, wanted = scalars[tag][row["epoch"]], row["metrics"][metric]
                assert math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-7), (split, tag, found, wanted)
                compared += 1
        if split == "train":
            assert "lr_0" in scalars, scalars.keys()
            for tag in ("configuration", "setting"):
                assert events.SummaryMetadata(tag).plugin_data.plugin_name == "text"
            text = events.Tensors("setting")[0].tensor_proto.string_val[0].decode()
            assert '"objective"' in text, text
    assert compared >= 8, compared
    print(f"{compared} TensorBoard scalars equal metrics.jsonl")


main(Path(sys.argv[1]))
