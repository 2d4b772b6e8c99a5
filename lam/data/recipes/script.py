"""The body of the scripts in `data_prep/`: convert files with one recipe, as `lam data convert --recipe` does."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lam.data.recipes.base import Recipe
from lam.errors import LamError


def parser(doc: str, **more: object) -> argparse.ArgumentParser:
    """Return the parser of such a script; a script with options of its own adds them to it."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files, or folders of them")
    made.add_argument("-o", "--out", type=Path, required=True, help="folder for the shards and manifest.yaml")
    made.add_argument("--name", help="make all files one data set of this name")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: as many as cores)")
    made.add_argument(
        "--skip-broken", type=int, default=0, metavar="N", help="leave out up to N broken frames of a file"
    )
    made.add_argument("--force", action="store_true", help="convert finished files again")
    made.set_defaults(**more)
    return made


def script(recipe: str | Recipe, doc: str, arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, convert, print what came of it; return the exit status.

    Args:
        recipe: its name, or the recipe.
        doc: docstring of the script.
        arguments: of the command line; by default those of the process.
    """
    return convert_with(recipe, parser(doc).parse_args(arguments))


def convert_with(recipe: str | Recipe, args: argparse.Namespace) -> int:
    """Convert as the parsed arguments say; return the exit status."""
    from lam.data.convert import convert

    begin = time.monotonic()
    try:
        for result in convert(
            args.files,
            args.out,
            recipe=recipe,
            name=args.name,
            jobs=args.jobs,
            force=args.force,
            skip_broken=args.skip_broken,
        ):
            state = "finished before" if result.skipped else f"{time.monotonic() - begin:.0f} s"
            print(f"{result.name}: {result.structures} structures, {result.atoms} atoms ({state}) -> {result.path}")
            for warning in result.warnings:
                print(f"warning: {warning}", file=sys.stderr)
            for broken in result.broken:
                print(f"left out: {broken['source']}: {broken['reason']}", file=sys.stderr)
    except LamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
