"""Magnitudes against what the elements allow: bond lengths, total energies, forces, pressure, bulk modulus."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lam.data.audit.check import Check, Context, View
from lam.data.audit.finding import Finding, few
from lam.data.audit.ledger import Ledger, grouped
from lam.data.audit.populations import two_populations

EV_PER_ANGSTROM3_IN_GPA = 160.21766
BONDS_FROM, BONDS_TO = 0.6, 1.5  # median of nearest distance over the sum of covalent radii
TYPICAL_BOND = 0.95
LENGTH_FACTORS = {
    1.8897: "in Bohr",
    1 / 1.8897: "scaled by 0.529 though they were in Angstrom",
    10.0: "scaled by 10 (from nm, though they were in Angstrom?)",
    0.1: "in nm",
    100.0: "in pm",
    0.01: "divided by 100 (from pm, though they were in Angstrom?)",
}
LARGE_STRESS = 3.0  # eV/Angstrom^3, 480 GPa
APART = 20.0
"""Pressures of some structures over those of the others, from which on they are of another unit."""
LARGE_FORCES = 8.0
"""eV/Angstrom, root mean square in the median structure: molecules at 1000 K have 2."""
FORCE_UNITS = {23.06: "kcal/mol/Angstrom", 96.49: "kJ/mol/Angstrom"}
ENERGY_UNITS = {
    1 / 27.2114: "Hartree",
    1 / 13.6057: "Rydberg",
    23.0605: "kcal/mol",
    96.4853: "kJ/mol",
    1000.0: "meV",
}
ALL_ELECTRON_TO = 36
"""Beyond krypton, basis sets with effective core potentials are common, and total energies are not all-electron."""
MIN_STRUCTURES = 5
MIN_VOLUMES, MIN_STRAIN, MIN_CORRELATION = 8, 0.02, 0.85
WRONG_SIGN, STIFFEST = -0.1, 8.0
"""eV/Angstrom^3: hot and soft solids can look like -10 GPa, which diffusion and heating make; diamond has 2.8."""


class Scales(Check):
    """Collects a few numbers of each structure."""

    columns = {
        "rms_force": ("f4", ()),
        "pressure": ("f4", ()),
        "log_volume": ("f4", ()),
    }

    def see(self, view: View) -> None:
        """Take the size of forces and stress."""
        s = view.structure
        if s.forces is not None:
            view.put(rms_force=np.sqrt((s.forces**2).mean()))
        if s.pbc.all():
            view.put(log_volume=np.log(s.volume / len(s)))
        if s.stress is not None:
            view.put(pressure=np.trace(s.stress) / 3)

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Compare with what is possible."""
        yield from _judge_lengths(ledger)
        yield from _judge_energies(ledger)
        yield from _judge_forces(ledger)
        yield from _judge_stress(ledger)


def _judge_lengths(ledger: Ledger) -> Iterator[Finding]:
    ratios = ledger["bond_ratio"].astype(float)
    rows = np.flatnonzero(np.isfinite(ratios))
    far = int((ledger["n_atoms"] > 1).sum()) - len(rows)  # no pair within the search radius at all
    if far > 0.5 * (far + len(rows)):
        text = f"{far} structures have no two atoms within 15 Angstrom: are the positions scaled up (nm, pm)?"
        action = "convert positions and cells to Angstrom"
        yield Finding("warning", "units", text, (), far, 0.7, "bonds are shorter", action)
    if not len(rows):
        return
    ratio = float(np.median(ratios[rows]))
    if not BONDS_FROM < ratio < BONDS_TO:
        nearest = min(LENGTH_FACTORS, key=lambda f: abs(np.log(ratio / TYPICAL_BOND / f)))
        off = abs(np.log(ratio / TYPICAL_BOND / nearest))
        yield Finding(
            "warning",
            "units",
            f"nearest atoms are typically {ratio:.2f} times a bond apart: are the positions {LENGTH_FACTORS[nearest]}?",
            (),
            len(rows),
            0.9 if off < 0.12 else 0.6,
            f"bonds are {TYPICAL_BOND} times the sum of covalent radii, give or take 15%; {nearest:.4g} explains it",
            "convert positions and cells to Angstrom (1 Bohr = 0.529177 Angstrom, 1 nm = 10 Angstrom)",
        )
        return
    found = two_populations(np.log(ratios[rows]), empty=0.5) if len(rows) >= 20 else None
    if found is None:
        return
    for factor, says in LENGTH_FACTORS.items():
        if abs(found.offset - abs(np.log(factor))) < 0.06:
            level = np.median(ratios[rows][found.upper])
            odd = rows[found.upper if level > 1.3 else ~found.upper]
            if len(odd) < 0.5 * len(rows) and (factor > 1) == (level > 1.3):
                yield Finding(
                    "warning",
                    "units",
                    f"{len(odd)} structures have positions that look {says}, unlike the rest",
                    ledger.names(odd),
                    len(odd),
                    0.8,
                    f"their nearest atoms are {factor:.3g} times as far apart as in the others, and nothing is between",
                    "convert these to Angstrom",
                )
                return


def all_electron_energies(numbers: np.ndarray) -> np.ndarray:
    """Return total energies of free atoms, eV, (N,), by the Thomas-Fermi series with its corrections, to 1-8%."""
    z = np.asarray(numbers, dtype=np.float64)
    return -27.2114 * (0.768745 * z ** (7 / 3) - 0.5 * z**2 + 0.2699 * z ** (5 / 3))


def _judge_energies(ledger: Ledger) -> Iterator[Finding]:
    """All-electron total energies are known to some per cent: their unit can be told."""
    table = ledger.element_counts()
    light = ~table[:, ALL_ELECTRON_TO + 1 :].any(axis=1)
    energies = ledger["energy"]
    rows = np.flatnonzero(np.isfinite(energies) & light[ledger["composition"]] & (ledger["periodic"] < 3))
    if len(rows) < MIN_STRUCTURES:
        return
    expected = table @ all_electron_energies(np.arange(table.shape[1]))
    ratios = energies[rows] / expected[ledger["composition"][rows]]
    ratio = float(np.median(ratios))
    spread = float(np.median(np.abs(ratios / ratio - 1))) if ratio else 9.0
    for factor, unit in ENERGY_UNITS.items():
        if abs(ratio / factor - 1) < 0.05 and spread < 0.02:
            kinds = len(np.unique(ledger["composition"][rows]))
            sure = 0.9 if kinds >= 5 else 0.7
            yield Finding(
                "warning",
                "units",
                f"the energies look like all-electron total energies in {unit}, not eV "
                f"({ratio / factor:.2f} of what free atoms have)",
                (),
                len(rows),
                sure,
                f"they are {ratio:.4g} times all-electron energies in eV, in {kinds} composition(s) alike",
                f"multiply energies by {1 / factor:.6g}; look at the forces, too",
            )
            return


def _judge_forces(ledger: Ledger) -> Iterator[Finding]:
    forces, ratios = ledger["rms_force"].astype(float), ledger["bond_ratio"].astype(float)
    rows = np.flatnonzero(np.isfinite(forces) & (ratios > 0.75) & (forces > 0))
    if len(rows) < MIN_STRUCTURES:
        return
    median = float(np.median(forces[rows]))
    if median > LARGE_FORCES:
        units = " or ".join(FORCE_UNITS[f] for f in FORCE_UNITS if 0.1 < median / f < 4)
        yield Finding(
            "warning",
            "units",
            f"forces are very large ({median:.3g} eV/Angstrom, root mean square in the median structure): "
            f"are they in {units or 'another unit'}?",
            (),
            len(rows),
            0.7,
            "atoms a normal distance apart have forces around 1 eV/Angstrom, even at 1000 K",
            "convert forces (and the energies of the same source) to eV and Angstrom",
        )


def _judge_stress(ledger: Ledger) -> Iterator[Finding]:
    pressure = ledger["pressure"].astype(float)
    rows = np.flatnonzero(np.isfinite(pressure))
    if not len(rows):
        return
    median = float(np.median(np.abs(pressure[rows])))
    if median > LARGE_STRESS:
        yield Finding(
            "warning",
            "units",
            f"the median pressure is {EV_PER_ANGSTROM3_IN_GPA * median:.0f} GPa: is the stress in eV/Angstrom^3?",
            (),
            len(rows),
            0.85,
            f"{LARGE_STRESS * EV_PER_ANGSTROM3_IN_GPA:.0f} GPa are more than any shock experiment reaches with solids",
            "divide by 160.2177 if it is in GPa, by 1602.177 if in kbar; VASP's sign is the opposite",
        )
    elif (odd := _odd_pressures(ledger, rows)).size:
        most = LARGE_STRESS * EV_PER_ANGSTROM3_IN_GPA
        text = f"{len(odd)} structure(s) have pressures above {most:.0f} GPa, unlike the rest"
        yield Finding(
            "warning",
            "units",
            f"{text}: is their stress in GPa or kbar? {few(list(ledger.names(odd)), len(odd))}",
            ledger.names(odd),
            len(odd),
            0.8,
            f"the others have {EV_PER_ANGSTROM3_IN_GPA * median:.3g} GPa in the median",
            "divide these by 160.2177 if in GPa, by 1602.177 if in kbar, or leave their stress out",
        )
    yield from _judge_bulk_moduli(ledger, rows)


def _odd_pressures(ledger: Ledger, rows: np.ndarray) -> np.ndarray:
    """Return rows with impossible pressures, far from the others', that no compression explains."""
    size, ratios = np.abs(ledger["pressure"].astype(float)), ledger["bond_ratio"].astype(float)
    odd = rows[(size[rows] > LARGE_STRESS) & (ratios[rows] > 0.85 * float(np.nanmedian(ratios)))]
    others = np.setdiff1d(rows, odd)
    apart = len(odd) and len(others) and np.median(size[odd]) > APART * np.quantile(size[others], 0.95)
    return odd if apart else odd[:0]


def _judge_bulk_moduli(ledger: Ledger, rows: np.ndarray) -> Iterator[Finding]:
    """The stress must become more tensile with volume, at the rate of the bulk modulus."""
    pressure, volume = ledger["pressure"].astype(float), ledger["log_volume"].astype(float)
    moduli, signs, count = [], [], 0
    for members in grouped(ledger["composition"][rows]):
        members = rows[members]
        x, y = volume[members], pressure[members]
        if len(members) < MIN_VOLUMES or np.subtract(*np.quantile(x, (0.9, 0.1))) < MIN_STRAIN or y.std() == 0:
            continue
        correlation = float(np.corrcoef(x, y)[0, 1])
        if abs(correlation) > MIN_CORRELATION:
            moduli.append(float(np.polyfit(x, y, 1)[0]))
            signs.append(np.sign(correlation))
            count += len(members)
    if not moduli:
        return
    modulus, share = float(np.median(moduli)), float(np.mean(np.array(signs) < 0))
    gpa = EV_PER_ANGSTROM3_IN_GPA * modulus
    numbers = f"over {count} structures of {len(moduli)} composition(s) the bulk modulus would be {gpa:.3g} GPa"
    why = "the slope of the stress against the volume is the bulk modulus, which is positive and at most 450 GPa"
    if share > 0.7 and modulus < WRONG_SIGN:
        text = f"stress falls with volume ({numbers}): has it the wrong sign (positive must be tensile)?"
        action = "turn the sign of the stress; check with energies of strained cells"
        yield Finding("warning", "units", text, (), count, min(0.9, 0.6 + 0.05 * len(moduli)), why, action)
    elif modulus > STIFFEST:
        text = f"stress rises too fast with volume ({numbers}): is it in GPa, kbar, or a virial?"
        action = "divide by 160.2177 if it is in GPa, by 1602.177 if in kbar, by the volume if a virial"
        yield Finding("warning", "units", text, (), count, 0.8, why, action)
