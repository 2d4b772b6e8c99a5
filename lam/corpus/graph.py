"""Molecules as graphs of bonds, read from a small part of SMILES, and joined by rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np
from ase.data import atomic_numbers

from lam.corpus.elements import VALENCES
from lam.errors import LamError

_TOKEN = re.compile(
    r"\[(?P<symbol>[A-Z][a-z]?|[bcnops])(?P<h>H\d?)?(?P<charge>[+-]\d?)?\]"
    r"|(?P<plain>Cl|Br|[BCNOPSFIbcnops])|(?P<bond>[-=#])|(?P<open>\()|(?P<close>\))|(?P<ring>\d)"
)
_PI = (5, 6, 7, 15)
"""Elements that share one electron with an aromatic ring; oxygen and sulfur share a lone pair."""
_ORDERS = {"-": 1.0, "=": 2.0, "#": 3.0}


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text: a long table of SMILES without quotes."""
    return tuple(text.split())


@dataclass(frozen=True)
class Graph:
    """Atoms and bonds of a molecule, hydrogen included."""

    numbers: tuple[int, ...]
    bonds: tuple[tuple[int, int, float], ...]
    """First atom, second atom, order (1, 1.5, 2, 3)."""
    charge: int = 0
    haptic: frozenset[int] = field(default_factory=frozenset)
    """Centres whose neighbours lie in no particular directions."""

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self.numbers)

    def neighbours(self) -> list[list[tuple[int, float]]]:
        """Return the neighbours of each atom with the order of the bond."""
        lists: list[list[tuple[int, float]]] = [[] for _ in self.numbers]
        for i, j, order in self.bonds:
            lists[i].append((j, order))
            lists[j].append((i, order))
        return lists


def parse(smiles: str) -> Graph:
    """Read a molecule.

    Args:
        smiles: SMILES with branches, rings 1-9, aromatic atoms in lower case, and brackets with H and charge; no
            dots, isotopes or stereochemistry.

    Raises:
        LamError: if it is anything else.
    """
    numbers: list[int] = []
    aromatic: list[bool] = []
    fixed: list[int | None] = []  # hydrogens that brackets state
    bonds: list[tuple[int, int, float]] = []
    charge, position, last, order = 0, 0, -1, 0.0
    stack: list[int] = []
    rings: dict[str, tuple[int, float]] = {}

    def bond(i: int, j: int, given: float) -> None:
        bonds.append((i, j, given or (1.5 if aromatic[i] and aromatic[j] else 1.0)))

    while position < len(smiles):
        match = _TOKEN.match(smiles, position)
        if match is None:
            raise LamError(f"'{smiles}': '{smiles[position:]}' is not understood.")
        position = match.end()
        if symbol := match["symbol"] or match["plain"]:
            numbers.append(atomic_numbers[symbol.capitalize()])
            aromatic.append(symbol.islower())
            fixed.append((int(match["h"][1:] or 1) if match["h"] else 0) if match["symbol"] else None)
            if match["charge"]:
                charge += int(match["charge"][0] + (match["charge"][1:] or "1"))
            if last >= 0:
                bond(last, len(numbers) - 1, order)
            last, order = len(numbers) - 1, 0.0
        elif match["bond"]:
            order = _ORDERS[match["bond"]]
        elif match["open"]:
            stack.append(last)
        elif match["close"]:
            last = stack.pop()
        elif match["ring"] in rings:
            other, given = rings.pop(match["ring"])
            bond(other, last, order or given)
            order = 0.0
        else:
            rings[match["ring"]] = (last, order)
            order = 0.0
    heavy = len(numbers)
    for atom in range(heavy):
        for _ in range(_hydrogens(atom, numbers, aromatic, fixed, bonds)):
            bonds.append((atom, len(numbers), 1.0))
            numbers.append(1)
    return Graph(tuple(numbers), tuple(bonds), charge)


def _hydrogens(
    atom: int, numbers: list[int], aromatic: list[bool], fixed: list[int | None], bonds: list[tuple[int, int, float]]
) -> int:
    if fixed[atom] is not None:
        return fixed[atom]
    orders = [order for i, j, order in bonds if atom in (i, j)]
    used = sum(1.0 if order == 1.5 else order for order in orders) + (
        1 if aromatic[atom] and numbers[atom] in _PI else 0
    )
    fitting = [valence for valence in VALENCES[numbers[atom]] if valence >= used]
    return round(fitting[0] - used) if fitting else 0


def hydrogens(graph: Graph) -> list[tuple[int, int]]:
    """Return the hydrogens that may be replaced: (hydrogen, the heavier atom it is bonded to)."""
    lists = graph.neighbours()
    return [
        (i, lists[i][0][0])
        for i, z in enumerate(graph.numbers)
        if z == 1 and len(lists[i]) == 1 and graph.numbers[lists[i][0][0]] > 2
    ]


def without(graph: Graph, atom: int, *, charge: int = 0) -> Graph:
    """Return the graph without an atom, its charge changed by ``charge``."""
    keep = [i for i in range(len(graph)) if i != atom]
    index = {old: new for new, old in enumerate(keep)}
    bonds = tuple((index[i], index[j], order) for i, j, order in graph.bonds if atom not in (i, j))
    return Graph(tuple(graph.numbers[i] for i in keep), bonds, graph.charge + charge)


def joined(first: Graph, second: Graph, random: np.random.Generator) -> Graph:
    """Return the molecule that two form when each gives up a hydrogen, so that all valences stay satisfied."""
    (h1, a1), (h2, a2) = (sites[random.integers(len(sites))] for sites in (hydrogens(first), hydrogens(second)))
    offset = len(first)
    both = Graph(
        first.numbers + second.numbers,
        first.bonds
        + tuple((i + offset, j + offset, order) for i, j, order in second.bonds)
        + ((a1, a2 + offset, 1.0),),
        first.charge + second.charge,
    )
    return without(without(both, h2 + offset), h1)


def with_elements(graph: Graph, changes: dict[int, int]) -> Graph:
    """Return the graph with other elements at some atoms."""
    return replace(graph, numbers=tuple(changes.get(i, z) for i, z in enumerate(graph.numbers)))


def protonated(graph: Graph, atom: int) -> Graph:
    """Return the graph with a proton at an atom."""
    return Graph((*graph.numbers, 1), (*graph.bonds, (atom, len(graph), 1.0)), graph.charge + 1)


def united(graphs: list[Graph], bonds: list[tuple[int, int, float]], *, haptic: bool = False) -> Graph:
    """Return one graph of several, with bonds between atoms counted over all; the first atom is the centre."""
    numbers: tuple[int, ...] = ()
    all_bonds: list[tuple[int, int, float]] = []
    for graph in graphs:
        offset = len(numbers)
        all_bonds += [(i + offset, j + offset, order) for i, j, order in graph.bonds]
        numbers += graph.numbers
    charge = sum(graph.charge for graph in graphs)
    return Graph(numbers, tuple(all_bonds + bonds), charge, frozenset([0]) if haptic else frozenset())
