"""``lam predict``, ``lam models`` and ``lam info``."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from lam.calculators import LAMCalculator
from lam.checkpoint import CheckpointMetadata, registry, save_checkpoint
from lam.cli import predict
from lam.cli.main import main
from lam.testing import tiny_potential


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "assets" / "tiny"
    metadata = CheckpointMetadata(name="tiny", training={"steps": 3, "data": {"seed": 0}}, metrics={"force_mae": 0.125})
    save_checkpoint(path, tiny_potential(), metadata=metadata)
    return str(path)


@pytest.fixture
def frames() -> list[Atoms]:
    water = molecule("H2O")
    water.info["comment"] = "a b"
    water.calc = SinglePointCalculator(water, energy=-1.5, forces=np.ones((3, 3)))
    cation = molecule("H2O")
    cation.info.update(charge=1, spin=2)
    silicon = bulk("Si")
    silicon.rattle(0.1)
    return [water, cation, silicon]


@pytest.fixture
def file(tmp_path: Path, frames) -> str:
    write(tmp_path / "in.extxyz", frames)
    return str(tmp_path / "in.extxyz")


def error_of(capsys, *argv: str) -> str:
    assert main(list(argv)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("lam: error: ") and "\n" not in error
    return error


@pytest.mark.parametrize("batch_atoms", ["1", "5", "1000"])
def test_output_is_what_the_calculator_says(file, frames, model, tmp_path, batch_atoms, capsys):
    output = tmp_path / "out.extxyz"
    options = ["-m", model, "-o", str(output), "--dtype", "float64", "--batch-atoms", batch_atoms]
    assert main(["predict", file, *options]) == 0
    found = read(output, ":")
    calculator = LAMCalculator(model, dtype="float64")
    for got, atoms in zip(found, frames, strict=True):
        atoms.calc = calculator
        assert got.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(got.get_forces(), atoms.get_forces(), atol=1e-6)
        assert got.info["lam_head"] == calculator.head_used
    np.testing.assert_allclose(found[2].get_stress(), frames[2].get_stress(), atol=1e-8)
    assert "stress" not in found[0].calc.results
    assert found[0].get_potential_energy() != found[1].get_potential_energy()  # the charge was read
    # what the input said is kept, under names that say what it is
    assert found[0].info["comment"] == "a b"
    assert found[0].info["REF_energy"] == -1.5
    np.testing.assert_allclose(found[0].arrays["REF_forces"], 1.0)
    assert found[1].info["charge"] == 1
    table = capsys.readouterr().out
    assert "in.extxyz#2" in table and "H2O" in table and "cryst" in table and "3 structures written" in table


def test_several_and_compressed_files(file, frames, model, tmp_path, capsys):
    packed = tmp_path / "b.extxyz.xz"
    packed.write_bytes(lzma.compress(Path(file).read_bytes()))
    write(tmp_path / "c.cif", frames[2])
    output = tmp_path / "out.extxyz"
    assert main(["predict", file, str(packed), str(tmp_path / "c.cif"), "-m", model, "-o", str(output)]) == 0
    found = read(output, ":")
    assert [len(atoms) for atoms in found] == [3, 3, 2, 3, 3, 2, 2]
    assert found[0].get_potential_energy() == pytest.approx(found[3].get_potential_energy())


def test_bad_labels_do_not_stop_a_prediction(model, tmp_path):
    bad = tmp_path / "bad.xyz"
    bad.write_text('1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=nan pbc="F F F"\nH 0 0 0 nan nan nan\n')
    assert main(["predict", str(bad), "-m", model]) == 0


def test_the_table_is_short(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predict, "MAX_ROWS", 2)
    write(tmp_path / "many.xyz", [molecule("H2O")] * 5)
    assert main(["predict", str(tmp_path / "many.xyz"), "-m", model]) == 0
    text = capsys.readouterr().out
    assert "many.xyz#1" in text and "many.xyz#2" not in text and "and 3 more; write all with -o FILE" in text


def test_wrong_input(file, model, tmp_path, capsys):
    before = Path(file).read_bytes()
    assert "also an input" in error_of(capsys, "predict", file, "-m", model, "-o", file)
    assert Path(file).read_bytes() == before
    assert ".extxyz" in error_of(capsys, "predict", file, "-m", model, "-o", str(tmp_path / "out.json"))
    (tmp_path / "d.xyz").mkdir()
    assert "folder" in error_of(capsys, "predict", file, "-m", model, "-o", str(tmp_path / "d.xyz"))
    assert "no file" in error_of(capsys, "predict", file, str(tmp_path / "no.xyz"), "-m", model)
    assert "--batch-atoms" in error_of(capsys, "predict", file, "-m", model, "--batch-atoms", "0")
    assert "no head 'moll'" in error_of(capsys, "predict", file, "-m", model, "--head", "moll")
    assert "no model 'lam-nanno'" in error_of(capsys, "predict", file, "-m", "lam-nanno")
    (tmp_path / "empty.xyz").write_text("")
    assert "empty" in error_of(capsys, "predict", str(tmp_path / "empty.xyz"), "-m", model)


def test_a_bad_frame_is_named_and_leaves_no_output(file, model, tmp_path, capsys):
    output = tmp_path / "out.extxyz"
    output.write_text("precious")
    write(tmp_path / "bad.xyz", [molecule("H2O"), Atoms("Xe")])
    error = error_of(capsys, "predict", file, str(tmp_path / "bad.xyz"), "-m", model, "-o", str(output))
    assert "bad.xyz#1" in error and "Xe" in error
    assert output.read_text() == "precious"
    assert not [item for item in tmp_path.iterdir() if item.name.startswith(".out")]


def test_models(model, capsys, monkeypatch):
    monkeypatch.setattr(registry, "ASSETS", Path(model).parent)
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "tiny" in text and "MB" in text
    assert main(["models", "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert only["name"] == "tiny" and only["elements"] == 5 and only["heads"] == 2
    assert only["parameters"] == sum(p.numel() for p in tiny_potential().parameters())
    assert Path(only["path"]).resolve() == Path(model).resolve()
    monkeypatch.setattr(registry, "ASSETS", Path(model))
    assert main(["models"]) == 0
    assert "No model ships" in capsys.readouterr().out


def test_info(model, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["info", model]) == 0
    text = capsys.readouterr().out
    for word in ("tiny", "wB97X/6-31G(d)", "CC-BY-4.0", "data.seed", "force_mae", "0.125", "Cu:7", "cutoff", "sha256"):
        assert word in text, word
    assert main(["info", model, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads((Path(model) / "model.json").read_text())


def test_info_on_what_is_no_model(tmp_path, capsys):
    assert "no model.json" in error_of(capsys, "info", str(tmp_path))
    assert "no model 'nothing'" in error_of(capsys, "info", "nothing")
