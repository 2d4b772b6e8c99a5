"""The checks as a class for pytest: inherit, say how to make the potential, done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ase import Atoms

from lam.testing import physics
from lam.testing.evaluation import Evaluate, evaluator
from lam.testing.structures import DEFAULT_ELEMENTS, sample_structures

if TYPE_CHECKING:
    from lam.model.potential import Potential


class PotentialPhysicsTests:
    """Physics that every potential must obey, as pytest tests.

    Example:
        >>> class TestMyModel(PotentialPhysicsTests):
        ...     def make_potential(self):
        ...         return lam.load("./my-model")

    For a potential that is none of ours, override :meth:`make_evaluate` and ``cutoff`` instead.
    """

    elements: ClassVar[Sequence[str]] = DEFAULT_ELEMENTS
    """Elements that the test structures are made of (three or more are best)."""
    dimer_elements: ClassVar[Sequence[str] | None] = None
    """Elements whose dimers must repel; by default ``elements``."""
    head: ClassVar[str | None] = None
    """Head to test."""
    rtol: ClassVar[dict[str, float]] = {"float32": 1e-5, "float64": 1e-10}
    """Bounds of symmetries and batching, relative to the largest force."""
    gradient_rtol: ClassVar[float] = 1e-6
    """Bound of forces and stress against finite differences (float64)."""
    cutoff_rtol: ClassVar[float] = 1e-6
    """Bound of jumps at the cutoff (float64)."""
    precision_rtol: ClassVar[float] = 1e-4
    """Bound of float32 against float64."""
    repulsion_fractions: ClassVar[Sequence[float]] = (0.2, 0.3, 0.4)
    """Distances at which dimers must repel, in sums of covalent radii."""
    charge_matters: ClassVar[bool] = True
    """Does the potential depend on total charge and spin?"""

    _cache: ClassVar[dict[str, Evaluate]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._cache = {}

    # -- to override ---------------------------------------------------------------------------

    def make_potential(self) -> Potential:
        """Return the potential under test."""
        raise NotImplementedError("override make_potential() or make_evaluate()")

    def make_evaluate(self, dtype: str) -> Evaluate:
        """Return the function that evaluates structures in ``"float32"`` or ``"float64"``."""
        return evaluator(self.make_potential(), head=self.head, dtype=dtype)

    def structures(self) -> dict[str, Atoms]:
        """Return the test structures by name."""
        return sample_structures(self.elements)

    @property
    def cutoff(self) -> float:
        """Radius (A) at which an atom goes out of the reach of another."""
        return self.make_potential().cutoff

    # -- the tests -----------------------------------------------------------------------------

    def evaluate(self, dtype: str) -> Evaluate:
        """Return :meth:`make_evaluate`, made once per class."""
        if dtype not in self._cache:
            self._cache[dtype] = self.make_evaluate(dtype)
        return self._cache[dtype]

    def _each(self) -> list[tuple[Evaluate, float, Atoms]]:
        structures = self.structures().values()
        return [(self.evaluate(dtype), rtol, atoms) for dtype, rtol in self.rtol.items() for atoms in structures]

    def test_predicts_something(self) -> None:
        for evaluate, _, atoms in self._each():
            physics.check_alive(evaluate, atoms)

    def test_rotation(self) -> None:
        for evaluate, rtol, atoms in self._each():
            physics.check_rotation(evaluate, atoms, rtol=rtol)

    def test_inversion(self) -> None:
        for evaluate, rtol, atoms in self._each():
            physics.check_rotation(evaluate, atoms, rtol=rtol, improper=True, seed=1)

    def test_translation(self) -> None:
        for evaluate, rtol, atoms in self._each():
            physics.check_translation(evaluate, atoms, rtol=rtol)

    def test_permutation(self) -> None:
        for evaluate, rtol, atoms in self._each():
            physics.check_permutation(evaluate, atoms, rtol=rtol)

    def test_batching(self) -> None:
        for dtype, rtol in self.rtol.items():
            physics.check_batching(self.evaluate(dtype), list(self.structures().values()), rtol=rtol)

    def test_net_force(self) -> None:
        for evaluate, rtol, atoms in self._each():
            physics.check_net_force(evaluate, atoms, rtol=rtol)

    def test_supercell(self) -> None:
        for evaluate, rtol, atoms in self._each():
            if atoms.pbc.any():
                physics.check_supercell(evaluate, atoms, rtol=rtol)

    def test_cell_choice(self) -> None:
        for evaluate, rtol, atoms in self._each():
            if atoms.pbc.any():
                physics.check_cell_choice(evaluate, atoms, rtol=rtol)

    def test_forces_are_gradients(self) -> None:
        for atoms in self.structures().values():
            physics.check_forces(self.evaluate("float64"), atoms, rtol=self.gradient_rtol)

    def test_stress_is_a_gradient(self) -> None:
        for atoms in self.structures().values():
            if atoms.pbc.all():
                physics.check_stress(self.evaluate("float64"), atoms, rtol=self.gradient_rtol)

    def test_smooth_at_the_cutoff(self) -> None:
        physics.check_cutoff(self.evaluate("float64"), self.cutoff, self.elements, rtol=self.cutoff_rtol)

    def test_isolated_atoms(self) -> None:
        for dtype, rtol in self.rtol.items():
            physics.check_isolated_atoms(self.evaluate(dtype), self.elements, rtol=rtol)

    def test_dimers_repel(self) -> None:
        symbols = list(self.dimer_elements or self.elements)
        pairs = [(first, second) for i, first in enumerate(symbols) for second in symbols[i:]]
        physics.check_repulsion(self.evaluate("float64"), pairs, fractions=self.repulsion_fractions)

    def test_overlapping_atoms_are_finite(self) -> None:
        for dtype in self.rtol:
            physics.check_overlap(self.evaluate(dtype), self.elements)

    def test_charge_and_spin(self) -> None:
        atoms = self.structures()["molecule"]
        physics.check_charge_and_spin(self.evaluate("float64"), atoms, sensitive=self.charge_matters)

    def test_precision(self) -> None:
        structures = list(self.structures().values())
        physics.check_precision(
            self.evaluate("float32"), self.evaluate("float64"), structures, rtol=self.precision_rtol
        )
