"""Splits: whole groups, the same everywhere, close to the wished fractions, honest when that cannot be."""

import numpy as np
import pytest

from lam.data.shard_folder import Shards
from lam.data.shards import Shard, ShardWriter
from lam.data.split_keys import formula_keys
from lam.data.split_report import summarize
from lam.data.splits import SplitSpec, assign_splits
from lam.data.stream_splits import split_shard
from lam.data.structure import ISOLATED_ATOM
from lam.errors import LamError


def _groups(sizes, seed=0):
    groups = np.repeat([f"run{k}" for k in range(len(sizes))], sizes)
    return np.random.default_rng(seed).permutation(groups)


@pytest.mark.parametrize("seed", range(8))
def test_no_group_straddles(seed):
    sizes = np.random.default_rng(seed).integers(1, 60, size=40)
    groups = _groups(sizes, seed)
    split = assign_splits(groups, SplitSpec(seed=seed))
    assert split.mode == "group"
    for group in np.unique(groups):
        assert len(set(split.names[groups == group])) == 1
    assert 0.03 * len(groups) <= len(split.rows("test")) <= 0.15 * len(groups)
    assert len(split.rows("val")) <= 0.075 * len(groups)
    assert sum(split.counts().values()) == len(groups)


def test_fractions_are_met_when_groups_are_small():
    split = assign_splits([f"s{k}" for k in range(1000)])
    assert split.counts() == {"train": 850, "val": 50, "test": 100}


def test_the_choice_depends_on_names_and_seed_only():
    groups = _groups([7] * 30)
    first = assign_splits(groups)
    order = np.random.default_rng(5).permutation(len(groups))
    assert (assign_splits(groups[order]).names == first.names[order]).all()
    assert (assign_splits(groups, SplitSpec(seed=1)).names != first.names).any()


def test_the_choice_never_changes_between_versions():
    # A change here would move test structures into the training of the next version.
    split = assign_splits([f"s{k}" for k in range(20)], SplitSpec(test=0.2, val=0.1))
    assert split.rows("test").tolist() == [11, 13, 14, 15]
    assert split.rows("val").tolist() == [0, 3]


@pytest.mark.parametrize("sizes", [[100], [60, 40], [50, 25, 25]])
def test_few_large_groups_fall_back_to_a_block(sizes):
    groups = np.repeat([f"run{k}" for k in range(len(sizes))], sizes)
    split = assign_splits(groups)
    assert split.mode == "block"
    assert split.rows("test").tolist() == list(range(90, 100))
    assert split.rows("val").tolist() == list(range(85, 90))


def test_val_stays_empty_rather_than_straddling():
    split = assign_splits(np.repeat(["a", "b", "c"], [500, 420, 80]), SplitSpec(test=0.1))
    assert split.mode == "group"
    assert split.counts() == {"train": 920, "val": 0, "test": 80}


def test_tiny_sets():
    assert assign_splits(["a"]).counts()["train"] == 1
    assert assign_splits(["a"] * 10).counts()["test"] >= 1
    assert assign_splits([f"s{k}" for k in range(10)]).counts()["test"] >= 1
    assert assign_splits(["a"] * 23).counts() == {"train": 20, "val": 1, "test": 2}


def test_nothing_held_out_when_nothing_is_asked_for():
    assert assign_splits(["a"] * 50, SplitSpec(test=0, val=0)).counts()["train"] == 50


def test_a_block_can_be_asked_for():
    split = assign_splits([f"s{k}" for k in range(100)], SplitSpec(by="block"))
    assert split.mode == "block" and split.rows("test").tolist() == list(range(90, 100))


def test_isolated_atoms_always_train():
    groups = np.array(["a"] * 50 + [ISOLATED_ATOM] * 10)
    split = assign_splits(groups)
    assert set(split.names[50:]) == {"train"} and len(split.rows("test")) == 5


def test_fractions_must_leave_something():
    with pytest.raises(LamError, match="nothing to train on"):
        SplitSpec.parse({"test": 0.6, "val": 0.4})


def test_no_element_is_held_out_completely():
    groups = np.array([f"s{k}" for k in range(200)])
    compositions = np.zeros((200, 119), dtype=int)
    compositions[:, 1] = 1
    compositions[np.arange(200), 2 + np.arange(200) % 100] = 1  # every further element twice
    split = assign_splits(groups, compositions=compositions)
    assert split.mode == "group" and len(split.rows("test")) >= 6
    assert (compositions[split.rows("train")] > 0).any(axis=0)[1:102].all()


def test_a_group_for_each_element_is_split_inside_the_groups():
    groups = np.repeat([f"element{z}" for z in range(1, 11)], 40)
    compositions = np.zeros((400, 119), dtype=int)
    compositions[np.arange(400), np.repeat(np.arange(1, 11), 40)] = 2
    split = assign_splits(groups, compositions=compositions)
    assert split.mode == "block"
    for group in np.unique(groups):
        names = split.names[groups == group]
        assert set(names) == {"train", "val", "test"} and names[0] == names[-1] == "train"


def _compositions(formulas):
    rows = np.zeros((len(formulas), 119), dtype=np.int32)
    for row, counts in enumerate(formulas):
        for number, count in counts.items():
            rows[row, number] = count
    return rows


def _many_compounds(count=120):
    """Return (groups, compositions): two frames of each compound A_x B_y, as different numbers of formula units."""
    rng = np.random.default_rng(3)
    formulas, groups = [], []
    for number in range(count):
        pair = rng.choice(np.arange(3, 9), size=2, replace=False)
        amounts = rng.integers(1, 6, size=2)
        for units in (1, 3):
            formulas.append({int(z): int(n) * units for z, n in zip(pair, amounts, strict=True)})
            groups.append(f"run{number}")
    return np.array(groups), _compositions(formulas)


def test_names_of_compositions_and_prototypes():
    rows = _compositions([{8: 1, 1: 2}, {8: 4, 1: 8}, {22: 2, 38: 2, 8: 6}, {6: 1, 1: 4}, {20: 1, 22: 1, 8: 3}])
    names, codes = formula_keys(rows, "composition")
    assert [names[code] for code in codes] == ["H2O", "H2O", "O3SrTi", "CH4", "CaO3Ti"]
    names, codes = formula_keys(rows, "prototype")
    assert [names[code] for code in codes] == ["AB2", "AB2", "ABC3", "AB4", "ABC3"]
    assert formula_keys(rows[:0], "composition")[0] == []


def test_prototypes_of_more_elements_than_letters():
    names, _ = formula_keys(_compositions([dict.fromkeys(range(1, 31), 1)]), "prototype")
    assert names == [":".join(["1"] * 30)]


@pytest.mark.parametrize("by", ["composition", "prototype"])
@pytest.mark.parametrize("seed", range(4))
def test_no_formula_straddles(by, seed):
    groups, compositions = _many_compounds()
    split = assign_splits(groups, SplitSpec(by=by, seed=seed, test=0.2, val=0.1), compositions)
    _, codes = formula_keys(compositions, by)
    for code in np.unique(codes):
        assert len(set(split.names[codes == code])) == 1
    assert 0.06 * len(groups) <= len(split.rows("test")) <= 0.3 * len(groups)
    assert len(split.rows("val")) > 0
    assert (compositions[split.rows("train")] > 0).any(axis=0)[3:9].all()
    report = summarize("set", [(groups, compositions)], split, SplitSpec(by=by, seed=seed))
    assert report.shared[by] == 0 and sum(part.structures for part in report.parts) == len(groups)


def test_a_split_by_composition_never_changes_between_versions():
    compositions = _compositions([{3: 1, 8: number} for number in range(1, 21)])
    split = assign_splits(["one"] * 20, SplitSpec(by="composition", test=0.2, val=0.1), compositions)
    assert split.rows("test").tolist() == [4, 7, 8, 14]
    assert split.rows("val").tolist() == [11, 19]


def test_compositions_that_cannot_be_divided_are_refused():
    compositions = _compositions([{1: 2, 8: 1}] * 90 + [{1: 2, 8: 2}] * 10)
    assert assign_splits(["a"] * 100, SplitSpec(by="composition"), compositions).counts()["test"] == 10
    with pytest.raises(LamError, match=r"whole compositions: there are 1, the largest is 'H2O' with 100%"):
        assign_splits(["a"] * 90, SplitSpec(by="composition"), compositions[:90])
    only_isolated = assign_splits([ISOLATED_ATOM] * 3, SplitSpec(by="prototype"), compositions[:3])
    assert only_isolated.counts()["train"] == 3


def test_an_element_is_held_out_but_its_isolated_atom():
    groups = np.array([f"s{k % 50}" for k in range(200)] + [ISOLATED_ATOM])
    compositions = _compositions([{8: 1, 3 if k % 50 < 5 else 11: 1} for k in range(200)] + [{3: 1}])
    split = assign_splits(groups, SplitSpec(by="element", elements=["Li", "F"]), compositions)
    lithium = compositions[:200, 3] > 0
    assert (split.names[:200][lithium] == "test").all() and (split.names[:200][~lithium] != "test").all()
    assert split.names[200] == "train"
    assert 3 <= len(split.rows("val")) <= 15
    assert not set(groups[split.rows("val")]) & set(groups[split.rows("train")])


def test_larger_structures_are_held_out():
    groups = np.array([f"s{k // 4}" for k in range(100)])
    compositions = _compositions([{6: 1 + k % 10} for k in range(100)])
    split = assign_splits(groups, SplitSpec(by="size", max_atoms=9, val=0.1), compositions)
    assert split.rows("test").tolist() == list(range(9, 100, 10))
    touched = set(groups[split.rows("test")])
    assert len(split.rows("val")) and not touched & set(groups[split.rows("val")])
    report = summarize("set", [(groups, compositions)], split, SplitSpec(by="size", max_atoms=9))
    assert [part.largest for part in report.parts][2] == 10 and report.parts[0].largest <= 9
    assert report.shared["group"] == len(touched)
    with pytest.raises(LamError, match="max_atoms"):
        SplitSpec.parse({"by": "size", "max_atoms": 0})
    with pytest.raises(LamError, match="Every structure has one of the elements C: nothing is left"):
        assign_splits(groups, SplitSpec(by="element", elements=["C"]), compositions)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"by": "element"}, "'elements' belongs to 'by: element'"),
        ({"by": "size"}, "'max_atoms' belongs to 'by: size'"),
        ({"max_atoms": 3}, "'max_atoms' belongs to"),
        ({"by": "element", "elements": ["Lx"]}, "'Lx' is no element"),
        ({"by": "element", "elements": ["X"]}, "'X' is no element"),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused(values, words):
    with pytest.raises(LamError, match=words):
        SplitSpec.parse(values)


@pytest.mark.parametrize(
    "spec",
    [
        *(SplitSpec(by=by, seed=seed, test=0.2, val=0.1) for by in ("composition", "prototype") for seed in range(3)),
        SplitSpec(by="composition", test=0.0, val=0.2),
        SplitSpec(by="element", elements=["S"], val=0.1),
        SplitSpec(by="size", max_atoms=5, val=0.1),
    ],
    ids=str,
)
def test_a_folder_of_shards_is_split_as_one_shard(tmp_path, molecule, spec):
    rng = np.random.default_rng(0)
    made = []
    for seed in range(80):
        numbers = tuple(rng.choice([1, 6, 7, 8, 16], p=[0.3, 0.3, 0.2, 0.15, 0.05], size=rng.integers(2, 7)))
        made.append(molecule(seed, numbers=numbers, group=f"g{seed % 40}"))
    made[::9] = [molecule(seed, numbers=(1,), group=ISOLATED_ATOM) for seed in range(len(made[::9]))]
    files = {"single.h5": made, **{f"many/part-{k:05d}.h5": made[20 * k : 20 * k + 20] for k in range(4)}}
    for name, structures in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with ShardWriter(tmp_path / name) as writer:
            for structure in structures:
                writer.append(structure)
    one = split_shard(Shard(tmp_path / "single.h5"), spec)
    many = split_shard(Shards(tmp_path / "many"), spec)
    np.testing.assert_array_equal(one.names, many.names)
    assert many.mode == "group" and (spec.test == 0 or many.counts()["test"] > 0)
    too_much = SplitSpec(by="element", elements=["H", "C", "N", "O", "S"])
    for shard in (Shard(tmp_path / "single.h5"), Shards(tmp_path / "many")):
        with pytest.raises(LamError, match="nothing is left"):
            split_shard(shard, too_much)


def test_a_fallback_says_why():
    groups, compositions = np.repeat(["a", "b"], 20), _compositions([{1: 2}] * 40)
    split = assign_splits(groups, SplitSpec(), compositions)
    report = summarize("set", [(groups[:30], compositions[:30]), (groups[30:], compositions[30:])], split, SplitSpec())
    assert report.mode == "block" and report.shared["group"] == 1
    assert "2 group(s), the largest ('b') with 50%" in report.remarks[0]


def test_elements_that_are_held_out_only_are_named():
    groups, compositions = np.array(["a", "b", "c"]), _compositions([{1: 2}, {3: 1, 1: 1}, {1: 4}])
    spec = SplitSpec(by="element", elements=["Li"], val=0)
    report = summarize("set", [(groups, compositions)], assign_splits(groups, spec, compositions), spec)
    assert report.unseen == ["Li"] and report.parts[2].elements == ["H", "Li"] and report.remarks == []


def test_validation_leaves_an_element_that_the_test_took_elsewhere(tmp_path, molecule):
    made = [molecule(seed, group=f"g{seed}") for seed in range(8)]
    made[0] = molecule(0, numbers=(26, 3, 1), group="g0")  # the test has one of the two with iron
    made[1] = molecule(1, numbers=(26, 1, 1), group="g1")
    (tmp_path / "many").mkdir()
    for path in (tmp_path / "single.h5", tmp_path / "many" / "part-00000.h5"):
        with ShardWriter(path) as writer:
            for structure in made:
                writer.append(structure)
    for seed in range(4):
        spec = SplitSpec(by="element", elements=["Li"], val=0.7, seed=seed)
        for shard in (Shard(tmp_path / "single.h5"), Shards(tmp_path / "many")):
            names = split_shard(shard, spec).names
            assert names[0] == "test" and names[1] == "train" and (names == "val").any()
