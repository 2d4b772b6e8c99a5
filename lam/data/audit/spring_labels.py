"""Stress and energy against those of springs, within each composition: sign, unit, order of the components."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from lam.data.audit.bonds import Modelled, modelled, rank_correlation
from lam.data.audit.check import Check, Context
from lam.data.audit.finding import Finding, few
from lam.data.audit.ledger import Ledger, grouped
from lam.data.audit.springs import BondForces
from lam.data.audit.units import ENERGY_UNITS, FORCE_UNITS, STRESS_UNITS, force_units_near

MIN_MEMBERS, MIN_JUDGED = 5, 15
SHEAR = 0.3
"""Rank correlation of shear stress with that of the springs: right data have 0.2 to 0.98."""
STRESS_OFF, STRESS_USUAL = 40.0, 1.6
"""Factor by which stress and that of the springs may differ; right data have 0.4 to 4, one of 25 sets has 32."""
ENERGY_FITS = 0.7
"""Rank correlation of the energies with the squares of the forces, from which on they tell."""
ENERGY_USUAL, ENERGY_OFF = 0.55, 6.0
"""Energies over those of springs with the stiffness that the forces say; right data have 0.2 to 1.5."""
UNRELATED = 0.08
ORDER_GAIN = 0.3
SINGLE, BETWEEN = 0.6, 0.2
NAMES = ("yz", "xz", "xy")


@dataclass
class _Stresses:
    """Stresses of structures, less what is usual of their composition: V times it, per atom, eV."""

    rows: np.ndarray
    springs: np.ndarray
    stored: np.ndarray

    def parts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return both sides for shear, axes (without the pressure) and pressure, where symmetry does not make zeros."""
        result = {}
        for name in ("shear", "axes", "pressure"):
            a, b = (_component(tensors, name) for tensors in (self.springs, self.stored))
            moved = (np.abs(a) > 1e-6) & (np.abs(b) > 1e-9)
            result[name] = (a[moved], b[moved])
        return {name: sides for name, sides in result.items() if len(sides[0]) >= MIN_JUDGED}


class SpringLabels(Check):
    """Judges stresses and energies by the bonds, where energies along paths have not told already."""

    def __init__(self, forces: BondForces) -> None:
        self.forces = forces
        self.models: dict[int, Modelled] = {}

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Judge the stress, then the energies."""
        springs = self.forces.springs
        self.models = {row: modelled(bonds, springs.kinds) for row, bonds in springs.of.items()}
        stresses = self._stresses(ledger, context)
        if stresses is not None:
            if "stress" not in self.forces.work.named:
                yield from self._judge_stress(stresses, ledger)
                yield from _judge_single(stresses, ledger)
            yield from _judge_order(stresses)
        if "forces" not in self.forces.work.named:
            yield from self._judge_energies(ledger)

    def _stresses(self, ledger: Ledger, context: Context) -> _Stresses | None:
        rows, springs, stored = [], [], []
        for row, model in self.models.items():
            if int(ledger["periodic"][row]) < 3 or not np.isfinite(ledger["pressure"][row]) or not model.stiffness:
                continue
            structure = context.fetch(int(ledger["index"][row]))
            if structure is not None and structure.stress is not None:
                rows.append(row)
                springs.append(model.stress / len(structure))
                stored.append(structure.stress * structure.volume / len(structure))
        kept: list[int] = []
        for members in grouped(ledger["composition"][rows]) if rows else []:
            if len(members) >= MIN_MEMBERS:
                kept += members.tolist()
                for tensors in (springs, stored):
                    pressure = np.median([tensors[k].trace() / 3 for k in members])
                    for k in members:
                        tensors[k] = tensors[k] - pressure * np.eye(3)
        if not kept:
            return None
        return _Stresses(np.array(rows)[kept], np.array(springs)[kept], np.array(stored)[kept])

    def _judge_stress(self, stresses: _Stresses, ledger: Ledger) -> Iterator[Finding]:
        parts = stresses.parts()
        told = {name: rank_correlation(*sides) for name, sides in parts.items()}
        if not told or max(abs(told[name]) * np.sqrt(len(parts[name][0])) for name in told) < 4:
            return
        shear, axes, pressure = (told.get(name, 0.0) for name in ("shear", "axes", "pressure"))
        texts = ", ".join(f"{name} {rho:+.2f}" for name, rho in told.items())
        # Heating at one volume can turn the pressure's correlation, but not that of shear.
        if (shear < -SHEAR and axes < 0.15) or (shear == 0 and axes < -SHEAR and pressure < -SHEAR):
            yield Finding(
                "warning",
                "units",
                f"stresses differ against the strain of the bonds (rank correlations: {texts}): the stress has the "
                "wrong sign (tensile must be positive)",
                (),
                len(stresses.rows),
                round(min(0.95, 0.65 + 0.3 * abs(min(shear, axes))), 2),
                "of structures of one composition, those whose bonds are stretched have the more tensile stress",
                "multiply the stress by -1; VASP and pressures have the opposite sign",
            )
        sizes = [_size(parts[name][1]) / _size(parts[name][0]) for name in told if abs(told[name]) > SHEAR]
        size = float(np.median(sizes)) if sizes else 1.0
        if 1 / STRESS_OFF < size < STRESS_OFF:
            return
        volume = float(np.median(np.exp(ledger["log_volume"][stresses.rows]) * ledger["n_atoms"][stresses.rows]))
        factors = {name: f for name, f in STRESS_UNITS.items() if f != 1} | {
            "a virial, not divided by the volume": volume
        }
        nearest = sorted(factors, key=lambda name: abs(np.log(size / STRESS_USUAL / factors[name])))[:2]
        yield Finding(
            "warning",
            "units",
            f"stresses are {size:.3g} times what the strain of the bonds makes of them: the stress looks like "
            f"{nearest[0]} (or {nearest[1]}), not eV/Angstrom^3",
            (),
            len(stresses.rows),
            0.8,
            "in right data sets this factor is 0.4 to 4, rarely more",
            f"divide the stress by {factors[nearest[0]]:.6g} if it is {nearest[0]}",
        )

    def _judge_energies(self, ledger: Ledger) -> Iterator[Finding]:
        """Strained springs cost energy: half of the squared forces over the stiffness."""
        springs = self.forces.springs
        rows = [row for row, model in self.models.items() if model.stiffness]
        rows = [row for row in rows if np.isfinite(ledger["energy"][row]) and np.isfinite(ledger["rms_force"][row])]
        stiff = np.array([self.models[row].stiffness for row in rows])
        forces = ledger["rms_force"][rows].astype(float)
        squares = 1.5 * ledger["n_atoms"][rows] * forces**2 / stiff if rows else stiff
        sides: list[list[np.ndarray]] = [[], []]
        for members in grouped(ledger["composition"][rows]) if rows else []:
            if len(members) >= MIN_MEMBERS:
                for side, values in zip(sides, (squares, ledger["energy"][rows]), strict=True):
                    side.append(values[members] - np.median(values[members]))
        x, y = (np.concatenate(side) if side else np.zeros(0) for side in sides)
        if len(x) < MIN_JUDGED or abs(fit := rank_correlation(x, y)) < ENERGY_FITS:
            return
        atoms = float(np.median(ledger["n_atoms"][rows]))
        ruler = springs.ruler
        if np.isfinite(ruler):
            units = force_units_near(ruler)
            factor = FORCE_UNITS[units[0]] if units else 1.0
            yield from _named(_slope(x / (ruler * factor), y) / ENERGY_USUAL, fit, len(y), atoms)
        elif abs(springs.correlation) < UNRELATED and abs(self._vectors()) < UNRELATED and fit > 0:
            yield Finding(
                "warning",
                "forces",
                f"energies go with the size of the forces (rank correlation {fit:.2f}), but forces have nothing to do "
                "with the lengths of bonds: another order of the atoms?",
                (),
                len(y),
                0.75,
                "forces along bonds follow from the bonds' lengths where energies do",
                "check that forces and positions have the same order of atoms and frames",
            )

    def _vectors(self) -> float:
        """Return the rank correlation of all forces with those of springs."""
        both = [(self.models[row].forces, bonds.forces) for row, bonds in self.forces.springs.of.items()]
        pairs = [(a.ravel(), b.ravel()) for a, b in both if b is not None]
        return rank_correlation(*(np.concatenate(side) for side in zip(*pairs, strict=True))) if pairs else 0.0


def _named(ratio: float, fit: float, count: int, atoms: float) -> Iterator[Finding]:
    """Say what sign and size of the energies tell."""
    numbers = f"rank correlation {fit:.2f} over {count} structures"
    if fit < 0:
        yield Finding(
            "warning",
            "units",
            f"energies are lower where bonds are strained and forces large ({numbers}): the energies have the wrong "
            "sign",
            (),
            count,
            0.85,
            "strained bonds cost energy",
            "multiply the energies by -1; binding energies are negative",
        )
    if 1 / ENERGY_OFF < ratio < ENERGY_OFF:
        return
    factors = {name: f for name, f in ENERGY_UNITS.items() if f != 1}
    if ratio < 1:
        factors["energies per atom"] = 1 / atoms
    nearest = sorted(factors, key=lambda name: abs(np.log(ratio / factors[name])))[:2]
    yield Finding(
        "warning",
        "units",
        f"energies differ {ratio:.3g} times as much as forces on strained bonds make them ({numbers}): they look "
        f"like {nearest[0]} (or {nearest[1]}), not eV",
        (),
        count,
        0.75,
        "in right data sets this factor is 0.4 to 2.7",
        "convert to total energies in eV",
    )


def _judge_order(stresses: _Stresses) -> Iterator[Finding]:
    """Are the shear components in another order (Voigt's is yz, xz, xy; VASP's xy, yz, zx)?"""
    springs, stored = (tensors[:, [1, 0, 0], [2, 2, 1]] for tensors in (stresses.springs, stresses.stored))
    if len(springs) < MIN_JUDGED or min(springs.std(), stored.std()) < 1e-6:
        return
    table = np.array([[rank_correlation(springs[:, a], stored[:, b]) for b in range(3)] for a in range(3)])
    fits = {order: float(np.mean([table[a, b] for a, b in enumerate(order)])) for order in permutations(range(3))}
    best = max(fits, key=lambda order: abs(fits[order]))
    own = fits[0, 1, 2]
    if abs(fits[best]) > max(0.5, abs(own) + ORDER_GAIN):
        said = ", ".join(f"{NAMES[a]} is what is stored as {NAMES[b]}" for a, b in enumerate(best) if a != b)
        yield Finding(
            "warning",
            "units",
            f"the shear components of the stress are in another order: by the strain of the bonds, {said} (correlation "
            f"{fits[best]:.2f}; as stored {own:.2f})",
            (),
            len(springs),
            0.9,
            "sheared bonds have shear stress in the same plane",
            "Voigt's order is xx yy zz yz xz xy; VASP writes XX YY ZZ XY YZ ZX",
        )


def _judge_single(stresses: _Stresses, ledger: Ledger) -> Iterator[Finding]:
    """Structures whose stress has the other sign than in the others."""
    a, b = (tensors.reshape(len(tensors), 9) for tensors in (stresses.springs, stresses.stored))
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    fits = (a * b).sum(axis=1) / np.maximum(norms[0] * norms[1], 1e-12)
    clear = (norms[0] > 0.3 * np.median(norms[0])) & (norms[1] > 0)
    if clear.sum() < MIN_JUDGED or np.median(np.abs(fits[clear])) < SINGLE:
        return
    flipped = clear & (fits < -SINGLE)
    # Either like the springs or the opposite: where much is between, surroundings make what springs do not know.
    between = (np.abs(fits[clear]) < SINGLE).mean()
    if flipped.sum() < 0.08 * clear.sum() or between > BETWEEN or (fits[clear] > SINGLE).mean() < 0.5:
        return
    rows = stresses.rows[flipped]
    names = ledger.names(rows)
    yield Finding(
        "warning",
        "units",
        f"{len(rows)} structure(s) have a stress of the wrong sign, unlike the others: {few(list(names), len(rows))}",
        names,
        len(rows),
        0.75,
        "stretched bonds go with pressure in these, and with tension in the others",
        "turn the sign of these (tensile is positive), or leave their stress out",
    )


def _component(tensors: np.ndarray, name: str) -> np.ndarray:
    pressure = tensors.trace(axis1=1, axis2=2) / 3
    if name == "shear":
        return tensors[:, [1, 0, 0], [2, 2, 1]].ravel()
    if name == "axes":
        return (tensors[:, [0, 1, 2], [0, 1, 2]] - pressure[:, None]).ravel()
    return pressure


def _size(values: np.ndarray) -> float:
    return float(np.median(np.abs(values)))


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the median of |y/x| of the half with the larger x."""
    large = np.abs(x) >= np.median(np.abs(x))
    large &= np.abs(x) > 0
    return float(np.median(np.abs(y[large] / x[large]))) if large.any() else 0.0
