"""What a training survives: too little memory, a damaged shard, a full disk."""

import csv
import errno
from pathlib import Path

import h5py
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from making import TINY, clusters, crystals, write_shard

import lam
from lam import keys
from lam.data.dataset import MultiTaskDataset
from lam.data.graph import collate, take
from lam.data.manifest import DatasetSpec, Manifest, load_manifest, save_manifest
from lam.errors import LamError, LamWarning
from lam.model.kernels import use
from lam.train.accumulation import accumulate, is_out_of_memory
from lam.train.run import pretrain

EXACT = {"precision": "float64", "model": TINY, "optimizer": {"ema_decay": 0.0}}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def assert_close(one: Path, two: Path) -> None:
    first, second = lam.load(one / "tiny").state_dict(), lam.load(two / "tiny").state_dict()
    for name, tensor in first.items():
        assert torch.allclose(tensor, second[name], rtol=1e-5, atol=1e-6), name


class Gradients(pl.Callback):
    def __init__(self):
        self.found = {}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        for name, parameter in module.named_parameters():
            self.found[f"{trainer.global_step}.{name}"] = parameter.grad.detach().clone()


def gradients_of(settings, tmp_path, name, **changes):
    found = Gradients()
    pretrain(settings(**EXACT, steps=3, output=str(tmp_path / name), **changes), callbacks=[found])
    return found.found


def assert_same_gradients(one, two):
    assert one.keys() == two.keys()
    largest = max(float(g.abs().max()) for g in one.values())
    for name, gradient in one.items():
        assert torch.allclose(gradient, two[name], rtol=1e-10, atol=1e-10 * largest), name


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_a_step_in_parts_has_the_same_gradient(parts, settings, tmp_path):
    whole = gradients_of(settings, tmp_path, "whole", batch={"max_atoms": 48})
    divided = gradients_of(settings, tmp_path, "divided", batch={"max_atoms": 48, "parts": parts})
    assert_same_gradients(whole, divided)


def saved_bytes(model, batch) -> int:
    """Return how much a forward pass keeps for its gradient."""
    sizes = []

    def pack(tensor):
        sizes.append(tensor.nbytes)
        return tensor

    with use("torch"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch, forces=False, stress=False)
    return sum(sizes)


def test_layers_calculated_twice_have_the_same_gradient_and_keep_less(settings, tmp_path, batch):
    two = {"model": {**TINY, "n_layers": 2, "l_max": 2, "tensor_channels": 4}}
    changes = {**EXACT, **two, "steps": 3}
    found = []
    for name, recompute in (("plain", False), ("again", True)):
        callback = Gradients()
        pretrain(
            settings(**changes, output=str(tmp_path / name), batch={"max_atoms": 48, "recompute": recompute}),
            callbacks=[callback],
        )
        found.append(callback.found)
    assert_same_gradients(*found)
    model = lam.load(tmp_path / "again" / "tiny").train().double()
    kept = []
    for recompute in (False, True):
        model.backbone.recompute = recompute
        kept.append(saved_bytes(model, batch))
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_a_step_that_does_not_fit_is_retried_in_halves(error, settings, tmp_path, monkeypatch):
    whole = gradients_of(settings, tmp_path, "whole", batch={"max_atoms": 48})
    from lam.model import Potential

    forward, largest = Potential.forward, []

    def limited(self, batch, **options):
        atoms = int(batch[keys.N_ATOMS].sum())
        output = forward(self, batch, **options)
        if self.training and atoms > 13:
            raise error
        if self.training:
            largest.append(atoms)
        return output

    monkeypatch.setattr(Potential, "forward", limited)
    with pytest.warns(LamWarning, match=r"Step 0: \d+ atoms did not fit in memory and were .* in \d+ parts"):
        divided = gradients_of(settings, tmp_path, "divided", batch={"max_atoms": 48})
    assert 0 < max(largest) <= 13
    assert_same_gradients(whole, divided)


@pytest.fixture
def batch(manifest):
    data = MultiTaskDataset(load_manifest(manifest), "train", 4.0, torch.float64)
    return collate([data[item] for item in (0, 17, 3, 20, 5)])


def test_a_failed_backward_pass_leaves_no_gradient(batch):
    weight = torch.ones((), requires_grad=True)
    tried = []

    def differentiate(part):
        count = len(part[keys.N_ATOMS])
        tried.append(count)
        (weight * part[keys.N_ATOMS].sum()).backward()
        if count > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")
        return part[keys.N_ATOMS][None].double()

    done = accumulate(batch, 1, differentiate, [weight], 1)
    assert tried[0] == 5 and done.halved == len([n for n in tried if n > 2])
    assert float(weight.grad) == float(batch[keys.N_ATOMS].sum())
    assert done.terms[0].tolist() == batch[keys.N_ATOMS].tolist() and not done.left_out


def test_a_structure_that_never_fits_is_left_out(batch):
    weight = torch.ones((), requires_grad=True)
    giant = int(batch[keys.STRUCTURE_ID][2]), int(batch[keys.TASK][2])

    def differentiate(part):
        ids = list(zip(part[keys.STRUCTURE_ID].tolist(), part[keys.TASK].tolist(), strict=True))
        if giant in ids:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        (weight * len(ids)).backward()
        return torch.ones(1, len(ids), dtype=torch.float64)

    done = accumulate(batch, 1, differentiate, [weight], 1)
    assert done.left_out == [2] and done.terms.tolist() == [[1.0, 1.0, 0.0, 1.0, 1.0]]
    assert float(weight.grad) == 4.0


def test_other_errors_are_not_taken_for_memory(batch):
    def differentiate(part):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        accumulate(batch, 1, differentiate, [torch.ones((), requires_grad=True)], 1)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_taking_structures_of_a_batch(batch, manifest):
    data = MultiTaskDataset(load_manifest(manifest), "train", 4.0, torch.float64)
    taken, expected = take(batch, torch.tensor([3, 0])), collate([data[20], data[0]])
    assert taken.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(taken[key], value), key


@pytest.fixture
def damaged(tmp_path, settings):
    """Return settings whose argon set has one energy that cannot be, and the name of that structure."""
    write_shard(tmp_path / "metals.h5", crystals(24))
    write_shard(tmp_path / "argon.h5", clusters(12))
    specs = [
        DatasetSpec(name=name, path=tmp_path / f"{name}.h5", split={"test": 0.15, "val": 0.15})
        for name in ("metals", "argon")
    ]
    save_manifest(Manifest(datasets=specs), tmp_path / "manifest.yaml")
    config = settings(manifest=str(tmp_path / "manifest.yaml"), steps=20)
    data = MultiTaskDataset(load_manifest(tmp_path / "manifest.yaml"), "train", 4.0)
    row = data.locate(int(data.items_of(1)[0]))[1]
    start = int(np.sum(data.shards[1].n_atoms[:row]))
    data.shards[1].close()
    with h5py.File(tmp_path / "argon.h5", "a") as file:
        file["atoms/positions"][start] = np.nan
    return config, f"argon.extxyz#{row}"


def test_a_damaged_structure_ends_the_training_with_its_name(damaged):
    config, name = damaged
    with pytest.raises(LamError, match=name):
        pretrain(config)


@pytest.mark.filterwarnings("ignore:argon")
def test_a_damaged_structure_is_left_out_if_wanted(damaged):
    config, name = damaged
    config = config.model_copy(update={"faults": config.faults.model_copy(update={"damaged": "skip"})})
    with pytest.warns(LamWarning, match=rf"{name}.*The training goes on without it"):
        out = pretrain(config)
    assert all(torch.isfinite(p).all() for p in lam.load(out).parameters())


def test_a_full_disk_is_reported_and_the_training_goes_on(settings, tmp_path, monkeypatch):
    import lam.train.logs
    import lam.train.state_io

    full, save, opened = {"is": False}, lam.train.state_io.save_file, open

    def save_file(*args, **kwargs):
        if full["is"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*args, **kwargs)

    def open_file(path, mode="r", *args, **kwargs):
        if full["is"] and mode == "a":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *args, **kwargs)

    class Fill(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            full["is"] = 4 <= trainer.global_step < 8

    monkeypatch.setattr(lam.train.state_io, "save_file", save_file)
    monkeypatch.setattr(lam.train.logs, "open", open_file, raising=False)
    with pytest.warns(LamWarning) as warned:
        out = pretrain(settings(), callbacks=[Fill()])
    texts = [str(w.message) for w in warned]
    assert any("last.ckpt' could not be written" in text and "No space left" in text for text in texts)
    assert any("metrics.csv' could not be written" in text for text in texts)
    rows = [row for row in rows_of(out.parent / "log" / "metrics.csv") if row["train/atoms"]]
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10, 12]
    monkeypatch.undo()
    pretrain(settings(output=str(tmp_path / "whole")))
    assert_close(tmp_path / "whole", tmp_path / "run")
    assert (tmp_path / "whole" / "log" / "metrics.csv").read_text() == (out.parent / "log" / "metrics.csv").read_text()


def test_the_last_and_the_best_states_are_kept(settings, tmp_path):
    pretrain(settings(log={"keep": 2, "checkpoint_every": 3, "validate_every": 6}))
    state = tmp_path / "run" / "state"
    assert sorted(file.name for file in state.iterdir()) == [
        "best.ckpt", "last.ckpt", "step-000000009.ckpt", "step-000000012.ckpt",
    ]  # fmt: skip
    assert (state / "last.ckpt").read_bytes() == (state / "step-000000012.ckpt").read_bytes()
    # Going back to an earlier state is a matter of its name.
    (state / "step-000000009.ckpt").replace(state / "last.ckpt")
    (tmp_path / "run" / "tiny").rename(tmp_path / "first")
    pretrain(settings(log={"keep": 2, "checkpoint_every": 3, "validate_every": 6}))
    one, two = lam.load(tmp_path / "first"), lam.load(tmp_path / "run" / "tiny")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_stages_of_a_curriculum(settings, tmp_path):
    seen = {}

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen[trainer.global_step] = set(batch[keys.TASK].tolist())

    curriculum = [{"until": 0.5, "weights": {"argon": 0.0}}, {"until": 1.0}]
    pretrain(settings(steps=60, curriculum=curriculum, log={"validate_every": 60}), callbacks=[Look()])
    assert all(seen[step] == {0} for step in range(20)) and any(1 in seen[step] for step in range(40, 60))
    wrong = [{"until": 1.0, "weights": {"argn": 0.0}}]
    with pytest.raises(LamError, match=r"argn.*argon"):
        pretrain(settings(curriculum=wrong, output=str(tmp_path / "wrong")))


def test_configuration_survives_yaml(settings, tmp_path):
    config = settings(curriculum=[{"until": 1.0, "weights": {"argon": 2.0}}], loss={"heads": {"argon": 0.5}})
    text = yaml.safe_dump(config.to_dict())
    assert type(config).parse(yaml.safe_load(text)) == config


def test_an_unknown_head_in_the_loss_is_an_error(settings):
    for changes in ({"loss": {"heads": {"argn": 0.5}}}, {"final_loss": {"heads": {"argn": 0.5}}}):
        with pytest.raises(LamError, match=r"argn.*argon"):
            pretrain(settings(**changes))


def test_a_head_left_out_of_the_loss_is_not_learned(settings, tmp_path):
    def readouts(name, **changes):
        start = {}

        class First(pl.Callback):
            def on_train_start(self, trainer, module):
                start["weight"] = module.model.readout.weight.detach().clone()

        out = pretrain(settings(output=str(tmp_path / name), **EXACT, **changes), callbacks=[First()])
        return start["weight"].float(), lam.load(out).readout.weight

    before, after = readouts("without", loss={"heads": {"argon": 0.0}})
    assert torch.equal(before[1], after[1]) and not torch.equal(before[0], after[0])
    before, after = readouts("later", final_loss={"heads": {"argon": 0.0}})
    assert not torch.equal(before[1], after[1])
