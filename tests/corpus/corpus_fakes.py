"""A quick calculator, used as ``ase:corpus_fakes.Weak``."""

import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Weak(Calculator):
    """Every atom is bound to the centre by a weak spring."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        away = atoms.positions - atoms.positions.mean(axis=0)
        self.results["energy"] = 0.005 * float((away**2).sum())
        self.results["forces"] = -0.01 * away


class Picky(Weak):
    """Fails for about half of all structures."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if int(1000 * np.abs(atoms.positions).sum()) % 2:
            raise RuntimeError("an odd place")
        super().calculate(atoms, properties, system_changes)
