"""`lam train seen`: what it counts is what was drawn."""

import csv
from collections import Counter

import lightning.pytorch as pl
import pytest
import yaml

from lam import keys
from lam.cli import main as cli
from lam.data.manifest import load_manifest, save_manifest
from lam.errors import LamError
from lam.train.run import pretrain
from lam.train.seen import count_seen


class Drawn(pl.Callback):
    """Counts by hand: every structure of every batch."""

    def __init__(self):
        self.counts = Counter()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.counts.update(zip(batch[keys.TASK].tolist(), batch[keys.STRUCTURE_ID].tolist(), strict=True))


CURRICULUM = [{"until": 0.5, "weights": {"argon": 0.2}}, {"until": 1.0}]


@pytest.mark.parametrize("changes", [{}, {"curriculum": CURRICULUM}, {"batch": {"max_repeats": 1.5}}])
def test_counts_are_those_by_hand(changes, settings, tmp_path):
    drawn = Drawn()
    pretrain(settings(steps=14, **changes), callbacks=[drawn])
    seen = count_seen(tmp_path / "run")
    assert seen.step == 14 and seen.position == seen.counts.sum() == drawn.counts.total()
    for item, count in enumerate(seen.counts.tolist()):
        assert count == drawn.counts[seen.dataset.locate(item)], item
    for row in seen.passes():
        own = [c for (task, _), c in drawn.counts.items() if seen.dataset.names[task] == row.name]
        assert row.mean == pytest.approx(sum(own) / row.structures) and row.most == max(own)


class Stop(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 7:
            raise RuntimeError("stopped")


def test_counts_end_at_the_last_state(settings, tmp_path, capsys):
    drawn = Drawn()
    with pytest.raises(RuntimeError, match="stopped"):
        pretrain(settings(), callbacks=[Stop()])
    pretrain(settings(steps=6, output=str(tmp_path / "six"), optimizer={"decay": 0.0}), callbacks=[drawn])
    assert cli.main(["train", "seen", str(tmp_path / "run"), "-o", str(tmp_path / "seen.csv")]) == 0
    printed = capsys.readouterr().out
    assert "metals" in printed and f"{drawn.counts.total()} structures drawn in 6 steps" in printed
    with open(tmp_path / "seen.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    found = {(row["data_set"], int(row["row"])): int(row["seen"]) for row in rows}
    assert sum(found.values()) == drawn.counts.total() and len(found) == len(rows)
    for (task, row), count in drawn.counts.items():
        assert found[("metals", "argon")[task], row] == count
    assert all(row["source"] == f"{row['data_set']}.extxyz#{row['row']}" for row in rows)


def test_what_is_missing_is_said(settings, tmp_path):
    with pytest.raises(LamError, match=r"holds no 'config.yaml'"):
        count_seen(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings().to_dict()))
    with pytest.raises(LamError, match=r"no state yet: the first is written at step 3"):
        count_seen(tmp_path / "run")


def test_other_data_are_noticed(settings, tmp_path, manifest):
    pretrain(settings(steps=3))
    file = tmp_path / "run" / "config.yaml"
    save_manifest(load_manifest(manifest).select(["metals"]), tmp_path / "one.yaml")
    values = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(values | {"manifest": str(tmp_path / "one.yaml")}))
    with pytest.raises(LamError, match=r"has 1 data sets, and the training of .* had 2"):
        count_seen(tmp_path / "run")
    file.write_text(yaml.safe_dump(values | {"manifest": str(tmp_path / "gone.yaml")}))
    with pytest.raises(LamError, match="run this where the training"):
        count_seen(tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report"], "takes one folder"),
        (["seen", "a", "b"], "takes one folder"),
        (["nowhere.yaml", "-o", "x"], "-o belongs to 'report' and 'seen'; to train into a folder, write output=x"),
        (["nowhere.yaml", "steps=3"], "There is no file 'nowhere.yaml'"),
        (["nowhere.yaml", "--memory", "3"], "--memory belongs to 'batch'"),
        (["batch", "nowhere.yaml"], "takes a configuration and the memory"),
        (["batch", "--memory", "3", "steps=3"], "takes a configuration and the memory"),
        (["batch", "nowhere.yaml", "--memory", "3"], "There is no file 'nowhere.yaml'"),
    ],
)
def test_misuse_is_one_sentence(words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_a_file_named_report_is_a_configuration(settings, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report").write_text(yaml.safe_dump(settings(steps=1).to_dict()))
    assert cli.main(["train", "report", "name=other"]) == 0
    assert (tmp_path / "run" / "other" / "model.safetensors").is_file()


def test_the_batch_that_fits_is_printed_as_settings(settings, monkeypatch, tmp_path, capsys):
    from lam.train import batch_size

    asked = []

    def find(config, gigabytes):
        asked.append((config.steps, gigabytes))
        return batch_size.Budget(320, 15_000, 2.5)

    monkeypatch.setattr(batch_size, "find_budget", find)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings().to_dict()))
    assert cli.main(["train", "batch", str(tmp_path / "config.yaml"), "--memory", "3", "steps=7"]) == 0
    assert asked == [(7, 3.0)]
    assert capsys.readouterr().out.startswith("batch.max_atoms=320 batch.max_edges=15000 ")
