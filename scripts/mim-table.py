#!/usr/bin/env python3
"""Means and standard deviations over seeds of the CSV files that mim-curves.sh writes, as a Markdown table.

    scripts/mim-table.py curves/capacity.csv [STATISTIC ...]
"""
import collections
import csv
import statistics
import sys

STATISTICS = ["MI_ksg", "H_q_x", "x_recon_err", "clf_acc_KNN5"]


def main() -> None:
    path, wanted = sys.argv[1], sys.argv[2:] or STATISTICS
    values = collections.defaultdict(list)
    for row in csv.reader(open(path, encoding="utf-8")):
        if len(row) == 6 and row[0] != "experiment":
            _, model, x, seed, statistic, value = row
            values[model, float(x), statistic].append(float(value))
    models = sorted({model for model, _, _ in values})
    print("| x | " + " | ".join(f"{s} {m}" for s in wanted for m in models) + " | seeds |")
    print("|---" * (2 + len(wanted) * len(models)) + "|")
    for x in sorted({x for _, x, _ in values}):
        cells = []
        for statistic in wanted:
            for model in models:
                found = values[model, x, statistic]
                if not found:
                    cells.append("-")
                    continue
                spread = f" ± {statistics.stdev(found):.2g}" if len(found) > 1 else ""
                cells.append(f"{statistics.fmean(found):.3g}{spread}")
        seeds = min(len(values[m, x, wanted[0]]) for m in models)
        print(f"| {x:g} | " + " | ".join(cells) + f" | {seeds} |")


if __name__ == "__main__":
    main()
