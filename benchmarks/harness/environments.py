"""Environments of the other codes: one each, since their requirements exclude one another."""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REQUIREMENTS = {"mace": ["mace-torch==0.3.16"], "nequip": ["nequip==0.19.1"]}
"""Code -> what pip installs into its environment after PyTorch; the versions that were compared."""


def install_commands(code: str, folder: Path, index: str) -> list[list[str]]:
    """Return the commands that fill the environment of a code.

    PyTorch comes first and by itself: left to the requirements of the code, pip takes a build with CUDA, some GB.
    """
    pip = [str(interpreter(folder, code)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    source = ["--index-url", index] if index else []
    return [[*pip, TORCH, *source], [*pip, TORCH, *REQUIREMENTS[code], "setuptools"]]


def interpreter(folder: Path, code: str) -> Path:
    """Return the interpreter of the environment of a code."""
    return folder / code / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def set_up(folder: Path, codes: list[str], index: str) -> None:
    """Make those environments that are not there."""
    for code in codes:
        done = folder / code / ".installed"
        if done.exists():
            continue
        print(f"making the environment {folder / code}; some minutes, about 1.5 GB", file=sys.stderr)
        venv.create(folder / code, with_pip=True)
        for command in install_commands(code, folder, index):
            print("  " + " ".join(command[1:]), file=sys.stderr)
            subprocess.run(command, check=True)
        done.touch()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name or make the environments."""
    group = parser.add_argument_group("environments of the other codes")
    group.add_argument(
        "--setup", type=Path, metavar="DIR", help="make environments in DIR with pip (network), or use those made there"
    )
    group.add_argument(
        "--torch-index",
        default=CPU_INDEX,
        metavar="URL",
        help=f"where --setup takes PyTorch from; '' for pip's own source (default: {CPU_INDEX})",
    )
    for code, requirements in REQUIREMENTS.items():
        group.add_argument(
            f"--{code}-python", metavar="PYTHON", help=f"interpreter that has {requirements[0].split('==')[0]}"
        )


def interpreters(args: argparse.Namespace) -> dict[str, str | None]:
    """Return the interpreter of each code, ``None`` for those without one, after making what is to be made."""
    pythons: dict[str, str | None] = {"lam": sys.executable}
    for code in REQUIREMENTS:
        pythons[code] = getattr(args, f"{code}_python")
    if args.setup:
        missing = [code for code in REQUIREMENTS if pythons[code] is None]
        set_up(args.setup, missing, args.torch_index)
        pythons.update({code: str(interpreter(args.setup, code)) for code in missing})
    return pythons
