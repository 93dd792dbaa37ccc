#!/usr/bin/env python3
"""Brings the numbers of docs/papers/mim.md up to date with the sweeps of plugins/mim/sweeps.

    scripts/mim-values.py [SWEEPS] [IBHOST]

For every family of curves whose sweep lies in SWEEPS (default runs/sweeps): docs/values/mim-FAMILY.csv (line, x, seed, metric, value), the figure
docs/images/mim-FAMILY.png with the published values dashed, and what is between the marks of the family in docs/papers/mim.md: the tables,
mean ± standard deviation over the seeds with the published mean and deviation in brackets, and the figure. Reads trials.csv (`ibhost sweep SWEEPS/NAME --collect` writes
it for a sweep that is not over) and each completed trial's analyses/results-best.csv, or results.csv as earlier versions called it.
"""
import collections
import csv
import math
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

METRICS = {"MI_ksg": "MI", "H_q_x": "NLL", "x_recon_err": "RMSE", "clf_acc_KNN5": "KNN5"}
# Family: sweep, axis, its name, models.
FAMILIES = {
    "capacity": ("mim-toy4", "encoder.mid", "hidden units", ["MIM", "VAE"]),
    "entropy": ("mim-toy4", "encoder.mid", "hidden units", ["MIM-H", "VAE+H"]),
    "bottleneck": ("mim-toy4-20", "encoder.z", "dimensions of the code", ["MIM", "VAE"]),
    "pca": ("mim-pca-fashion-mnist20", "encoder.z", "dimensions of the code", ["MIM", "VAE"]),
}
Row = tuple[str, float, int, str, float]


def read(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows_of(sweep: pathlib.Path, axis: str, models: list[str]) -> list[Row]:
    """Model, place, seed, metric and value of every completed trial."""
    found = []
    for trial in read(sweep / "trials.csv"):
        if trial["status"] == "completed" and trial["model"] in models:
            analyses = sweep / trial["run_dir"] / "analyses"
            results = next(path for name in ("results-best.csv", "results.csv") if (path := analyses / name).exists())
            with open(results, encoding="utf-8", newline="") as file:
                measured = {row[0]: float(row[1]) for row in csv.reader(file) if len(row) == 2}
            found += [(trial["model"], float(trial[axis]), int(trial["seed"]), metric, measured[metric]) for metric in METRICS]
    return sorted(found)


def number(value: float, digits: int = 3) -> str:
    """So many significant digits, without a zero before the point or an exponent below a million."""
    if value == 0 or abs(value) >= 1e6:
        return f"{value:.{digits}g}"
    text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def measured(values: list[float]) -> str:
    spread = f" ± {number(statistics.stdev(values), 2)}" if len(values) > 1 else ""
    return number(statistics.fmean(values)) + spread


def published(row: dict[str, str]) -> str:
    """A published value with the digits it was read with."""
    short = [text.removeprefix("0") if float(text) else text for text in (row["value"], row["spread"]) if text]
    return " ± ".join(short)


def tables(rows: list[Row], axis: str, models: list[str], beside: dict[tuple[str, float, str], str]) -> str:
    """Two metrics a table, so that a line is read as it stands."""
    values = collections.defaultdict(list)
    for model, x, _, metric, value in rows:
        values[model, x, metric].append(value)
    names, out = list(METRICS), []
    for metrics in (names[:2], names[2:]):
        lines = [f"| {axis} | " + " | ".join(f"{METRICS[metric]} {model}" for metric in metrics for model in models) + " | seeds |"]
        lines.append("|" + "---|" * (2 + len(metrics) * len(models)))
        for x in sorted({x for _, x, _, _, _ in rows}):
            cells = []
            for metric in metrics:
                for model in models:
                    cell = measured(values[model, x, metric]) if values[model, x, metric] else "-"
                    known = beside.get((model, x, metric))
                    cells.append(f"{cell} ({known})" if known else cell)
            seeds = {len(values[model, x, "MI_ksg"]) for model in models}
            lines.append(f"| {x:g} | " + " | ".join(cells) + f" | {'/'.join(map(str, sorted(seeds)))} |")
        out.append("\n".join(lines))
    return "\n\n".join(out)


def main() -> None:
    sweeps = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/sweeps")
    ibhost = sys.argv[2] if len(sys.argv) > 2 else "target/release/ibhost"
    docs = pathlib.Path(__file__).resolve().parent.parent / "docs"
    page = (docs / "papers" / "mim.md").read_text(encoding="utf-8")
    for family, (sweep, axis, title, models) in FAMILIES.items():
        if not (sweeps / sweep / "trials.csv").exists():
            print(f"{family}: no {sweeps / sweep / 'trials.csv'}", file=sys.stderr)
            continue
        rows = rows_of(sweeps / sweep, axis, models)
        if not rows:
            print(f"{family}: no completed trial in {sweeps / sweep}", file=sys.stderr)
            continue
        values, reference = docs / "values" / f"mim-{family}.csv", docs / "values" / f"mim-{family}-published.csv"
        with open(values, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["line", "x", "seed", "metric", "value"])
            writer.writerows((model, f"{x:g}", seed, metric, f"{value:.6g}") for model, x, seed, metric, value in rows)
        beside = {(row["line"], float(row["x"]), row["metric"]): published(row) for row in read(reference)}
        start, end = f"<!-- {family} -->\n", f"<!-- end of {family} -->"
        if start not in page or end not in page:
            sys.exit(f"docs/papers/mim.md has no place for the table: `{start.strip()}` and `{end}`")
        picture = f"![{' and '.join(models)} over the {title}, published values dashed](../images/mim-{family}.png)"
        block = f"{start}{tables(rows, title, models, beside)}\n\n{picture}\n{end}"
        page = re.sub(re.escape(start) + ".*?" + re.escape(end), lambda _: block, page, flags=re.DOTALL)
        axis = f"axis/x:{title.replace(' ', '_')}|metrics:[{';'.join(METRICS)}]"
        figure = [ibhost, "compare", "--comparison", axis, "--values", values]
        with tempfile.TemporaryDirectory() as drawn:
            subprocess.run([*figure, "--reference", reference, "--output", drawn], check=True)
            shutil.copy(pathlib.Path(drawn) / "axis.png", docs / "images" / f"mim-{family}.png")
    (docs / "papers" / "mim.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
