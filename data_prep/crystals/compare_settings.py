"""Compare labels of the same structures at two settings of an engine: a Markdown table of the differences.

python data_prep/crystals/compare_settings.py used.extxyz tight.extxyz
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lam.data.readers import read_structures
from lam.data.structure import Structure
from lam.errors import LamError

GPA = 160.21766208
"""GPa of 1 eV/A^3."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("used", type=Path, help="labels at the settings of the data set")
    parser.add_argument("tight", type=Path, help="labels of the same structures at tighter settings")
    args = parser.parse_args(argv)
    try:
        print(table(list(read_structures(args.used)), list(read_structures(args.tight))))
    except LamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def table(used: Sequence[Structure], tight: Sequence[Structure]) -> str:
    """Return the differences, used minus tight, of the structures that both have; energies per atom.

    Raises:
        LamError: if there is none.
    """
    others = {_key(structure): structure for structure in tight}
    pairs = [(first, others[_key(first)]) for first in used if _key(first) in others]
    if not pairs:
        raise LamError("The two files have no labelled structure in common.")
    lines = [
        "| structure | A^3/atom | energy (meV/atom) | largest force (eV/A) | difference "
        "| largest stress (GPa) | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for first, second in pairs:
        energy = 1000 * (first.energy - second.energy) / len(first)
        lines.append(
            f"| {first.formula}, {_prototype(first)} | {abs(np.linalg.det(first.cell)) / len(first):.1f} "
            f"| {energy:+.1f} "
            f"| {_largest(second.forces):.3f} | {_largest(first.forces - second.forces):.4f} "
            f"| {GPA * np.abs(second.stress).max():.2f} | {GPA * np.abs(first.stress - second.stress).max():.3f} |"
        )
    return "\n".join(lines)


def _key(structure: Structure) -> bytes:
    return np.round(np.vstack([structure.cell, structure.positions]), 5).tobytes() + structure.numbers.tobytes()


def _largest(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=1).max())


def _prototype(structure: Structure) -> str:
    """Return the prototype, which the group names between family and formula."""
    return "-".join(structure.group.split("-")[1:-1]) if structure.group else ""


if __name__ == "__main__":
    sys.exit(main())
