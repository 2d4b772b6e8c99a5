"""The command ``lam``: parse, dispatch, and turn errors into one sentence.

Each command is a module ``lam/cli/<command>.py`` with ``add_parser(subparsers)`` and ``run(args)``; these
modules import PyTorch and the like only inside ``run``, so that ``lam --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, TextIO

from lam import __version__
from lam.errors import LamError, LamWarning, unknown_name

COMMANDS = ("predict", "models", "info", "data", "label", "eval", "train", "finetune")

_EPILOG = """\
examples:
  lam models
  lam predict water.xyz -o predicted.extxyz
  lam finetune --model lam-nano --data labels.extxyz --method head --out my-model
"""


class _Parser(argparse.ArgumentParser):
    """Reports misuse as every other error is reported: one sentence on stderr, exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"lam: error: {message}. See '{self.prog} --help'.\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = _Parser(
        prog="lam",
        description="One pretrained potential for every atom: predict, evaluate, train, fine-tune.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lam {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"lam.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 2 for a user's error, 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        return _fail(unknown_name("command", argv[0], COMMANDS))
    parser = build_parser()
    args = _parse(parser, argv)
    if args.command is None:
        parser.print_help()
        return 2
    with warnings.catch_warnings():
        warnings.simplefilter("always", LamWarning)
        warnings.showwarning = _show_warning
        try:
            return args.run(args) or 0
        except LamError as error:
            return _fail(error)
        except BrokenPipeError:  # the reader of our output, such as head, has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            if error.filename is None:  # no file the user could look at: a bug, or the machine
                raise
            return _fail(f"Cannot use '{error.filename}': {error.strerror}.")
        except KeyboardInterrupt:
            print("lam: interrupted", file=sys.stderr)
            return 130


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse, with ``key=value`` overrides anywhere on the line (argparse wants them all in one place)."""
    args, rest = parser.parse_known_args(argv)
    overrides = [item for item in rest if hasattr(args, "overrides") and "=" in item and not item.startswith("-")]
    unknown = [item for item in rest if item not in overrides]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if overrides:
        args.overrides = [*args.overrides, *overrides]
    return args


def _fail(error: LamError | str) -> int:
    # An error in a data-loader worker arrives wrapped in the worker's traceback: its last line is ours.
    message = str(error).rpartition("lam.errors.LamError: ")[2].strip()
    print(f"lam: error: {message}", file=sys.stderr)
    return 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, LamWarning):
        text = f"lam: warning: {message}"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line).rstrip()
    print(text, file=file or sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
