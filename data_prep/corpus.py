"""Make a corpus over the periodic table (Z = 1-86): structures, dynamics, labels, shards, audit, report.

    python data_prep/corpus.py data/corpus --structures 2000 --seed 0 --jobs 2
    python data_prep/corpus.py data/crystals --periodic --structures 300 --stop-after structures
    python data_prep/corpus.py data/crystals --periodic --structures 300 --engine gpaw --jobs 2

One number sets the scale. The same command goes on with what was stopped. What is made, and how: docs/corpus.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # parallel over structures, not inside of one
    os.environ.setdefault(_name, "1")

from lam.errors import LamError  # noqa: E402 (after the threads are set)

STEPS = ("structures", "dynamics", "labels", "data")


def main(argv: list[str] | None = None) -> int:
    """Make the corpus; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="FOLDER")
    parser.add_argument("--structures", type=int, default=2000, metavar="N", help="structures in all (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--periodic", action="store_true", help="crystals and surfaces, for engines with k-points")
    parser.add_argument("--engine", help="engine of all families (default: gfn2 for molecules, gfn1 else)")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="setting of that engine")
    parser.add_argument("--families", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    parser.add_argument("--max-atoms", type=int, metavar="N", help="with --periodic: largest cells")
    parser.add_argument("--without", nargs="+", default=[], metavar="EL", help="elements not to be chosen, e.g. Ce Pr")
    parser.add_argument("--time-limit", type=float, metavar="S", help="seconds for one calculation")
    parser.add_argument(
        "--refill", type=int, default=1, metavar="N", help="rounds of other structures where labels failed (default: 1)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="calculations at a time (default: 1)")
    parser.add_argument(
        "--collect", action="store_true", help="no more labels of what is planned: go on with what there is"
    )
    parser.add_argument("--stop-after", choices=STEPS, default=STEPS[-1], help="do not go further than this step")
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except LamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    from lam.cli.label import parse_options
    from lam.corpus import pipeline, publish
    from lam.corpus.coverage import Coverage
    from lam.corpus.report import write_report

    def tell(text: str) -> None:
        print(text, flush=True)

    if args.option and not args.engine:
        raise LamError("--option is a setting of one engine: name it with --engine.")
    if args.jobs < 1:
        raise LamError("--jobs must be at least 1.")
    if args.max_atoms is not None and not args.periodic:
        raise LamError("--max-atoms is for --periodic: finite systems have sizes by family.")
    options = tuple(parse_options(args.option).items())
    corpus = pipeline.Corpus(
        args.out, args.structures, args.seed, args.periodic, args.jobs, args.engine, options, args.max_atoms,
        tuple(args.families), args.time_limit, tuple(map(_atomic_number, args.without)),
    )  # fmt: skip
    reached = STEPS.index(args.stop_after)
    pipeline.make_structures(corpus, tell)
    families = list(corpus.families)
    if reached >= STEPS.index("dynamics"):
        families += pipeline.make_dynamics(corpus, tell)
    results: dict[str, dict[str, Any]] = {}
    if reached >= STEPS.index("labels"):
        results = pipeline.make_labels(corpus, families, tell, collect=args.collect)
    for number in range(1, args.refill + 1 if results else 0):
        again = pipeline.make_refills(corpus, number, results, tell)
        families += again
        results |= pipeline.make_labels(corpus, again, tell)
    files = publish.leave_out_collapsed(corpus, families, results, tell)
    status = publish.convert_labels(corpus, families, results, files) if reached >= STEPS.index("data") else 0
    planned, labelled = Coverage(), Coverage()
    for family in families:
        for atoms in pipeline.read_frames(corpus.file(family.name)):
            planned.add(atoms.numbers)
    for file in files.values():
        pipeline.count_labelled(file, labelled)
    plan = pipeline.read_plan(corpus)  # with what was made in place of failures
    write_report(args.out / "report", plan, results, planned, labelled if results else None)
    tell(f"report: {args.out / 'report' / 'report.md'}")
    return status


def _atomic_number(symbol: str) -> int:
    from ase.data import atomic_numbers

    if symbol not in atomic_numbers:
        raise LamError(f"'{symbol}' is no element: write symbols, such as Ce.")
    return atomic_numbers[symbol]


if __name__ == "__main__":
    sys.exit(main())
