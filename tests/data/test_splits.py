"""Splits: whole groups, the same everywhere, close to the wished fractions, honest when that cannot be."""

import numpy as np
import pytest

from lam.data.splits import SplitSpec, assign_splits
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
