"""Choosing structures: what is chosen, in which order, and what is kept of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from lam.cli.main import main
from lam.data.shards import open_shard
from lam.errors import LamError
from lam.select import select

MODEL_METHODS = ("coverage", "diversity", "uncertainty")


@pytest.fixture
def pool(tmp_path, rattled):
    """Return a file of 30 frames: near copies of ethanol, and at place 17 one with a stretched bond."""
    frames = rattled("CH3CH2OH", 30)
    frames[17].positions[1] += [0.5, 0.3, 0.0]
    for number, atoms in enumerate(frames):
        atoms.info.update(charge=number % 2, spin=1 + number % 2, group=f"walk-{number // 10}", temperature=300)
    write(tmp_path / "pool.extxyz", frames)
    return tmp_path / "pool.extxyz"


def names(selection):
    return [structure.source for structure in selection.structures]


@pytest.mark.parametrize("by", ["diversity", "uncertainty"])
def test_the_odd_one_among_near_copies_is_chosen_first_or_second(pool, model, by):
    assert "pool.extxyz#17" in names(select(pool, 2, by=by, model=model))


@pytest.mark.parametrize("by", (*MODEL_METHODS, "random"))
def test_the_first_of_many_are_the_selection_of_few(pool, model, by):
    many = names(select(pool, 20, by=by, model=model))
    assert len(set(many)) == 20
    assert names(select(pool, 7, by=by, model=model)) == many[:7]


@pytest.mark.parametrize("by", (*MODEL_METHODS, "random"))
def test_the_order_and_the_batches_of_the_pool_do_not_matter(pool, model, by, tmp_path):
    frames = read(pool, ":")
    order = np.random.default_rng(3).permutation(len(frames))
    write(tmp_path / "mixed.extxyz", [frames[i] for i in order])
    one = select(pool, 6, by=by, model=model)
    other = select(tmp_path / "mixed.extxyz", 6, by=by, model=model, batch_atoms=20)
    assert [s.positions.tolist() for s in one.structures] == [s.positions.tolist() for s in other.structures]


def test_the_seed_changes_random_choice_and_nothing_else_does(pool, model):
    first, again, other = (names(select(pool, 8, by="random", model=model, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert set(first) != set(other)


@pytest.mark.parametrize("by", (*MODEL_METHODS, "random"))
def test_what_one_has_is_not_chosen_again(pool, model, by, tmp_path):
    frames = read(pool, ":")
    write(tmp_path / "mine.extxyz", [frames[17], frames[3]])
    chosen = names(select(pool, 28, by=by, model=model, already=tmp_path / "mine.extxyz"))
    assert set(chosen) == {f"pool.extxyz#{i}" for i in range(30)} - {"pool.extxyz#17", "pool.extxyz#3"}


@pytest.mark.parametrize("by", MODEL_METHODS)
def test_what_resembles_what_one_has_comes_last(rattled, model, by, tmp_path):
    write(tmp_path / "pool.extxyz", [*rattled("CH4", 10), *rattled("CH3OH", 10)])
    write(tmp_path / "mine.extxyz", rattled("CH3OH", 10, seed=9))
    chosen = select(tmp_path / "pool.extxyz", 1, by=by, model=model, already=[tmp_path / "mine.extxyz"])
    assert chosen.structures[0].formula == "CH4"


def test_coverage_chooses_what_the_pool_has_much_of(rattled, model, tmp_path):
    write(tmp_path / "pool.extxyz", [*rattled("CH4", 1), *rattled("CH3CH2OH", 20), *rattled("H2CO", 1)])
    selection = select(tmp_path / "pool.extxyz", 3, model=model, by="coverage")
    assert selection.structures[0].formula == "C2H6O"
    values = selection.report["curve"]["value"]
    assert values[0] > values[1] > values[2] >= 0


def test_every_element_comes_before_any_other_novelty(rattled, model, tmp_path):
    frames = [*rattled("CH4", 12, stdev=0.2), *rattled("H2O", 2), bulk("Cu")]
    write(tmp_path / "pool.extxyz", frames)
    selection = select(tmp_path / "pool.extxyz", 4, model=model, by="diversity")
    assert {"CH4", "H2O", "Cu"} == {structure.formula for structure in selection.structures[:3]}
    values = selection.report["curve"]["value"]
    assert values[:2] == [None, None]  # elements are missing still
    assert values[2] > values[3] > 0


def test_a_rare_environment_in_a_large_structure_is_not_averaged_away(rattled, model, tmp_path):
    frames = [bulk("Cu", cubic=True).repeat((3, 3, 3)) for _ in range(8)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.01, seed=number)
    frames[5].positions[40] += [0.7, 0.4, 0.0]
    write(tmp_path / "pool.extxyz", frames)
    assert "pool.extxyz#5" in names(select(tmp_path / "pool.extxyz", 2, model=model, by="diversity"))


def test_exact_repeats_count_once(pool, model, tmp_path):
    write(tmp_path / "twice.extxyz", read(pool, ":") * 2)
    chosen = select(tmp_path / "twice.extxyz", 30, model=model)
    assert len({tuple(structure.positions.ravel()) for structure in chosen.structures}) == 30
    with pytest.raises(LamError, match=r"budget of 31 structures is beyond .* 30 different ones \(60 with repeats\)"):
        select(tmp_path / "twice.extxyz", 31, model=model)


def test_state_group_labels_and_everything_else_are_kept(pool, model, tmp_path):
    frames = read(pool, ":")
    for number, atoms in enumerate(frames):
        atoms.info["REF_energy"] = -100.0 - number
        atoms.arrays["REF_forces"] = np.full((len(atoms), 3), 0.25)
        atoms.arrays["tag"] = np.arange(len(atoms))
    write(pool, frames)
    out = tmp_path / "chosen.extxyz"
    selection = select(pool, 5, out, model=model)
    written = read(out, ":")
    assert [atoms.info["source"] for atoms in written] == names(selection)
    for atoms in written:
        number = int(atoms.info["source"].rpartition("#")[2])
        assert atoms.info["total_charge"] == number % 2
        assert atoms.info["spin_multiplicity"] == 1 + number % 2
        assert "charge" not in atoms.info
        assert atoms.info["group"] == f"walk-{number // 10}"
        assert atoms.info["temperature"] == 300
        assert atoms.info["REF_energy"] == -100.0 - number
        assert (atoms.arrays["REF_forces"] == 0.25).all()
        assert (atoms.arrays["tag"] == np.arange(len(atoms))).all()
        assert np.allclose(atoms.positions, frames[number].positions)


def test_shards_manifests_and_files_are_one_pool(pool, model, rattled, tmp_path):
    write(tmp_path / "water.extxyz", rattled("H2O", 6))
    assert main(["data", "convert", str(pool), "-o", str(tmp_path / "data"), "--no-check"]) == 0
    manifest = tmp_path / "data" / "manifest.yaml"
    selection = select([manifest, tmp_path / "water.extxyz"], 8, tmp_path / "chosen.h5", model=model)
    assert selection.report["datasets"]["pool"]["pool"] == 30
    assert selection.report["datasets"]["water"]["pool"] == 6
    assert sum(entry["chosen"] for entry in selection.report["datasets"].values()) == 8
    shard = open_shard(tmp_path / "chosen.h5")
    assert [shard.source_of(row) for row in range(len(shard))] == names(selection)
    alone = select(tmp_path / "data" / "pool.h5", 30, by="random")
    assert set(names(alone)) == {f"pool.extxyz#{number}" for number in range(30)}


def test_only_the_asked_part_of_a_manifest_is_chosen_from(pool, model, tmp_path):
    assert main(["data", "convert", str(pool), "-o", str(tmp_path / "data"), "--no-check"]) == 0
    manifest = tmp_path / "data" / "manifest.yaml"
    chosen = {part: select(manifest, 1, part=part, by="random") for part in ("train", "val", "test")}
    parts = {part: selection.report["pool"]["structures"] for part, selection in chosen.items()}
    assert sum(parts.values()) == 30
    assert 0 < parts["test"] < parts["train"] < 30
    with pytest.raises(LamError, match="has no splits"):
        select(pool, 1, part="train", model=model)


def test_the_report_says_what_was_chosen_from_what(pool, model, tmp_path):
    selection = select(pool, 4, tmp_path / "chosen.extxyz", model=model)
    report = json.loads((tmp_path / "chosen.selection.json").read_text())
    assert report == selection.report
    assert report["pool"] == {"structures": 30, "different": 30, "could_be_chosen": 30, "atoms": 270}
    assert report["elements"]["O"] == {"pool": 30, "chosen": 4}
    assert [entry["rank"] for entry in report["chosen"]] == [1, 2, 3, 4]
    assert [entry["source"] for entry in report["chosen"]] == names(selection)
    assert report["curve"]["value"] == sorted(report["curve"]["value"], reverse=True)
    assert (tmp_path / "chosen.selection.png").stat().st_size > 1000


def test_bad_requests_are_one_sentence_and_write_nothing(pool, model, tmp_path):
    out = tmp_path / "chosen.extxyz"
    for arguments, message in (
        ((pool, 31), "budget of 31 structures is beyond the pool, which has 30; ask for at most 30"),
        ((pool, 0), "budget of 0 chooses nothing"),
        ((tmp_path / "none.extxyz", 1), "There is no file or folder"),
        (([], 1), "nothing to choose from"),
    ):
        with pytest.raises(LamError, match=message):
            select(*arguments, out, model=model)
    for changes, message in (
        ({"by": "diverse"}, "Did you mean 'diversity'"),
        ({"head": "moll"}, "Did you mean 'mol'"),
        ({"sead": 1}, "Did you mean 'seed'"),
        ({"batch_atoms": 0}, "at least 1"),
    ):
        with pytest.raises(LamError, match=message):
            select(pool, 1, out, **({"model": model} | changes))
    for name, message in (("a.cif", "must end in"), ("pool.extxyz", "also an input")):
        with pytest.raises(LamError, match=message):
            select(pool, 1, tmp_path / name, model=model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool.extxyz"]
    out.write_text("mine")
    with pytest.raises(LamError, match="would be overwritten"):
        select(pool, 1, out, model=model)
    assert out.read_text() == "mine"


def test_a_bad_frame_is_named(tmp_path, rattled, model):
    frames = rattled("H2O", 3)
    frames[2].positions[0] = np.nan
    write(tmp_path / "pool.extxyz", frames)
    with pytest.raises(LamError, match=r"pool.extxyz#2: NaN"):
        select(tmp_path / "pool.extxyz", 1, tmp_path / "out.extxyz", model=model)
    assert not (tmp_path / "out.extxyz").exists()


def test_elements_that_the_model_never_saw_are_told_of(tmp_path, rattled, model):
    write(tmp_path / "pool.extxyz", [*rattled("CH4", 3), *rattled("CH3Cl", 1)])
    with pytest.warns(match="never trained on Cl"):
        chosen = select(tmp_path / "pool.extxyz", 2, model=model, by="diversity")
    assert "CH3Cl" in [structure.formula for structure in chosen.structures]
