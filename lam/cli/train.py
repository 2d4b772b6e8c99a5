"""``lam train``: pretrain a model from a configuration file. ``train.py`` is the same."""

from __future__ import annotations

import argparse

_EPILOG = """\
examples:
  lam train configs/pretrain/nano.yaml
  lam train configs/pretrain/nano.yaml steps=2000 batch.max_atoms=512
  torchrun --standalone --nproc-per-node=2 train.py configs/pretrain/nano.yaml
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "train",
        help="pretrain a model from a configuration file",
        description="Pretrain a model on the data sets of a manifest. Started again, it goes on where it stopped.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that win over the file's")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train."""
    from lam.train.run import pretrain_from_file

    pretrain_from_file(args.config, args.overrides)
