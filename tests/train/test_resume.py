"""A training that is killed and started again ends as if nothing had happened."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from making import crystals, write_shard

import lam
from lam.data.manifest import DatasetSpec, Manifest, save_manifest
from lam.errors import LamError, LamWarning
from lam.train.config import PretrainConfig
from lam.train.run import pretrain

# Processes are forked from a server that has imported everything: a kill costs no start of Python. What they are
# compared with is trained in one, too: equal to the last bit are processes in which nothing else has happened.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lam.train.run"])


class Kill(pl.Callback):
    """Ends the process without warning at some place."""

    def __init__(self, place: str, step: int) -> None:
        self.place, self.step = place, step

    def _maybe(self, trainer, place):
        if place == self.place and trainer.global_step == self.step:
            Path(trainer.default_root_dir, "children").write_text(
                " ".join(str(child.pid) for child in multiprocessing.active_children())
            )
            os.kill(os.getpid(), signal.SIGKILL)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self._maybe(trainer, "before step")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self._maybe(trainer, "after step")

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self._maybe(trainer, "next batch")

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        self._maybe(trainer, "in validation")

    def on_train_end(self, trainer, module):
        self._maybe(trainer, "after training")


def _train(values: dict, callbacks: list) -> None:
    torch.set_num_threads(1)
    pretrain(PretrainConfig.parse(values), callbacks)


def start(config: PretrainConfig, *callbacks: pl.Callback):
    process = SERVER.Process(target=_train, args=(config.to_dict(), list(callbacks)))
    process.start()
    return process


def finish(config: PretrainConfig) -> Path:
    process = start(config)
    process.join(120)
    assert process.exitcode == 0
    return Path(config.output)


def assert_same(one: Path, two: Path) -> None:
    """Compare weights bit by bit, and the log line by line."""
    first, second = lam.load(one / "tiny").state_dict(), lam.load(two / "tiny").state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert (one / "log" / "metrics.csv").read_text() == (two / "log" / "metrics.csv").read_text()


@pytest.mark.parametrize(
    "places",
    [
        [("before step", 1)],  # before the first state
        [("before step", 4), ("after step", 5)],
        [("after step", 3), ("next batch", 3)],  # just before and just after a state
        [("in validation", 6), ("next batch", 6)],
        [("before step", 11), ("in validation", 12)],
        [("after training", 12)],  # all steps done, nothing written
    ],
)
def test_killed_at_a_place(places, settings, tmp_path):
    for place, step in places:
        process = start(settings(), Kill(place, step))
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "run" / "tiny").exists()
    finish(settings())
    finish(settings(output=str(tmp_path / "whole")))
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_killed_with_muon_in_the_decay(settings, tmp_path):
    changes = {"optimizer": {"kind": "muon", "decay": 0.7}, "final_loss": {"energy": 20.0, "forces_kind": "mse"}}
    for step in (2, 8):  # before and in the decay, which begins at step 3.6
        process = start(settings(**changes), Kill("before step", step))
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    finish(settings(**changes))
    finish(settings(output=str(tmp_path / "whole"), **changes))
    assert_same(tmp_path / "whole", tmp_path / "run")
    finish(settings(output=str(tmp_path / "other"), optimizer=changes["optimizer"]))
    weights = [lam.load(tmp_path / name / "tiny").readout.weight for name in ("whole", "other")]
    assert not torch.equal(*weights)


def test_killed_at_arbitrary_moments(settings, tmp_path):
    random = np.random.default_rng()
    changes = {"steps": 60, "log": {"checkpoint_every": 4}}
    kills = 0
    while not (tmp_path / "run" / "tiny").exists() and kills < 25:
        process = start(settings(**changes))
        process.join(random.uniform(0.3, 1.5) if kills < 20 else 120)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
    assert kills
    finish(settings(output=str(tmp_path / "whole"), **changes))
    assert_same(tmp_path / "whole", tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run" / "state")) == ["best.ckpt", "last.ckpt"]


def test_killed_with_data_workers(settings, tmp_path):
    changes = {"batch": {"workers": 1}}
    process = start(settings(**changes), Kill("after step", 7))
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    workers = [int(word) for word in (tmp_path / "run" / "children").read_text().split()]
    assert workers
    finish(settings(**changes))
    finish(settings(output=str(tmp_path / "whole")))
    assert_same(tmp_path / "whole", tmp_path / "run")
    deadline = time.monotonic() + 60
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < deadline, "a data worker outlives its training"
        time.sleep(0.5)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def stopped(settings, tmp_path):
    """Return the folder of a training that was stopped after step 7 of 12; its last state is of step 6."""

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 7:
                raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        pretrain(settings(), callbacks=[Stop()])
    return tmp_path / "run"


def test_interrupted_by_the_user(settings, tmp_path):
    class Interrupt(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 5:
                raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(), callbacks=[Interrupt()])
    assert signal.getsignal(signal.SIGINT) is handler
    pretrain(settings())
    pretrain(settings(output=str(tmp_path / "whole")))
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_randomness_goes_on(settings, tmp_path):
    """A model that drew random numbers in training would draw the same ones."""

    class Draw(pl.Callback):
        def __init__(self, stop=0):
            self.stop, self.drawn = stop, {}

        def on_before_optimizer_step(self, trainer, module, optimizer):
            self.drawn[trainer.global_step] = (float(torch.rand(())), float(np.random.rand()))  # noqa: NPY002
            if self.stop and trainer.global_step == self.stop:
                raise RuntimeError("stopped")

    whole, first, second = Draw(), Draw(stop=5), Draw()
    pretrain(settings(output=str(tmp_path / "whole"), log={"validate_every": 12}), callbacks=[whole])
    with pytest.raises(RuntimeError, match="stopped"):
        pretrain(settings(log={"validate_every": 12}), callbacks=[first])
    pretrain(settings(log={"validate_every": 12}), callbacks=[second])
    assert second.drawn == {step: whole.drawn[step] for step in range(3, 12)}


def test_other_number_of_steps(settings, stopped, tmp_path):
    pretrain(settings(steps=20))
    model = lam.load(stopped / "tiny")
    assert model.metadata.training["steps"] == 20


def test_finished_training_can_be_prolonged(settings, tmp_path):
    pretrain(settings(steps=6))
    with pytest.raises(LamError, match="this training is finished"):
        pretrain(settings(steps=15))
    (tmp_path / "run" / "tiny").rename(tmp_path / "short")
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append(trainer.global_step)

    pretrain(settings(steps=15), callbacks=[Watch()])
    assert seen == list(range(6, 15))


def test_fewer_steps_than_done(settings, stopped):
    with pytest.raises(LamError, match="has done 6 steps already, more than steps=4"):
        pretrain(settings(steps=4))


def test_other_settings_are_refused(settings, stopped):
    with pytest.raises(LamError, match=r"optimizer.learning_rate was 0.01 and is now 0.02.*remove its folder 'state'"):
        pretrain(settings(optimizer={"learning_rate": 0.02}))
    with pytest.raises(LamError, match="seed was 0 and is now 1"):
        pretrain(settings(seed=1))
    pretrain(settings(log={"every": 3}))  # changes nothing that is learned


def test_state_of_another_model_is_refused(settings, stopped):
    (stopped / "config.yaml").unlink()
    with pytest.raises(LamError, match="of another model"):
        pretrain(settings(model={"channels": 4}))


def test_other_data_are_refused(settings, stopped, manifest, tmp_path):
    write_shard(tmp_path / "metals.h5", crystals(24, seed=5))
    specs = [
        DatasetSpec(name="metals", path=tmp_path / "metals.h5", split={"test": 0.15, "val": 0.15}),
        DatasetSpec(name="argon", path=manifest.parent / "argon.h5", split={"test": 0.15, "val": 0.15}),
    ]
    save_manifest(Manifest(datasets=specs), tmp_path / "manifest.yaml")
    (stopped / "config.yaml").unlink()
    with pytest.raises(LamError, match="The data have changed since the training began"):
        pretrain(settings(manifest=str(tmp_path / "manifest.yaml")))


def test_truncated_state(settings, stopped):
    state = stopped / "state" / "last.ckpt"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(LamError, match=r"last.ckpt' is damaged .*remove it to start anew"):
        pretrain(settings())


def test_other_number_of_processes_is_said(settings, stopped, monkeypatch):
    from lam.train.module import TrainingModule

    saved = TrainingModule.on_load_checkpoint

    def load(self, checkpoint):
        saved(self, checkpoint | {"processes": 2})

    monkeypatch.setattr(TrainingModule, "on_load_checkpoint", load)
    with pytest.warns(LamWarning, match=r"ran on 2 process\(es\) and goes on with 1"):
        pretrain(settings())
