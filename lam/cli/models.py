"""``lam models``: the models that ship with the package."""

from __future__ import annotations

import argparse
import json

_EPILOG = """\
examples:
  lam models
  lam models --json
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "models",
        help="list the models that ship with lam",
        description="List the models that ship with lam; their names work wherever a model is asked for.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    from lam.checkpoint import available, load_metadata, resolve

    models = []
    for name in available():
        metadata = load_metadata(resolve(name))
        models.append(
            {
                "name": name,
                "parameters": metadata.weights.parameters,
                "bytes": metadata.weights.bytes,
                "elements": len(metadata.elements),
                "heads": len(metadata.heads),
                "path": str(resolve(name)),
            }
        )
    if args.json:
        print(json.dumps(models, indent=1))
        return
    if not models:
        print("No model ships with this copy of lam; the path of a checkpoint folder works everywhere.")
        return
    from rich.table import Table

    from lam.cli.console import make_console

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for title in ("parameters", "size", "elements", "heads"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("path", overflow="fold")
    for model in models:
        size = f"{model['bytes'] / 1e6:.2f} MB"
        cells = [f"{model['parameters']:,}", size, str(model["elements"]), str(model["heads"]), model["path"]]
        table.add_row(model["name"], *cells)
    make_console(markup=False, highlight=False).print(table)
