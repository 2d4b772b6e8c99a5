"""`lam data info`: what shards, manifests and structure files hold."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lam.data.describe import Summary


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Add the action `info`."""
    info = actions.add_parser(
        "info",
        help="describe shards or a manifest",
        description="Show structures, atoms, elements, labels, splits and what is stated about each data set.",
        epilog="example:\n  lam data info data/shared/manifest.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    info.add_argument("inputs", nargs="+", type=Path, metavar="PATH", help="shards (.h5), manifests, structure files")
    info.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """`lam data info`."""
    import json

    from lam.data.describe import describe, open_inputs

    summaries = [describe(data) for data in open_inputs(args.inputs)]
    if args.json:
        print(json.dumps([summary.to_dict() for summary in summaries], indent=2))
    else:
        _print_table(summaries)
    return 0


def _print_table(summaries: list[Summary]) -> None:
    from rich.table import Table

    from lam.cli.console import make_console

    table = Table(box=None, header_style="bold")
    for name in ("data set", "level of theory", "licence", "elements"):
        table.add_column(name, overflow="fold")
    for name in ("structures", "atoms", "E", "F", "S", "train/val/test"):
        table.add_column(name, justify="right")
    for each in summaries:
        symbols = list(each.elements)
        table.add_row(
            each.name,
            str(each.about.get("level_of_theory", "not stated")),
            str(each.about.get("licence", "not stated")),
            " ".join(symbols) if len(symbols) <= 8 else f"{len(symbols)} elements",
            str(each.structures),
            str(each.atoms),
            *(str(each.labels[label]) for label in ("energy", "forces", "stress")),
            "/".join(map(str, each.splits.values())) + (" (block)" if each.split_mode == "block" else ""),
        )
    console = make_console(markup=False)  # levels of theory may hold brackets
    console.print(table)
    structures, atoms = sum(each.structures for each in summaries), sum(each.atoms for each in summaries)
    console.print(
        f"{len(summaries)} data sets, {structures} structures, {atoms} atoms. E, F, S: structures with energy, "
        "forces, stress. Block: groups cannot be split as wholes, so frames are held out.",
        highlight=False,
    )
