"""``lam finetune``: adapt a model to labelled structures. ``finetune.py`` is the same."""

from __future__ import annotations

import argparse
from pathlib import Path

_EPILOG = """\
examples:
  lam finetune --model lam-nano --data labels.extxyz --method head --out my-model
  lam finetune --model lam-nano --data a.extxyz b.extxyz.xz --method full --out my-model --head pbe steps=500
  lam finetune --model lam-nano --data labels.extxyz --test unseen.extxyz --method full --out my-model \\
      --pretraining-data data/shared/manifest.yaml

Settings: steps, learning_rate, max_atoms, hold_out, loss.forces, ...; see docs/configuration.md.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "finetune",
        help="adapt a model to a few labelled structures",
        description="Adapt a model to labelled structures. Prints the error of the pretrained model on them first, "
        "and the error on them and on pretraining data afterwards.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="name of a shipped model, or path of a checkpoint")
    parser.add_argument("--data", required=True, nargs="+", metavar="FILE", help="files with labelled structures")
    parser.add_argument("--method", choices=("full", "head"), help="train everything (the default), or the head only")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the new checkpoint")
    parser.add_argument("--head", metavar="NAME", help="head to start from (default: chosen by the model)")
    parser.add_argument("--new-head", metavar="NAME", help="name of the new head (default: name of the data file)")
    parser.add_argument("--test", nargs="+", metavar="FILE", help="files to measure on (default: hold labels out)")
    parser.add_argument("--pretraining-data", metavar="MANIFEST", help="pretraining data, to measure forgetting on")
    parser.add_argument("--config", metavar="YAML", help="file with settings; what stands on the command line wins")
    parser.add_argument("--seed", type=int, help="random seed (default: 0)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="further settings, e.g. steps=500")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Fine-tune."""
    from lam.config import parse_overrides
    from lam.train.finetune import finetune

    data, misplaced = _without_overrides(args.data)
    test, more = _without_overrides(args.test or [])
    given = {"test": test, "pretraining_data": args.pretraining_data, "config": args.config}
    options = {key: value for key, value in given.items() if value}
    if args.seed is not None or not args.config:
        options["seed"] = args.seed or 0
    overrides = parse_overrides([*misplaced, *more, *args.overrides])
    finetune(
        args.model,
        data,
        method=args.method,
        out=args.out,
        head=args.head,
        new_head=args.new_head,
        **(options | overrides),
    )


def _without_overrides(words: list[str]) -> tuple[list[str], list[str]]:
    """Part files from overrides: an option of several files takes all words that follow it."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    return [word for word in words if word not in overrides], overrides
