"""Three-dimensional structures of molecular graphs: springs for bonds and angles, repulsion, four dimensions at first.

Another random start gives another conformer. These are starting points for a labeller, not minima of any energy.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from scipy.optimize import minimize

from lam.corpus.elements import HOMOLOGUES, bond_length
from lam.corpus.graph import Graph

_S = np.sqrt
SHAPES: dict[str, np.ndarray] = {
    "linear": np.array([[0, 0, 1], [0, 0, -1]], float),
    "bent": np.array([[np.sin(0.92), 0, np.cos(0.92)], [-np.sin(0.92), 0, np.cos(0.92)]]),
    "bent-120": np.array([[_S(3) / 2, 0, 0.5], [-_S(3) / 2, 0, 0.5]]),
    "trigonal": np.array([[1, 0, 0], [-0.5, _S(3) / 2, 0], [-0.5, -_S(3) / 2, 0]]),
    "pyramidal": np.array([[_S(8) / 3, 0, -1 / 3], [-_S(2) / 3, _S(2 / 3), -1 / 3], [-_S(2) / 3, -_S(2 / 3), -1 / 3]]),
    "tetrahedral": np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / _S(3),
    "square": np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], float),
    "bipyramid": np.array([[0, 0, 1], [0, 0, -1], [1, 0, 0], [-0.5, _S(3) / 2, 0], [-0.5, -_S(3) / 2, 0]]),
    "square-pyramid": np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], float),
    "octahedral": np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float),
    "prism": np.array([[np.cos(a) * 0.76, np.sin(a) * 0.76, z] for z in (0.65, -0.65) for a in (0, 2.0944, 4.1888)]),
    "pentagonal": np.array([[0, 0, 1], [0, 0, -1], *[[np.cos(a), np.sin(a), 0] for a in 2 * np.pi / 5 * np.arange(5)]]),
    "antiprism": np.array([[np.cos(a + s) * 0.82, np.sin(a + s) * 0.82, z]
                           for z, s in ((0.57, 0), (-0.57, np.pi / 4)) for a in np.pi / 2 * np.arange(4)]),
}  # fmt: skip
"""Unit directions from a centre to its neighbours."""
BY_NEIGHBOURS = {
    2: ("linear",), 3: ("trigonal",), 4: ("tetrahedral",), 5: ("bipyramid", "square-pyramid"),
    6: ("octahedral",), 7: ("pentagonal",), 8: ("antiprism",),
}  # fmt: skip
SQUARE_PLANAR = {28, 46, 78, 45, 77, 79, 29, 54, 36}
_ATTEMPTS = 4


def shape_of(z: int, orders: list[float], random: np.random.Generator) -> np.ndarray | None:
    """Return the ideal directions around an atom, (neighbours, 3), or ``None`` if there are none to keep."""
    count = len(orders)
    if count < 2 or count > 8:
        return None
    family = HOMOLOGUES.get(z, (0,))[0]  # the lightest homologue: F, O, N, C, B
    multiple = max(orders) > 1
    if count == 2:
        if max(orders) == 3 or (orders.count(2.0) == 2 and family == 6):
            return SHAPES["linear"]
        if family in (8, 7, 6, 9):
            return SHAPES["bent-120" if multiple else "bent"]
        return SHAPES["linear"]
    if count == 3 and family in (7, 8) and not multiple:
        return SHAPES["pyramidal"]
    if count == 4 and z in SQUARE_PLANAR and random.random() < 0.6:
        return SHAPES["square"]
    names = BY_NEIGHBOURS[count]
    return SHAPES[names[random.integers(len(names))]]


def embed(graph: Graph, random: np.random.Generator, *, attempts: int = _ATTEMPTS) -> np.ndarray | None:
    """Return positions, (N, 3), Angstrom, or ``None`` if no attempt satisfied the bonds.

    Args:
        graph: the molecule.
        random: of it depends which conformer is found.
        attempts: starts before it is given up.
    """
    n = len(graph)
    if n == 1:
        return np.zeros((1, 3))
    bonded = [(i, j) for i, j, _ in graph.bonds]
    lengths = np.array([bond_length(graph.numbers[i], graph.numbers[j], order) for i, j, order in graph.bonds])
    for _ in range(attempts):
        target, weight, repulsive = _springs(graph, random)
        start = random.normal(size=(n, 4)) * 1.3 * n ** (1 / 3)
        positions = _minimise(start, target, weight, repulsive, flat=0.0, steps=80)
        positions = _minimise(positions, target, weight, repulsive, flat=2.0, steps=60)
        positions = _minimise(positions[:, :3], target, weight, repulsive, flat=0.0, steps=120)
        vectors = positions[[i for i, _ in bonded]] - positions[[j for _, j in bonded]]
        found = np.linalg.norm(vectors, axis=1)
        if np.abs(found / lengths - 1).max() < 0.12:
            return positions
    return None


def _springs(graph: Graph, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the wished distances, their weights, and where they are only lower bounds, each (N, N)."""
    numbers = np.asarray(graph.numbers)
    radii = covalent_radii[numbers]
    target = radii[:, None] + radii[None, :] + 1.3
    weight = np.full(target.shape, 0.4)
    repulsive = np.ones(target.shape, dtype=bool)
    lists = graph.neighbours()

    def put(i: int, j: int, distance: float, strength: float) -> None:
        target[i, j] = target[j, i] = distance
        weight[i, j] = weight[j, i] = strength
        repulsive[i, j] = repulsive[j, i] = False

    for i, j, distance in _torsions(graph, lists, random):
        put(i, j, distance, 0.5)
    length = {}
    for i, j, order in graph.bonds:
        length[i, j] = length[j, i] = bond_length(graph.numbers[i], graph.numbers[j], order)
    for centre, around in enumerate(lists):
        free = centre in graph.haptic
        shape = None if free else shape_of(int(numbers[centre]), [order for _, order in around], random)
        if shape is not None:
            shape = shape[random.permutation(len(shape))]
        for a in range(len(around)):
            for b in range(a):
                i, j = around[a][0], around[b][0]
                if shape is None:
                    target[i, j] = target[j, i] = radii[i] + radii[j] + 0.5
                    continue
                cosine = float(np.clip(shape[a] @ shape[b], -1, 1))
                first, second = length[centre, i], length[centre, j]
                put(i, j, float(np.sqrt(first**2 + second**2 - 2 * first * second * cosine)), 0.6)
    for (i, j), distance in length.items():
        put(i, j, distance, 4.0)
    return target, weight, repulsive


def _torsions(
    graph: Graph, lists: list[list[tuple[int, float]]], random: np.random.Generator
) -> list[tuple[int, int, float]]:
    """Return distances across double and aromatic bonds that keep them planar."""
    found = []
    for i, j, order in graph.bonds:
        if order not in (1.5, 2.0):
            continue
        left = [k for k, _ in lists[i] if k != j]
        right = [k for k, _ in lists[j] if k != i]
        if not (0 < len(left) <= 2 and 0 < len(right) <= 2):
            continue
        near = next(((a, b) for a in left for b in right if _connected(lists, a, b, {i, j})), None)
        a0, b0 = near or (left[0], right[random.integers(len(right))])  # in a ring cis, else either
        for a in left:
            for b in right:
                cis = (a == a0) == (b == b0)
                bond = bond_length(graph.numbers[i], graph.numbers[j], order)
                arms = [bond_length(graph.numbers[x], graph.numbers[y]) for x, y in ((a, i), (b, j))]
                along = bond + 0.5 * (arms[0] + arms[1])
                across = 0.866 * (arms[0] - arms[1] if cis else arms[0] + arms[1])
                found.append((a, b, float(np.hypot(along, across))))
    return found


def _connected(lists: list[list[tuple[int, float]]], start: int, goal: int, barred: set[int], reach: int = 5) -> bool:
    """Can ``goal`` be reached from ``start`` within ``reach`` bonds, not through ``barred`` atoms?"""
    seen, edge = {start} | barred, {start}
    for _ in range(reach):
        edge = {k for i in edge for k, _ in lists[i]} - seen
        if goal in edge:
            return True
        seen |= edge
    return False


def _minimise(
    start: np.ndarray, target: np.ndarray, weight: np.ndarray, repulsive: np.ndarray, *, flat: float, steps: int
) -> np.ndarray:
    n, dimensions = start.shape
    rows, columns = np.triu_indices(n, 1)
    wished, strength, bound = (matrix[rows, columns] for matrix in (target, weight, repulsive))

    def energy(x: np.ndarray) -> tuple[float, np.ndarray]:
        positions = x.reshape(n, dimensions)
        vectors = positions[rows] - positions[columns]
        distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors) + 1e-8)
        error = distances - wished
        error[bound & (error > 0)] = 0.0
        pull = (2 * strength * error / distances)[:, None] * vectors
        gradient = np.zeros_like(positions)
        for axis in range(dimensions):
            gradient[:, axis] += np.bincount(rows, pull[:, axis], n) - np.bincount(columns, pull[:, axis], n)
        total = float(strength @ error**2)
        if flat:
            total += flat * float((positions[:, 3] ** 2).sum())
            gradient[:, 3] += 2 * flat * positions[:, 3]
        return total, gradient.ravel()

    result = minimize(energy, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return result.x.reshape(n, dimensions)
