"""``lam label``: energies, forces and stress of structures by a reference method."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lam.errors import LamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from lam.label.run import Progress, Report

_PLACEHOLDER = re.compile(r"\{(charge|multiplicity)\}")

_EPILOG = """\
Every label is kept in OUT.run/ as soon as it is there: a run that was stopped or killed goes on with --resume and
loses nothing. Failures are listed with their reasons in NAME.failures.jsonl. Settings of an engine and what it is
sound for: docs/labelling.md.

examples:
  lam label --engines
  lam label molecules.xyz -o labels.extxyz.xz
  lam label molecules.xyz ions.xyz --engine gfn2 -o labels.h5 --jobs 8 --time-limit 60 --max-force 30
  lam label molecules.xyz -o labels.extxyz.xz --resume
  lam label crystals.cif --engine gpaw --option kpoint_density=2.5 -o crystals.h5
  lam label molecules.xyz --engine pyscf --option functional=wb97x-v --option basis=def2-tzvpd -o dft.extxyz
  lam label copper.xyz --engine ase:ase.calculators.emt.EMT -o emt.extxyz
  lam label big.xyz -o labels.h5 --cluster slurm --cluster-options slurm.yaml --jobs 64
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "label",
        help="label structures with tblite, DFT or any ASE calculator",
        description="Calculate energy, forces and stress of every structure in the files with a reference method, many "
        "at a time. Charge and spin multiplicity of each structure are passed on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="file with structures, or shard (.h5)")
    parser.add_argument("-o", "--out", metavar="OUT", help="output: .extxyz (also .xz, .gz, .zst), or .h5 for a shard")
    parser.add_argument("--engines", action="store_true", help="list the engines, what is installed, and stop")

    method = parser.add_argument_group("method")
    method.add_argument(
        "--engine", default="gfn1", metavar="NAME",
        help="gfn1, gfn2, gpaw, pyscf or ase:module.Class (default: gfn1)",
    )  # fmt: skip
    method.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="setting of the engine; may be repeated"
    )
    method.add_argument(
        "--level-of-theory", metavar="TEXT", help="what to state with the labels (default: the engine's)"
    )
    method.add_argument("--licence", default="not stated", metavar="TEXT", help="licence of the labels")
    method.add_argument(
        "--check-extensivity", choices=("auto", "always", "never"), default="auto",
        help="compare periodic cells with doubled ones, for engines without k-points: one cell of each kind (auto), "
        "each structure, or none; cells that are too small are refused in any case",
    )  # fmt: skip
    method.add_argument(
        "--tolerance", type=float, default=5.0, metavar="MEV", help="meV/atom that those may differ by (default: 5)"
    )
    method.add_argument("--max-force", type=float, metavar="F", help="leave out labels with a larger force, eV/A")

    work = parser.add_argument_group("work")
    work.add_argument("--jobs", type=int, default=0, metavar="N", help="calculations at a time (default: one per core)")
    work.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each calculation (default: 1)")
    work.add_argument(
        "--time-limit", type=float, default=600.0, metavar="S", help="kill a calculation after S seconds (default: 600)"
    )
    work.add_argument(
        "--scheduler", metavar="ADDRESS", help="use the workers of this Dask scheduler, e.g. tcp://node1:8786"
    )
    work.add_argument(
        "--cluster", choices=("slurm", "pbs"), help="start workers as jobs of this queue; --jobs says how many"
    )
    work.add_argument(
        "--cluster-options", metavar="YAML", help="keywords of dask-jobqueue: queue, walltime, cores, ..."
    )

    again = parser.add_argument_group("earlier runs")
    again.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    again.add_argument("--retry-failures", action="store_true", help="go on, and try again what failed")
    again.add_argument("--overwrite", action="store_true", help="forget an earlier run and its labels")
    again.add_argument("--collect", action="store_true", help="write what there is so far, calculate nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Label, and print what came of it; 1 if there is not a single label."""
    from lam.cli.console import make_console

    console = make_console(highlight=False, soft_wrap=True)
    if args.engines:
        _print_engines(console)
        return 0
    if not args.files or not args.out:
        raise LamError("Name files with structures and an output: lam label FILE -o OUT. See 'lam label --help'.")
    if args.overwrite and (args.resume or args.retry_failures or args.collect):
        raise LamError("--overwrite forgets an earlier run, and the other option goes on with it: choose one.")

    from lam.label.run import Settings, label

    settings = Settings(
        engine=args.engine,
        options=parse_options(args.option),
        level_of_theory=args.level_of_theory,
        licence=args.licence,
        jobs=args.jobs,
        threads=args.threads,
        time_limit=args.time_limit,
        scheduler=args.scheduler,
        cluster=args.cluster,
        cluster_options=args.cluster_options,
        check_extensivity=args.check_extensivity,
        tolerance=args.tolerance / 1000,
        max_force=args.max_force,
    )
    with _progress(console) as tell:
        try:
            report = label(
                args.files,
                args.out,
                settings,
                resume=args.resume or args.retry_failures,
                overwrite=args.overwrite,
                retry_failures=args.retry_failures,
                collect_only=args.collect,
                progress=tell,
            )
        except KeyboardInterrupt:
            console.print(f"Stopped. The labels so far are kept; go on with: lam label ... -o {args.out} --resume")
            raise
    _print_report(report, console)
    return 0 if report.labelled else 1


def parse_options(items: Sequence[str]) -> dict[str, Any]:
    """Turn ``["xc=PBE", "kpts.density=3", "charge={charge}"]`` into keywords; values are YAML, placeholders are kept.

    Raises:
        LamError: if an item has no ``=`` or its value is no YAML.
    """
    from lam.config.load import merge, parse_overrides

    options: dict[str, Any] = {}
    for item in items:
        key, sign, text = item.partition("=")
        if sign and _PLACEHOLDER.search(text):  # braces would be a mapping in YAML
            parsed = parse_overrides([f"{key}=x"])
            node = parsed
            while isinstance(node, dict):
                last, (name, node) = node, next(iter(node.items()))
            last[name] = text
        elif not sign:
            raise LamError(f"'{item}' is no option of an engine: write --option key=value.")
        else:
            parsed = parse_overrides([item])
        options = merge(options, parsed)
    return options


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield what shows the progress: a bar on terminals, a line per minute elsewhere."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("labelling"), bars.BarColumn(), bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"), bars.TextColumn("{task.fields[failed]}"),
        bars.TimeElapsedColumn(), bars.TextColumn("{task.fields[to_go]}"),
    )  # fmt: skip
    with bars.Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None, rate="", failed="", to_go="")

        def tell(state: Progress) -> None:
            progress.update(task, total=state.total, completed=state.done, **_texts(state))

        yield tell


class _Lines:
    """Prints a line of progress at most once a minute."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0

    def __call__(self, state: Progress) -> None:
        import time

        now = time.monotonic()
        if self._last == 0.0 or now - self._last >= 60:
            self._last = now
            texts = [f"{state.done} of {state.total} structures", *filter(None, _texts(state).values())]
            self._console.print(", ".join(texts))


def _texts(state: Progress) -> dict[str, str]:
    rate = (
        f"{state.rate:.1f} structures/s"
        if state.rate >= 1 or not state.rate
        else f"{60 * state.rate:.1f} structures/min"
    )
    to_go = "" if state.to_go is None else f"{_time(state.to_go)} to go"
    return {"rate": rate, "failed": f"{state.failed} failed", "to_go": to_go}


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _print_report(report: Report, console: Console) -> None:
    console.print(f"level of theory: {report.level_of_theory}", markup=False)
    console.print(
        f"{report.labelled} of {report.total} structures labelled, {report.calculated} calculated now, in "
        + _time(report.seconds)
        + (f" -> {report.out}" if report.labelled else ""),
        markup=False,
    )
    if report.duplicates:
        console.print(f"{report.duplicates} structures occur more than once in the input and were labelled once")
    for kind, count in sorted(report.failures.items(), key=lambda item: -item[1]):
        console.print(f"  failed, {kind}: {count}", markup=False)
    if report.failures_file is not None:
        console.print(f"reasons: {report.failures_file}", markup=False)


def _print_engines(console: Console) -> None:
    from rich.table import Table

    from lam.label.engines import ASE_INFO, ENGINES

    table = Table(box=None, header_style="bold")
    for name in ("engine", "installed", "sound for", "periodic", "charge and spin"):
        table.add_column(name, overflow="fold", no_wrap=name == "engine")
    for info in (*ENGINES, ASE_INFO):
        installed = f"{info.package} {info.installed}" if info.installed else f"no: pip install {info.extra}"
        table.add_row(info.name, installed, info.sound_for, info.periodic, info.state)
    from lam.cli.console import make_console

    make_console(markup=False).print(table)
