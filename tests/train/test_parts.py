"""Losses, schedule, weight decay, errors and state files against what they should be."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from making import TINY
from safetensors.torch import save_file

from lam import keys
from lam.config import Section
from lam.data.dataset import MultiTaskDataset
from lam.data.graph import build_graph, collate
from lam.data.manifest import DatasetSpec, Manifest, load_manifest
from lam.data.shards import ShardWriter
from lam.data.structure import ISOLATED_ATOM, Structure
from lam.errors import LamError
from lam.model import HeadInfo, ModelConfig, Potential
from lam.train.config import LossSection, OptimizerSection, PretrainConfig
from lam.train.data import CachedGraphs
from lam.train.heads import head_statistics
from lam.train.logs import CsvLog
from lam.train.losses import SMALLEST_SCALE, TERMS, combine, label_masks, loss_sums
from lam.train.schedule import build_optimizer, decays, warmup_stable_decay
from lam.train.state_io import SafetensorsCheckpointIO
from lam.train.validation import ErrorSums


def label_counts(batch):
    """Return the number of labels of each term."""
    return dict(zip(TERMS, label_masks(batch).double().sum(1), strict=True))


def structure(**fields) -> Structure:
    values = {
        "numbers": [29, 29], "positions": [[0.0, 0, 0], [1.9, 1.8, 0.1]], "cell": np.diag([3.6, 3.7, 4.0]),
        "pbc": [True] * 3, "energy": -7.0, "forces": np.arange(6.0).reshape(2, 3), "stress": np.eye(3) * 0.01,
    }  # fmt: skip
    return Structure(**(values | fields))


def potential(dtype=torch.float64) -> Potential:
    torch.manual_seed(0)
    heads = [HeadInfo(name="a", elements={"Cu": 1}, energy_scale=0.7), HeadInfo(name="b", elements={"Cu": 1})]
    return Potential(ModelConfig.parse(TINY), heads).to(dtype)


# -- losses ------------------------------------------------------------------------------------


def test_losses_by_hand():
    batch = collate(
        [build_graph(structure(), cutoff=4.0, task=0), build_graph(structure(energy=-5.0), cutoff=4.0, task=1)]
    )
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    forces = batch[keys.LABEL_FORCES].clone()
    forces[0, 0] += 3.0
    forces[0, 1] += 4.0  # the error of atom 0 has the norm 5
    stress = batch[keys.LABEL_STRESS].clone()
    stress[1] += torch.diag(torch.tensor([0.02, 0.0, 0.0], dtype=torch.float64))
    output = {
        keys.ENERGY: batch[keys.LABEL_ENERGY] + torch.tensor([0.4, -1.0], dtype=torch.float64),
        keys.FORCES: forces,
        keys.STRESS: stress,
    }
    force_scale = torch.tensor([2.0, 0.01], dtype=torch.float64)  # the second is below the floor
    energy_scale = torch.tensor([0.5, 0.8], dtype=torch.float64)
    sums, counts = loss_sums(output, batch, force_scale, energy_scale), label_counts(batch)
    volume = 3.6 * 3.7 * 4.0
    assert torch.allclose(sums["energy"], torch.tensor([0.4 / 2 / 0.5, 1.0 / 2 / 0.8], dtype=torch.float64))
    assert torch.allclose(sums["forces"], torch.tensor([5.0 / 2.0, 0.0], dtype=torch.float64), atol=1e-5)
    assert torch.allclose(sums["stress"], torch.tensor([0.0, 0.02 * volume / 2 / 0.8], dtype=torch.float64), atol=1e-4)
    assert {term: float(count) for term, count in counts.items()} == {"energy": 2, "forces": 4, "stress": 2}
    total = combine(sums, counts, {"energy": 2.0, "forces": 3.0, "stress": 0.5})
    expected = 2.0 * (0.4 + 0.625) / 2 + 3.0 * 2.5 / 4 + 0.5 * 0.01 * volume / 0.8 / 2
    assert float(total) == pytest.approx(expected, abs=1e-4)
    output[keys.FORCES] = batch[keys.LABEL_FORCES] + torch.tensor([0.1, 0.0, 0.0])
    sums = loss_sums(output, batch, force_scale, energy_scale)
    assert float(sums["forces"][1]) == pytest.approx(2 * 0.1 / SMALLEST_SCALE, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "large", "small"),
    [
        ("norm", 5.0, 0.5),
        ("mae", 7.0 / 3, 0.7 / 3),
        ("mse", 25.0, 0.25),
        ("huber", 5.0 - 0.5, 0.25 / 2),  # linear above delta = 1, quadratic below
    ],
)
def test_kinds_of_force_loss(kind, large, small):
    batch = collate([build_graph(structure(), cutoff=4.0, dtype=torch.float64)])
    loss = LossSection(forces_kind=kind, energy_kind=kind, huber_delta=1.0)
    for scale, expected in ((1.0, large), (0.1, small)):
        error = torch.zeros(2, 3, dtype=torch.float64)
        error[0] = 2.0 * scale * torch.tensor([3.0, 0.0, -4.0])  # in units of the scale of 2: 5 and 0.5 long
        output = {
            keys.ENERGY: batch[keys.LABEL_ENERGY],
            keys.FORCES: batch[keys.LABEL_FORCES] + error,
            keys.STRESS: batch[keys.LABEL_STRESS],
        }
        two = torch.full((1,), 2.0, dtype=torch.float64)
        sums = loss_sums(output, batch, two, two, loss)
        assert float(sums["forces"][0]) == pytest.approx(expected, abs=1e-5)
        assert float(sums["energy"][0]) == 0.0


def test_kinds_of_energy_loss():
    batch = collate([build_graph(structure(), cutoff=4.0, dtype=torch.float64)])
    output = {
        keys.ENERGY: batch[keys.LABEL_ENERGY] - 6.0,  # 3 per atom
        keys.FORCES: batch[keys.LABEL_FORCES],
        keys.STRESS: batch[keys.LABEL_STRESS],
    }
    one = torch.ones(1, dtype=torch.float64)
    for kind, expected in {"norm": 3.0, "mae": 3.0, "mse": 9.0, "huber": 3.0 - 0.25}.items():
        sums = loss_sums(output, batch, one, one, LossSection(energy_kind=kind, huber_delta=0.5))
        assert float(sums["energy"][0]) == pytest.approx(expected)


def test_without_stress_labels_the_stress_is_not_needed():
    model = potential()
    batch = collate([build_graph(structure(stress=None), cutoff=4.0, dtype=torch.float64)])
    gradients = []
    for stress in (True, False):
        model.zero_grad()
        sums = loss_sums(model(batch, create_graph=True, stress=stress), batch, torch.ones(2), torch.ones(2))
        counts = label_counts(batch)
        combine(sums, counts, LossSection().weights).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(one, two) for one, two in zip(*gradients, strict=True))


def test_factors_of_heads():
    model = potential()
    graphs = [build_graph(structure(), cutoff=4.0, task=task, dtype=torch.float64) for task in (0, 1)]
    batch = collate(graphs)
    output = model(batch)
    scales = (torch.ones(2).double(), model.energy_scale(torch.float64))
    plain = loss_sums(output, batch, *scales)
    factors = torch.tensor([3.0, 0.0])
    weighted = loss_sums(output, batch, *scales, head_factors=factors)
    for term in TERMS:
        assert torch.allclose(weighted[term], plain[term] * factors.double())
    assert label_masks(batch, factors).tolist() == [[1, 0], [2, 0], [1, 0]]
    assert label_masks(batch).tolist() == [[1, 1], [2, 2], [1, 1]]


@pytest.mark.parametrize("missing", ["energy", "forces", "stress"])
@pytest.mark.parametrize("fill", [1e6, math.nan])
def test_missing_labels_have_no_influence(missing, fill):
    model = potential()
    graphs = [
        build_graph(structure(), cutoff=4.0, dtype=torch.float64),
        build_graph(structure(**{missing: None}), cutoff=4.0, task=1, dtype=torch.float64),
    ]

    def gradients(batch):
        model.zero_grad()
        sums = loss_sums(
            model(batch, create_graph=True), batch, torch.ones(2).double(), model.energy_scale(torch.float64)
        )
        counts = label_counts(batch)
        combine(sums, counts, LossSection().weights).backward()
        assert float(sums[missing].detach()[1]) == 0.0
        assert float(counts[missing]) == (2 if missing == "forces" else 1)
        return [parameter.grad.clone() for parameter in model.parameters()]

    batch = collate(graphs)
    before = gradients(batch)
    label = {"energy": keys.LABEL_ENERGY, "forces": keys.LABEL_FORCES, "stress": keys.LABEL_STRESS}[missing]
    batch[label][-2 if missing == "forces" else -1 :] = fill
    assert all(torch.equal(one, two) for one, two in zip(before, gradients(batch), strict=True))
    # The term itself reaches only the rows of the head that has the label.
    sums = loss_sums(model(batch, create_graph=True), batch, torch.ones(2).double(), torch.ones(2).double())
    [rows] = torch.autograd.grad(sums[missing].sum(), [model.readout.weight])
    assert rows[0].any() and not rows[1].any()


def test_batch_without_any_label_of_a_kind_has_a_finite_loss():
    model = potential()
    batch = collate([build_graph(structure(forces=None, stress=None), cutoff=4.0, dtype=torch.float64)])
    sums = loss_sums(model(batch, create_graph=True), batch, torch.ones(2), torch.ones(2))
    counts = label_counts(batch)
    loss = combine(sums, counts, LossSection().weights)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_error_sums_by_hand():
    batch = collate(
        [
            build_graph(structure(), cutoff=4.0, task=0),
            build_graph(structure(energy=None, stress=None), cutoff=4.0, task=1),
        ]
    )
    output = {
        keys.ENERGY: batch[keys.LABEL_ENERGY] + torch.tensor([0.3, 100.0]),
        keys.FORCES: batch[keys.LABEL_FORCES] + 0.5,
        keys.STRESS: batch[keys.LABEL_STRESS] - 0.02,
    }
    sums = ErrorSums(["a", "b"])
    sums.add(output, batch)
    errors = sums.summary()
    assert errors["val/a/energy_mae"] == pytest.approx(0.15)
    assert errors["val/a/force_mae"] == errors["val/b/force_mae"] == pytest.approx(0.5)
    assert errors["val/a/energy_rmse"] == pytest.approx(0.15)
    assert errors["val/a/force_rmse"] == pytest.approx(0.5)
    assert errors["val/a/force_ratio"] == pytest.approx(0.5 / 2.5)
    assert errors["val/a/stress_mae"] == pytest.approx(0.02)
    assert "val/b/energy_mae" not in errors and "val/b/stress_mae" not in errors


# -- optimiser ---------------------------------------------------------------------------------


def test_schedule_rises_stays_and_falls():
    def rate(step):
        return warmup_stable_decay(step, 100, 10, 0.4)

    assert rate(0) == pytest.approx(1 / 11)
    assert rate(9) == pytest.approx(10 / 11)
    assert rate(10) == rate(59) == 1.0
    assert rate(70) == pytest.approx(1 - math.sqrt(10 / 40))
    assert rate(100) == 0.0
    assert all(rate(step + 1) <= rate(step) for step in range(60, 100))


def test_the_fall_begins_where_the_loss_may_change():
    assert [decays(step, 100, 0.4) for step in (0, 59, 60, 99)] == [False, False, True, True]
    assert not any(decays(step, 100, 0.0) for step in range(100))


@pytest.mark.parametrize(("steps", "warmup", "decay"), [(10, 0, 0.0), (10, 50, 0.5), (1, 0, 1.0), (3, 1, 1.0)])
def test_schedule_at_its_limits(steps, warmup, decay):
    rates = [warmup_stable_decay(step, steps, warmup, decay) for step in range(steps + 2)]
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert rates[0] > 0
    if decay:
        assert rates[steps] == 0.0


def test_weight_decay_is_for_matrices_only():
    torch.manual_seed(0)
    model = Potential(
        ModelConfig.parse({**TINY, "n_layers": 2, "l_max": 2, "tensor_channels": 4}), [HeadInfo(name="a")]
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    model.backbone.layers[0].update.bias.requires_grad_(False)
    optimizer = build_optimizer(model.named_parameters(), OptimizerSection(weight_decay=0.01))
    decayed, free = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert "backbone.layers.0.message.mix.weight" in decayed
    assert "backbone.layers.0.tensor_gate.weight" in decayed
    assert {"backbone.element.weight", "backbone.layers.0.message.gate.weight", "readout.bias"} <= free
    assert not any("bias" in name or "readout" in name for name in decayed)
    assert decayed | free == set(names.values()) - {"backbone.layers.0.update.bias"}


# -- heads -------------------------------------------------------------------------------------


def test_isolated_atom_without_energy_is_no_reference(tmp_path):
    atom = {"numbers": [29], "positions": np.zeros((1, 3)), "cell": np.zeros((3, 3)), "pbc": [False] * 3,
            "stress": None, "group": ISOLATED_ATOM}  # fmt: skip
    with ShardWriter(tmp_path / "x.h5") as writer:
        for energy in (-7.0, -6.0):
            writer.append(structure(energy=energy))
        writer.append(Structure(**atom))
    dataset = MultiTaskDataset(Manifest(datasets=[DatasetSpec(name="x", path=tmp_path / "x.h5")]), "all", 4.0)
    statistics = head_statistics(dataset, 0)
    assert statistics.info.reference_energies["Cu"] == pytest.approx(-3.25)
    assert statistics.info.elements == {"Cu": 2}
    # Of normal components the mean norm is sqrt(8 / pi) times their RMS.
    assert statistics.force_scale == pytest.approx((math.sqrt(5) + math.sqrt(50)) / 2 / math.sqrt(8 / math.pi))


def test_head_without_energies_is_refused(tmp_path):
    with ShardWriter(tmp_path / "x.h5") as writer:
        writer.append(structure(energy=None))
    dataset = MultiTaskDataset(Manifest(datasets=[DatasetSpec(name="x", path=tmp_path / "x.h5")]), "all", 4.0)
    with pytest.raises(LamError, match="'x' has no energy label"):
        head_statistics(dataset, 0)


def test_describe_names_the_file_and_frame(manifest):
    dataset = MultiTaskDataset(load_manifest(manifest), "train", 4.0)
    row = int(dataset.rows[1][0])
    assert dataset.name_of(1, row) == f"argon: argon.extxyz#{row} (row {row})"


# -- state files -------------------------------------------------------------------------------


def test_state_round_trip(tmp_path):
    state = {
        "tensors": {
            "weight": torch.randn(3, 2),
            "long": torch.arange(3),
            "empty": torch.zeros(0),
            "0d": torch.ones(()),
        },
        3: {0: "int keys", 1: True},
        "mixed": [None, 1, 2.5, -math.inf, (1, ("a", None)), [], {}],
        "ordered": OrderedDict(b=1, a=2),
        "legacy": np.random.get_state(),  # noqa: NPY002
        "numpy": np.arange(6.0).reshape(2, 3),
        "scalar": np.float64(0.1),
        "shared": [torch.ones(4)[:2]] * 2,
        "transposed": torch.arange(6.0).reshape(2, 3).T,
    }
    io = SafetensorsCheckpointIO()
    io.save_checkpoint(state, tmp_path / "a.ckpt")
    back = io.load_checkpoint(tmp_path / "a.ckpt")
    assert list(back) == list(state)
    assert back[3] == state[3] and back["mixed"] == state["mixed"] and type(back["mixed"][4]) is tuple
    assert back["ordered"] == dict(state["ordered"]) and back["scalar"] == 0.1
    for name, tensor in state["tensors"].items():
        assert torch.equal(back["tensors"][name], tensor) and back["tensors"][name].dtype == tensor.dtype
    assert torch.equal(back["transposed"], state["transposed"])
    assert all(np.array_equal(one, two) for one, two in zip(back["legacy"], state["legacy"], strict=True))
    assert back["legacy"][1].dtype == np.uint32 and np.array_equal(back["numpy"], state["numpy"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_state_of_a_kind_that_cannot_be_kept(tmp_path):
    with pytest.raises(TypeError, match="a training state cannot hold a"):
        SafetensorsCheckpointIO().save_checkpoint({"x": Section}, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_state_are_refused(tmp_path):
    io = SafetensorsCheckpointIO()
    torch.save({"state_dict": {}}, tmp_path / "pickle.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "empty.ckpt").touch()
    save_file({"x": torch.ones(1)}, tmp_path / "other.ckpt")
    save_file({"x": torch.ones(1)}, tmp_path / "new.ckpt", metadata={"format": "lam-training-state", "version": "99"})
    save_file({"x": torch.ones(1)}, tmp_path / "odd.ckpt", metadata={"format": "lam-training-state", "version": "1"})
    for name, text in {
        "pickle": "damaged or no state", "text": "damaged or no state", "empty": "damaged or no state",
        "missing": "damaged or no state", "other": "is no training state", "new": "newer lam", "odd": "is damaged",
    }.items():  # fmt: skip
        with pytest.raises(LamError, match=f"{name}.ckpt'.*{text}"):
            io.load_checkpoint(tmp_path / f"{name}.ckpt")


# -- log ---------------------------------------------------------------------------------------


def test_log_gains_columns_and_drops_what_will_be_repeated(tmp_path):
    file = tmp_path / "log" / "metrics.csv"
    log = CsvLog(file)
    log.log_metrics({"a": 1.0, "epoch": 0}, step=0)
    log.log_metrics({"a": 2.0, "b": torch.tensor(0.5)}, step=1)
    log.log_metrics({"b": 3.0}, step=4)
    assert file.read_text().splitlines() == ["step,a,b", "1,1.0,", "2,2.0,0.5", "5,,3.0"]
    with open(file, "a") as handle:
        handle.write("6,1")  # a kill cut this line off
    again = CsvLog(file)
    again.resume(4)
    again.log_metrics({"a": 7.0}, step=4)
    assert file.read_text().splitlines() == ["step,a,b", "1,1.0,", "2,2.0,0.5", "5,7.0,"]
    fresh = CsvLog(file)
    fresh.resume(0)
    assert not file.exists()


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"manifest": "m"}, "'output' is missing"),
        ({"output": "o", "manifest": "m", "step": 3}, "did you mean 'steps'"),
        ({"output": "o", "manifest": "m", "batch": {"max_atom": 3}}, "did you mean 'max_atoms'"),
        ({"output": "o", "manifest": "m", "name": "../x"}, "usable as the name of a folder"),
        ({"output": "o", "manifest": "m", "log": {"wandb": "yes"}}, "'log.wandb'"),
        ({"output": "o", "manifest": "m", "steps": 0}, "'steps' = 0"),
        ({"output": "o", "manifest": "m", "optimizer": {"kind": "sgd"}}, "'optimizer.kind'"),
        ({"output": "o", "manifest": "m", "loss": {"forces_kind": "l1"}}, "'loss.forces_kind'"),
    ],
)
def test_wrong_settings(values, text):
    with pytest.raises(LamError, match=text):
        PretrainConfig.parse(values)


def test_changes_of_the_loss_in_the_decay():
    settings = {"output": "o", "manifest": "m", "loss": {"forces": 3.0}}
    config = PretrainConfig.parse({**settings, "final_loss": {"energy": 50.0, "forces_kind": "mse"}})
    loss = config.loss_of_decay()
    assert (loss.energy, loss.forces, loss.forces_kind, loss.stress) == (50.0, 3.0, "mse", config.loss.stress)
    assert PretrainConfig.parse(settings).loss_of_decay() == PretrainConfig.parse(settings).loss
    with pytest.raises(LamError, match="section 'final_loss': unknown key 'energies', did you mean 'energy'"):
        PretrainConfig.parse({**settings, "final_loss": {"energies": 1.0}}).loss_of_decay()


# -- cache -------------------------------------------------------------------------------------


def test_cached_graphs_are_the_same_and_stay_within_their_room(manifest):
    dataset = MultiTaskDataset(load_manifest(manifest), "train", 4.0)
    plain = collate([dataset[i] for i in range(4)])
    cached = CachedGraphs(dataset, 10.0)
    for _ in range(2):  # collating must not change what is kept
        batch = collate([cached[i] for i in range(4)])
        assert all(torch.equal(value, plain[key]) for key, value in batch.items())
    assert cached[3] is cached[3] and cached[0] is cached[0]
    assert cached.room < 10e6
    full = CachedGraphs(dataset, 0.0)
    assert full[3] is not full[3] and full.room == 0.0
    assert len(cached) == len(dataset)
