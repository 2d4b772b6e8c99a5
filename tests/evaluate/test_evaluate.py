"""Evaluation of a tiny model: what is compared, refitted, skipped, reported and drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.io import write

from lam.calculators import Predictor
from lam.data.manifest import DatasetSpec, Manifest, save_manifest
from lam.data.shards import ShardWriter
from lam.data.splits import SplitSpec
from lam.errors import LamError
from lam.evaluate import EvaluationSet, evaluate, write_plots, write_report

WATERS = [8, 1, 1, 8, 1, 1]
METALS = [29, 29, 78, 78, 29, 78]


def one(model, structures, name="mine", **options):
    return evaluate(model, EvaluationSet(name=name, structures=structures), device="cpu", **options)


def test_errors_equal_those_computed_by_hand(model, make):
    structures = make(WATERS)
    entry = one(model, structures, name="water").report["datasets"][0]
    predictions = Predictor(model, head="water", device="cpu").predict(structures)
    force = np.concatenate([p.forces - s.forces for s, p in zip(structures, predictions, strict=True)])
    energy = np.array([(p.energy - s.energy) / len(s) for s, p in zip(structures, predictions, strict=True)])
    zero = np.concatenate([s.forces for s in structures])
    assert entry["own_head"] and entry["head"] == "water"
    assert entry["forces"]["mae"] == pytest.approx(1000 * np.abs(force).mean())
    assert entry["forces"]["rmse"] == pytest.approx(1000 * np.sqrt((force**2).mean()))
    assert entry["forces"]["baseline_mae"] == pytest.approx(1000 * np.abs(zero).mean())
    assert entry["forces"]["n"] == force.size
    assert entry["energy"]["mae"] == pytest.approx(1000 * np.abs(energy).mean())
    assert entry["energy"]["mae"] == entry["energy"]["raw_mae"]
    assert not entry["energy"]["refitted"]


def test_batching_changes_nothing(model, make):
    structures = make(WATERS)
    small, large = (one(model, structures, batch_atoms=n).report["datasets"][0] for n in (1, 1000))
    assert small["forces"]["mae"] == pytest.approx(large["forces"]["mae"], rel=1e-5)


def test_another_zero_of_energy_is_refitted_away(model, make):
    near = make(WATERS, offsets={1: -1.0, 8: -10.0})
    far = make(WATERS, offsets={1: -500.0, 8: -2000.0})
    errors = [one(model, data).report["datasets"][0]["energy"] for data in (near, far)]
    assert errors[1]["raw_mae"] > 100_000
    assert errors[0]["refitted"] and errors[0]["mae"] == errors[0]["refitted_mae"]
    assert errors[1]["mae"] == pytest.approx(errors[0]["mae"], rel=1e-3)
    assert errors[1]["refit_rank"] == 2


def test_refitting_can_be_forced_and_forbidden(model, make):
    structures = make(WATERS, offsets={1: -500.0, 8: -2000.0})
    forced = one(model, structures, name="water", refit_references=True).report["datasets"][0]["energy"]
    forbidden = one(model, structures, refit_references=False).report["datasets"][0]["energy"]
    assert forced["mae"] < 100 < 100_000 < forbidden["mae"]


def test_too_few_structures_to_refit_give_no_energy_error(model, make):
    entry = one(model, make(WATERS, count=2)).report["datasets"][0]
    assert entry["energy"]["mae"] is None and entry["energy"]["raw_mae"] is not None
    assert entry["energy"]["baseline_mae"] is None


def test_uncovered_structures_are_counted(model, make):
    structures = make(WATERS, count=4) + make([8, 1, 6, 7], count=2) + make([8, 1, 6, 1], count=1)
    entry = one(model, structures).report["datasets"][0]
    assert entry["n_structures"] == 4
    assert entry["n_skipped"] == 3
    assert entry["skipped_elements"]["C"] + entry["skipped_elements"].get("N", 0) >= 3


def test_head_with_most_coverage_is_taken(model, make):
    entry = one(model, make(METALS, stress=True)).report["datasets"][0]
    assert (entry["head"], entry["own_head"]) == ("metal", False)
    mixed = one(model, make(METALS, stress=True) + make(WATERS, count=2)).report["datasets"][0]
    assert mixed["head"] == "metal" and mixed["n_skipped"] == 2


def test_nothing_covered_is_an_error(model, make):
    with pytest.raises(LamError, match=r"does not cover \(U\)"):
        one(model, make([92, 92, 92]))
    with pytest.raises(LamError, match=r"'water' does not cover \(Cu, Pt\)"):
        one(model, make(METALS), head="water")


def test_one_set_that_is_not_covered_is_reported_among_others(model, make):
    sets = [EvaluationSet(name="a", structures=make(WATERS)), EvaluationSet(name="b", structures=make([92, 92]))]
    covered, uncovered = evaluate(model, sets, device="cpu").report["datasets"]
    assert covered["n_structures"] == 6
    assert uncovered["n_structures"] == 0 and uncovered["n_skipped"] == 6
    assert uncovered["energy"] is None and uncovered["forces"] is None and not uncovered["informative"]


def test_missing_labels_are_left_out(model, make):
    entry = one(model, make(WATERS, count=4, labels="E") + make(WATERS, count=2, labels="F")).report["datasets"][0]
    assert entry["energy"]["n"] == 4
    assert entry["forces"]["n"] == sum(3 * len(s) for s in make(WATERS, count=2))
    assert entry["stress"] is None


def test_no_label_at_all_is_an_error(model, make):
    with pytest.raises(LamError, match="no structure has an energy, force or stress label"):
        one(model, make(WATERS, labels=""))


def test_stress_has_six_components(model, make):
    structures = make(METALS, stress=True)
    stress = one(model, structures).report["datasets"][0]["stress"]
    diagonal = np.concatenate([np.diag(s.stress) for s in structures])
    assert stress["n"] == 6 * len(structures)
    assert stress["baseline_mae"] == pytest.approx(1000 * np.abs(diagonal).sum() / stress["n"])


def test_elements_add_up(model, make):
    report = one(model, make(WATERS)).report
    elements = report["elements"]
    assert set(elements) == {"H", "O"}
    assert sum(row["n_atoms"] for row in elements.values()) == report["datasets"][0]["n_atoms"]
    weighted = sum(row["force_mae"] * row["n_atoms"] for row in elements.values())
    assert weighted / report["datasets"][0]["n_atoms"] == pytest.approx(report["datasets"][0]["forces"]["mae"])
    assert elements["H"]["energy_mae"] == pytest.approx(elements["O"]["energy_mae"])  # both in every structure


def test_near_relaxed_sets_stand_apart(model, make):
    sets = [
        EvaluationSet(name="moving", structures=make(WATERS)),
        EvaluationSet(name="relaxed", structures=make(WATERS, force_scale=0.01)),
    ]
    report = evaluate(model, sets, device="cpu").report
    assert [entry["informative"] for entry in report["datasets"]] == [True, False]
    assert report["summary"]["n_sets"] == 1 and list(report["summary"]["sets_apart"]) == ["relaxed"]
    assert report["summary"]["median_force_ratio_mae"] == report["datasets"][0]["forces"]["ratio_mae"]


def test_equal_names_are_told_apart(model, make):
    sets = [EvaluationSet(name="a", structures=make(WATERS)), EvaluationSet(name="a", structures=make(WATERS))]
    assert [e["name"] for e in evaluate(model, sets, device="cpu").report["datasets"]] == ["a", "a (2)"]


def _manifest(folder, structures, name):
    with ShardWriter(folder / f"{name}.h5") as shard:
        for structure in structures:
            shard.append(structure)
    spec = DatasetSpec(name=name, path=folder / f"{name}.h5", split=SplitSpec(by="block", test=0.5, val=0.0))
    save_manifest(Manifest(datasets=[spec]), folder / "manifest.yaml")
    return folder / "manifest.yaml"


def test_manifest_is_evaluated_on_its_test_split(model, make, tmp_path):
    structures = make(WATERS, count=12)
    path = _manifest(tmp_path, structures, "water")
    entry = evaluate(model, path, device="cpu").report["datasets"][0]
    assert entry["own_head"] and entry["split"] == "test (block)"
    assert entry["n_structures"] == 6 and entry["baseline"] == "training split"
    held_out = one(model, structures[6:], name="water").report["datasets"][0]
    assert entry["forces"]["mae"] == pytest.approx(held_out["forces"]["mae"], rel=1e-5)
    assert entry["energy"]["baseline_mae"] > held_out["energy"]["baseline_mae"]  # not fitted to the same data
    assert evaluate(model, path, split="all", device="cpu").report["datasets"][0]["n_structures"] == 12


def test_shards_and_files_are_taken_whole(model, make, tmp_path):
    structures = make(WATERS, count=8)
    _manifest(tmp_path, structures, "water")
    write(tmp_path / "labels.extxyz", [s.to_atoms(prefix="REF_") for s in structures])
    report = evaluate(model, [tmp_path / "water.h5", tmp_path / "labels.extxyz"], device="cpu").report
    shard, file = report["datasets"]
    assert (shard["own_head"], file["own_head"]) == (True, False)
    assert shard["split"] == file["split"] == "all"
    assert shard["forces"]["mae"] == pytest.approx(file["forces"]["mae"], rel=1e-4)
    with pytest.raises(LamError, match="no splits"):
        evaluate(model, tmp_path / "labels.extxyz", split="test", device="cpu")


def test_unknown_head_and_split(model, make, tmp_path):
    with pytest.raises(LamError, match="Did you mean 'water'"):
        one(model, make(WATERS), head="watr")
    with pytest.raises(LamError, match="test"):
        evaluate(model, tmp_path / "labels.extxyz", split="tset", device="cpu")


def test_report_is_json_and_plots_are_written(model, make, tmp_path):
    sets = [
        EvaluationSet(name="water", structures=make(WATERS)),
        EvaluationSet(name="alloy", structures=make(METALS, stress=True)),
    ]
    evaluation = evaluate(model, sets, device="cpu")
    report = json.loads(write_report(evaluation.report, tmp_path / "out").read_text())
    assert report == evaluation.report
    assert report["format"] == "lam-evaluation" and report["format_version"] == 1
    assert set(report["datasets"][0]) == {
        "name", "source", "head", "own_head", "split", "n_structures", "n_atoms", "n_skipped", "skipped_elements",
        "baseline", "energy", "forces", "stress", "informative", "elements",
    }  # fmt: skip
    paths = write_plots(evaluation, tmp_path / "out")
    assert [path.name for path in paths] == ["parity.png", "force-ratio.png", "elements.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_progress_is_told(model, make):
    told = []
    one(model, make(WATERS), progress=lambda *step: told.append(step))
    assert told[-1] == ("mine", 6, 6)
