"""Fine-tuning: what it starts from, what it changes, what it reports, what it refuses."""

import dataclasses
import json
import multiprocessing
import signal
from pathlib import Path

import ase.io
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from ase import Atoms
from making import clusters, crystals, shifted, write_shard

import lam
from lam import keys
from lam.data.graph import build_graph, collate
from lam.data.manifest import DatasetSpec, Manifest, save_manifest
from lam.data.structure import Structure
from lam.errors import LamError
from lam.train.errors import dataset_errors
from lam.train.finetune import finetune

FAST = {"steps": 30, "quiet": True}


@pytest.fixture(scope="session")
def full(pretrained, labels, manifest, tmp_path_factory):
    """Return the result of a fine-tune of all weights."""
    out = tmp_path_factory.mktemp("full") / "tuned"
    return finetune(pretrained, labels, out=out, pretraining_data=manifest, steps=150, quiet=True)


@pytest.fixture(scope="session")
def head_only(pretrained, labels, tmp_path_factory):
    """Return the result of a fine-tune of the head."""
    out = tmp_path_factory.mktemp("head") / "tuned"
    return finetune(pretrained, labels, out=out, method="head", new_head="shifted", steps=60, quiet=True)


def predict(model, atoms: Atoms, head: str) -> dict[str, torch.Tensor]:
    graph = build_graph(Structure.from_atoms(atoms), cutoff=model.cutoff, task=model.head_index(head))
    return model(collate([graph]))


def nothing_left(folder: Path, *known: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(known)


# -- what it does ------------------------------------------------------------------------------


def test_full_improves_the_error_and_keeps_the_old_heads(full, pretrained):
    assert full.measured_on == "held-out labels"
    assert full.n_train == 18
    assert full.head == "new-labels"  # of the file new.labels.extxyz
    assert full.base_head == "metals"
    # The refit of the references takes the shift away before any step.
    assert full.before["energy_mae"] < 1.0
    assert full.after["force_mae"] < 0.9 * full.before["force_mae"]
    model = lam.load(full.path)
    assert model.head_names == ["metals", "argon", "new-labels"]
    assert model.default_heads[0] == "new-labels"
    assert model.metadata.metrics == {"new-labels": full.after}
    assert model.metadata.training["parent"] == "base"
    assert (full.path / "metrics.csv").read_text().startswith("step,")
    old = lam.load(pretrained)
    atoms = crystals(1, seed=9)[0]
    assert not torch.equal(predict(model, atoms, "metals")[keys.FORCES], predict(old, atoms, "metals")[keys.FORCES])


def test_result_works_as_a_calculator(full):
    [atoms] = crystals(1, seed=8)
    energies = {}
    for head in (None, "metals"):
        copy = atoms.copy()
        copy.calc = lam.LAMCalculator(str(full.path), head=head)
        energies[head] = copy.get_potential_energy() / len(copy)
        assert np.isfinite(copy.get_forces()).all()
    assert energies[None] == pytest.approx(atoms.get_potential_energy() / len(atoms) - 100.0, abs=1.0)
    assert energies["metals"] == pytest.approx(atoms.get_potential_energy() / len(atoms), abs=1.0)


def test_forgetting_is_measured(full, pretrained, manifest):
    assert set(full.forgetting) == {"metals", "argon"}
    entry = full.forgetting["metals"]
    assert entry["before"]["force_mae"] > 0 and entry["after"]["force_mae"] != entry["before"]["force_mae"]
    record = lam.load(full.path).metadata.training
    assert record["forgetting"] == full.forgetting


def test_drift_of_old_heads_needs_no_data(full, head_only):
    assert head_only.drift == 0.0
    assert full.drift > 1e-3


def test_head_leaves_everything_else_as_it_is(head_only, pretrained):
    old, new = lam.load(pretrained), lam.load(head_only.path)
    before, after = old.state_dict(), new.state_dict()
    per_task = {name for name, tensor in after.items() if tensor.shape != before[name].shape}
    changed = set()
    for name, tensor in before.items():
        kept = after[name][: len(tensor)] if name in per_task else after[name]
        assert torch.equal(tensor, kept), name
        if name in per_task and not torch.equal(after[name][2], before[name][0]):
            changed.add(name)
    assert {"readout.weight", "readout.bias", "readout.film.gain", "reference_energies.value"} <= changed
    for atoms, head in [(crystals(1, seed=9)[0], "metals"), (clusters(1)[0], "argon")]:
        one, two = predict(old, atoms, head), predict(new, atoms, head)
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert head_only.after["force_mae"] < head_only.before["force_mae"]


def test_what_is_printed_and_when(pretrained, labels, tmp_path, capsys, monkeypatch):
    seen = []
    fit = pl.Trainer.fit

    def watched(*args, **kwargs):
        seen.append(capsys.readouterr().out)
        return fit(*args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "fit", watched)
    result = finetune(pretrained, labels, out=tmp_path / "o", steps=2)
    [before] = seen
    captured = capsys.readouterr()
    assert "18 structures, new head 'new-labels' from 'metals' (EMT)" in before
    assert "before any step, on the held-out labels: energy" in before
    assert f"forces {1000 * result.before['force_mae']:.1f} meV/A" in before
    assert "after 2 steps, on the held-out labels: energy" in captured.out
    assert "forgetting: median force error of 1 old head(s)" in captured.out  # argon is too soft to count
    assert captured.err == ""
    assert nothing_left(tmp_path, "o")
    assert not Path("lightning_logs").exists()


def test_no_steps_only_refits_the_references(pretrained, labels, tmp_path):
    result = finetune(pretrained, labels, out=tmp_path / "o", steps=0, quiet=True)
    assert result.before == result.after
    old, new = lam.load(pretrained).state_dict(), lam.load(tmp_path / "o").state_dict()
    assert all(torch.equal(old[key], new[key]) for key in old if key.startswith("backbone."))


def test_from_scratch(pretrained, labels, tmp_path):
    result = finetune(pretrained, labels, out=tmp_path / "o", from_scratch=True, **FAST)
    model = lam.load(tmp_path / "o")
    assert result.base_head == "" and result.forgetting == {}
    assert model.head_names == ["new-labels"]  # heads that know nothing are not kept
    old = lam.load(pretrained).state_dict()
    assert not torch.equal(model.state_dict()["backbone.element.weight"], old["backbone.element.weight"])


def test_test_files(pretrained, labels, tmp_path):
    unseen = tmp_path / "unseen.extxyz"
    ase.io.write(unseen, [shifted(atoms) for atoms in crystals(4, seed=6, metals=("Cu",))])
    result = finetune(pretrained, labels, out=tmp_path / "o", test=unseen, **FAST)
    assert result.measured_on == "test data" and result.n_train == 20
    tuned = lam.load(tmp_path / "o")
    write_shard(tmp_path / "unseen.h5", ase.io.read(unseen, ":"))
    from lam.data.dataset import MultiTaskDataset

    spec = DatasetSpec(name="new-labels", path=tmp_path / "unseen.h5")
    data = MultiTaskDataset(Manifest(datasets=[spec]), "all", tuned.cutoff, heads=tuned.head_names)
    assert dataset_errors(tuned, data)["new-labels"] == pytest.approx(result.after)


def test_the_same_seed_gives_the_same_model(pretrained, labels, tmp_path):
    models = []
    for run, seed in enumerate((1, 1, 2)):
        torch.manual_seed(run)  # what the caller draws has no influence
        finetune(pretrained, labels, out=tmp_path / str(run), seed=seed, **FAST)
        models.append(lam.load(tmp_path / str(run)).state_dict())
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    assert not torch.equal(models[0]["readout.weight"], models[2]["readout.weight"])


def test_model_and_randomness_of_the_caller_are_left_alone(pretrained, labels, tmp_path):
    model = lam.load(pretrained).double().train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    finetune(model, labels, out=tmp_path / "o", **FAST)
    assert torch.equal(torch.rand(2), expected)
    assert model.training and model.dtype == torch.float64
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    torch.manual_seed(5)
    with pytest.raises(LamError):
        finetune(model, labels, out=tmp_path / "p", head="no", **FAST)
    assert torch.equal(torch.rand(2), expected)


# -- hold-out ----------------------------------------------------------------------------------


def test_independent_frames_are_held_out_one_by_one(pretrained, labels, tmp_path):
    result = finetune(pretrained, labels, out=tmp_path / "o", hold_out=0.5, **FAST)
    assert result.n_train == 10  # although all frames have one formula


def test_groups_that_are_stated_are_kept_together(pretrained, tmp_path):
    from lam.train.config_finetune import FinetuneConfig
    from lam.train.finetune_data import read_labels

    frames = [shifted(atoms) for atoms in crystals(20, seed=3)]
    for index, atoms in enumerate(frames):
        atoms.info["group"] = f"run {index // 2}"
    ase.io.write(tmp_path / "grouped.extxyz", frames)
    options = FinetuneConfig(hold_out=0.3)
    read = read_labels([tmp_path / "grouped.extxyz"], [], "x", ["x"], 4.0, options, tmp_path)
    held_out = {read.test.structure(item).group for item in range(len(read.test))}
    trained = {read.train.structure(item).group for item in range(len(read.train))}
    assert len(read.test) == 6 and not held_out & trained


def test_few_labels_are_measured_on_themselves(pretrained, tmp_path):
    ase.io.write(tmp_path / "few.extxyz", [shifted(atoms) for atoms in crystals(3, seed=3, metals=("Cu",))])
    result = finetune(pretrained, tmp_path / "few.extxyz", out=tmp_path / "o", **FAST)
    assert result.measured_on == "training labels" and result.n_train == 3


# -- settings ----------------------------------------------------------------------------------


def test_settings_from_a_file_and_over_it(pretrained, labels, tmp_path):
    (tmp_path / "c.yaml").write_text("steps: 500\nmethod: head\nloss: {energy: 7.0, forces: 2.0}\nseed: 4\n")
    finetune(
        pretrained, labels, out=tmp_path / "o", config=tmp_path / "c.yaml", overrides=["loss.forces=3"], steps=1,
        quiet=True,
    )  # fmt: skip
    used = lam.load(tmp_path / "o").metadata.training["config"]
    assert (used["steps"], used["method"], used["seed"]) == (1, "head", 4)
    assert {key: used["loss"][key] for key in ("energy", "forces", "stress")} == {
        "energy": 7.0, "forces": 3.0, "stress": 0.5,
    }  # fmt: skip


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"head": "metls"}, "no head 'metls'. Did you mean 'metals'"),
        ({"new_head": "argon"}, "has a head 'argon' already"),
        ({"new_head": "a b"}, "no blanks, dots or slashes"),
        ({"step": 3}, "did you mean 'steps'"),
        ({"method": "lora"}, "'method' = 'lora'"),
        ({"model": "lam-pico"}, "no model 'lam-pico'"),
        ({"model": Path("nowhere")}, "no checkpoint 'nowhere'"),
        ({"data": "nowhere.extxyz"}, "no file 'nowhere.extxyz'"),
        ({"data": []}, "no data file"),
        ({"test": "nowhere.extxyz"}, "no file 'nowhere.extxyz'"),
        ({"pretraining_data": "nowhere.yaml"}, "no file 'nowhere.yaml'"),
        ({"config": "nowhere.yaml"}, "no file 'nowhere.yaml'"),
        ({"from_scratch": True, "method": "head"}, "use it with method 'full'"),
        ({"steps": -1}, "'steps' = -1"),
    ],
)
def test_refusals(options, text, pretrained, labels, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    values = {"model": pretrained, "data": labels, "out": tmp_path / "deep" / "o", "quiet": True} | options
    with pytest.raises(LamError, match=text):
        finetune(values.pop("model"), values.pop("data"), **values)
    assert nothing_left(tmp_path)


def _no_labels(atoms):
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def _xenon(atoms):
    copy = shifted(atoms)
    copy.numbers[0] = 54
    return copy


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_no_labels, "has no energy label"),
        (_xenon, "never trained on Xe"),
        (None, "is empty"),
    ],
)
@pytest.mark.parametrize("head", [None, "metals"])
def test_data_that_cannot_be_used(change, text, head, pretrained, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = tmp_path / "bad.extxyz"
    file.touch()
    if change is not None:
        ase.io.write(file, [change(atoms) for atoms in crystals(4)])
    with pytest.raises(LamError, match=text):
        finetune(pretrained, file, out=tmp_path / "o", head=head, **FAST)
    assert nothing_left(tmp_path, "bad.extxyz")


def test_test_data_that_cannot_be_used(pretrained, labels, tmp_path):
    ase.io.write(tmp_path / "unlabelled.extxyz", [_no_labels(atoms) for atoms in crystals(2, metals=("Cu",))])
    with pytest.raises(LamError, match="no labels to measure on"):
        finetune(pretrained, labels, out=tmp_path / "o", test=tmp_path / "unlabelled.extxyz", **FAST)
    ase.io.write(tmp_path / "al.extxyz", [shifted(atoms) for atoms in crystals(2, metals=("Al",))])
    with pytest.raises(LamError, match="contain Al, which no training label has"):
        finetune(pretrained, labels, out=tmp_path / "o", test=tmp_path / "al.extxyz", **FAST)


def test_existing_result_is_not_touched(pretrained, labels, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine").write_text("x")
    with pytest.raises(LamError, match="exists; choose another folder"):
        finetune(pretrained, labels, out=tmp_path / "o", **FAST)
    assert nothing_left(tmp_path / "o", "mine")
    with pytest.raises(LamError, match="not a folder that you may write to"):
        finetune(pretrained, labels, out=tmp_path / "o" / "mine" / "p", **FAST)


def test_elements_of_several_heads(pretrained, tmp_path):
    """No head covers copper and argon; the one with most of the elements is the start."""
    frames = []
    for atoms in crystals(6, metals=("Cu",)):
        copy = shifted(atoms)
        copy.numbers[0] = 18
        frames.append(copy)
    ase.io.write(tmp_path / "mixed.extxyz", frames)
    result = finetune(pretrained, tmp_path / "mixed.extxyz", out=tmp_path / "o", **FAST)
    assert result.base_head in ("metals", "argon")
    assert lam.load(tmp_path / "o").elements("mixed") == {18, 29}


def test_manifest_that_the_model_was_trained_with_may_be_gone(pretrained, labels, tmp_path):
    model = lam.load(pretrained)
    shard = tmp_path / "gone.h5"
    write_shard(shard, crystals(4))
    save_manifest(Manifest(datasets=[DatasetSpec(name="metals", path=shard)]), tmp_path / "m.yaml")
    shard.unlink()
    training = model.metadata.training | {"config": {"manifest": str(tmp_path / "m.yaml")}}
    model.metadata = model.metadata.model_copy(update={"training": training})
    assert finetune(model, labels, out=tmp_path / "o", steps=0, quiet=True).forgetting == {}
    with pytest.raises(LamError, match=r"gone.h5'.*not there"):
        finetune(model, labels, out=tmp_path / "p", steps=0, quiet=True, pretraining_data=tmp_path / "m.yaml")


@pytest.mark.parametrize("what", ["nan", "interrupt"])
def test_nothing_is_left_of_a_training_that_breaks_off(what, pretrained, labels, tmp_path, monkeypatch):
    import tempfile

    from lam.train.module import TrainingModule

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    step = TrainingModule.training_step

    def broken(self, batch, index):
        if self.trainer.global_step == 3:
            if what == "interrupt":
                raise KeyboardInterrupt
            batch[keys.LABEL_FORCES][0] = float("nan")
        return step(self, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", broken)
    handler = signal.getsignal(signal.SIGINT)
    expected = pytest.raises(KeyboardInterrupt) if what == "interrupt" else pytest.raises(LamError, match=r"extxyz#\d+")
    with expected:
        finetune(pretrained, labels, out=tmp_path / "o", **FAST)
    assert nothing_left(tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not multiprocessing.active_children()


def test_stale_metrics_of_old_heads_are_dropped(pretrained, labels, tmp_path):
    model = lam.load(pretrained)
    model.heads = [info.model_copy(update={"metrics": {"force_mae": 1.0}}) for info in model.heads]
    finetune(model, labels, out=tmp_path / "full", steps=1, quiet=True)
    finetune(model, labels, out=tmp_path / "head", steps=1, method="head", quiet=True)
    assert lam.load(tmp_path / "full").heads[0].metrics == {}
    assert lam.load(tmp_path / "head").heads[0].metrics == {"force_mae": 1.0}


def test_result_is_plain_data(full):
    values = dataclasses.asdict(full) | {"path": str(full.path)}
    assert json.loads(json.dumps(values)) == values
