"""The demo as a whole, with a tiny model, no engine, and a stand-in for the fine-tuning."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.io import write
from rich.console import Console

import lam
from lam.checkpoint import CheckpointMetadata, save_checkpoint
from lam.demo import run as demo
from lam.demo.__main__ import main
from lam.demo.curve import NEW_HEAD
from lam.demo.run import DemoSettings, run_demo
from lam.demo.system import hydrated_dipeptide
from lam.model.config import ModelConfig
from lam.model.heads import HeadInfo
from lam.model.potential import Potential

ELEMENTS = dict.fromkeys(("H", "C", "N", "O", "Si", "Pt"), 1)


def tiny(*heads: str, seed: int = 0) -> Potential:
    torch.manual_seed(seed)
    config = ModelConfig(
        cutoff=3.0, l_max=1, channels=4, radial_functions=4, sender_channels=2, scalar_channels=4, readout_channels=4
    )
    return Potential(config, [HeadInfo(name=head, elements=ELEMENTS, periodic=True, molecular=True) for head in heads])


@pytest.fixture
def stand_ins(monkeypatch, tmp_path):
    """Replace labelling and fine-tuning; return the list of fine-tuning calls."""
    random = np.random.default_rng(0)
    frames = []
    for number in range(8):
        frame = hydrated_dipeptide(0, random)
        frame.rattle(0.05, seed=number)
        frame.info["REF_energy"] = -900.0 + random.normal()
        frame.arrays["REF_forces"] = random.normal(size=(len(frame), 3))
        frames.append(frame)
    write(tmp_path / "labels.extxyz", frames)
    write(tmp_path / "test.extxyz", frames[:5])
    monkeypatch.setattr(demo, "label_system", lambda *_, **__: (tmp_path / "labels.extxyz", tmp_path / "test.extxyz"))
    calls = []

    def finetune(model, data, **options):
        print("chatter of the training")
        calls.append({"model": model, "data": data, **options})
        tuned = tiny("pbe", options["new_head"], seed=len(calls))
        save_checkpoint(options["out"], tuned, metadata=CheckpointMetadata(name="tuned"))
        return SimpleNamespace(path=options["out"])

    monkeypatch.setattr(lam, "finetune", finetune, raising=False)
    return calls


def test_the_demo_from_beginning_to_end(stand_ins, tmp_path):
    save_checkpoint(tmp_path / "pretrained", tiny("pbe"), metadata=CheckpointMetadata(name="pretrained"))
    out = tmp_path / "out"
    with open(tmp_path / "printed.txt", "w+") as file:
        console = Console(file=file, width=120)
        settings = DemoSettings(model=str(tmp_path / "pretrained"), sizes=(2, 4), steps=7)
        results = run_demo(out, settings, console)
        file.seek(0)
        printed = file.read()
    assert [(c["from_scratch"], c["data"].name) for c in stand_ins] == [
        (False, "labels-2.extxyz"), (True, "labels-2.extxyz"), (False, "labels-4.extxyz"), (True, "labels-4.extxyz"),
    ]  # fmt: skip
    assert {(c["steps"], c["method"], c["new_head"]) for c in stand_ins} == {(7, "full", NEW_HEAD)}
    assert results == json.loads((out / "results.json").read_text())
    assert [row["kind"] for row in results["zero_shot"]] == ["molecule", "crystal", "surface", "liquid"]
    assert results["zero_shot"][0]["pressure_GPa"] is None
    assert [point["labels"] for point in results["points"]] == [2, 4]
    for name in ("zero-shot.extxyz", "before-after.png", "error-vs-labels.png", "results.json"):
        assert (out / name).stat().st_size > 0
        assert str(out / name) in printed
    assert "chatter" not in printed
    assert "chatter" in (out / "scratch-4.log").read_text()


def test_unknown_model_is_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["lam.demo", "--model", "no-such-model", "--out", str(tmp_path / "out")])
    assert main() == 2
    assert capsys.readouterr().err.startswith("lam: error: There is no model 'no-such-model'")


def test_help_has_an_example(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lam.demo", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "python -m lam.demo" in capsys.readouterr().out
