"""``python -m lam.demo``: zero-shot predictions and a few-label fine-tune, from nothing."""

from __future__ import annotations

import argparse
import sys

from lam.errors import LamError

_EPILOG = """\
examples:
  python -m lam.demo
  python -m lam.demo --out my-demo --model ./my-model --steps 200
"""


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lam.demo",
        description="Predict a molecule, a crystal, a surface and a liquid with the shipped model; label a "
        "peptide with GFN2-xTB; fine-tune the model on 10, 25 and 50 labels and compare with training from scratch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", default="demo-output", metavar="DIR", help="output folder (default: demo-output)")
    parser.add_argument("--model", default="lam-nano", help="name or path of the model (default: lam-nano)")
    parser.add_argument("--steps", type=int, default=None, help="optimiser steps of every training")
    args = parser.parse_args()
    if args.steps is not None and args.steps < 1:
        parser.error("--steps must be at least 1")

    from rich.console import Console

    from lam.demo.run import DemoSettings, run_demo

    settings = DemoSettings(model=args.model)
    if args.steps is not None:
        settings = DemoSettings(model=args.model, steps=args.steps)
    try:
        run_demo(args.out, settings, Console(markup=False, highlight=False))
    except LamError as error:
        print(f"lam: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lam: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
