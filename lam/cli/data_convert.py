"""`lam data convert`: structure files, data sets and calculations become shards and a manifest."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from lam.data.convert import Converted

CHECKED = 5000
"""So many structures of a data set are audited after its conversion."""
AUDIT = "audit.json"
"""What the audit found, by data set; beside the manifest."""
EPILOG = """examples:
  lam data convert ../shared/data -o data/shared --metadata configs/data/shared.yaml
  lam data convert --recipe omat24 omat24/train -o data
  lam data convert runs/*/OUTCAR -o data --name my-runs --skip-broken 5
"""


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Add the action `convert`."""
    convert = actions.add_parser(
        "convert",
        help="convert structure files to HDF5 shards and a manifest",
        description="Convert structure files, public data sets and outputs of calculations to shards, and write a "
        "manifest that trains on them all. Large sources become several shards, written by several processes; what is "
        "finished is skipped, so that a conversion that was stopped goes on. A wrong frame stops it, by name. What was "
        "converted is audited as 'lam data check' does, up to 5000 structures of each data set.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="files, or folders of them")
    convert.add_argument("-o", "--out", type=Path, required=True, help="folder for the shards and manifest.yaml")
    convert.add_argument("--recipe", help="data set or format (see 'lam data recipes'; default: recognised)")
    convert.add_argument("--name", help="make all inputs one data set of this name")
    convert.add_argument("--metadata", type=Path, help="YAML table: level of theory, licence, ... by data set")
    convert.add_argument("--jobs", type=int, default=0, help="processes (default: as many as cores)")
    convert.add_argument(
        "--skip-broken",
        type=int,
        default=0,
        metavar="N",
        help="leave out up to N broken frames of each file, recorded with reasons in skipped.json (default: stop)",
    )
    convert.add_argument("--force", action="store_true", help="convert finished files again")
    convert.add_argument("--no-check", action="store_true", help="do not audit what was converted")
    convert.add_argument("--strict", action="store_true", help="exit status 1 if the audit finds anything suspicious")


def run(args: argparse.Namespace) -> int:
    """`lam data convert`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from lam.cli.console import make_console
    from lam.data.convert import MANIFEST, REPORT, convert
    from lam.data.convert import Progress as State

    console = make_console()
    begin = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards"),
        TextColumn("{task.fields[structures]} structures, {task.fields[rate]:.0f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    results: list[Converted] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("converting", total=None, structures=0, rate=0.0)

        def show(state: State) -> None:
            progress.update(
                bar, total=state.jobs, completed=state.jobs_done, structures=state.structures, rate=state.rate
            )

        for result in convert(
            args.inputs,
            args.out,
            recipe=args.recipe,
            name=args.name,
            metadata=args.metadata,
            jobs=args.jobs or default_jobs(),
            force=args.force,
            skip_broken=args.skip_broken,
            progress=show,
        ):
            results.append(result)
            _tell(progress.console, result, guessed=args.recipe is None)
    seconds = time.monotonic() - begin
    written = sum(result.structures for result in results if not result.skipped)
    console.print(
        f"{len(results)} data sets, {sum(r.structures for r in results)} structures, "
        f"{sum(r.atoms for r in results)} atoms in {seconds:.0f} s"
        f"{f' ({written / seconds:.0f} structures/s)' if written else ''} -> {args.out / MANIFEST}",
        highlight=False,
        soft_wrap=True,
    )
    if broken := sum(len(result.broken) for result in results):
        console.print(
            f"{broken} broken frames were left out -> {args.out / REPORT}",
            highlight=False,
            soft_wrap=True,
            style="yellow",
        )
    return 0 if args.no_check else _check(results, args.out, strict=args.strict)


def default_jobs() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(results: list[Converted], out: Path, *, strict: bool) -> int:
    """Audit the data sets that are new, print what is suspicious, and keep all findings in a file."""
    import json

    from lam.atomic_write import atomic_file
    from lam.cli.data_check import print_findings
    from lam.data.audit import examine
    from lam.data.describe import open_inputs

    path = out / AUDIT
    new = {result.name for result in results if not result.skipped}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = {}
    for data in open_inputs([out]):
        if data.name in new or (data.name in {result.name for result in results} and data.name not in report):
            findings = examine(data, sample=CHECKED).findings
            report[data.name] = [finding.to_dict() for finding in findings]
            print_findings(data.name, [finding for finding in findings if finding.suspicious])
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    levels = [entry["level"] for result in results for entry in report.get(result.name, [])]
    return 1 if strict and any(level != "note" for level in levels) else 0


def _tell(console: Console, result: Converted, *, guessed: bool) -> None:
    state = "unchanged, skipped" if result.skipped else f"{result.structures} structures, {result.atoms} atoms"
    shards = f" in {result.shards} shards" if result.shards > 1 else ""
    recipe = f" (recipe {result.recipe}, recognised)" if guessed and result.recipe else ""
    console.print(f"{result.name}: {state}{shards}{recipe}", highlight=False, soft_wrap=True)
    for message in result.warnings[:5]:
        console.print(f"  warning: {message}", highlight=False, soft_wrap=True, style="yellow")
    if len(result.warnings) > 5:
        console.print(f"  ... and {len(result.warnings) - 5} warnings more", highlight=False)
