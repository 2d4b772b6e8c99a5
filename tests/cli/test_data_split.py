"""`lam data split` as a person uses it."""

import json
import lzma

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from lam.cli.main import main
from lam.data.manifest import load_manifest
from lam.data.shards import ShardWriter, open_shard
from lam.data.stream_splits import split_shard
from lam.data.structure import Structure

SYMBOLS = ("Li", "Na", "K", "Mg", "Ca", "F", "Cl", "Br", "O", "S")


def _atoms(seed):
    """Return a made compound of two elements; every compound has a group of two rather different frames."""
    rng = np.random.default_rng(seed // 2)
    pair = rng.choice(len(SYMBOLS), size=2, replace=False)
    formula = "".join(f"{SYMBOLS[k]}{rng.integers(1, 4)}" for k in pair)
    atoms = Atoms(formula)
    moved = np.random.default_rng(1000 + seed)
    atoms.positions = np.stack(np.unravel_index(np.arange(len(atoms)), (2, 2, 2)), axis=1) * 2.4
    atoms.positions += moved.normal(scale=0.3, size=(len(atoms), 3))
    forces = moved.normal(size=(len(atoms), 3))
    atoms.arrays["REF_forces"] = forces - forces.mean(axis=0)
    atoms.info.update(REF_energy=-3.0 * len(atoms) + moved.normal(), group=f"run-{seed // 2}")
    return atoms


@pytest.fixture(scope="module")
def frames():
    return [_atoms(seed) for seed in range(160)]


@pytest.fixture
def labels(tmp_path, frames):
    write(tmp_path / "labels.extxyz", frames)
    return tmp_path / "labels.extxyz"


@pytest.fixture
def data(tmp_path, frames):
    """Manifest of a folder of shards and a shard."""
    for number in range(4):
        path = tmp_path / "data" / "many" / f"part-{number:05d}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with ShardWriter(path) as writer:
            for atoms in frames[30 * number : 30 * number + 30]:
                writer.append(Structure.from_atoms(atoms))
    with ShardWriter(tmp_path / "data" / "one.h5") as writer:
        for atoms in frames[120:]:
            writer.append(Structure.from_atoms(atoms))
    path = tmp_path / "data" / "manifest.yaml"
    path.write_text("datasets:\n- {name: many, path: many, licence: MIT}\n- {name: one, path: one.h5, weight: 2.0}\n")
    return path


def test_an_extxyz_file_becomes_three(labels, tmp_path, capsys):
    out = tmp_path / "parts"
    assert main(["data", "split", str(labels), "--by", "composition", "--test", "0.2", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "no composition(s) on more than one side" in said and "no structure or neighbouring frame" in said
    parts = {name: read(out / f"{name}.extxyz", ":") for name in ("train", "val", "test")}
    formulas = {
        name: {atoms.symbols.formula.reduce()[0].format("hill") for atoms in found} for name, found in parts.items()
    }
    assert sum(map(len, parts.values())) == 160 and 10 <= len(parts["test"]) <= 48
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not formulas[a] & formulas[b]
    # The frames are the same text, in the same order.
    whole = labels.read_text()
    record = json.loads((out / "split.json").read_text())
    assert record["split"]["by"] == "composition" and len(record["frames"]["test"]) == len(parts["test"])
    first = (out / "test.extxyz").read_text().splitlines()[:3]
    assert "\n".join(first) in whole
    np.testing.assert_array_equal(parts["test"][0].positions, read(labels, record["frames"]["test"][0]).positions)


def test_the_split_is_the_same_again_and_for_a_compressed_file(labels, tmp_path, capsys):
    packed = tmp_path / "packed.extxyz.xz"
    packed.write_bytes(lzma.compress(labels.read_bytes()))
    for source, out in ((labels, "a"), (labels, "b"), (packed, "c")):
        assert main(["data", "split", str(source), "-o", str(tmp_path / out), "--no-check"]) == 0
    for name in ("train.extxyz", "val.extxyz", "test.extxyz"):
        assert len({(tmp_path / out / name).read_text() for out in "abc"}) == 1
    assert main(["data", "split", str(labels), "-o", str(tmp_path / "d"), "--no-check", "--seed", "1"]) == 0
    assert (tmp_path / "d" / "test.extxyz").read_text() != (tmp_path / "a" / "test.extxyz").read_text()


def test_nothing_is_overwritten_unasked(labels, tmp_path, capsys):
    words = ["data", "split", str(labels), "-o", str(tmp_path / "out"), "--no-check"]
    assert main(words) == 0
    (tmp_path / "out" / "other.txt").write_text("mine")
    assert main(words) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert main([*words, "--force", "--val", "0"]) == 0
    assert not (tmp_path / "out" / "val.extxyz").exists()  # of the split before
    assert (tmp_path / "out" / "other.txt").read_text() == "mine"
    assert main(["data", "split", str(tmp_path / "out" / "train.extxyz"), "-o", str(tmp_path / "out"), "--force"]) == 2
    assert "part of itself" in capsys.readouterr().err


def test_a_manifest_is_written_with_the_split(data, tmp_path, capsys):
    before = data.read_text()
    out = tmp_path / "other" / "split.yaml"
    words = ["data", "split", str(data), "--by", "composition", "--test", "0.2", "--seed", "3", "-o", str(out)]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in report["datasets"]] == ["many", "one"]
    assert all(each["shared"]["composition"] == 0 for each in report["datasets"])
    assert data.read_text() == before
    manifest = load_manifest(out)
    assert [spec.split.by for spec in manifest.datasets] == ["composition"] * 2
    assert manifest.datasets[0].licence == "MIT" and manifest.datasets[1].weight == 2.0
    for spec, told in zip(manifest.datasets, report["datasets"], strict=True):
        counts = split_shard(open_shard(spec.path), spec.split).counts()
        assert counts == {part["name"]: part["structures"] for part in told["parts"]}
    assert main(["data", "info", str(out)]) == 0
    assert main(words) == 2  # it is there
    assert "--force" in capsys.readouterr().err


def test_a_manifest_in_place_and_one_data_set_of_it(data, capsys):
    assert main(["data", "split", str(data.parent), "--by", "size", "--max-atoms", "5", "--only", "many"]) in (0, 1)
    first, second = load_manifest(data).datasets
    assert (first.split.by, first.split.max_atoms, second.split.by) == ("size", 5, "group")
    said = capsys.readouterr().out
    assert "many: by size above 5 atoms" in said and "one: by" not in said
    assert main(["data", "split", str(data), "--only", "mony"]) == 2
    assert "many" in capsys.readouterr().err


def test_elements_are_held_out_of_every_data_set(data, capsys):
    assert main(["data", "split", str(data), "--by", "element", "--elements", "Li,Br", "--no-check"]) == 0
    assert "not trained on, but held out: Li Br" in capsys.readouterr().out
    for spec in load_manifest(data).datasets:
        shard = open_shard(spec.path)
        split = split_shard(shard, spec.split)
        has = (shard.compositions()[:, [3, 35]] > 0).any(axis=1)
        np.testing.assert_array_equal(split.names == "test", has)
    before = data.read_text()
    assert main(["data", "split", str(data), "--by", "element", "--elements", "U"]) == 2
    assert "no structure has U" in capsys.readouterr().err
    assert data.read_text() == before


def test_shards_get_a_manifest(data, tmp_path, capsys):
    for source, name in ((data.parent / "many", "many"), (data.parent / "one.h5", "one")):
        out = tmp_path / f"{name}.yaml"
        assert main(["data", "split", str(source), "--by", "prototype", "--test", "0.2", "-o", str(out)]) == 0
        (spec,) = load_manifest(out).datasets
        assert (spec.name, spec.split.by, spec.path) == (name, "prototype", source)
    assert main(["data", "split", str(data.parent / "one.h5")]) == 2
    assert "-o FILE.yaml" in capsys.readouterr().err


def test_leaks_are_found_and_said(frames, tmp_path, capsys):
    # The same structures, turned, under other group names: a split by group cannot know.
    turned = [atoms.copy() for atoms in frames]
    for number, atoms in enumerate(turned):
        atoms.rotate(40, "z", rotate_cell=False)
        atoms.info["group"] = f"again-{number // 2}"
    write(tmp_path / "twice.extxyz", [*frames, *turned])
    assert main(["data", "split", str(tmp_path / "twice.extxyz"), "-o", str(tmp_path / "group")]) == 1
    said = capsys.readouterr().out
    assert "LEAK: 'test' and 'train'" in said and "in both, or nearly" in said and "no group(s) on more" in said
    words = ["data", "split", str(tmp_path / "twice.extxyz"), "--by", "composition", "-o", str(tmp_path / "formula")]
    assert main(words) == 0
    assert "LEAK" not in capsys.readouterr().out


def test_a_fallback_is_said_and_leaks(frames, tmp_path, capsys):
    for atoms in frames:
        atoms.info["group"] = "all-in-one"
    write(tmp_path / "one.extxyz", frames)
    assert main(["data", "split", str(tmp_path / "one.extxyz"), "-o", str(tmp_path / "out"), "--no-check"]) == 1
    said = capsys.readouterr().out
    assert "blocks of frames are held out instead" in said and "LEAK: 1 group(s)" in said
    write(tmp_path / "water.extxyz", [Atoms("H2O", positions=np.eye(3), info={"REF_energy": -14.0})] * 12)
    assert (
        main(["data", "split", str(tmp_path / "water.extxyz"), "--by", "composition", "-o", str(tmp_path / "w")]) == 2
    )
    assert "whole compositions" in capsys.readouterr().err and not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.yaml"], "no file or folder"),
        (["labels.extxyz"], "-o FOLDER"),
        (["labels.extxyz", "-o", "out", "--by", "element"], "elements"),
        (["labels.extxyz", "-o", "out", "--test", "1.5"], "test"),
        (["labels.extxyz", "-o", "out", "--only", "a"], "--only"),
        (["labels.extxyz", "-o", "labels.extxyz"], "is a file"),
        (["labels.cif", "-o", "out"], "lam data convert"),
    ],
)
def test_what_cannot_be_is_refused(labels, monkeypatch, capsys, words, said):
    monkeypatch.chdir(labels.parent)
    (labels.parent / "labels.cif").write_text("data_\n")
    assert main(["data", "split", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (labels.parent / "out").exists()


def test_the_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        main(["data", "split", "--help"])
    assert "example" in capsys.readouterr().out
