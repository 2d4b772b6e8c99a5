"""``lam info``: all that a checkpoint says about itself."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from lam.checkpoint import CheckpointMetadata

_EPILOG = """\
examples:
  lam info lam-nano
  lam info ./my-model --json
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "info",
        help="show what a model is: architecture, heads, data, errors",
        description="Show what a checkpoint says about itself: architecture, heads with level of theory and licence, "
        "elements, training, errors, versions.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="name of a shipped model, or path of a checkpoint")
    parser.add_argument("--json", action="store_true", help="print the metadata as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the metadata."""
    from lam.checkpoint import load_metadata, resolve

    folder = resolve(args.model)
    metadata = load_metadata(folder)
    if args.json:
        print(json.dumps(metadata.to_dict(), indent=1, ensure_ascii=False))
        return
    from lam.cli.console import make_console

    console = make_console(markup=False, highlight=False)
    console.print(_facts(metadata, str(folder.resolve())))
    console.print("\nHeads")
    console.print(_heads(metadata))
    for title, values in (
        ("Architecture", metadata.architecture.to_dict()),
        ("Training", metadata.training),
        ("Metrics", metadata.metrics),
    ):
        if values:
            console.print(f"\n{title}")
            console.print(_pairs(_flatten(values)))


def _facts(metadata: CheckpointMetadata, folder: str) -> Table:
    weights = metadata.weights
    listing = " ".join(f"{symbol}:{count}" for symbol, count in metadata.elements.items())
    return _pairs(
        {
            "name": metadata.name,
            "path": folder,
            "created": metadata.created,
            "parameters": f"{weights.parameters:,} ({weights.bytes / 1e6:.2f} MB)",
            "sha256": weights.sha256,
            "versions": ", ".join(f"{name} {number}" for name, number in metadata.versions.items()),
            "default heads": ", ".join(metadata.default_heads),
            f"{len(metadata.elements)} elements": f"{listing} (element:structures)",
        }
    )


def _heads(metadata: CheckpointMetadata) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("head", "level of theory", "licence"):
        table.add_column(name, overflow="fold")
    for name in ("structures", "elements"):
        table.add_column(name, justify="right")
    table.add_column("errors on held-out data", overflow="fold")
    for head in metadata.heads:
        errors = ", ".join(f"{name} {_number(value)}" for name, value in head.metrics.items())
        cells = [head.name, head.level_of_theory, head.licence, str(head.n_structures), str(len(head.elements))]
        table.add_row(*cells, errors or "-")
    return table


def _pairs(values: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, _number(value))
    return table


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one, with dots between the keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
