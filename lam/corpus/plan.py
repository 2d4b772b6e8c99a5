"""How many structures of which family, built one family after the other, the least covered elements first.

Everything depends on the seed and the number of structures only. A family's random numbers depend on its name, and
what is covered on the families before it: those that are free in their elements come last and fill the gaps.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms

from lam.corpus.clusters import adsorbed, clusters
from lam.corpus.complexes import complexes, inorganic, solvated
from lam.corpus.context import Context
from lam.corpus.coverage import Coverage
from lam.corpus.elemental import elemental
from lam.corpus.fluids import droplets, liquids
from lam.corpus.molecules import charged, organic
from lam.corpus.pairs import dimers, trimers
from lam.corpus.periodic import bulk_crystals, defects, disordered_cells, surfaces
from lam.corpus.sample import Sample, defect, fingerprint
from lam.errors import LamError, unknown_name

Generator = Callable[[Context], Iterator[Sample]]
_REJECTED = 200
"""So many rejected structures for each that is wanted mean that a generator is at its end."""


@dataclass(frozen=True)
class Family:
    """Structures of one kind, and how they are labelled."""

    name: str
    make: Generator
    share: float
    """Of all structures."""
    engine: str = "gfn1"
    max_atoms: int = 60
    min_atoms: int = 1
    """With fewer atoms allowed than these, the family is left out."""
    max_force: float = 50.0
    """eV/A; labels with a larger force on an atom are left out."""
    time_limit: float = 60.0
    options: tuple[tuple[str, Any], ...] = ()
    """Settings of the engine."""
    copies: int = 3
    """Conformers, treatments or distances of one composition, at most."""
    origin: str = ""
    """Name of the family in whose place this one is made; structures and groups are named by it."""


IMPATIENT = (("max_iterations", 120),)
"""Of clusters that GFN1-xTB converges at all, most need fewer; those that fail take most of the time."""
FINITE = (
    Family("molecules", organic, 0.20, "gfn2", max_atoms=40),
    Family("ions", charged, 0.09, "gfn2", max_atoms=40),
    Family("droplets", droplets, 0.04, "gfn2", max_atoms=48),
    Family("complexes", complexes, 0.10, options=IMPATIENT),
    Family("solvated-ions", solvated, 0.04),
    Family("liquids", liquids, 0.002, max_atoms=150, time_limit=300.0),
    Family("inorganic", inorganic, 0.08, max_atoms=40),
    Family("adsorbates", adsorbed, 0.10, max_atoms=40, options=IMPATIENT),
    Family("clusters", clusters, 0.188, max_atoms=50, options=IMPATIENT),
    Family("trimers", trimers, 0.05, max_atoms=3, max_force=100.0, options=IMPATIENT),
    Family("dimers", dimers, 0.05, max_atoms=2, max_force=100.0, options=IMPATIENT),
)
"""Finite systems and large cells, for engines without k-points. With DYNAMICS, the shares add up to 1."""
DYNAMICS = {"dynamics-gfn2": 0.02, "dynamics-gfn1": 0.04}
"""Shares of short molecular dynamics, which begin from the structures of the families above."""
PERIODIC = (
    Family("elements", elemental, 0.30, "gpaw", max_atoms=4, time_limit=3600.0),
    Family("crystals", bulk_crystals, 0.35, "gpaw", max_atoms=16, time_limit=3600.0, copies=2),
    Family("surfaces", surfaces, 0.10, "gpaw", max_atoms=24, min_atoms=4, time_limit=3600.0),
    Family("defects", defects, 0.15, "gpaw", max_atoms=36, min_atoms=4, time_limit=3600.0),
    Family("disordered", disordered_cells, 0.10, "gpaw", max_atoms=24, min_atoms=8, time_limit=3600.0),
)
"""Small cells for engines with k-points; tblite would label them wrongly, and `lam label` refuses them."""


@dataclass(frozen=True)
class Built:
    """The structures of one family."""

    family: Family
    frames: list[Atoms]
    rejected: dict[str, int] = field(default_factory=dict)
    """Why structures were not taken."""

    @property
    def fingerprint(self) -> str:
        """Checksum of what was built."""
        return fingerprint(self.frames)


def counts(total: int, shares: dict[str, float]) -> dict[str, int]:
    """Share a number of structures out, largest remainders first; at least one of each.

    Raises:
        LamError: if there are fewer structures than families.
    """
    if total < len(shares):
        raise LamError(f"{total} structures are fewer than the {len(shares)} families: ask for more.")
    whole = sum(shares.values())
    exact = {name: total * share / whole for name, share in shares.items()}
    result = {name: max(1, int(value)) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: int(exact[name]) - exact[name]):
        if sum(result.values()) >= total:
            break
        result[name] += 1
    while sum(result.values()) > total:
        result[max(result, key=lambda name: result[name])] -= 1
    return result


def shares_of(families: Sequence[Family]) -> dict[str, float]:
    """Return the shares of families, with those of dynamics where finite systems are planned."""
    shares = {family.name: family.share for family in families}
    periodic = {family.name for family in PERIODIC}
    return shares if periodic.issuperset(shares) else shares | DYNAMICS


def select_families(
    periodic: bool, names: Sequence[str] | None = None, max_atoms: int | None = None
) -> tuple[Family, ...]:
    """Return the families of a plan, in the order in which they are built.

    Args:
        periodic: small cells instead of finite systems?
        names: which; all of them if not given.
        max_atoms: no structure shall have more; families that need more are left out.

    Raises:
        LamError: for a name that does not exist, or if no family is left.
    """
    families = PERIODIC if periodic else FINITE
    known = [family.name for family in families]
    for name in names or ():
        if name not in known:
            raise unknown_name("family", name, known)
    chosen = [family for family in families if not names or family.name in names]
    if max_atoms is not None:
        fitting = [family for family in chosen if family.min_atoms <= max_atoms]
        chosen = [replace(family, max_atoms=min(family.max_atoms, max_atoms)) for family in fitting]
    if not chosen:
        raise LamError(f"No family of structures has at most {max_atoms} atoms: allow more.")
    return tuple(chosen)


def build_family(family: Family, count: int, seed: int, coverage: Coverage) -> Built:
    """Build the structures of one family and count them in ``coverage``.

    Args:
        family: what.
        count: how many.
        seed: of the whole corpus.
        coverage: of the families before; grows.

    Raises:
        LamError: if the generator finds no more.
    """
    random = np.random.default_rng([seed, zlib.crc32(family.name.encode())])
    context = Context(random, coverage, family.max_atoms, family.copies)
    frames: list[Atoms] = []
    rejected: Counter[str] = Counter()
    seen: set[str] = set()
    for sample in family.make(context):
        reason = defect(sample, family.max_atoms)
        if not reason:
            atoms = sample.finished(family.origin or family.name)
            mark = fingerprint([atoms])
            if mark in seen:
                reason = "duplicate"
        if reason:
            rejected[reason] += 1
            if sum(rejected.values()) > _REJECTED * (len(frames) + 10):
                raise LamError(f"The family '{family.name}' finds no more than {len(frames)} structures: {rejected}.")
            continue
        seen.add(mark)
        frames.append(atoms)
        coverage.add(atoms.numbers)
        if len(frames) == count:
            break
    return Built(family, frames, dict(rejected))
