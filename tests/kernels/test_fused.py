"""Training by written-out derivatives against autograd: outputs, gradients of all weights, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from lam import keys
from lam.data.graph import build_graph, collate
from lam.data.structure import Structure
from lam.model import HeadInfo, ModelConfig, Potential, fused

CUTOFF = 3.0
TINY = ModelConfig(
    cutoff=CUTOFF, l_max=2, channels=6, radial_functions=4, sender_channels=4, scalar_channels=5, readout_channels=4,
    tensor_channels=3, mean_neighbors=10.0, n_layers=2, fourth_order=False,
)  # fmt: skip
SHAPES = {
    "two layers": {},
    "three layers": {"n_layers": 3},
    "one layer": {"n_layers": 1},
    "four densities": {"fourth_order": True},
    "without repulsion": {"zbl": False},
}
HEADS = [HeadInfo(name=name, elements=dict.fromkeys(["H", "C", "O", "Cu"], 1), energy_scale=3.0) for name in "ab"]


@pytest.fixture(autouse=True)
def switched_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    fused.ENABLED = True
    torch.set_num_threads(threads)


def potential(dtype: torch.dtype = torch.float64, **changes: object) -> Potential:
    """Return a potential all of whose weights count."""
    torch.manual_seed(0)
    model = Potential(TINY.model_copy(update=changes), HEADS).to(dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def batch(elements: str = "HCO", dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Return a batch: a charged molecule, an atom alone, a crystal, two atoms within the repulsion."""
    random = np.random.default_rng(0)
    symbols = {"H": 1, "C": 6, "O": 8, "N": 7, "F": 9, "S": 16}
    numbers = np.array([symbols[s] for s in elements])
    kinds = [
        (random.choice(numbers, 9), random.normal(size=(9, 3)) * 1.6, None),
        (numbers[:1], np.zeros((1, 3)), None),
        (np.array([29] * 4), np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 1.8, np.eye(3) * 3.6),
        (np.array([8, 1]), np.array([[0, 0, 0], [0, 0, 0.4]]), None),
    ]
    graphs = []
    for task, (z, positions, cell) in enumerate(kinds):
        structure = Structure(
            numbers=z, positions=positions + 0.05 * random.normal(size=positions.shape),
            cell=np.zeros((3, 3)) if cell is None else cell, pbc=np.full(3, cell is not None), total_charge=float(task),
            spin_multiplicity=1.0,
        )  # fmt: skip
        graphs.append(build_graph(structure, cutoff=CUTOFF, task=task % 2, dtype=dtype))
    return collate(graphs)


def train_on(model: Potential, graph: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    """Return outputs, and the gradients of a random projection of some of them."""
    model.zero_grad()
    output = model(graph, create_graph=True)
    random = torch.Generator().manual_seed(1)
    total = sum(
        (output[name] * torch.randn(output[name].shape, generator=random, dtype=torch.float64)).sum() for name in names
    )
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in output.items()} | gradients


def assert_alike(model: Potential, graph: dict[str, Tensor], tolerance: float, *names: str) -> None:
    names = names or (keys.ENERGY, keys.FORCES, keys.STRESS)
    fused.ENABLED = True
    got = train_on(model, graph, names)
    fused.ENABLED = False
    want = train_on(model, graph, names)
    for name in want:
        # Which weights get a gradient of zero and which none may differ.
        mine = got[name] if name in got else torch.zeros_like(want[name])
        scale = max(float(want[name].abs().max()), 1e-6)
        torch.testing.assert_close(mine / scale, want[name] / scale, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients(shape: str) -> None:
    assert_alike(potential(**SHAPES[shape]), batch(), 1e-11)


def test_single_precision() -> None:
    assert_alike(potential(torch.float32), batch(dtype=torch.float32), 2e-4)


@pytest.mark.parametrize("elements", ["H", "HCONFS"], ids=["one element", "more than slots"])
def test_any_number_of_elements(elements: str) -> None:
    graph = batch(elements)
    folds = fused.kinds_of(graph[keys.ATOMIC_NUMBERS], graph[keys.BATCH], TINY.sender_channels, torch.float64)
    assert (folds is not None) == (elements == "H")
    assert_alike(potential(), graph, 1e-11)


@pytest.mark.parametrize("name", [keys.ENERGY, keys.FORCES, keys.STRESS])
def test_one_kind_of_label(name: str) -> None:
    assert_alike(potential(), batch(), 1e-11, name)


def test_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from lam.model.kernels import training

    monkeypatch.setattr(training, "shares", lambda starts: [(0, 3), (3, 11), (11, len(starts) - 1)])
    monkeypatch.setattr(training, "BLOCK", 2)
    assert_alike(potential(), batch(), 1e-11)


def test_heads_alone() -> None:
    model = potential()
    model.backbone.requires_grad_(False)
    assert_alike(model, batch(), 1e-11)


def test_a_graph_can_be_gone_through_again() -> None:
    model, graph = potential(), batch()
    output = model(graph, create_graph=True)
    weights = list(model.parameters())

    def gradient(value: Tensor) -> list[Tensor]:
        return torch.autograd.grad(value, weights, retain_graph=True, materialize_grads=True)

    forces = output[keys.FORCES].square().sum()
    first, energy, again = gradient(forces), gradient(output[keys.ENERGY].sum()), gradient(forces)
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    both = gradient(forces + output[keys.ENERGY].sum())
    for a, b, c in zip(first, energy, both, strict=True):
        torch.testing.assert_close(a + b, c, rtol=1e-9, atol=1e-11)


def test_derivatives_by_positions_go_another_way() -> None:
    graph = batch()
    graph[keys.POSITIONS].requires_grad_()
    output = potential()(graph, create_graph=True)
    (hessian_row,) = torch.autograd.grad(output[keys.FORCES][0, 0], graph[keys.POSITIONS])
    assert hessian_row.abs().max() > 0


def test_kinds_are_told_apart_by_the_elements_of_the_structure() -> None:
    numbers, structure = torch.tensor([1, 1, 1, 8, 1, 8, 1, 8]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    kinds = fused.kinds_of(numbers, structure, 16, torch.float32)
    assert kinds.of_atoms.tolist() == [0, 0, 0, 1, 0, 1, 0, 1]  # both structures have the same elements
    assert kinds.elements.tolist() == [1, 8] and kinds.slots.tolist() == [[1, 8], [1, 8]]
    assert kinds.senders.argmax(1).tolist() == [0, 0, 0, 1, 0, 1, 0, 1]
    assert fused.kinds_of(numbers, structure, 2, torch.float32) is None  # senders are as few as elements
    assert fused.kinds_of(numbers[:2], torch.tensor([0, 1]), 16, torch.float32).slots.shape == (1, 2)
    assert fused.kinds_of(torch.tensor([1, 6, 8]), structure[:3], 16, torch.float32) is None  # a map for each atom
