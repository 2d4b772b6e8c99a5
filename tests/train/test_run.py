"""A pretraining from its settings to its checkpoint, with its logs and its refusals."""

import csv
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml

import lam
from lam import keys
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import load_manifest
from lam.errors import LamError, LamWarning
from lam.train.config import PretrainConfig
from lam.train.errors import dataset_errors
from lam.train.run import pretrain

ROOT = Path(__file__).parents[2]


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


class Poison(pl.Callback):
    """Spoils the label of one structure, or a gradient, at a step."""

    def __init__(self, what: str, step: int) -> None:
        self.what, self.step = what, step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.what == "label" and trainer.global_step == self.step:
            batch[keys.LABEL_ENERGY][1] = float("nan")
            self.row, self.task = int(batch[keys.STRUCTURE_ID][1]), int(batch[keys.TASK][1])

    def on_after_backward(self, trainer, module):
        if self.what == "gradient" and trainer.global_step == self.step:
            next(p for p in module.parameters() if p.grad is not None).grad[:] = float("inf")


def test_training_writes_a_model_that_has_learned(pretrained):
    model = lam.load(pretrained)
    assert model.head_names == ["metals", "argon"]
    assert not model.training
    assert model.metadata.training["steps"] == 150
    rows = rows_of(pretrained.parent / "log" / "metrics.csv")
    final = rows[-1]
    assert final["step"] == "150"
    assert float(final["val/force_ratio_median"]) < 0.7
    assert model.heads[0].has_stress and not model.heads[1].has_stress
    assert "rank" in (pretrained.parent / "references.txt").read_text()


def test_log_rows_hold_what_happened_at_their_step(settings, tmp_path):
    rates = {}

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            rates[trainer.global_step + 1] = optimizer.param_groups[0]["lr"]

    pretrain(settings(), callbacks=[Watch()])
    rows = [row for row in rows_of(tmp_path / "run" / "log" / "metrics.csv") if row["train/learning_rate"]]
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10, 12]
    for row in rows:
        assert float(row["train/learning_rate"]) == rates[int(row["step"])]
        assert float(row["train/gradient_norm"]) > 0
    validated = [row for row in rows_of(tmp_path / "run" / "log" / "metrics.csv") if row["val/metals/force_mae"]]
    assert [int(row["step"]) for row in validated] == [6, 12]
    assert not (Path.cwd() / "lightning_logs").exists()


def test_nan_label_stops_with_the_name_of_the_structure(settings, tmp_path):
    poison = Poison("label", 3)
    with pytest.raises(LamError) as error:
        pretrain(settings(faults={"skip": 0}), callbacks=[poison])
    name = ["metals", "argon"][poison.task]
    assert (
        f"Step 3: the loss is not finite; structure(s): {name}: {name}.extxyz#{poison.row} (row {poison.row})."
        in str(error.value)
    )
    assert not (tmp_path / "run" / "tiny").exists()


def test_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(settings, tmp_path):
    with pytest.raises(LamError, match=r"Step 4: the gradient is not finite.*\.extxyz#"):
        pretrain(settings(faults={"skip": 0}), callbacks=[Poison("gradient", 4)])
    assert not (tmp_path / "run" / "tiny").exists()


@pytest.mark.parametrize("what", ["label", "gradient"])
def test_a_bad_step_is_skipped_and_named(what, settings, tmp_path):
    weights = {}

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            weights[trainer.global_step] = [p.detach().clone() for p in module.parameters()]

    with pytest.warns(LamWarning, match=r"Step 3: .* is not finite.*(metals|argon)\.extxyz#.*skipped"):
        pretrain(settings(log={"every": 1}), callbacks=[Poison(what, 3), Look()])
    assert all(torch.equal(a, b) for a, b in zip(weights[3], weights[4], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[4], weights[5], strict=True))
    rows = rows_of(tmp_path / "run" / "log" / "metrics.csv")
    assert [float(row["train/skipped"]) for row in rows if row["train/skipped"]] == [0.0] * 3 + [1.0] * 9
    assert all(torch.isfinite(p).all() for p in lam.load(tmp_path / "run" / "tiny").parameters())


class PoisonFrom(pl.Callback):
    """Spoils a label in every step of a range."""

    def __init__(self, steps):
        self.steps, self.weights, self.begin = steps, {}, None

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step in self.steps:
            batch[keys.LABEL_ENERGY][0] = float("inf")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.weights[trainer.global_step] = [p.detach().clone() for p in module.parameters()]


@pytest.mark.filterwarnings("ignore:Step")
def test_many_bad_steps_go_back_to_the_last_good_weights(settings, capsys):
    poison = PoisonFrom(range(4, 7))  # the last copy is of step 3
    pretrain(settings(faults={"skip": 3}), callbacks=[poison])
    assert "3 steps in a row were skipped; back to the weights of step 3" in capsys.readouterr().out
    assert all(torch.equal(a, b) for a, b in zip(poison.weights[3], poison.weights[7], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(poison.weights[4], poison.weights[7], strict=True))


@pytest.mark.filterwarnings("ignore:Step")
def test_bad_steps_without_end_end_the_training(settings, tmp_path):
    with pytest.raises(LamError, match="went wrong again, after going back to step 3 2 times"):
        pretrain(settings(steps=40, faults={"skip": 3, "rollbacks": 2}), callbacks=[PoisonFrom(range(4, 40))])
    assert not (tmp_path / "run" / "tiny").exists()


def test_a_loss_that_jumps_is_skipped(settings):
    class Jump(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 60:
                batch[keys.LABEL_ENERGY][0] += 1e6

    with pytest.warns(LamWarning, match=r"Step 60: the loss is .* times what is usual; structure\(s\): [^;]*\.extxyz#"):
        pretrain(settings(steps=64, log={"validate_every": 64, "checkpoint_every": 64}), callbacks=[Jump()])


def test_randomness_of_the_caller_is_left_alone(settings):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    pretrain(settings(steps=1))
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_training_without_validation_data(settings, manifest, tmp_path):
    values = yaml.safe_load(manifest.read_text())
    for entry in values["datasets"]:
        entry["path"] = str(manifest.parent / entry["path"])
        entry["split"] = {"val": 0.0, "test": 0.0}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(values))
    out = pretrain(settings(manifest=str(tmp_path / "all.yaml"), steps=3, optimizer={"decay": 0.0}))
    assert lam.load(out).heads[0].n_structures == 24


def test_refusals(settings, tmp_path, monkeypatch):
    with pytest.raises(LamError, match=r"no head 'argn'\. Did you mean 'argon'"):
        pretrain(settings(default_heads=["argn"]))
    with pytest.raises(LamError, match="sees no CUDA GPU"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        pretrain(settings(accelerator="gpu"))
    with pytest.raises(LamError, match="no file"):
        pretrain(settings(manifest=str(tmp_path / "no.yaml")))
    with pytest.raises(LamError, match="did you mean 'channels'"):
        pretrain(settings(model={"chanels": 8}))
    (tmp_path / "run" / "tiny").mkdir(parents=True)
    with pytest.raises(LamError, match="this training is finished"):
        pretrain(settings())


def test_the_command_says_what_it_does_and_nothing_else(settings, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings(steps=7, batch={"workers": 1}).to_dict()))
    code = (
        "import sys; from lam.cli.main import main; status = main(sys.argv[1:]); "
        "assert 'wandb' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(file), "steps=6"],
        cwd=tmp_path, env=_environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "Reading 2 data sets"
    assert "step 6 of 6: validation force error" in done.stdout
    assert lines[-1] == f"Wrote the checkpoint {tmp_path / 'run' / 'tiny'}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "home", "run"]


def test_wandb_offline_stays_in_the_output_folder(settings, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings(steps=2, log={"wandb": "offline"}).to_dict()))
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from lam.cli.main import main; sys.exit(main(sys.argv[1:]))",
         "train", str(file)],
        cwd=tmp_path, env=_environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))
    # (torchmetrics imports matplotlib, which keeps a list of fonts)
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file() and "matplotlib" not in str(path)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "home", "run"]
    assert rows_of(tmp_path / "run" / "log" / "metrics.csv")


def test_wandb_that_is_not_installed(settings, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else find(name, *rest))
    with pytest.raises(LamError, match=r"pip install 'lam\[wandb\]'"):
        pretrain(settings(log={"wandb": "offline"}))


def test_settings_round_trip(settings):
    assert PretrainConfig.parse(settings().to_dict()) == settings()


def _environment(folder: Path) -> dict[str, str]:
    import os

    (folder / "home").mkdir()
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "XDG"))}
    return keep | {"HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_heads_carry_their_errors_on_held_out_data(pretrained, manifest):
    model = lam.load(pretrained)
    test = MultiTaskDataset(load_manifest(manifest), "test", model.cutoff, heads=model.head_names)
    measured = dataset_errors(model, test)
    for head, count in zip(model.heads, test.sizes, strict=True):
        assert head.metrics["test_structures"] == count > 0
        assert head.metrics["force_mae_eV_per_A"] == pytest.approx(measured[head.name]["force_mae"])
    assert "stress_mae_eV_per_A3" in model.heads[0].metrics and "stress_mae_eV_per_A3" not in model.heads[1].metrics
    assert model.metadata.metrics["force_mae_over_zero_forces_worst"] > 0
