"""``lam train``: pretrain a model, report on a training, count what it has seen. ``train.py`` is the same."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lam.errors import LamError

ACTIONS = ("report", "seen", "batch")

_USAGE = """\
lam train CONFIG [key=value ...]
       lam train report RUN [-o FOLDER]
       lam train seen RUN [-o FILE]
       lam train batch CONFIG --memory GB [key=value ...]"""

_DESCRIPTION = """\
Pretrain a model on the data sets of a manifest, or look at a training that runs or ran.

  lam train CONFIG       train as the YAML file CONFIG says; key=value words win over it. Started again, it goes on
                         where it stopped.
  lam train report RUN   turn the logs of the training in the folder RUN (its 'output') into one self-contained page
                         with plots and a summary in JSON; also while it runs. Written to RUN/report, or to -o.
  lam train seen RUN     print how often the structures of each data set were drawn up to the last state of RUN;
                         with -o, write the count of every structure to a CSV file.
  lam train batch CONFIG --memory GB
                         find the largest batch of a process that fits in GB of memory (of its GPU, or of the computer),
                         by trying some steps; nothing is written.

A file that is named 'report', 'seen' or 'batch' is a CONFIG.
"""

_EPILOG = """\
examples:
  lam train configs/pretrain/nano.yaml
  lam train configs/pretrain/nano.yaml steps=2000 batch.max_atoms=512
  torchrun --standalone --nproc-per-node=2 train.py configs/pretrain/nano.yaml
  lam train report RUN -o page
  lam train seen RUN -o seen.csv
  lam train batch CONFIG --memory 40

On clusters: docs/cluster.md. Every setting: docs/configuration.md.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "train",
        help="pretrain a model from a configuration file; report on a training",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file; or one of the words above")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings that win over the file's; after one of the words: RUN or CONFIG",
    )
    parser.add_argument("-o", "--output", metavar="PATH", help="folder of the report; CSV file of what was seen")
    parser.add_argument("--memory", type=float, metavar="GB", help="memory of each process, 1e9 bytes, for 'batch'")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train, report, count, or find a batch."""
    action = args.config if args.config in ACTIONS and not Path(args.config).is_file() else None
    if args.output is not None and action not in ("report", "seen"):
        raise LamError(f"-o belongs to 'report' and 'seen'; to train into a folder, write output={args.output}.")
    if args.memory is not None and action != "batch":
        raise LamError("--memory belongs to 'batch': lam train batch CONFIG --memory GB.")
    if action == "batch":
        _batch(args.overrides, args.memory)
    elif action is not None:
        if len(args.overrides) != 1:
            raise LamError(
                f"'lam train {action}' takes one folder of a training, not {len(args.overrides)}: "
                f"lam train {action} RUN."
            )
        {"report": _report, "seen": _seen}[action](Path(args.overrides[0]), args.output)
    else:
        from lam.train.run import pretrain_from_file

        pretrain_from_file(args.config, args.overrides)


def _batch(words: Sequence[str], gigabytes: float | None) -> None:
    if not words or "=" in words[0] or gigabytes is None or not gigabytes > 0:
        raise LamError("'lam train batch' takes a configuration and the memory: lam train batch CONFIG --memory GB.")

    from lam.config import load_config
    from lam.train.batch_size import find_budget
    from lam.train.config import PretrainConfig

    found = find_budget(load_config(PretrainConfig, words[0], words[1:]), gigabytes)
    print(f"batch.max_atoms={found.max_atoms} batch.max_edges={found.max_edges}  # needs {found.gigabytes:.2f} GB")


def _report(folder: Path, output: str | None) -> None:
    from lam.train.report import write_report

    print(f"Wrote {write_report(folder, output)}")


def _seen(folder: Path, output: str | None) -> None:
    if output is not None and Path(output).is_dir():
        raise LamError(f"The output '{output}' is a folder: name a CSV file.")

    from rich.table import Table

    from lam.cli.console import make_console
    from lam.train.seen import count_seen

    seen = count_seen(folder)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("data set", overflow="fold")
    for name in ("structures", "passes: least", "mean", "most"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in seen.passes():
        table.add_row(row.name, f"{row.structures:,}", f"{row.least:,}", f"{row.mean:.2f}", f"{row.most:,}")
    console = make_console(markup=False, highlight=False)
    console.print(table)
    console.print(f"{seen.position:,} structures drawn in {seen.step:,} steps", soft_wrap=True)
    if output is not None:
        seen.write_csv(output)
        console.print(f"Wrote {output}", soft_wrap=True)
