"""What a head (task) is: a level of theory with its reference energies, scale and coverage."""

from __future__ import annotations

from lam.config.base import Section


class HeadInfo(Section):
    """Description of one head, stored in the JSON of a checkpoint."""

    name: str
    """Name by which users choose the head."""
    level_of_theory: str = "not stated"
    """Functional, basis and code of the labels, as the source states it."""
    licence: str = "not stated"
    """Licence of the data, as the source states it."""
    source: str = ""
    """Where the data comes from: repository, paper or file."""
    elements: dict[str, int] = {}
    """Element symbol -> number of training structures that contain it."""
    reference_energies: dict[str, float] = {}
    """Element symbol -> reference energy, eV per atom."""
    reference_rank: int | None = None
    """Rank of the least-squares problem; below the number of elements, references are not unique."""
    energy_scale: float = 1.0
    """Scale of the interaction energy, eV (the force RMS of the data, times 1 Angstrom)."""
    n_structures: int = 0
    """Number of training structures."""
    periodic: bool = False
    """Is any training structure periodic?"""
    molecular: bool = False
    """Is any training structure not periodic?"""
    has_stress: bool = False
    """Has any training structure a stress label?"""
    charges: list[float] = []
    """Total charges trained on, e; 0 where the data states none."""
    spin_multiplicities: list[float] = []
    """Spin multiplicities trained on; 1 where the data states none."""
    metrics: dict[str, float | None] = {}
    """Errors on the held-out split, with units in the names."""
