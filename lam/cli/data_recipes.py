"""`lam data recipes`: which public data sets and formats can be converted, and what their labels mean."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lam.data.recipes import Recipe


def add_parser(actions: argparse._SubParsersAction) -> None:
    """Add the action `recipes`."""
    parser = actions.add_parser(
        "recipes",
        help="list the data sets and formats that can be converted",
        description="List the recipes of 'lam data convert'; with a name, show source, licence, level of theory, "
        "files, and key, unit and sign of every label.",
        epilog="examples:\n  lam data recipes\n  lam data recipes omat24",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="of a recipe")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/data.md")


def run(args: argparse.Namespace) -> int:
    """`lam data recipes`."""
    import json

    from lam.data.recipes import available, get

    recipes = [get(args.name)] if args.name else list(available())
    if args.markdown:
        print(markdown(recipes))
    elif args.json:
        print(json.dumps([facts(recipe) for recipe in recipes], indent=2, ensure_ascii=False))
    elif args.name:
        _print_one(recipes[0])
    else:
        _print_all(recipes)
    return 0


def facts(recipe: Recipe) -> dict[str, Any]:
    """Return what is stated about a recipe, as plain values."""
    from dataclasses import asdict

    names = ("name", "title", "doi", "licence", "level_of_theory", "files", "notes")
    return {name: getattr(recipe, name) for name in names} | {"labels": [asdict(label) for label in recipe.labels]}


def markdown(recipes: list[Recipe]) -> str:
    """Return the table of recipes as it stands in the documentation."""
    lines = [
        "| recipe | what | level of theory | licence | labels: key in the source [unit] |",
        "|---|---|---|---|---|",
    ]
    for recipe in recipes:
        labels = "; ".join(
            f"{label.name}: {label.key}" + (f" [{label.unit}]" if label.unit else "") for label in recipe.labels
        )
        source = f" ([{recipe.doi}](https://doi.org/{recipe.doi}))" if recipe.doi else ""
        cells = (f"`{recipe.name}`", recipe.title + source, recipe.level_of_theory, recipe.licence, labels)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _print_all(recipes: list[Recipe]) -> None:
    from rich.table import Table

    from lam.cli.console import make_console

    table = Table(box=None, header_style="bold")
    for name in ("recipe", "data set or format", "level of theory", "licence", "DOI"):
        table.add_column(name, overflow="fold")
    for recipe in recipes:
        table.add_row(recipe.name, recipe.title, recipe.level_of_theory, recipe.licence, recipe.doi)
    console = make_console(markup=False)
    console.print(table)
    console.print(
        "More about one: lam data recipes NAME. Every other file is read by ASE, without a recipe.", highlight=False
    )


def _print_one(recipe: Recipe) -> None:
    from rich.table import Table

    from lam.cli.console import make_console

    console = make_console(markup=False, highlight=False)
    console.print(f"{recipe.name}: {recipe.title}", style="bold", soft_wrap=True)
    source = f"https://doi.org/{recipe.doi}" if recipe.doi else "a format, of any source"
    for name, value in (
        ("source", source),
        ("licence", recipe.licence),
        ("level of theory", recipe.level_of_theory),
        ("files", recipe.files),
        ("notes", recipe.notes),
    ):
        if value:
            console.print(f"{name + ':':17}{value}", soft_wrap=True)
    table = Table(box=None, header_style="bold")
    for name in ("label", "key", "unit", "sign, meaning"):
        table.add_column(name, overflow="fold")
    for label in recipe.labels:
        table.add_row(label.name, label.key, label.unit, label.sign)
    console.print(table)
    console.print(f"Convert with: lam data convert --recipe {recipe.name} FILES -o FOLDER", soft_wrap=True)
