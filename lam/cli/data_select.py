"""`lam data select`: choose which structures to label or to train on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from lam.select import Selection

METHODS = ("coverage", "diversity", "uncertainty", "random")
EPILOG = """\
The structures are written in the order in which they were chosen: the first 50 of a selection of 200 are the selection
of 50. Beside OUT go NAME.selection.json (what was chosen, from where, how far it covers the pool) and a plot.
How it is done, and learning curves: docs/selection.md

examples:
  lam data select md.traj more.extxyz.xz --budget 100 -o to-label.extxyz
  lam data select crystals.extxyz --budget 100 --by diversity -o to-label.extxyz
  lam data select pool.extxyz --budget 100 --already labelled.extxyz --by uncertainty -o next.extxyz
  lam data select data/manifest.yaml --split train --budget 5000 -o subset.h5
  lam data select pool.h5 --budget 100 --model ./my-model --head labels -o to-label.extxyz"""


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Add the action `select`."""
    parser = actions.add_parser(
        "select",
        help="choose structures to label or train on: by coverage, diversity or uncertainty",
        description="Choose a number of structures from files, shards or manifests. No labels needed. By coverage: "
        "so that the atomic environments of the pool, as a model sees them, are near chosen ones. By diversity: "
        "farthest point over environments, the odd first. By uncertainty: those whose forces tell the model most.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="PATH", help="structure files, shards (.h5), manifests")
    parser.add_argument("--budget", type=int, required=True, metavar="N", help="how many structures to choose")
    parser.add_argument("--by", choices=METHODS, default="coverage", help="what counts (default: coverage)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help=".extxyz (also .xz, .gz) or .h5")
    parser.add_argument(
        "--already", nargs="+", type=Path, default=[], metavar="PATH",
        help="structures that you have: they are not chosen again, and what resembles them comes last",
    )  # fmt: skip
    parser.add_argument("-m", "--model", default="lam-nano", help="name or path of the model (default: lam-nano)")
    parser.add_argument("--head", metavar="H", help="look through the eyes of this head (default: of none)")
    parser.add_argument("--seed", type=int, default=0, help="of chance, and of the first of equals (default: 0)")
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), default="all", help="part of a manifest's data sets"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument("--batch-atoms", type=int, default=2000, metavar="N", help="atoms per batch (default: 2000)")
    parser.add_argument("--force", action="store_true", help="overwrite files")
    parser.add_argument("--json", action="store_true", help="print the report instead of a table")


def run(args: argparse.Namespace) -> int:
    """`lam data select`."""
    import json

    from lam.select import select

    with _progress(quiet=args.json) as progress:
        selection = select(
            args.inputs,
            args.budget,
            args.out,
            already=args.already,
            by=args.by,
            model=args.model,
            head=args.head,
            seed=args.seed,
            part=args.split,
            device=args.device,
            batch_atoms=args.batch_atoms,
            overwrite=args.force,
            progress=progress,
        )
    if args.json:
        print(json.dumps(selection.report, indent=1))
    else:
        _print(selection)
    return 0


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int | None], None] | None]:
    """Yield a function that shows what is done, on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.speed:.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, Any] = {}

        def tell(what: str, count: int, total: int | None) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=count)

        yield tell


def _print(selection: Selection) -> None:
    from lam.cli.console import make_console

    report, console = selection.report, make_console(markup=False, highlight=False, soft_wrap=True)
    pool, how = report["pool"], report["by"]
    of = f" ({pool['different']} different)" if pool["different"] < pool["structures"] else ""
    had = f", beside {report['already']} that you have" if report["already"] else ""
    seen = f", as {report['model']} sees them" if report["model"] else ""
    seen += f" (head {report['head']})" if report["head"] else ""
    console.print(
        f"{report['budget']} of {pool['structures']} structures{of}, {report['chosen_atoms']} of {pool['atoms']} "
        f"atoms, by {how}{had}{seen}"
    )
    _print_growth(console, report)
    _print_table(console, "data set", report["datasets"])
    _print_table(console, "element", report["elements"])
    console.print("written: " + ", ".join(str(path) for path in selection.paths.values()))


def _print_growth(console: Console, report: dict[str, Any]) -> None:
    """Show how the selection covers the pool at some sizes."""
    from rich.table import Table

    budget, curve, chosen = report["budget"], report["curve"], report["chosen"]
    steps = sorted({n for k in range(7) for n in (10**k, 2 * 10**k, 5 * 10**k) if n < budget} | {budget})
    table = Table(box=None, header_style="bold")
    for name in ("first", "atoms", "formulas", *([curve["meaning"]] if curve["meaning"] else [])):
        table.add_column(name, justify="right")
    for n in steps:
        atoms, formulas = sum(entry["atoms"] for entry in chosen[:n]), len({entry["formula"] for entry in chosen[:n]})
        value = curve["value"][n - 1]
        cell = "elements missing" if value is None else f"{value:.4g}"
        table.add_row(str(n), str(atoms), str(formulas), *([cell] if curve["meaning"] else []))
    console.print(table)


def _print_table(console: Console, what: str, entries: dict[str, dict[str, int]], most: int = 20) -> None:
    from rich.table import Table

    if what == "data set" and len(entries) < 2:
        return
    names = sorted(entries, key=lambda name: -entries[name]["pool"])
    table = Table(box=None, header_style="bold")
    table.add_column(f"structures by {what}")
    for name in ("pool", "chosen"):
        table.add_column(name, justify="right")
    for name in names[:most]:
        table.add_row(name, str(entries[name]["pool"]), str(entries[name]["chosen"]))
    console.print(table)
    if len(names) > most:
        console.print(f"  ... and {len(names) - most} more in the report")
