"""``lam predict``: energies, forces and stress of the structures in files."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lam.errors import LamError

if TYPE_CHECKING:
    from ase import Atoms

    from lam.calculators import Prediction
    from lam.data.structure import Structure

MAX_ROWS = 20

_EPILOG = """\
Reads every frame of any file that ASE reads; extended XYZ also compressed (.xz, .gz, .zst).
The output is extended XYZ with energy (eV), forces (eV/A) and, where the structure is periodic in three
directions, stress (eV/A^3); labels that the input had are kept as REF_energy, REF_forces, REF_stress.

examples:
  lam predict water.xyz
  lam predict slab.cif run.extxyz.xz -m lam-nano -o predicted.extxyz
  lam predict molecule.xyz -m ./my-model --head pbe --dtype float64
"""


class Row(NamedTuple):
    """One line of the printed table."""

    source: str
    formula: str
    head: str
    energy: float
    max_force: float
    pressure: float | None


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "predict",
        help="predict energy, forces and stress of structures in files",
        description="Predict energy, forces and stress of every structure in the files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="file with structures")
    parser.add_argument("-m", "--model", default="lam-nano", help="name or path of the model (default: lam-nano)")
    parser.add_argument("--head", metavar="H", help="head, i.e. level of theory (default: chosen by the model)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the structures with their predictions (extxyz)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="precision")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument("--batch-atoms", type=int, default=2000, metavar="N", help="atoms per batch (default: 2000)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Predict, print a table, write the output."""
    if args.batch_atoms < 1:
        raise LamError(f"--batch-atoms must be at least 1, not {args.batch_atoms}.")
    output = _checked_output(args.output, args.files)

    from ase.io.extxyz import write_xyz

    from lam.atomic_write import atomic_file
    from lam.calculators import Predictor

    for file in args.files:  # before the model is loaded, and before a long run ends at the second file
        if not Path(file).is_file():
            raise LamError(f"There is no file '{file}'.")
    predictor = Predictor(args.model, head=args.head, device=args.device, dtype=args.dtype)
    waiting: deque[Atoms] = deque()  # what was read and is not yet predicted
    stream = predictor.predict_stream(_read(args.files, waiting), batch_atoms=args.batch_atoms)
    rows: list[Row] = []
    count = 0
    with ExitStack() as stack:
        handle = None
        if output:
            handle = stack.enter_context(open(stack.enter_context(atomic_file(output)), "w", encoding="utf-8"))
        for structure, prediction in stream:
            atoms = waiting.popleft()
            count += 1
            if len(rows) < MAX_ROWS:
                rows.append(_row(structure, prediction))
            if handle is not None:
                write_xyz(handle, _labelled(atoms, prediction))
    _print(rows, count, output)


def _checked_output(output: str | None, inputs: list[str]) -> Path | None:
    if output is None:
        return None
    path = Path(output)
    if path.suffix not in (".extxyz", ".xyz"):
        raise LamError(f"The output '{output}' is written as extended XYZ: let its name end in .extxyz.")
    if path.is_dir():
        raise LamError(f"The output '{output}' is a folder: name a file.")
    if any(path.resolve() == Path(file).resolve() for file in inputs):
        raise LamError(f"The output '{output}' is also an input: choose another name.")
    return path


def _read(files: list[str], waiting: deque[Atoms]) -> Iterator[Structure]:
    from lam.calculators.calculator import bare
    from lam.data.readers import read_atoms
    from lam.data.structure import Structure

    for file in files:
        for number, atoms in read_atoms(file):
            waiting.append(atoms)
            # Without its labels: they do not matter here, and bad ones must not stop a prediction.
            yield Structure.from_atoms(bare(atoms), source=f"{Path(file).name}#{number}")


def _labelled(atoms: Atoms, prediction: Prediction) -> Atoms:
    """Return the atoms as read, with the prediction as calculator results and their labels as REF_*."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    labels = dict(atoms.calc.results) if atoms.calc else {}
    atoms.calc = None
    for key in ("energy", "forces", "stress"):
        place = atoms.arrays if key == "forces" else atoms.info
        if key in labels:
            place.setdefault(f"REF_{key}", labels[key])
        place.pop(key, None)
    atoms.info["lam_head"] = prediction.head
    results = {"energy": prediction.energy, "forces": prediction.forces}
    if prediction.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _row(structure: Structure, prediction: Prediction) -> Row:
    import numpy as np
    from ase.units import GPa

    return Row(
        source=structure.source,
        formula=structure.formula,
        head=prediction.head,
        energy=prediction.energy,
        max_force=float(np.linalg.norm(prediction.forces, axis=1).max()),
        pressure=None if prediction.stress is None else float(-np.trace(prediction.stress) / 3 / GPa),
    )


def _print(rows: list[Row], count: int, output: Path | None) -> None:
    from rich.table import Table

    from lam.cli.console import make_console

    table = Table(box=None, pad_edge=False)
    for name in ("structure", "formula", "head"):
        table.add_column(name, overflow="fold")
    for name in ("energy (eV)", "max |F| (eV/A)", "pressure (GPa)"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        pressure = "-" if row.pressure is None else f"{row.pressure:.3f}"
        table.add_row(row.source, row.formula, row.head, f"{row.energy:.4f}", f"{row.max_force:.4f}", pressure)
    console = make_console(markup=False, highlight=False, soft_wrap=False)
    console.print(table)
    if count > len(rows):
        hint = "" if output else "; write all with -o FILE"
        console.print(f"... and {count - len(rows)} more{hint}")
    if output:
        console.print(f"{count} structure{'s' if count > 1 else ''} written to {output}", soft_wrap=True)
