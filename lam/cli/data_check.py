"""`lam data check`: an audit of the labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lam.errors import LamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lam.data.audit import Audited, Finding
    from lam.data.describe import DataInput

BETWEEN = "between data sets"
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
EXAMPLES = """examples:
  lam data check labels.extxyz
  lam data check train.xyz test.xyz                 also look for what the two share
  lam data check new.h5 --against data/manifest.yaml
  lam data check labels.extxyz --plots figures --fix fixed.extxyz

exit status: 0 if nothing is suspicious, 1 if there is an error or a warning, 2 if the data cannot be read at all.
Every check, its limits and its measured false alarms: docs/audit.md"""


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Add the action `check`."""
    check = actions.add_parser(
        "check",
        help="audit labels: units, signs, duplicates, leakage, mixed theory, outliers, charges",
        description="Look for what goes wrong silently in training data: label coverage and placeholders, units and "
        "signs, energies against forces and stress, net force and torque, duplicates, leakage between splits and "
        "files, mixed levels of theory, charge and spin, odd cells. Says which structures, how sure, what to do.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("inputs", nargs="+", type=Path, metavar="PATH", help="structure files, shards, manifests")
    check.add_argument("--against", nargs="+", type=Path, metavar="PATH", help="training data, to look for leakage")
    check.add_argument("--strict", action="store_true", help="report every warning as an error")
    check.add_argument("--json", action="store_true", help="print JSON instead of a table")
    check.add_argument("--plots", type=Path, metavar="FOLDER", help="write plots of each data set there")
    check.add_argument("--fix", type=Path, metavar="OUT", help="write a copy (.h5, .extxyz) with what is certain fixed")
    check.add_argument("--sample", type=int, metavar="N", help="look at N structures of each shard (default: all)")


def run(args: argparse.Namespace) -> int:
    """`lam data check`: 0 if nothing is suspicious, 1 if anything is."""
    import json

    from lam.data.audit import cross_check
    from lam.data.describe import open_inputs

    if args.sample is not None and args.sample < 1:
        raise LamError(f"--sample {args.sample} looks at nothing; give a number of structures.")
    data, against = list(open_inputs(args.inputs)), list(open_inputs(args.against or []))
    if args.fix is not None and len(data) > 1:
        raise LamError(f"--fix writes one corrected copy, but {len(data)} data sets were named; fix them one by one.")
    report: dict[str, list[dict[str, Any]]] = {}
    suspicious = 0
    audits: list[Audited] = []
    compared = bool(against) or _named_apart(args.inputs, len(data))
    for each in data:
        audited = _examine(each, args)
        findings = _levels(audited.findings, args.strict)
        suspicious += _show(_unique(each.name, report), findings, report, args)
        if args.plots is not None:
            _write_plots(audited, args)
        if args.fix is not None:
            _fix(audited, args)
        if compared:
            audits.append(audited)
    if compared:
        others = [_examine(each, args) for each in against]
        findings = _levels(cross_check(audits, others), args.strict)
        suspicious += _show(BETWEEN, findings, report, args)
    if args.json:
        print(json.dumps(report, indent=2))
    return 1 if suspicious else 0


def _named_apart(inputs: list[Path], count: int) -> bool:
    """Were several data sets named one by one, rather than a manifest of data sets with heads of their own?"""
    from lam.data.shards import is_shard

    files = [path for path in inputs if (path.is_file() and path.suffix not in (".yaml", ".yml")) or is_shard(path)]
    return count > 1 and len(files) == count


def _unique(name: str, report: dict[str, Any]) -> str:
    number = 2
    unique = name
    while unique in report:
        unique, number = f"{name} ({number})", number + 1
    return unique


def _levels(findings: list[Finding], strict: bool) -> list[Finding]:
    return [replace(f, level="error") if strict and f.suspicious else f for f in findings]


def _examine(data: DataInput, args: argparse.Namespace) -> Audited:
    from lam.data.audit import examine

    with _progress(data.name, quiet=args.json) as seen:
        return examine(data, sample=args.sample, seen=seen)


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """Yield a function that shows the number of structures on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}: {task.completed} structures, {task.speed:.0f}/s"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(name, total=None)
        yield lambda count: progress.update(bar, completed=count) if count % 64 == 0 else None


def _show(name: str, findings: list[Finding], report: dict[str, Any], args: argparse.Namespace) -> int:
    """Add the findings to the report and print them; return how many are suspicious."""
    report[name] = [finding.to_dict() for finding in findings]
    bad = sum(finding.suspicious for finding in findings)
    if not args.json:
        print_findings(name, findings)
    return bad


def print_findings(name: str, findings: list[Finding]) -> None:
    """Print a heading and a table of findings; in pipes each finding is one unbroken line (and one for what to do)."""
    from rich.table import Table
    from rich.text import Text

    from lam.cli.console import make_console

    console = make_console(highlight=False)
    bad = sum(finding.suspicious for finding in findings)
    heading = f"{name}: {f'{bad} suspicious' if bad else 'nothing suspicious'}"
    if not console.is_terminal:
        print(heading)
        for f in findings:
            sure = f"{100 * f.confidence:.0f}%"
            print(f"  {f.level:<7}  {f.kind:<15}  {sure:>4}  {f.message}.")
            if f.action:
                print(f"{'':34}-> {f.action}")
        return
    console.print(heading, style="bold", markup=False)
    if not findings:
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("level", "kind", "sure"):
        table.add_column(column, no_wrap=True)
    table.add_column("finding, and what to do", overflow="fold")
    for f in findings:
        text = Text(f"{f.message}.")
        if f.why and f.suspicious:
            text.append(f" Why: {f.why}.", style="dim")
        if f.action:
            text.append(f"\n-> {f.action}", style="dim")
        table.add_row(Text(f.level, STYLES[f.level]), f.kind, f"{100 * f.confidence:.0f}%", text)
    console.print(table)


def _write_plots(audited: Audited, args: argparse.Namespace) -> None:
    from lam.data.audit.plots import write_plots

    paths = write_plots(audited, args.plots)
    if not args.json:
        print(f"  plots: {', '.join(str(path) for path in paths) or 'none, there is nothing to draw'}")


def _fix(audited: Audited, args: argparse.Namespace) -> None:
    from lam.data.audit.fix import LOG_SUFFIX, fix

    fixed = fix(audited, args.fix)
    if args.json:
        return
    if fixed.path is None:
        print("  fix: nothing is certain enough to be changed; no file was written")
        return
    log = fixed.log
    print(
        f"  fix: {log['structures_out']} of {log['structures_in']} structures -> {fixed.path}; "
        f"{len(log['applied'])} correction(s), see {fixed.path}{LOG_SUFFIX}"
    )
    for entry in log["applied"]:
        what = f"{entry['label']} times {entry['factor']:.6g}" if entry["what"] == "scale" else f"{entry['count']}"
        print(f"    {entry['what']}: {what}: {entry['reason']}")
