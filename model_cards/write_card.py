"""Write a model's card and the numbers in the README.

    python model_cards/write_card.py lam-nano evaluation/report.json --cost hardware="2 cores, AMD EPYC"

MODEL is a name or a folder, REPORT the report.json of `lam eval MODEL data/shared/manifest.yaml -o evaluation`.
Known failures are read from model_cards/<name>.notes.md, domains from model_cards/domains.yaml.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lam.atomic_write import atomic_file
from lam.checkpoint import load_metadata, resolve
from lam.config.load import read_yaml
from lam.errors import LamError
from lam.evaluate.card import readme_numbers, write_card

CARDS = Path(__file__).resolve().parent
BEGIN, END = "<!-- numbers:begin -->", "<!-- numbers:end -->"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("report", metavar="REPORT")
    parser.add_argument("--cost", nargs="*", default=[], metavar="KEY=VALUE", help="lines of the table of costs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: model_cards/<name>.md")
    parser.add_argument("--readme", type=Path, default=CARDS.parent / "README.md", help="page with a block of numbers")
    parser.add_argument("--no-readme", action="store_true", help="leave the README as it is")
    parser.add_argument("--no-physics", action="store_true", help="do not run the physics checks")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Write; return the exit status."""
    args = parse_arguments(arguments)
    try:
        folder = resolve(args.model)
        name = load_metadata(folder).name
        out = args.out or CARDS / f"{name}.md"
        cost = dict(_pair(item) for item in args.cost)
        domains = read_yaml(CARDS / "domains.yaml")
        card = write_card(folder, args.report, out, cost=cost, domains=domains, physics=not args.no_physics)
        print(f"wrote {out}")
        if not args.no_readme:
            fill_readme(args.readme, readme_numbers(card, f"lam eval {name} data/shared/manifest.yaml -o evaluation"))
            print(f"filled the numbers of {args.readme}")
    except LamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def fill_readme(path: Path, numbers: str) -> None:
    """Put the numbers between the two marks of a page.

    Raises:
        LamError: if the page or its marks are missing.
    """
    if not path.is_file():
        raise LamError(f"There is no file '{path}'.")
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LamError(f"'{path}' has no lines {BEGIN} and {END} to write the numbers between.")
    with atomic_file(path) as temporary:
        temporary.write_text(f"{before}{begin}\n\n{numbers}\n{end}{after}", encoding="utf-8")


def _pair(item: str) -> tuple[str, str]:
    key, sign, value = item.partition("=")
    if not sign or not key:
        raise LamError(f"'{item}' is no cost: write key=value, e.g. hardware='2 cores'.")
    return key, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
