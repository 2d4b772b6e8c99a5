"""Plant mistakes in data and see whether the audit names them.

    python benchmarks/audit_planted.py                                         made data: EMT, and GFN1-xTB if there
    python benchmarks/audit_planted.py data/shared/mgcu-pbe.h5 --structures 200    real data
    python benchmarks/audit_planted.py --only stress --said                    some mistakes, with what was said

Each data set is audited as it is; then with one mistake at a time. A mistake is found if a new warning of the right
words is there. The table has a row for each mistake and a column for each data set; a mistake that a data set cannot
have (no stress, no molecules) has an empty cell. Nothing is written unless --json FILE is given.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lam.data.audit import Finding, cross_check, examine
from lam.data.audit.auditor import sample_rows
from lam.data.describe import DataInput
from lam.data.shards import open_shard
from lam.data.structure import Structure
from lam.errors import LamError

sys.path.insert(0, str(Path(__file__).parent))
from harness import made_labels

HARTREE, RYDBERG, BOHR, KCAL, KJ, GPA = 27.211386, 13.605693, 0.529177, 23.060548, 96.485332, 160.21766
SEED = 0


@dataclass(frozen=True)
class Plant:
    """A mistake."""

    name: str
    words: str
    """Regular expression of what a warning must say (kind and message)."""
    change: Callable[[list[Structure]], list[Structure] | None]
    """Returns the data with the mistake, or None if these data cannot have it."""


def each(**factors: float) -> Callable[[list[Structure]], list[Structure] | None]:
    """Multiply labels (or positions and cell) of all structures."""
    return lambda data: _scaled(data, range(len(data)), factors)


def part(share: float, **factors: float) -> Callable[[list[Structure]], list[Structure] | None]:
    """Multiply labels of some structures, chosen at random."""
    return lambda data: _scaled(data, _chosen(len(data), share), factors)


def _scaled(data: list[Structure], rows: range | np.ndarray, factors: dict[str, float]) -> list[Structure] | None:
    data = list(data)
    for label, factor in factors.items():
        for row in rows:
            s = data[row]
            if getattr(s, label) is None:
                return None
            data[row] = replace(s, **{label: getattr(s, label) * factor})
    return data


def _chosen(count: int, share: float) -> np.ndarray:
    return np.sort(np.random.default_rng(SEED).choice(count, max(3, round(share * count)), replace=False))


def virial(data: list[Structure], sign: float = 1.0) -> list[Structure] | None:
    """Store V*stress as the stress."""
    if any(s.stress is None for s in data):
        return None
    return [replace(s, stress=sign * s.stress * s.volume) for s in data]


def voigt(data: list[Structure]) -> list[Structure] | None:
    """Exchange yz and xy of the stress."""
    if any(s.stress is None for s in data) or max(np.abs(s.stress[0, 1]) for s in data) < 1e-6:
        return None
    order = []
    for s in data:
        stress = s.stress.copy()
        stress[0, 1] = stress[1, 0] = s.stress[1, 2]
        stress[1, 2] = stress[2, 1] = s.stress[0, 1]
        order.append(replace(s, stress=stress))
    return order


def shuffled_atoms(data: list[Structure]) -> list[Structure]:
    """Store the forces in another order of the atoms."""
    rng = np.random.default_rng(SEED)
    return [replace(s, forces=s.forces[rng.permutation(len(s))]) for s in data]


def shifted(data: list[Structure], label: str) -> list[Structure] | None:
    """Give every structure a label of the next one with the same atoms."""
    result, found = list(data), 0
    for a, b in zip(range(len(data) - 1), range(1, len(data)), strict=True):
        if np.array_equal(data[a].numbers, data[b].numbers):
            result[a] = replace(data[a], **{label: getattr(data[b], label)})
            found += 1
    return result if found > 0.5 * len(data) else None


def per_atom(data: list[Structure]) -> list[Structure] | None:
    """Store the energy per atom."""
    return [replace(s, energy=s.energy / len(s)) for s in data]


def offset(data: list[Structure], per_atom: float, share: float) -> list[Structure]:
    """Raise energies of some structures: another level of theory."""
    rows = set(_chosen(len(data), share).tolist())
    return [replace(s, energy=s.energy + per_atom * len(s)) if k in rows else s for k, s in enumerate(data)]


def repeated(data: list[Structure], count: int, how: str) -> list[Structure]:
    """Add copies: as they are, moved and turned, in another order, or displaced a little."""
    rng = np.random.default_rng(SEED)
    copies = []
    for row in _chosen(len(data), count / len(data)).tolist():
        s = data[row]
        copy = {"source": f"copy#{row}"}
        if how == "moved":
            turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            copy |= {"positions": s.positions @ turn + 1.3, "cell": s.cell @ turn, "forces": s.forces @ turn}
            if s.stress is not None:
                copy["stress"] = turn.T @ s.stress @ turn
        elif how == "renumbered":
            order = rng.permutation(len(s))
            copy |= {"positions": s.positions[order], "numbers": s.numbers[order], "forces": s.forces[order]}
        elif how == "near":
            copy |= {"positions": s.positions + rng.normal(scale=5e-4, size=s.positions.shape)}
        elif how == "other energy":
            copy |= {"energy": s.energy + 0.05 * len(s)}
        copies.append(replace(s, **copy))
    return [*data, *copies]


def overlap(data: list[Structure]) -> list[Structure]:
    """Put an atom onto another in three structures."""
    data = list(data)
    for row in _chosen(len(data), 0.0).tolist():
        positions = data[row].positions.copy()
        positions[-1] = positions[0] + [0.2, 0.1, 0.0]
        data[row] = replace(data[row], positions=positions)
    return data


def no_periodicity(data: list[Structure]) -> list[Structure] | None:
    """Lose the periodicity of crystals and keep their cells."""
    if not all(s.pbc.all() for s in data):
        return None
    return [replace(s, pbc=np.zeros(3, dtype=bool), stress=None) for s in data]


def small_cells(data: list[Structure], factor: float) -> list[Structure] | None:
    """Scale the cells but not the positions."""
    if not all(s.pbc.all() for s in data):
        return None
    return [replace(s, cell=s.cell * factor) for s in data]


def no_charge(data: list[Structure]) -> list[Structure] | None:
    """Forget charge and spin of ions."""
    if not any(s.total_charge for s in data):
        return None
    return [replace(s, total_charge=None, spin_multiplicity=None) for s in data]


def wrong_spin(data: list[Structure]) -> list[Structure] | None:
    """State the number of unpaired electrons as the multiplicity."""
    if not any(s.spin_multiplicity for s in data):
        return None
    return [replace(s, spin_multiplicity=(s.spin_multiplicity or 1.0) + 1) for s in data]


PLANTS = [
    Plant("forces: gradients", "wrong sign", each(forces=-1)),
    Plant("forces: Hartree/Bohr", "Hartree/Bohr", each(forces=BOHR / HARTREE)),
    Plant("forces: gradients in Hartree/Bohr", "wrong sign", each(forces=-BOHR / HARTREE)),
    Plant("forces: eV/Bohr", "eV/Bohr", each(forces=BOHR)),
    Plant("forces: kcal/mol/A", "kcal/mol", each(forces=KCAL)),
    Plant("forces: kJ/mol/A", "kJ/mol", each(forces=KJ)),
    Plant("forces: meV/A", "meV", each(forces=1e3)),
    Plant("energies: Hartree", "Hartree", each(energy=1 / HARTREE)),
    Plant("energies: kcal/mol", "kcal/mol", each(energy=KCAL)),
    Plant("energies: kJ/mol", "kJ/mol", each(energy=KJ)),
    Plant("energies: wrong sign", "wrong sign", each(energy=-1)),
    Plant("energies: per atom", "per atom", per_atom),
    Plant("energies and forces: Hartree, Bohr", "Hartree", each(energy=1 / HARTREE, forces=BOHR / HARTREE)),
    Plant("energies and forces: kcal/mol", "kcal/mol", each(energy=KCAL, forces=KCAL)),
    Plant("energies and forces: kJ/mol", "kJ/mol", each(energy=KJ, forces=KJ)),
    Plant("positions: Bohr", "in Bohr", each(positions=1 / BOHR, cell=1 / BOHR)),
    Plant("positions: nm", "in nm", each(positions=0.1, cell=0.1)),
    Plant("stress: wrong sign", "wrong sign", each(stress=-1)),
    Plant("stress: GPa", "GPa", each(stress=GPA)),
    Plant("stress: kbar", "kbar|1602|GPa", each(stress=10 * GPA)),
    Plant("stress: kbar, VASP's sign", "wrong sign|kbar", each(stress=-10 * GPA)),
    Plant("stress: virial", "virial", virial),
    Plant("stress: virial, sign of virials", "virial|wrong sign", lambda data: virial(data, -1.0)),
    Plant("stress: yz and xy exchanged", "stress", voigt),
    Plant("a fifth of the forces: gradients", "wrong sign", part(0.2, forces=-1)),
    Plant("a fifth of the forces: Hartree/Bohr", "Hartree/Bohr", part(0.2, forces=BOHR / HARTREE)),
    Plant("a fifth of the forces: kcal/mol/A", "kcal/mol", part(0.2, forces=KCAL)),
    Plant("a fifth of the energies: Hartree", "Hartree|theory|far from|does not fit", part(0.2, energy=1 / HARTREE)),
    Plant("a fifth of the energies: kcal/mol", "kcal/mol|theory|far from|does not fit", part(0.2, energy=KCAL)),
    Plant("a fifth of the stresses: wrong sign", "stress", part(0.2, stress=-1)),
    Plant("a fifth of the stresses: kbar", "GPa|kbar|stress", part(0.2, stress=10 * GPA)),
    Plant("three forces: gradients", "wrong sign", part(0.0, forces=-1)),
    Plant("forces: another order of atoms", "do not|nothing to do|torque", shuffled_atoms),
    Plant("forces: of the next frame", "nothing to do|torque|other frames", lambda data: shifted(data, "forces")),
    Plant("energies: of the next frame", "do not belong|theory|outliers", lambda data: shifted(data, "energy")),
    Plant("a tenth of the forces: zero", "exactly zero", part(0.1, forces=0)),
    Plant("a tenth of the energies: zero", "exactly zero", part(0.1, energy=0)),
    Plant("a tenth of the stresses: zero", "exactly zero", part(0.1, stress=0)),
    Plant("a third of the energies: +50 meV/atom", "theory", lambda data: offset(data, 0.05, 0.33)),
    Plant("a third of the energies: +1 eV/atom", "theory", lambda data: offset(data, 1.0, 0.33)),
    Plant("three energies: +1 eV/atom", "outliers|theory|contradict", lambda data: offset(data, 1.0, 0.0)),
    Plant("repeats", "duplicates .*repeat", lambda data: repeated(data, 5, "same")),
    Plant("repeats, turned and moved", "near-duplicates", lambda data: repeated(data, 5, "moved")),
    Plant("repeats, renumbered", "near-duplicates", lambda data: repeated(data, 5, "renumbered")),
    Plant("repeats, 0.0005 A off", "near-duplicates", lambda data: repeated(data, 5, "near")),
    Plant("repeats with another energy", "contradictions", lambda data: repeated(data, 5, "other energy")),
    Plant("overlapping atoms", "overlap", overlap),
    Plant("periodicity lost", "not periodic", no_periodicity),
    Plant("cells a tenth too small", "overlap|cell|units|stress", lambda data: small_cells(data, 0.5)),
    Plant("charge and spin lost", "state ", no_charge),
    Plant("unpaired electrons for 2S+1", "state ", wrong_spin),
]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="*", type=Path, help="data sets; without any, data are made")
    parser.add_argument("--structures", type=int, default=200, help="of each data set (default: 200)")
    parser.add_argument("--only", default="", help="regular expression of the mistakes to plant")
    parser.add_argument("--sets", default="", help="regular expression of the made data sets")
    parser.add_argument("--said", action="store_true", help="print what was said, too")
    parser.add_argument("--json", type=Path, help="write the results there")
    args = parser.parse_args()
    table: dict[str, dict[str, str]] = {plant.name: {} for plant in PLANTS if re.search(args.only, plant.name)}
    clean: dict[str, list[str]] = {}
    for name, data in _sources(args):
        before = warnings_of(data)
        clean[name] = before
        print(f"{name}: {len(data)} structures, warnings as it is: {before or 'none'}", flush=True)
        for plant in PLANTS:
            if plant.name in table:
                table[plant.name][name] = cell = planted(plant, data, set(before), said=args.said)
                if args.said or cell == "no":
                    print(f"  {plant.name}: {cell or '(cannot be)'}", flush=True)
        if not args.only or "leak" in args.only:
            table.setdefault("leakage between files", {})[name] = leakage(data)
    names = list(clean)
    print(f"\n| planted | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for plant, cells in table.items():
        print(f"| {plant} | {' | '.join(cells.get(name, '') for name in names)} |")
    found, planted_ = (
        sum(c.startswith(w) for row in table.values() for c in row.values()) for w in ("yes", ("yes", "no"))
    )
    print(f"\n{found} of {planted_} are found")
    if args.json:
        args.json.write_text(json.dumps({"clean": clean, "planted": table}, indent=1) + "\n", encoding="utf-8")


def _sources(args: argparse.Namespace) -> Iterator[tuple[str, list[Structure]]]:
    if not args.shards:
        for name, make in made_labels.SETS.items():
            if re.search(args.sets, name):
                yield name, make()
    for path in args.shards:
        shard = open_shard(path)
        yield path.stem, [shard[row] for row in sample_rows(len(shard), args.structures).tolist()]


def planted(plant: Plant, data: list[Structure], clean: set[str], *, said: bool) -> str:
    """Return yes, no, or nothing if these data cannot have the mistake."""
    try:
        changed = plant.change(data)
    except TypeError:  # a label that is None
        return ""
    except LamError as error:  # so absurd that no structure is made of it
        return "yes" if "units" in str(error) else "no"
    if changed is None:
        return ""
    new = [text for text in warnings_of(changed) if text not in clean]
    hit = next((text for text in new if re.search(plant.words, text)), "")
    if said:
        return f"yes: {hit}" if hit else f"no: {new}"
    return "yes" if hit else "no"


def leakage(data: list[Structure]) -> str:
    """Are copies of training structures in a test file found?"""
    rng = np.random.default_rng(SEED)
    rows = rng.permutation(len(data))
    cut = int(0.8 * len(data))
    train, test = [data[k] for k in rows[:cut]], [data[k] for k in rows[cut:]]
    leaked = [*test, *repeated(train, 5, "moved")[-5:]]
    texts = [f.message for f in _across(train, leaked) if f.suspicious]
    return "yes" if any("are in both" in text for text in texts) else "no"


def _across(train: list[Structure], test: list[Structure]) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            examine(DataInput(name, made_labels.write(data, Path(folder) / f"{name}.extxyz")))
            for name, data in (("train", train), ("test", test))
        ]
        return cross_check([sides[1]], [sides[0]])


def warnings_of(data: list[Structure]) -> list[str]:
    """Return kind and message of what is more than a note, as `lam data check FILE` finds it."""
    with tempfile.TemporaryDirectory() as folder:
        path = made_labels.write(data, Path(folder) / "labels.extxyz")
        findings = examine(DataInput("labels", path)).findings
    return [f"{finding.kind} {finding.message}" for finding in findings if finding.suspicious]


if __name__ == "__main__":
    main()
