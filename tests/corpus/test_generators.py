"""The parts: SMILES, embedding, prototypes, coverage, dynamics."""

import numpy as np
import pytest
from ase import Atoms

from lam.corpus.complexes import BIDENTATE, MONODENTATE, TERMINAL
from lam.corpus.coverage import Coverage
from lam.corpus.dynamics import FRAMES, Start, choose_starts, run_dynamics
from lam.corpus.elements import bond_length, lowest_multiplicity
from lam.corpus.embed import embed
from lam.corpus.graph import hydrogens, joined, parse
from lam.corpus.molecules import GROUPS, IONS, SCAFFOLDS
from lam.corpus.prototypes import PROTOTYPES, build, slots_of
from lam.corpus.report import place_of
from lam.corpus.sample import closest_contact
from lam.errors import LamError
from lam.label.engines import Labels


@pytest.mark.parametrize(
    "smiles, formula, charge",
    [
        ("CCO", "C2H6O", 0), ("c1ccccc1", "C6H6", 0), ("c1ccncc1", "C5H5N", 0), ("c1cc[nH]c1", "C4H5N", 0),
        ("CC(=O)[O-]", "C2H3O2", -1), ("[NH4+]", "H4N", 1), ("CS(=O)(=O)C", "C2H6O2S", 0), ("[O-2]", "O", -2),
        ("C1CC2CCC1C2", "C7H12", 0), ("O=C=O", "CO2", 0), ("C#N", "CHN", 0), ("c1ccc2ccccc2c1", "C10H8", 0),
    ],
)  # fmt: skip
def test_smiles(smiles, formula, charge):
    graph = parse(smiles)
    assert Atoms(graph.numbers).get_chemical_formula() == formula
    assert graph.charge == charge


def test_what_is_no_smiles_is_an_error():
    with pytest.raises(LamError, match="understood"):
        parse("C/C=C/C")


@pytest.mark.parametrize("smiles", [*SCAFFOLDS, *GROUPS])
def test_building_blocks_have_closed_shells(smiles):
    graph = parse(smiles)
    assert graph.charge == 0
    assert lowest_multiplicity(np.array(graph.numbers), 0) == 1


@pytest.mark.parametrize("smiles", [*IONS, *TERMINAL, *(entry.split(":")[0] for entry in MONODENTATE + BIDENTATE)])
def test_ions_and_ligands_have_closed_shells(smiles):
    graph = parse(smiles)
    assert lowest_multiplicity(np.array(graph.numbers), graph.charge) == 1


def test_joining_keeps_valences():
    random = np.random.default_rng(0)
    graph = joined(parse("c1ccccc1"), parse("CO"), random)
    assert len(graph) == 12 + 6 - 2
    valence = {1: 1, 6: 4, 8: 2}
    for z, around in zip(graph.numbers, graph.neighbours(), strict=True):
        assert sum(order for _, order in around) == valence[z]
    assert all(graph.numbers[h] == 1 and graph.numbers[heavy] in (6, 8) for h, heavy in hydrogens(graph))


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1", "CC(=O)O", "C1CCCCC1", "NC(C)C(=O)O"])
def test_embedding_has_bonds_where_the_graph_has_them(smiles):
    graph = parse(smiles)
    positions = embed(graph, np.random.default_rng(1))
    bonds = {(min(i, j), max(i, j)): order for i, j, order in graph.bonds}
    for i in range(len(graph)):
        for j in range(i + 1, len(graph)):
            distance = np.linalg.norm(positions[i] - positions[j])
            usual = bond_length(graph.numbers[i], graph.numbers[j], bonds.get((i, j), 1.0))
            if (i, j) in bonds:
                assert distance == pytest.approx(usual, rel=0.12)
            else:
                assert distance > 1.2 * usual


def test_benzene_is_flat_and_methane_is_not():
    def flatness(smiles):
        positions = embed(parse(smiles), np.random.default_rng(2))
        return np.linalg.svd(positions - positions.mean(axis=0))[1][-1]

    assert flatness("c1ccccc1") < 0.3 < flatness("C")


def test_other_starts_give_other_conformers():
    random = np.random.default_rng(3)
    graph = parse("CCCCO")
    spans = [np.linalg.norm(p[:, None] - p[None], axis=2).max() for p in (embed(graph, random) for _ in range(6))]
    assert np.ptp(spans) > 0.3


@pytest.mark.parametrize("prototype", PROTOTYPES, ids=lambda p: p.name)
def test_prototypes_are_scaled_to_their_elements(prototype):
    light, heavy = (
        build(prototype, list(elements)[: len(prototype.roles)]) for elements in ((12, 13, 14, 8), (56, 82, 81, 52))
    )
    assert set(slots_of(prototype)) == set(range(len(prototype.roles)))
    for atoms in (light, heavy):
        assert 0.8 < closest_contact(atoms, reach=1.5) < 1.5
    assert heavy.get_volume() > light.get_volume()


@pytest.mark.parametrize(
    "name, formula",
    [
        ("spinel", "Mg8Al16Si32"), ("ZrCuSiAs", "Mg2Al2Si2O2"),
        ("perovskite", "MgAlSi3"), ("elpasolite", "Mg8Al4Si4O24"),
        ("C15", "Mg8Al16"), ("corundum", "Mg12Al18"), ("anatase", "Mg4Al8"), ("chalcopyrite", "Mg4Al4Si8"),
        ("stannite", "Mg4Al2Si2O8"), ("A15", "Mg2Al6"), ("rutile", "Mg2Al4"), ("delafossite", "Mg3Al3Si6"),
        ("diamond", "Mg8"), ("hcp", "Mg2"), ("A7", "Mg6"), ("NiAs", "Mg2Al2"), ("wurtzite", "Mg2Al2"),
        ("half-Heusler", "Mg4Al4Si4"),
        ("Heusler", "Mg4Al4Si8"), ("LiMgPdSn", "Mg4Al4Si4O4"), ("pyrite", "Mg4Al8"),
        ("D03", "Mg4Al12"), ("ReO3", "MgAl3"),
    ],
)  # fmt: skip
def test_prototypes_have_their_stoichiometry(name, formula):
    prototype = next(p for p in PROTOTYPES if p.name == name)
    atoms = build(prototype, [12, 13, 14, 8][: len(prototype.roles)])
    assert np.array_equal(np.sort(atoms.numbers), np.sort(Atoms(formula).numbers))


def test_rocksalt_has_the_right_size():
    prototype = next(p for p in PROTOTYPES if p.name == "rocksalt")
    assert build(prototype, [11, 17]).cell.lengths()[0] == pytest.approx(5.64, rel=0.06)
    assert build(prototype, [12, 8]).cell.lengths()[0] == pytest.approx(4.21, rel=0.06)


def test_the_least_covered_is_chosen():
    coverage, random = Coverage(), np.random.default_rng(0)
    for numbers in ([1, 6], [1, 6, 8], [6, 8], [8, 8]):
        coverage.add(np.array(numbers))
    assert coverage.elements[[1, 6, 8]].tolist() == [2, 3, 3]
    assert coverage.pairs[8, 8] == 1 and coverage.pairs[6, 6] == 0 and coverage.pairs[1, 6] == coverage.pairs[6, 1] == 2
    assert coverage.choose([[1, 6, 8, 26]], random) == [26]
    assert set(coverage.choose([[1, 6, 8], [1, 6, 8]], random)) == {1, 8}  # the rarest pair of the three
    assert set(coverage.choose([[1, 6], [1, 6]], random)) == {1, 6}


def test_planning_beats_chance():
    random, planned, drawn = np.random.default_rng(0), Coverage(), Coverage()
    pool = list(range(1, 21))
    for _ in range(70):
        planned.add(np.array(planned.choose([pool] * 3, random)))
        drawn.add(random.choice(pool, 3, replace=False))
    assert planned.to_dict()["pairs_covered"] > 1.15 * drawn.to_dict()["pairs_covered"]
    assert planned.elements[1:21].min() > drawn.elements[1:21].min()


def test_places_in_the_periodic_table():
    places = {z: place_of(z) for z in range(1, 87)}
    assert len(set(places.values())) == 86
    assert places[1] == (0, 0) and places[2] == (0, 17) and places[5] == (1, 12) and places[21] == (3, 2)
    assert places[57] == (5, 2) and places[58] == (7, 3) and places[71] == (7, 16) and places[72] == (5, 3)
    assert places[86] == (5, 17)


class Springs:
    """Stands for the process of an engine: every atom is bound to where it began."""

    def __init__(self, home):
        self.home = home

    def calculate(self, structure, time_limit):
        return Labels(0.0, -0.5 * (structure.positions - self.home))


def test_dynamics_are_reproducible_and_warm():
    positions = np.array([[0, 0, 0], [1.6, 0, 0], [0, 1.6, 0]], float)
    atoms = Atoms("CCO", positions, info={"group": "g", "total_charge": 0, "spin_multiplicity": 1})
    cold, hot, again = (
        run_dynamics(Start("0", atoms, t, 7), Springs(positions), "md", 1.0) for t in (10.0, 900.0, 900.0)
    )
    assert len(hot[0]) == FRAMES and hot[1] == ""
    assert np.array_equal(hot[0][-1].positions, again[0][-1].positions)

    def spread(run):
        return np.std([frame.get_all_distances() for frame in run[0]], axis=0).mean()

    assert spread(hot) > 3 * spread(cold)
    assert hot[0][0].info["group"] == "g" and hot[0][0].info["family"] == "md"


def test_starts_are_spread_over_groups():
    frames = [Atoms("H3", [(0, 0, 0), (1, 0, 0), (2, 0, 0)], info={"group": f"g{i % 5}"}) for i in range(20)]
    starts = choose_starts(frames, 5 * FRAMES, 0, "dynamics-gfn1")
    assert {start.atoms.info["group"] for start in starts} == {f"g{i}" for i in range(5)}
    assert choose_starts([], 10, 0, "dynamics-gfn1") == []
