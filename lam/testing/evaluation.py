"""The interface between the checks and a potential: structures in, plain arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

if TYPE_CHECKING:
    from lam.model.potential import Potential


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a potential says of one structure.

    Attributes:
        energy: eV.
        forces: eV/A, (N, 3).
        stress: eV/A^3, tensile positive, (3, 3); ``None`` unless periodic in three directions.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None


Evaluate = Callable[[Sequence[Atoms]], list[Result]]
"""Evaluates all structures **in one batch** (if the potential can), in order."""


def evaluator(model: Potential, *, head: str | None = None, dtype: str = "float64") -> Evaluate:
    """Return the :data:`Evaluate` of a :class:`~lam.model.potential.Potential`, through the shipped inference.

    Args:
        model: the potential.
        head: head to use for every structure; by default the first of the default heads.
        dtype: ``"float32"`` or ``"float64"``.
    """
    from lam.calculators.calculator import bare
    from lam.calculators.predictor import Predictor
    from lam.data.structure import Structure

    # One head for all: left to itself the model may choose another one for another periodicity.
    predictor = Predictor(model, head=head or model.default_heads[0], device="cpu", dtype=dtype)

    def evaluate(structures: Sequence[Atoms]) -> list[Result]:
        predictions = predictor.predict([Structure.from_atoms(bare(atoms)) for atoms in structures])
        return [Result(energy=p.energy, forces=p.forces, stress=p.stress) for p in predictions]

    return evaluate


def force_scale(results: Sequence[Result]) -> float:
    """Return the largest force component, eV/A: the yardstick of the relative errors."""
    return max((float(np.abs(result.forces).max()) for result in results if len(result.forces)), default=0.0)


def compare(got: Result, want: Result, *, rtol: float, what: str) -> None:
    """Assert that two results agree.

    Forces are compared relative to the largest force, energies per atom relative to that force times 1 A
    or to 0.1 eV (a total energy may be mostly reference energy, which would hide any error), stress relative
    to its own largest component.
    """
    scale = max(force_scale([want]), 1e-4)
    per_atom, wanted = got.energy / len(got.forces), want.energy / len(want.forces)
    # The last term is the rounding of the total itself, which references of 1e4 eV make large.
    _close(per_atom, wanted, rtol * max(scale, 0.1) + 4e-15 * abs(want.energy), what, "energy")
    _close(got.forces, want.forces, rtol * scale, what, "forces")
    if want.stress is not None or got.stress is not None:
        assert want.stress is not None and got.stress is not None, f"{what}: one stress is missing"
        _close(got.stress, want.stress, rtol * max(float(np.abs(want.stress).max()), 1e-5), what, "stress")


def _close(got: np.ndarray | float, want: np.ndarray | float, bound: float, what: str, name: str) -> None:
    error = float(np.abs(np.asarray(got) - np.asarray(want)).max(initial=0.0))
    assert error <= bound, f"{what}: {name} differ by {error:.3g}, allowed {bound:.3g}"
