"""Ablations: what each part of the model and of the recipe is worth, at equal CPU time.

Every row is a whole training, warm-up to decay, of the base recipe with one thing changed. A row may take
`--budget` seconds of one core: some steps are timed first, in turns with a yardstick of plain arithmetic that says
how fast the core is at the moment, and the number of steps is the budget over their median; a variant that is
cheaper gets more steps. So seconds and rates are those of an idle core, and rows compare although the machine is
shared. Seeds and the order of the data are the same; rows run one after the other, each in a process of its own.

    python benchmarks/ablations.py run --budget 120                                   # all rows
    python benchmarks/ablations.py run --budget 120 --only base 'lr-*'                # some
    python benchmarks/ablations.py run --budget 35 --also model.n_layers=1            # with a cheaper base
    python benchmarks/ablations.py table --budget 120                                 # Markdown
    python benchmarks/ablations.py plot --budget 120 --out ablations.png

Tasks: `3bpa`, 450 frames, errors on the 50 validation frames (make the data with data_prep/scratch.py, see
configs/scratch/3bpa.yaml); `mixed`, a dozen data sets of a manifest, median over the sets of the validation error
of the forces over that of predicting zero. Rows are kept in `--json`; rows that are there are not run again.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from ablation_rows import ROWS, TASKS, Row  # noqa: E402

from lam.atomic_write import atomic_file  # noqa: E402

RESULTS = ROOT / "benchmarks" / "ablations.json"


def chosen_rows(task: str, patterns: list[str]) -> list[Row]:
    """Return the rows of a task whose names match one of the patterns."""
    rows = [row for row in ROWS if task in row.tasks]
    return [row for row in rows if not patterns or any(fnmatch.fnmatch(row.name, p) for p in patterns)]


def load(path: Path) -> list[dict[str, Any]]:
    """Return the results so far."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def key(result: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells results apart."""
    return result["task"], result["name"], result["budget"], result["seed"], tuple(result["also"])


def run(args: argparse.Namespace) -> None:
    """Run the rows that are missing."""
    for row in chosen_rows(args.task, args.only):
        wanted = (args.task, row.name, args.budget, args.seed, tuple(args.also))
        if not args.again and any(key(result) == wanted for result in load(args.json)):
            continue
        result = run_row(row, args)
        if result is None:
            continue
        # Read again: another run may have added rows meanwhile.
        results = [other for other in load(args.json) if key(other) != wanted] + [result]
        with atomic_file(args.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(line(result), flush=True)


def run_row(row: Row, args: argparse.Namespace) -> dict[str, Any] | None:
    """Train one row in a process of its own; return its result, or None where it failed."""
    with tempfile.TemporaryDirectory(prefix="lam-ablation-") as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, str(ROOT / "benchmarks" / "ablation_row.py"), args.task, row.name, str(out)]
        command += ["--budget", str(args.budget), "--seed", str(args.seed)]
        command += ["--also", *args.also] if args.also else []
        if args.manifest:
            command += ["--manifest", str(args.manifest)]
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | threads | {"PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not out.exists():
            print(f"{row.name}: failed\n{done.stdout[-500:]}{done.stderr[-3000:]}", file=sys.stderr, flush=True)
            return None
        result = json.loads(out.read_text(encoding="utf-8"))
    words = ["python", "benchmarks/ablations.py", "run", "--task", args.task, "--budget", f"{args.budget:g}"]
    words += ["--seed", str(args.seed), "--only", row.name, *(["--also", *args.also] if args.also else [])]
    return result | {"command": shlex.join(words)}


def line(result: dict[str, Any]) -> str:
    """Return a line for the screen."""
    return (
        f"{result['name']:24} {result['error']:9.2f} {result['error_unit']}, energy {result['energy']:8.2f} "
        f"{result['energy_unit']}, {result['parameters']:8,} parameters, {result['steps']:6} steps, "
        f"{result['atoms_per_second']:6.0f} atoms/s in training, {result['inference_us']:6.1f} us per atom, "
        f"{result['cpu_seconds']:.0f} s"
    )


def results_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the results that the arguments ask for, by row."""
    wanted = (args.task, args.budget, args.seed, tuple(args.also))
    found = load(args.json)
    return {r["name"]: r for r in found if (r["task"], r["budget"], r["seed"], tuple(r["also"])) == wanted}


def table(args: argparse.Namespace) -> str:
    """Return the Markdown table of a task."""
    by_name = results_of(args)
    rows = [(row, by_name[row.name]) for row in chosen_rows(args.task, args.only) if row.name in by_name]
    if not rows:
        raise SystemExit(f"There are no results of the task {args.task} in {args.json}.")
    base = by_name.get("base", rows[0][1])
    head = rows[0][1]
    lines = [
        f"| change | row | force error, {head['error_unit']} | over base | energy error, {head['energy_unit']} "
        "| parameters | steps | training, atoms/s | inference, us/atom |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    topic = None
    for row, result in rows:
        if row.topic != topic:
            topic = row.topic
            lines.append(f"| **{topic}** | | | | | | | | |")
        lines.append(
            f"| {row.what} | `{row.name}` | {result['error']:.1f} | {result['error'] / base['error']:.2f} "
            f"| {result['energy']:.1f} | {result['parameters']:,} | {result['steps']:,} "
            f"| {result['atoms_per_second']:.0f} | {result['inference_us']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def plot(args: argparse.Namespace) -> None:
    """Draw the error of every row against that of the base."""
    from lam.plot_style import new_figure

    by_name = results_of(args)
    rows = [row for row in chosen_rows(args.task, args.only) if row.name in by_name and "base" in by_name]
    ratios = [by_name[row.name]["error"] / by_name["base"]["error"] for row in rows]
    colors = ["#b3202c" if ratio > 1.02 else "#1c7c54" if ratio < 0.98 else "#888888" for ratio in ratios]
    with new_figure(args.out, 7.5, 0.24 * len(rows) + 1.2) as figure:
        axes = figure.add_subplot()
        axes.barh(range(len(rows)), [ratio - 1 for ratio in ratios], color=colors, left=1.0)
        axes.set_yticks(range(len(rows)), [f"{row.topic}: {row.what}" for row in rows], fontsize=7)
        axes.invert_yaxis()
        axes.axvline(1.0, color="black", lw=0.8)
        axes.set_xlabel("force error over that of the base recipe, at equal CPU time")


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table", "plot", "list"))
    parser.add_argument("--task", choices=TASKS, default="3bpa")
    parser.add_argument("--budget", type=float, default=120.0, help="CPU seconds of each training (default: 120)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], metavar="PATTERN", help="rows to run, e.g. base 'lr-*'")
    parser.add_argument("--also", nargs="*", default=[], metavar="KEY=VALUE", help="changes of every row's settings")
    parser.add_argument("--again", action="store_true", help="run rows again that have a result")
    parser.add_argument("--manifest", type=Path, help="manifest of the task's data, if elsewhere")
    parser.add_argument("--json", type=Path, default=RESULTS, help="results (default: benchmarks/ablations.json)")
    parser.add_argument("--out", type=Path, default=Path("ablations.png"), help="the plot")
    args = parser.parse_args()
    if args.action == "run":
        run(args)
    elif args.action == "table":
        show(table(args))
    elif args.action == "plot":
        plot(args)
    else:
        lines = [
            f"{row.name:24} {row.topic}: {row.what}; {' '.join(row.overrides)} {row.variant or ''}\n"
            for row in chosen_rows(args.task, args.only)
        ]
        show("".join(lines))


def show(text: str) -> None:
    """Print a text, of which a reader such as ``head`` need not take all."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end


if __name__ == "__main__":
    main()
