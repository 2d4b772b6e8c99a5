"""Organic molecules and their conformers, and charged or open-shell ones, composed by rules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2

from lam.corpus.context import Context, rattled
from lam.corpus.elements import HOMOLOGUES, lowest_multiplicity
from lam.corpus.embed import embed
from lam.corpus.graph import Graph, hydrogens, joined, parse, protonated, with_elements, without, words
from lam.corpus.sample import Sample

SCAFFOLDS = words("""
C CC CCC CC(C)C CC(C)(C)C C=C C=CC C=CC=C C#C CC#C C1CC1 C1CCC1 C1CCCC1 C1CCCCC1 C1=CCCCC1 C1CC2CCC1C2 c1ccccc1
Cc1ccccc1 c1ccc2ccccc2c1 c1ccncc1 c1cncnc1 c1ccoc1 c1ccsc1 c1cc[nH]c1 c1c[nH]cn1 c1cocn1 c1cscn1 C1CO1 C1CCOC1
C1CCNCC1 C1COCCN1 C1CCSC1 c1ccc2[nH]ccc2c1 c1cnc2ccccc2c1 O CO CCO COC C=O CC=O CC(=O)C C(=O)O CC(=O)O COC=O OO
N CN CNC CN(C)C C=N C#N CC#N NN NO C(=O)N CC(=O)N CNC(=O)C NC(=O)N NCC(=O)O NC(C)C(=O)O O=C1C=CC(=O)C=C1
O=C1CCCC1 S CS CSC CSSC C=S CS(=O)C CS(=O)(=O)C CS(=O)(=O)O OS(=O)(=O)O P CP CP(C)C OP(=O)(O)O COP(=O)(O)O
CP(=O)(C)C [SiH4] C[SiH3] C[SiH2]C O[SiH3] C[SiH2]O[SiH3] B CB OB(O)O CB(O)O C[GeH3] C[SnH3] C[AsH2] C[SeH]
O=C=O N=C=O CN=C=O C=C=C CC(=O)OC(=O)C C[PbH3] O=c1cc[nH]c(=O)[nH]1 Nc1cc[nH]c(=O)n1 c1ncc2nc[nH]c2n1
OCC1OC(O)CC1 C1=CC=CC=CC=C1 C[AlH2] C[GaH2] [SbH3] [BiH3] [TeH2]
""")
"""Molecules to begin with, as SMILES."""
GROUPS = words("""
C CC C=C C#C O OC N CN S P F Cl Br I C=O C(=O)O C(=O)N C#N CO CF c1ccccc1 c1ccncc1 C1CC1 S(=O)(=O)C [SiH4] B
[SeH2] C(=O)C OC=O FC(F)F ClC(Cl)Cl [GeH4] [AsH3] [SnH4] [TeH2] CS
""")
"""Molecules that take the place of a hydrogen."""
IONS = words("""
[NH4+] [OH3+] [OH-] [CH3+] [CH3-] C[NH3+] [O-]C=O CC(=O)[O-] [O-]C(=O)[O-] [O-]N=O [O-]S(=O)(=O)[O-]
[O-]P(=O)(O)O [SH-] [C-]#N [N-]=[N+]=[N-] [O-]Cl [O-]Cl(=O)=O [F-] [Cl-] [Br-] [I-] [H-] C[O-] CC[O-]
[O-]c1ccccc1 C[S-] [NH2-] [PH4+] F[B-](F)(F)F F[P-](F)(F)(F)(F)F C[N+](C)(C)C C[S+](C)C c1cc[nH+]cc1
[O-]S(=O)(=O)C [SiH3-] [BH4-] [AlH4-] C=[OH+] [NH3+]CC(=O)[O-] N#[O+] [SeH-] [TeH-] [AsH4+] [GeH3-] [SnH3-]
[Br-] O=[N+]=O
""")
MAX_ATOMS = 40
TEMPERATURES = (0.02, 0.05, 0.1)
"""Angstrom of displacement."""


def organic(context: Context) -> Iterator[Sample]:
    """Yield molecules of ASE's G2 set, scaffolds, and what they form, several conformers of each."""
    random = context.random
    names = [name for name in g2.names if len(molecule(name)) > 1]
    while True:
        if random.random() < 0.12:
            name = names[random.integers(len(names))]
            atoms = molecule(name)
            atoms.set_initial_magnetic_moments(None)
            multiplicity = _g2_multiplicity(name)
            yield Sample(rattled(atoms, _sigma(random), random), "g2", name, multiplicity=multiplicity)
            continue
        graph = compose(context)
        if len(graph) > MAX_ATOMS:
            continue
        yield from _conformers(graph, "composed", random, context.copies)


def charged(context: Context) -> Iterator[Sample]:
    """Yield ions, protonated, deprotonated, oxidised, reduced and open-shell molecules."""
    random = context.random
    while True:
        way = random.choice(["ion", "proton", "deprotonated", "oxidised", "reduced", "triplet", "radical", "joined"])
        graph, extra, multiplicity = compose(context), 0, None
        if len(graph) > 30:
            continue
        if way in ("ion", "joined"):
            ion = parse(IONS[random.integers(len(IONS))])
            can = way == "joined" and hydrogens(ion) and hydrogens(graph)
            graph = joined(ion, graph, random) if can else ion
        elif way == "proton":
            bases = [i for i, z in enumerate(graph.numbers) if z in (7, 8, 15, 16, 33, 34)]
            if not bases:
                continue
            graph = protonated(graph, bases[random.integers(len(bases))])
        elif way in ("deprotonated", "radical"):
            sites = hydrogens(graph)
            if not sites:
                continue
            graph = without(graph, sites[random.integers(len(sites))][0], charge=-1 if way == "deprotonated" else 0)
        else:
            extra = {"oxidised": 1, "reduced": -1}.get(str(way), 0)
            multiplicity = 3 if way == "triplet" else None
        for sample in _conformers(graph, str(way), random, context.copies):
            yield Sample(sample.atoms, sample.kind, sample.group, graph.charge + extra, multiplicity)


def compose(context: Context) -> Graph:
    """Return a molecule of a scaffold and up to three groups, some atoms replaced by homologues that are wanted."""
    random = context.random
    graph = _parsed(SCAFFOLDS[random.integers(len(SCAFFOLDS))])
    for _ in range(random.integers(0, 4)):
        group = _parsed(GROUPS[random.integers(len(GROUPS))])
        if hydrogens(graph) and hydrogens(group):
            graph = joined(graph, group, random)
    if random.random() < 0.35:
        graph = _with_homologue(graph, context)
    return graph


def _with_homologue(graph: Graph, context: Context) -> Graph:
    lists = graph.neighbours()
    # Multiple bonds of heavy elements exist, but are no default: only what is singly bonded is replaced.
    free = [i for i, z in enumerate(graph.numbers) if z in HOMOLOGUES and all(order == 1 for _, order in lists[i])]
    if not free:
        return graph
    atom = free[context.random.integers(len(free))]
    z = context.coverage.choose([HOMOLOGUES[graph.numbers[atom]]], context.random)[0]
    return with_elements(graph, {atom: z})


def _conformers(graph: Graph, kind: str, random: np.random.Generator, copies: int) -> Iterator[Sample]:
    for _ in range(int(random.integers(1, copies + 1))):
        positions = embed(graph, random)
        if positions is None:
            return
        atoms = rattled(Atoms(graph.numbers, positions), _sigma(random), random)
        yield Sample(atoms, kind, atoms.get_chemical_formula(), graph.charge)


def _sigma(random: np.random.Generator) -> float:
    return float(TEMPERATURES[random.integers(len(TEMPERATURES))])


@cache
def _parsed(smiles: str) -> Graph:
    return parse(smiles)


@cache
def _g2_multiplicity(name: str) -> int | None:
    atoms = molecule(name)
    moment = round(float(abs(atoms.get_initial_magnetic_moments().sum())))
    lowest = lowest_multiplicity(atoms.numbers, 0)
    return moment + 1 if lowest is not None and (moment + 1 - lowest) % 2 == 0 else lowest
