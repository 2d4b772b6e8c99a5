"""Metal complexes, inorganic molecules, and ions among a few molecules of a solvent, over all elements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from lam.corpus.context import Context, rattled
from lam.corpus.elements import D_BLOCK, METALS, OXIDATION, VALENCES, lowest_multiplicity
from lam.corpus.embed import embed
from lam.corpus.graph import Graph, parse, united, words
from lam.corpus.sample import Sample

MONODENTATE = words("""
O:0 [NH3]:0 [C-]#[O+]:0 [C-]#N:0 [Cl-]:0 [F-]:0 [Br-]:0 [I-]:0 [OH-]:0 [H-]:0 [SH-]:0 [CH3-]:0 [PH3]:0 CP(C)C:1
c1ccncc1:3 CC#N:2 CO:1 CSC:1 [N-]=C=S:0 CC(=O)[O-]:3 O=CN(C)C:0 C=O:1 [NH2-]:0 [SeH-]:0 [AsH3]:0 N#N:0 [SiH3-]:0
[O-2]:0 [TeH-]:0 [SbH3]:0 [GeH3-]:0 [SnH3-]:0 S:0 CN:1 N#[O+]:0
""")
"""Ligand and the number of its donor atom."""
BIDENTATE = words("""
NCCN:0,3 [O-]C(=O)C(=O)[O-]:0,5 CC(=O)C=C([O-])C:2,5 c1ccc(nc1)-c2ccccn2:4,11 CSCCSC:1,4 COCCOC:1,4 PCCP:0,3
[O-]C=O:0,2 [O-]N=O:0,2 NCC(=O)[O-]:0,4 [O-]c1ccccc1[O-]:0,7 [S-]CC[S-]:0,3
""")
TERMINAL = words("""
[F-] [Cl-] [Br-] [I-] [H-] [OH-] [CH3-] [NH2-] [SH-] [SeH-] [TeH-] [PH2-] [SiH3-] [C-]#N [AsH2-]
""")
SOLVENTS = ("O:0", "[NH3]:0", "CO:1", "CC#N:2", "CS(=O)C:2", "S:0", "[FH]:0")
MAX_CHARGE = 3


def complexes(context: Context) -> Iterator[Sample]:
    """Yield metal complexes, the metal being the least covered; isomers and conformers of each."""
    random = context.random
    metals = [z for z in METALS if z in OXIDATION]
    while True:
        metal = context.coverage.choose([metals], random)[0]
        state = int(random.choice(OXIDATION[metal]))
        coordination = int(random.choice([2, 3, 4, 4, 4, 5, 6, 6, 6, 7, 8]))
        if metal in D_BLOCK and coordination > 6 and metal < 39:
            coordination = 6
        graph = _complex(metal, state, coordination, random)
        if graph is None or abs(graph.charge) > MAX_CHARGE:
            continue
        yield from _isomers(graph, "complex", context, metal)


def inorganic(context: Context) -> Iterator[Sample]:
    """Yield molecules of one or two central atoms with terminal groups: halides, hydrides, oxides, alkyls."""
    random = context.random
    centres = [z for z in VALENCES if z != 1]
    terminals = {parse(smiles).numbers[0]: smiles for smiles in TERMINAL}
    while True:
        first, heads = context.coverage.choose([centres, list(terminals)], random)
        graph = _central(first, terminals[heads], random)
        kind = "inorganic"
        if random.random() < 0.3:
            graph, kind = _bridged(first, terminals[heads], context), "bridged"
        if graph is not None:
            yield from _isomers(graph, kind, context, first)


def solvated(context: Context) -> Iterator[Sample]:
    """Yield ions of any metal, at a usual oxidation state, with one to six molecules of a solvent."""
    random = context.random
    metals = [z for z in METALS if min(OXIDATION.get(z, (9,))) <= MAX_CHARGE]
    while True:
        metal = context.coverage.choose([metals], random)[0]
        states = [state for state in OXIDATION[metal] if state <= MAX_CHARGE]
        name = SOLVENTS[random.integers(len(SOLVENTS))]
        ligands = [_ligand(name)] * int(random.integers(1, 7))
        graph = _assembled(metal, int(random.choice(states)), ligands)
        yield from _isomers(graph, "solvated-ion", context, metal)


def _ligand(entry: str) -> tuple[Graph, list[int]]:
    smiles, donors = entry.split(":")
    return parse(smiles), [int(i) for i in donors.split(",")]


def _assembled(metal: int, charge: int, ligands: list[tuple[Graph, list[int]]]) -> Graph:
    graphs, bonds, offset = [Graph((metal,), (), charge)], [], 1
    for ligand, donors in ligands:
        graphs.append(ligand)
        bonds += [(0, offset + donor, 1.0) for donor in donors]
        offset += len(ligand)
    return united(graphs, bonds)


def _complex(metal: int, state: int, coordination: int, random: np.random.Generator) -> Graph | None:
    # One or two kinds of ligand: more are rare, and a metal sees few of its neighbours' pairs otherwise.
    kinds = [_ligand(MONODENTATE[random.integers(len(MONODENTATE))]) for _ in range(int(random.integers(1, 3)))]
    chelate = _ligand(BIDENTATE[random.integers(len(BIDENTATE))]) if random.random() < 0.35 else None
    ligands: list[tuple[Graph, list[int]]] = []
    left = coordination
    while left > 0:
        take = (
            chelate
            if chelate is not None and left >= 2 and random.random() < 0.7
            else kinds[random.integers(len(kinds))]
        )
        ligands.append(take)
        left -= len(take[1])
    # Anions are exchanged for ammonia until the charge is one that exists outside of a solvent.
    for i in range(len(ligands)):
        if state + sum(graph.charge for graph, _ in ligands) < -2 and ligands[i][0].charge < 0:
            ligands[i] = _ligand("[NH3]:0")
    graph = _assembled(metal, state, ligands)
    return graph if len(graph) <= 60 else None


def _central(centre: int, terminal: str, random: np.random.Generator) -> Graph | None:
    valence = int(random.choice(VALENCES[centre]))
    ligand = parse(terminal)
    oxo = int(random.integers(0, valence // 2 + 1)) if valence >= 3 and random.random() < 0.3 else 0
    ligands = [parse("[O-2]")] * oxo + [ligand] * (valence - 2 * oxo)
    graphs = [Graph((centre,), (), valence), *ligands]
    offsets = np.cumsum([1] + [len(graph) for graph in ligands])
    return united(
        graphs, [(0, int(offset), 2.0 if i < oxo else 1.0) for i, offset in enumerate(offsets[: len(ligands)])]
    )


def _bridged(first: int, terminal: str, context: Context) -> Graph | None:
    """Return two centres that share an oxygen, sulfur or nitrogen atom."""
    random = context.random
    second = context.coverage.choose([[z for z in VALENCES if z != 1 and z not in (9, first)]], random)[0]
    bridge = int(random.choice([8, 16, 34, 7]))
    ligand = parse(terminal)
    graphs, bonds, offset = [Graph((bridge,), (), -2 if bridge != 7 else -3)], [], 1
    for centre in (first, second):
        valence = int(random.choice(VALENCES[centre]))
        graphs.append(Graph((centre,), (), valence))
        bonds.append((0, offset, 1.0))
        start = offset
        offset += 1
        for _ in range(valence - 1):
            graphs.append(ligand)
            bonds.append((start, offset, 1.0))
            offset += len(ligand)
    if bridge == 7:  # its third valence
        graphs.append(Graph((1,), (), 1))
        bonds.append((0, offset, 1.0))
    return united(graphs, bonds) if offset <= 40 else None


def _isomers(graph: Graph, kind: str, context: Context, metal: int) -> Iterator[Sample]:
    random = context.random
    multiplicity = None
    lowest = lowest_multiplicity(np.array(graph.numbers), graph.charge)
    if lowest is not None and metal in D_BLOCK and random.random() < 0.25:
        multiplicity = lowest + 2
    for _ in range(int(random.integers(1, context.copies + 1))):
        positions = embed(graph, random)
        if positions is None:
            return
        atoms = rattled(Atoms(graph.numbers, positions), float(random.choice([0.02, 0.05, 0.1])), random)
        yield Sample(atoms, kind, f"{atoms.get_chemical_formula()}{graph.charge:+d}", graph.charge, multiplicity)
