"""Graphs and their batches: complete, exact, and equal to what PyTorch Geometric makes."""

import warnings

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from lam import keys
from lam.data.graph import BATCH_KEYS, build_graph, collate
from lam.data.neighbors import neighbor_list
from lam.errors import LamWarning


@pytest.fixture
def graphs(molecule, crystal):
    structures = [
        molecule(0, total_charge=1.0, spin_multiplicity=2.0),
        crystal(1),
        molecule(2, numbers=(2,), energy=None, forces=None),  # an atom without edges or labels
        crystal(3, forces=None, stress=None),
    ]
    return [build_graph(s, cutoff=4.0, task=k % 2, structure_id=10 + k) for k, s in enumerate(structures)]


def test_a_graph_has_every_key_with_its_shape(crystal):
    structure = crystal(1, count=5)
    graph = build_graph(structure, cutoff=4.0, task=3, structure_id=7, dtype=torch.float64)
    edges, shift = neighbor_list(structure.positions, structure.cell, structure.pbc, 4.0)
    assert graph[keys.EDGE_INDEX].shape == edges.shape and graph[keys.EDGE_SHIFT].shape == shift.shape
    assert graph[keys.EDGE_INDEX].dtype == graph[keys.ATOMIC_NUMBERS].dtype == graph[keys.TASK].dtype == torch.int64
    assert graph[keys.CELL].shape == graph[keys.LABEL_STRESS].shape == (1, 3, 3)
    assert graph[keys.PBC].shape == (1, 3) and graph[keys.PBC].dtype == torch.bool
    assert (graph[keys.TASK].item(), graph[keys.STRUCTURE_ID].item(), graph[keys.N_ATOMS].item()) == (3, 7, 5)
    assert graph[keys.LABEL_ENERGY].dtype == torch.float64 and graph[keys.LABEL_ENERGY].item() == structure.energy
    np.testing.assert_array_equal(graph[keys.LABEL_FORCES].numpy(), structure.forces)
    np.testing.assert_array_equal(graph[keys.LABEL_STRESS][0].numpy(), structure.stress)


def test_edge_vectors_point_from_centre_to_neighbour(crystal):
    structure = crystal(2)
    graph = build_graph(structure, cutoff=4.0, dtype=torch.float64)
    neighbour, centre = graph[keys.EDGE_INDEX]
    vectors = graph[keys.POSITIONS][neighbour] + graph[keys.EDGE_SHIFT] @ graph[keys.CELL][0]
    lengths = (vectors - graph[keys.POSITIONS][centre]).norm(dim=1)
    assert (lengths < 4.0).all() and len(lengths) > 0
    assert (torch.diff(centre) >= 0).all()


@pytest.mark.parametrize("label", ["energy", "forces", "stress"])
def test_a_missing_label_reads_zero_and_is_masked(crystal, label):
    graph = build_graph(crystal(1, **{label: None}), cutoff=3.0)
    for name in ("energy", "forces", "stress"):
        assert graph[f"mask_{name}"].item() == (name != label)
    assert not graph[f"label_{label}"].any()


def test_charge_and_multiplicity_default_to_a_neutral_singlet(molecule):
    graph = build_graph(molecule(), cutoff=3.0)
    assert graph[keys.TOTAL_CHARGE].item() == 0.0 and graph[keys.SPIN_MULTIPLICITY].item() == 1.0
    graph = build_graph(molecule(total_charge=-2.0, spin_multiplicity=3.0), cutoff=3.0)
    assert graph[keys.TOTAL_CHARGE].item() == -2.0 and graph[keys.SPIN_MULTIPLICITY].item() == 3.0


def test_a_structure_far_from_the_origin_keeps_its_distances(molecule):
    near = molecule()
    far = molecule(positions=near.positions + 1e6)
    a, b = (build_graph(s, cutoff=4.0)[keys.POSITIONS] for s in (near, far))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_atoms_that_drifted_through_many_cells_keep_their_distances(crystal):
    near = crystal(4)
    moves = np.array([[0, 0, 0], [300, 0, 0], [0, -200, 5], [7, 7, 7]])
    far = crystal(4, positions=near.positions + moves @ near.cell)

    def lengths(structure):
        graph = build_graph(structure, cutoff=4.0)
        j, i = graph[keys.EDGE_INDEX]
        positions = graph[keys.POSITIONS].double()
        shift = graph[keys.EDGE_SHIFT].double() @ graph[keys.CELL][0].double()
        return (positions[j] + shift - positions[i]).norm(dim=1).sort().values

    torch.testing.assert_close(lengths(near), lengths(far), atol=1e-5, rtol=0)


def test_overlapping_atoms_warn_and_stay(molecule):
    structure = molecule(positions=np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 1.0]]))
    with pytest.warns(LamWarning, match=r"molecules\.extxyz#0"):
        graph = build_graph(structure, cutoff=3.0)
    assert graph[keys.EDGE_INDEX].shape[1] == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_graph(molecule(), cutoff=3.0)


def test_collate_equals_pytorch_geometric(graphs):
    ours, theirs = collate(graphs), Batch.from_data_list(graphs)
    assert tuple(ours) == BATCH_KEYS
    for key in BATCH_KEYS:
        assert torch.equal(ours[key], theirs[key]), key
        assert ours[key].dtype == theirs[key].dtype, key


def test_collate_leaves_the_graphs_as_they_are(graphs):
    before = [graph[keys.EDGE_INDEX].clone() for graph in graphs]
    collate(graphs)
    collate(graphs[1:2])[keys.EDGE_INDEX] += 1
    for graph, edges in zip(graphs, before, strict=True):
        assert torch.equal(graph[keys.EDGE_INDEX], edges)


def test_edges_stay_within_their_structure(graphs):
    batch = collate(graphs)
    owner = batch[keys.BATCH][batch[keys.EDGE_INDEX]]
    assert torch.equal(owner[0], owner[1])
    assert batch[keys.N_ATOMS].tolist() == [3, 4, 1, 4]
