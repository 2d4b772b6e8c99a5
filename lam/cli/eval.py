"""``lam eval``: errors of a model on labelled data, beside the composition-only baseline."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lam.errors import LamError

if TYPE_CHECKING:
    from rich.console import Console

    from lam.evaluate import Progress

_EPILOG = """\
DATA is a manifest (.yaml) of data sets, a shard (.h5) or any file that ASE reads; extended XYZ also
compressed (.xz, .gz, .zst). A data set is predicted by the head of its own name where the model has one.
Otherwise its level of theory may have another zero of energy, and the energy error is given after fitting
one offset per element (marked *). The baseline is a fitted energy per element and zero forces and stress.

With -o, the folder gets report.json (all errors, also per element; fields in lam/evaluate/report.py)
and the plots parity.png, force-ratio.png and elements.png.

examples:
  lam eval lam-nano labels.extxyz
  lam eval ./my-model labels.extxyz --head pbe -o evaluation
  lam eval lam-nano data/shared/manifest.yaml --split test -o evaluation
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "eval",
        help="errors on labelled data, per data set and per element",
        description="Compare predictions with labels: errors of energy per atom, forces and stress, per data set "
        "and per element, beside the composition-only baseline.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="name or path of the model")
    parser.add_argument("data", nargs="+", metavar="DATA", help="manifest, shard or file with labelled structures")
    parser.add_argument("--head", metavar="H", help="head that predicts (default: the data set's own, or the best)")
    parser.add_argument(
        "--split", choices=("test", "val", "train", "all"), help="split of the manifest's data sets (default: test)"
    )
    parser.add_argument(
        "--refit",
        choices=("auto", "yes", "no"),
        default="auto",
        help="fit an energy offset per element to the data first (default: auto, where the head is foreign to them)",
    )
    parser.add_argument(
        "--rmse",
        action="store_true",
        help="print root mean square errors, those of the energy per structure, as tables of small benchmarks do",
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="folder for report.json and the plots")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument("--batch-atoms", type=int, default=1000, metavar="N", help="atoms per batch (default: 1000)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate, print a table, write the report and the plots."""
    if args.batch_atoms < 1:
        raise LamError(f"--batch-atoms must be at least 1, not {args.batch_atoms}.")
    if args.output is not None and Path(args.output).exists() and not Path(args.output).is_dir():
        raise LamError(f"The output '{args.output}' is a file: name a folder.")

    from lam.cli.console import make_console
    from lam.evaluate import evaluate, write_plots, write_report

    console = make_console(markup=False, highlight=False)
    with _progress(console) as progress:
        evaluation = evaluate(
            args.model,
            args.data,
            head=args.head,
            split=args.split,
            batch_atoms=args.batch_atoms,
            refit_references={"auto": "auto", "yes": True, "no": False}[args.refit],
            device=args.device,
            progress=progress,
        )
    _print(console, evaluation.report, rmse=args.rmse)
    if args.output is not None:
        paths = [write_report(evaluation.report, args.output), *write_plots(evaluation, args.output)]
        console.print("Written: " + ", ".join(str(path) for path in paths), soft_wrap=True)


@contextmanager
def _progress(console: Console) -> Iterator[Progress | None]:
    """Yield a callback that shows progress on a terminal, or nothing where the output is no terminal."""
    if not console.is_terminal:
        yield None
        return
    from rich.progress import Progress as Bars

    with Bars(console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                for task in tasks.values():
                    bars.update(task, visible=False)
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield show


def _print(console: Console, report: dict[str, Any], *, rmse: bool) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("data set", overflow="fold")
    table.add_column("head", overflow="fold")
    base = "base-\nline"
    kind, energy_unit = ("rmse", "meV") if rmse else ("mae", "meV/atom")
    for name in ("n", f"energy\n{energy_unit}", base, "forces\nmeV/A", base, "ratio", "stress\nmeV/A^3", base):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in report["datasets"]:
        energy, forces, stress = (entry[key] or {} for key in ("energy", "forces", "stress"))
        table.add_row(
            entry["name"] + ("" if entry["informative"] or not forces else " ~"),
            entry["head"] if not entry["own_head"] else "own",
            str(entry["n_structures"]),
            _number(energy.get("rmse_per_structure" if rmse else "mae"))
            + ("*" if energy.get("refitted") and energy["mae"] is not None else ""),
            "" if rmse else _number(energy.get("baseline_mae")),
            _number(forces.get(kind)),
            _number(forces.get(f"baseline_{kind}")),
            _number(forces.get(f"ratio_{kind}"), digits=3 if rmse else 2),
            _number(stress.get(kind), digits=2),
            _number(stress.get(f"baseline_{kind}"), digits=2),
        )
    console.print(table)
    if rmse:
        console.print("Root mean square errors; of the energy per structure, not per atom.", soft_wrap=True)
    for line in _notes(report):
        console.print(line, soft_wrap=True)


def _notes(report: dict[str, Any]) -> Iterator[str]:
    """Yield the sentences below the table."""
    summary, entries = report["summary"], report["datasets"]
    threshold = summary["force_threshold"] / 1000
    if summary["n_sets"]:
        yield (
            f"Median force error / baseline: {summary['median_force_ratio_mae']:.3f} over {summary['n_sets']} "
            f"set(s) with mean |F| above {threshold:g} eV/A; better than the baseline on "
            f"{summary['n_sets_better_than_baseline']} of them."
        )
    if summary["sets_worse_than_baseline"]:
        yield "Worse than the baseline on: " + ", ".join(summary["sets_worse_than_baseline"]) + "."
    if summary["sets_apart"]:
        yield f"~ Apart: mean |F| below {threshold:g} eV/A, where zero forces are hard to beat."
    if any(entry["energy"] and entry["energy"]["refitted"] for entry in entries):
        yield "* Energy error after fitting one offset per element to these labels."
    if any(entry["energy"] and entry["energy"]["mae"] is None for entry in entries):
        yield "An energy error of '-' means: too few structures to fit the offsets and judge what remains."
    if any(entry["baseline"] == "evaluated structures" for entry in entries):
        yield "The energy baseline was fitted to the evaluated structures themselves where there is no training split."
    for entry in entries:
        if entry["n_skipped"]:
            yield (
                f"{entry['name']}: {entry['n_skipped']} structure(s) skipped, the head '{entry['head']}' does not "
                f"cover {_counts(entry['skipped_elements'])}."
            )


def _counts(elements: dict[str, int], *, at_most: int = 8) -> str:
    """Write the elements that occur most, with their counts."""
    ordered = sorted(elements.items(), key=lambda item: -item[1])
    text = ", ".join(f"{symbol} ({count})" for symbol, count in ordered[:at_most])
    return text if len(ordered) <= at_most else f"{text} and {len(ordered) - at_most} more elements"


def _number(value: float | None, *, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
