"""Checkpoints: what is written comes back, and what is damaged is refused with one sentence."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import lam
from lam.checkpoint import CheckpointMetadata, load_checkpoint, load_metadata, registry, save_checkpoint, upgrades
from lam.errors import LamError
from lam.testing import tiny_potential


@pytest.fixture
def model():
    return tiny_potential()


@pytest.fixture
def folder(tmp_path: Path, model) -> Path:
    path = tmp_path / "tiny"
    save_checkpoint(path, model, metadata=CheckpointMetadata(name="tiny", training={"steps": 3}))
    return path


def edit(folder: Path, **changes: object) -> None:
    file = folder / "model.json"
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def reseal(folder: Path) -> None:
    """Make the JSON agree with a changed file of weights, as a forger would."""
    data = (folder / "model.safetensors").read_bytes()
    weights = json.loads((folder / "model.json").read_text())["weights"]
    edit(folder, weights=weights | {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})


def refusal(path: Path) -> str:
    with pytest.raises(LamError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_is_bitwise_and_complete(folder, model):
    loaded, metadata = load_checkpoint(folder)
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not loaded.training
    assert loaded.heads == model.heads and loaded.default_heads == model.default_heads
    assert metadata.architecture == model.config
    assert metadata.elements == {"H": 30, "C": 20, "O": 15, "Si": 5, "Cu": 7}
    assert metadata.training == {"steps": 3}
    assert metadata.weights.parameters == sum(p.numel() for p in model.parameters())
    assert set(metadata.versions) >= {"lam", "python", "torch", "e3nn"}


def test_both_files_are_as_readable_as_any_new_file(folder, tmp_path):
    (tmp_path / "other").touch()
    modes = {file.stat().st_mode for file in (*folder.iterdir(), tmp_path / "other")}
    assert len(modes) == 1


@pytest.mark.parametrize("file", ["", "model.json", "model.safetensors"])
def test_the_folder_and_either_file_are_accepted(folder, file):
    assert load_checkpoint(folder / file)[1].name == "tiny"


def test_default_heads_survive(tmp_path):
    model = tiny_potential()
    model.default_heads = ["cryst"]
    save_checkpoint(tmp_path / "m", model, metadata=CheckpointMetadata(name="m"))
    assert load_checkpoint(tmp_path / "m")[0].default_heads == ["cryst"]


def test_a_double_precision_model_is_stored_in_single_and_keeps_exact_references(tmp_path, model):
    references = model.reference_energies.value.clone()
    save_checkpoint(tmp_path / "m", tiny_potential().double(), metadata=CheckpointMetadata(name="m"))
    loaded, _ = load_checkpoint(tmp_path / "m")
    assert loaded.dtype == torch.float32
    assert loaded.reference_energies.value.dtype == torch.float64
    assert torch.equal(loaded.reference_energies.value, references)


def test_loading_leaves_random_numbers_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_checkpoint(folder)
    assert torch.equal(torch.rand(3), expected)


def test_saving_replaces_a_checkpoint_and_leaves_nothing_else(folder):
    other = tiny_potential(seed=1)
    save_checkpoint(folder, other, metadata=CheckpointMetadata(name="other"))
    loaded, metadata = load_checkpoint(folder)
    assert metadata.name == "other"
    assert torch.equal(loaded.readout.weight, other.readout.weight)
    assert sorted(file.name for file in folder.parent.rglob("*")) == ["model.json", "model.safetensors", "tiny"]


def test_a_model_with_nan_is_not_saved_and_the_old_one_stays(folder):
    bad = tiny_potential()
    with torch.no_grad():
        bad.readout.weight[0, 0] = float("nan")
    with pytest.raises(LamError, match=r"readout\.weight.*NaN"):
        save_checkpoint(folder, bad, metadata=CheckpointMetadata(name="bad"))
    assert load_checkpoint(folder)[1].name == "tiny"


def test_a_model_whose_heads_and_tables_disagree_is_not_saved(tmp_path, model):
    model.reference_energies.value[0, 1] += 1.0
    with pytest.raises(LamError, match="reference energies"):
        save_checkpoint(tmp_path / "m", model, metadata=CheckpointMetadata(name="m"))
    assert not list(tmp_path.iterdir())


def test_a_metric_that_is_nan_becomes_null(tmp_path, model):
    metadata = CheckpointMetadata(name="m", metrics={"a": {"force_mae": float("nan"), "n": [1.0, float("inf")]}})
    save_checkpoint(tmp_path / "m", model, metadata=metadata)
    assert load_metadata(tmp_path / "m").metrics == {"a": {"force_mae": None, "n": [1.0, None]}}


def test_missing_things(folder, tmp_path):
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no model.json" in refusal(tmp_path / "empty")
    (tmp_path / "weights.pt").write_bytes(b"x")
    assert "give the folder" in refusal(tmp_path / "weights.pt")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refusal(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    message = refusal(folder)
    assert "model.safetensors" in message and "damaged" in message and "bytes" in message


def test_one_flipped_bit(folder):
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    assert "sha256" in refusal(folder)


def test_weights_that_are_no_safetensors_are_never_unpickled(folder):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (folder / "executed",))

    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    reseal(folder)
    assert "damaged" in refusal(folder)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("readout.bias"), ["lacks readout.bias"]),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), ["unknown extra"]),
        (lambda tensors: tensors.update({"readout.bias": torch.zeros(9)}), ["readout.bias", "(9,)", "(2,)"]),
        (lambda tensors: tensors.update({"readout.bias": torch.zeros(2).double()}), ["readout.bias", "float64"]),
    ],
)
def test_tensors_that_do_not_fit_the_architecture(folder, change, words):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    reseal(folder)
    message = refusal(folder)
    assert all(word in message for word in words), message


def test_reference_energies_that_disagree_between_the_two_files(folder):
    heads = json.loads((folder / "model.json").read_text())["heads"]
    heads[0]["reference_energies"]["H"] = -1.0
    edit(folder, heads=heads)
    message = refusal(folder)
    assert "reference energies" in message and "model.json" in message


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"lam"', "\x00\xff", '{"format": "zip"}', "[" * 100_000])
def test_json_that_is_no_checkpoint(folder, text):
    (folder / "model.json").write_text(text, encoding="latin-1")
    assert "model.json" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format_version": 0}, "format_version"),
        ({"format_version": "1"}, "format_version"),
        ({"format_version": True}, "format_version"),
        ({"heads": ...}, "heads"),
        ({"heads": []}, "heads"),
        ({"weights": None}, "weights"),
        ({"default_heads": ["nobody"]}, "nobody"),
        ({"architecture": {"chanels": 8}}, "channels"),
        ({"architecture": {"cutoff": -1}}, "cutoff"),
        ({"surprise": 1}, "surprise"),
        ({"name": ""}, "name"),
        ({"heads": [{"name": "mol", "elements": {"Xx": 1}}], "default_heads": ["mol"]}, "Xx"),
        ({"heads": [{"name": "mol"}, {"name": "mol"}], "default_heads": ["mol"]}, "mol"),
    ],
)
def test_json_with_wrong_content(folder, changes, word):
    edit(folder, **changes)
    message = refusal(folder)
    assert "model.json" in message and word in message


def test_a_newer_format_is_refused_with_the_remedy(folder):
    edit(folder, format_version=3, something_new={"a": 1})
    message = refusal(folder)
    assert "written by a newer lam (format 3, this lam reads up to 1); upgrade lam" in message


def test_weights_outside_of_the_folder_are_refused(folder):
    weights = json.loads((folder / "model.json").read_text())["weights"]
    edit(folder, weights=weights | {"file": "../model.safetensors"})
    assert "must lie beside it" in refusal(folder)


def test_upgrades_run_in_order():
    steps = {1: lambda v: v | {"a": v["a"] + 1}, 2: lambda v: v | {"a": v["a"] * 10}}
    assert upgrades.upgrade({"format_version": 1, "a": 1}, to=3, upgrades=steps) == {"format_version": 3, "a": 20}


def test_load_by_name_and_by_path(folder, monkeypatch):
    monkeypatch.setattr(registry, "ASSETS", folder.parent)
    assert registry.available() == ["tiny"]
    by_name, by_path = lam.load("tiny"), lam.load(folder)
    assert by_name.metadata.name == "tiny"
    assert torch.equal(by_name.readout.weight, by_path.readout.weight)


def test_unknown_models(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "ASSETS", folder.parent)
    with pytest.raises(LamError, match=r"There is no model 'tinny'.*Did you mean 'tiny'.*Known: tiny.*path"):
        lam.load("tinny")
    with pytest.raises(LamError, match="There is no checkpoint"):
        lam.load(str(tmp_path / "a" / "b"))
    with pytest.raises(LamError, match="There is no model ''"):
        lam.load("")
