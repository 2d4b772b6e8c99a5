"""A folder of shards reads like one shard, and splits like one."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from lam.data.describe import describe, open_inputs
from lam.data.manifest import DatasetSpec, Manifest, load_manifest, save_manifest
from lam.data.shard_folder import INDEX, Shards, write_index
from lam.data.shards import PAIR_RADII, Shard, ShardWriter, is_shard, open_shard
from lam.data.splits import SplitSpec
from lam.data.stream_columns import read_columns, representative
from lam.data.stream_splits import split_shard
from lam.errors import LamError


def _write(path, structures, **attributes):
    with ShardWriter(path, **attributes) as writer:
        for structure in structures:
            writer.append(structure)
    return path


@pytest.fixture
def structures(crystal, molecule):
    made = [crystal(seed, count=2 + seed % 5, group=f"g{seed % 17}") for seed in range(60)]
    made += [
        molecule(seed, group=f"m{seed % 9}", forces=None if seed % 4 == 0 else np.ones((3, 3))) for seed in range(30)
    ]
    return made


@pytest.fixture
def single(tmp_path, structures):
    return Shard(_write(tmp_path / "single.h5", structures, level_of_theory="PBE"))


@pytest.fixture
def folder(tmp_path, structures):
    for number, start in enumerate(range(0, len(structures), 40)):
        piece = structures[start : start + 40]
        _write(tmp_path / "many" / f"part-{number:05d}.h5", piece, level_of_theory="PBE", part=str(number))
    return tmp_path / "many"


COLUMNS = ("n_atoms", "masks", "groups", "energies", "periodic", "shortest_distances", "stresses", "cells")


def test_it_reads_like_one_shard(single, folder):
    shards = open_shard(folder)
    assert isinstance(shards, Shards) and len(shards) == len(single) == 90 and is_shard(folder)
    for row, structure in enumerate(shards):
        other = single[row]
        np.testing.assert_array_equal(structure.positions, other.positions)
        assert (structure.energy, structure.group, structure.source) == (other.energy, other.group, other.source)
    for row in (0, 39, 40, 79, 80, 89):
        np.testing.assert_array_equal(shards[row].positions, single[row].positions)
        assert shards.source_of(row) == single.source_of(row)
    for name in (*COLUMNS, "total_charges", "spin_multiplicities"):
        np.testing.assert_array_equal(getattr(shards, name), getattr(single, name), err_msg=name)
    np.testing.assert_array_equal(shards.compositions(), single.compositions())
    rows = np.array([5, 41, 85])
    np.testing.assert_array_equal(shards.read_forces(rows), single.read_forces(rows))
    np.testing.assert_array_equal(shards.read_forces(), single.read_forces())
    for cutoff in (*PAIR_RADII, 5.2, 8.0):
        np.testing.assert_allclose(shards.estimate_edges(cutoff), single.estimate_edges(cutoff), rtol=1e-6)
    assert shards.attributes["level_of_theory"] == "PBE" and "part" not in shards.attributes
    for row in (-1, 90):
        with pytest.raises(IndexError):
            shards[row]


def _energy(shards, row):
    return shards[row].energy


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_goes_to_other_processes(folder, single, method):
    shards = Shards(folder)
    assert shards[3].energy == single[3].energy  # a file is open before the fork
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        found = list(pool.map(_energy, [shards] * 3, [3, 45, 88]))
    assert found == [single[row].energy for row in (3, 45, 88)]
    assert len(pickle.dumps(shards)) < 1000


def test_few_files_stay_open(folder, single, monkeypatch):
    monkeypatch.setattr("lam.data.shard_folder.MAX_OPEN", 2)
    shards = Shards(folder)
    for row in (0, 50, 85, 1, 51, 86):
        assert shards[row].energy == single[row].energy
        assert len(shards._shards) <= 2


@pytest.mark.parametrize(
    "spec",
    [SplitSpec(seed=seed) for seed in range(4)]
    + [
        SplitSpec(test=0.3, val=0.2),
        SplitSpec(test=0.0, val=0.2),
        SplitSpec(by="block"),
        SplitSpec(by="block", test=0.4),
    ],
)
def test_splits_do_not_depend_on_the_shards(folder, single, spec):
    one, many = split_shard(single, spec), split_shard(Shards(folder), spec)
    assert one.mode == many.mode and one.counts() == many.counts()
    np.testing.assert_array_equal(one.names, many.names)
    np.testing.assert_array_equal(one.rows("val"), many.rows("val"))


@pytest.mark.parametrize(
    "kind", ["one group", "isolated atoms", "an element in one group only", "an element at the end"]
)
def test_splits_in_corner_cases(tmp_path, molecule, kind):
    group = {"one group": lambda k: "all"}.get(kind, lambda k: f"g{k // 8}")
    made = [molecule(seed, group=group(seed)) for seed in range(40)]
    if kind == "isolated atoms":
        made[::7] = [molecule(seed, numbers=(26,), group="IsolatedAtom") for seed in range(len(made[::7]))]
    if kind == "an element in one group only":
        made[8:16] = [molecule(seed, numbers=(16, 1, 1), group="g1") for seed in range(8)]
    if kind == "an element at the end":
        made = [molecule(seed, group="all", numbers=(9 if seed > 36 else 8, 1, 1)) for seed in range(40)]
    single = Shard(_write(tmp_path / "single.h5", made))
    for number in range(4):
        _write(tmp_path / "many" / f"part-{number:05d}.h5", made[10 * number : 10 * number + 10])
    for seed in range(5):
        one, many = (
            split_shard(single, SplitSpec(seed=seed)),
            split_shard(Shards(tmp_path / "many"), SplitSpec(seed=seed)),
        )
        assert one.mode == many.mode
        np.testing.assert_array_equal(one.names, many.names)


def test_training_reads_it(folder, single, tmp_path):
    from lam.data.dataset import MultiTaskDataset  # imports PyTorch, which the processes above need not

    specs = [DatasetSpec(name="many", path=folder), DatasetSpec(name="single", path=single.path)]
    save_manifest(Manifest(datasets=specs), tmp_path / "manifest.yaml")
    manifest = load_manifest(tmp_path / "manifest.yaml")
    many = MultiTaskDataset(manifest.select(["many"]), "train", cutoff=4.5, heads=["many", "single"])
    one = MultiTaskDataset(manifest.select(["single"]), "train", cutoff=4.5, heads=["many", "single"])
    assert len(many) == len(one)
    np.testing.assert_array_equal(many.n_atoms, one.n_atoms)
    np.testing.assert_allclose(many.n_edges, one.n_edges, rtol=1e-6)
    for item in (0, len(one) - 1):
        assert (many[item]["positions"] == one[item]["positions"]).all()


def test_it_is_described_as_a_whole(folder, single):
    (many,), (one,) = map(list, (open_inputs([folder]), open_inputs([single.path])))
    left, right = describe(many).to_dict(), describe(one).to_dict()
    for key in ("name", "path", "about"):
        left.pop(key), right.pop(key)
    assert left == right and left["structures"] == 90


def test_the_index_follows_the_shards(folder, molecule):
    write_index(folder)
    before = (folder / INDEX).stat().st_mtime_ns
    write_index(folder)
    assert (folder / INDEX).stat().st_mtime_ns == before and len(Shards(folder)) == 90
    _write(folder / "part-00007.h5", [molecule(1, group="new")])
    assert len(Shards(folder)) == 91 and Shards(folder).groups[-1] == "new"
    (folder / INDEX).write_bytes(b"damaged")
    assert len(Shards(folder)) == 91


def test_without_a_stored_index_it_works_from_memory(folder, single, monkeypatch):
    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr("lam.data.shard_folder._store", refuse)
    shards = Shards(folder)
    assert not (folder / INDEX).exists()
    np.testing.assert_allclose(shards.estimate_edges(5.2), single.estimate_edges(5.2), rtol=1e-6)
    np.testing.assert_array_equal(split_shard(shards).names, split_shard(single).names)


def test_what_is_wrong_with_a_folder(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    assert not is_shard(tmp_path / "empty")
    with pytest.raises(LamError, match="holds no shards"):
        Shards(tmp_path / "empty")
    (folder / "part-00001.h5").write_bytes((folder / "part-00001.h5").read_bytes()[:2000])
    with pytest.raises(LamError, match=r"part-00001\.h5.*damaged"):
        Shards(folder)


def test_columns_of_some_rows(folder, single):
    rows = np.array([0, 5, 39, 40, 41, 77, 89])
    for shard in (single, Shards(folder)):
        columns = read_columns(shard, rows)
        np.testing.assert_array_equal(columns.compositions, single.compositions()[rows])
        np.testing.assert_array_equal(columns.forces, single.read_forces(rows))
        for name in ("masks", "energies", "groups", "periodic", "total_charges", "spin_multiplicities"):
            np.testing.assert_array_equal(getattr(columns, name), getattr(single, name)[rows], err_msg=name)
        assert len(read_columns(shard, np.array([], dtype=int)).energies) == 0


def test_a_representative_choice_has_all_elements(tmp_path, molecule, monkeypatch):
    monkeypatch.setattr("lam.data.stream_columns.RUN", 4)
    made = [molecule(seed, group=f"g{seed // 5}") for seed in range(100)]
    made[53] = molecule(53, numbers=(9, 1, 1), group="g10")
    made[71] = molecule(71, numbers=(26,), group="IsolatedAtom")
    for number in range(5):
        _write(tmp_path / "many" / f"part-{number:05d}.h5", made[20 * number : 20 * number + 20])
    shards = Shards(tmp_path / "many")
    rows = np.delete(np.arange(100), [3, 4])
    chosen = representative(shards, rows, 20)
    assert len(chosen) < 40 and {53, 71} <= set(chosen.tolist()) and set(chosen) <= set(rows.tolist())
    assert chosen.min() == 0 and chosen.max() == 99 and (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(representative(shards, rows, 98), rows)
