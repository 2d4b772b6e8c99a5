"""`lam data`: convert structure files to shards, describe and check them, split them, select from them.

Each action is a module ``lam/cli/data_<action>.py`` with ``add_parser(actions)`` and ``run(args)``; a new one is
added to :data:`ACTIONS`, in the order of the help text.
"""

from __future__ import annotations

import argparse
from importlib import import_module

ACTIONS = ("convert", "recipes", "info", "check", "split", "select")

EPILOG = """examples:
  lam data convert ../shared/data -o data/shared --metadata configs/data/shared.yaml
  lam data recipes omat24
  lam data info data/shared/manifest.yaml
  lam data check labels.extxyz
  lam data split data/shared/manifest.yaml --by composition
  lam data select pool.extxyz --budget 100 -o to-label.extxyz
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command `data` with its actions."""
    parser = subparsers.add_parser(
        "data",
        help="convert, describe, check, split and select training data",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name in ACTIONS:
        import_module(f"lam.cli.data_{name}").add_parser(actions)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; return the exit status."""
    return import_module(f"lam.cli.data_{args.action}").run(args)
