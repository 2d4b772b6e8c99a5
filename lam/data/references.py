"""Reference energies of the elements: regularised least squares towards isolated atoms.

The energies of a data set have a zero of their own. A sum of one energy per element takes it away,
so that a model learns what is left. Compositions often do not determine these energies (in water, only
2 E_H + E_O is known): the fit then stays near the prior, and says so through its rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from lam.data.structure import MAX_ATOMIC_NUMBER
from lam.errors import LamError

WIDTH = MAX_ATOMIC_NUMBER + 1
RIDGE = 1e-10  # small: total energies are thousands of eV per atom, and a bias of 1e-6 of them would count
RANK_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ReferenceFit:
    """Fitted reference energies and how well the data determines them."""

    energies: np.ndarray
    """(119,) float64, eV per atom, index = Z; 0 (or the prior) for elements without data."""
    counts: np.ndarray
    """(119,) int64: in how many structures each element occurs."""
    rank: int
    """Number of independent combinations of reference energies that the compositions determine."""
    n_elements: int
    """Number of elements in the data."""
    uncovered: list[int]
    """Atomic numbers that no structure contains."""
    residual_rms: float
    """Root mean square of what the references leave of the energy, eV per atom."""

    @property
    def determined(self) -> bool:
        """Are all reference energies determined by the data?"""
        return self.rank >= self.n_elements


def composition_matrix(numbers: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many atoms of each element each structure has, (S, 119) int64, column = Z."""
    return np.stack([np.bincount(z, minlength=WIDTH) for z in numbers])


def fit_reference_energies(
    compositions: np.ndarray,
    energies: np.ndarray,
    *,
    isolated: dict[int, float] | None = None,
    prior: np.ndarray | None = None,
    ridge: float = RIDGE,
) -> ReferenceFit:
    """Fit one energy per element to total energies, each structure weighing the same per atom.

    Args:
        compositions: (S, 119) atoms of each element, column = Z.
        energies: (S,) total energies, eV.
        isolated: isolated-atom energies by atomic number, eV, if the level of theory has them.
        prior: (119,) energies, eV, towards which the fit is drawn where ``isolated`` says nothing; zeros by
            default.
        ridge: strength of the pull to the prior, relative to the best determined combination.

    Raises:
        LamError: if there is no labelled structure.
    """
    compositions = np.asarray(compositions, dtype=np.float64)
    energies = np.asarray(energies, dtype=np.float64)
    if not len(energies):
        raise LamError("No structure has an energy label, so reference energies cannot be fitted.")
    target = np.zeros(WIDTH) if prior is None else np.array(prior, dtype=np.float64)
    for number, value in (isolated or {}).items():
        target[number] = value
    n_atoms = compositions.sum(axis=1)
    fractions, per_atom = compositions / n_atoms[:, None], energies / n_atoms
    present = np.flatnonzero(compositions.any(axis=0))
    design = fractions[:, present]
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    residual = per_atom - design @ target[present]
    gains = singular / (singular**2 + ridge * singular[0] ** 2)
    fitted = target.copy()
    fitted[present] += right.T @ (gains * (left.T @ residual))
    left_over = per_atom - design @ fitted[present]
    return ReferenceFit(
        energies=fitted,
        counts=(compositions > 0).sum(axis=0),
        rank=int((singular > RANK_TOLERANCE * singular[0]).sum()),
        n_elements=len(present),
        uncovered=[z for z in range(1, WIDTH) if z not in set(present.tolist())],
        residual_rms=float(np.sqrt(np.mean(left_over**2))),
    )


def reference_report(fit: ReferenceFit, *, name: str = "") -> list[str]:
    """Return lines of text: the energies, the rank and the elements that no data covers."""
    title = f"Reference energies{f' of {name}' if name else ''}"
    lines = [f"{title}: rank {fit.rank} of {fit.n_elements} elements, residual {fit.residual_rms:.4g} eV/atom (RMS)"]
    if not fit.determined:
        lines.append(
            f"  The compositions leave {fit.n_elements - fit.rank} combination(s) open; there the references stay "
            "at their prior, and only energies of similar compositions can be compared."
        )
    for number in np.flatnonzero(fit.counts):
        energy, count = fit.energies[number], fit.counts[number]
        lines.append(f"  {chemical_symbols[number]:<2} {energy:16.6f} eV  ({count} structures)")
    if len(fit.uncovered) > WIDTH // 2:
        lines.append(f"  No data for the other {len(fit.uncovered)} elements.")
    else:
        lines.append("  No data for: " + " ".join(chemical_symbols[z] for z in fit.uncovered))
    return lines
