"""`lam data`: convert structure files to shards, describe them, check their labels."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lam.data.convert import Converted
    from lam.data.describe import Summary

EPILOG = """examples:
  lam data convert ../shared/data -o data/shared --metadata configs/data/shared.yaml
  lam data info data/shared/manifest.yaml
  lam data check labels.extxyz
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command `data` with its three actions."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "data", help="convert, describe and check training data", epilog=EPILOG, formatter_class=raw
    )
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    convert = actions.add_parser(
        "convert",
        help="convert structure files to HDF5 shards and a manifest",
        description="Convert every file (extxyz also as .xz, .gz, .zst; and all that ASE reads) to a shard, and "
        "write a manifest that trains on them all. Finished files are skipped. A wrong frame stops it, by name.",
        epilog="example:\n  lam data convert ../shared/data -o data/shared --metadata configs/data/shared.yaml",
        formatter_class=raw,
    )
    convert.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="structure files, or folders of them")
    convert.add_argument("-o", "--out", type=Path, required=True, help="folder for the shards and manifest.yaml")
    convert.add_argument("--metadata", type=Path, help="YAML table: level of theory, licence, ... by data set")
    convert.add_argument("--jobs", type=int, default=0, help="processes (default: as many as cores, at most 8)")
    convert.add_argument("--force", action="store_true", help="convert finished files again")

    info = actions.add_parser(
        "info",
        help="describe shards or a manifest",
        description="Show structures, atoms, elements, labels, splits and what is stated about each data set.",
        epilog="example:\n  lam data info data/shared/manifest.yaml",
        formatter_class=raw,
    )
    info.add_argument("inputs", nargs="+", type=Path, metavar="PATH", help="shards (.h5), manifests, structure files")
    info.add_argument("--json", action="store_true", help="print JSON instead of a table")

    check = actions.add_parser(
        "check",
        help="audit labels: units, stress sign, coverage, keys, duplicates, outliers",
        description="Look for what goes wrong silently in training data. Exit status 1 if anything is suspicious.",
        epilog="example:\n  lam data check labels.extxyz",
        formatter_class=raw,
    )
    check.add_argument("inputs", nargs="+", type=Path, metavar="PATH", help="structure files, shards, manifests")
    check.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; return the exit status."""
    return {"convert": run_convert, "info": run_info, "check": run_check}[args.action](args)


def run_convert(args: argparse.Namespace) -> int:
    """`lam data convert`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from lam.cli.console import make_console
    from lam.data.convert import MANIFEST, convert, find_inputs

    console = make_console()
    begin = time.monotonic()
    jobs = args.jobs or min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 8)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: list[Converted] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("converting", total=len(find_inputs(args.inputs)))
        for result in convert(args.inputs, args.out, metadata=args.metadata, jobs=jobs, force=args.force):
            results.append(result)
            state = "unchanged, skipped" if result.skipped else f"{result.structures} structures, {result.atoms} atoms"
            progress.console.print(f"{result.name}: {state}", highlight=False, soft_wrap=True)
            for message in result.warnings[:5]:
                progress.console.print(f"  warning: {message}", highlight=False, soft_wrap=True, style="yellow")
            if len(result.warnings) > 5:
                progress.console.print(f"  ... and {len(result.warnings) - 5} warnings more", highlight=False)
            progress.advance(bar)
    console.print(
        f"{len(results)} data sets, {sum(r.structures for r in results)} structures, "
        f"{sum(r.atoms for r in results)} atoms in {time.monotonic() - begin:.0f} s -> {args.out / MANIFEST}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def run_info(args: argparse.Namespace) -> int:
    """`lam data info`."""
    import json

    from lam.data.describe import describe, open_inputs

    summaries = [describe(data) for data in open_inputs(args.inputs)]
    if args.json:
        print(json.dumps([summary.to_dict() for summary in summaries], indent=2))
    else:
        _print_table(summaries)
    return 0


def run_check(args: argparse.Namespace) -> int:
    """`lam data check`: 0 if nothing is suspicious, 1 if anything is."""
    import json
    from dataclasses import asdict

    from lam.cli.console import make_console
    from lam.data.audit import audit
    from lam.data.describe import open_inputs

    console = make_console(soft_wrap=True, highlight=False)
    styles = {"error": "bold red", "warning": "yellow", "note": "dim"}
    suspicious, report = 0, {}
    for data in open_inputs(args.inputs):
        findings = audit(data)
        report[data.name] = [asdict(finding) for finding in findings]
        bad = sum(finding.level != "note" for finding in findings)
        suspicious += bad
        if args.json:
            continue
        console.print(
            f"{data.name}: {f'{bad} suspicious' if bad else 'nothing suspicious'}", style="bold", markup=False
        )
        for finding in findings:
            text = f"  {finding.level}: {finding.kind}: {finding.message}."
            console.print(text, style=styles[finding.level], markup=False)
    if args.json:
        print(json.dumps(report, indent=2))
    return 1 if suspicious else 0


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
