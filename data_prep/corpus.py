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
    parser.add_argument("--jobs", type=int, default=1, help="calculations at a time (default: 1)")
    parser.add_argument("--stop-after", choices=STEPS, default=STEPS[-1], help="do not go further than this step")
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except LamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    from lam.cli.label import parse_options
    from lam.corpus import pipeline
    from lam.corpus.coverage import Coverage
    from lam.corpus.report import write_report

    def tell(text: str) -> None:
        print(text, flush=True)

    if args.option and not args.engine:
        raise LamError("--option is a setting of one engine: name it with --engine.")
    if args.jobs < 1:
        raise LamError("--jobs must be at least 1.")
    options = tuple(parse_options(args.option).items())
    corpus = pipeline.Corpus(args.out, args.structures, args.seed, args.periodic, args.jobs, args.engine, options)
    reached = STEPS.index(args.stop_after)
    plan = pipeline.make_structures(corpus, tell)
    families = list(corpus.families)
    if reached >= STEPS.index("dynamics"):
        families += pipeline.make_dynamics(corpus, tell)
    results = pipeline.make_labels(corpus, families, tell) if reached >= STEPS.index("labels") else {}
    status = pipeline.convert_labels(corpus, families, results) if reached >= STEPS.index("data") else 0
    planned, labelled = Coverage(), Coverage()
    for family in families:
        for atoms in pipeline.read_frames(corpus.file(family.name)):
            planned.add(atoms.numbers)
    for name, result in results.items():
        if result["labelled"]:
            pipeline.count_labelled(corpus.labels(name), labelled)
    write_report(args.out / "report", plan, results, planned, labelled if results else None)
    tell(f"report: {args.out / 'report' / 'report.md'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
