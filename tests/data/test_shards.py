"""Shards: what goes in comes out, from any process; damage is noticed."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest

from lam.data.shards import HAS_ENERGY, HAS_FORCES, HAS_STRESS, PAIR_RADII, SCHEMA_VERSION, Shard, ShardWriter
from lam.errors import LamError


@pytest.fixture
def structures(molecule, crystal):
    return [
        molecule(0),
        crystal(1),
        molecule(2, energy=None, total_charge=-1.0),
        crystal(3, forces=None, spin_multiplicity=3.0),
        crystal(4, stress=None, pbc=np.array([True, False, True])),
        molecule(5, energy=None, forces=None, numbers=(118,), group="IsolatedAtom"),
        molecule(6, energy=0.0, forces=np.zeros((3, 3)), total_charge=0.0, spin_multiplicity=1.0),
    ]


@pytest.fixture
def path(tmp_path, structures):
    with ShardWriter(tmp_path / "a.h5", level_of_theory="PBE", licence="MIT") as writer:
        for structure in structures:
            writer.append(structure)
    return tmp_path / "a.h5"


def _assert_same(a, b):
    for name in ("numbers", "positions", "cell", "pbc"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("forces", "stress"):
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)
    for name in ("energy", "total_charge", "spin_multiplicity", "group", "source"):
        assert getattr(a, name) == getattr(b, name), name


def test_round_trip_is_exact(path, structures):
    shard = Shard(path)
    assert len(shard) == len(structures)
    for before, after in zip(structures, shard, strict=True):
        _assert_same(before, after)
    assert shard.attributes["level_of_theory"] == "PBE" and shard.attributes["licence"] == "MIT"


def test_columns(path, structures):
    shard = Shard(path)
    np.testing.assert_array_equal(shard.n_atoms, [len(s) for s in structures])
    assert shard.groups.tolist() == [s.group for s in structures]
    np.testing.assert_array_equal((shard.masks & HAS_ENERGY) > 0, [s.energy is not None for s in structures])
    np.testing.assert_array_equal((shard.masks & HAS_FORCES) > 0, [s.forces is not None for s in structures])
    np.testing.assert_array_equal((shard.masks & HAS_STRESS) > 0, [s.stress is not None for s in structures])
    compositions = shard.compositions()
    assert compositions[0, 8] == 1 and compositions[0, 1] == 2 and compositions[5, 118] == 1
    np.testing.assert_array_equal(compositions.sum(axis=1), shard.n_atoms)
    np.testing.assert_array_equal(shard.read_forces(np.array([1, 3])), structures[1].forces)


def test_edge_estimates_are_exact_at_the_stored_radii(path, structures):
    from lam.data.neighbors import find_pairs  # imports PyTorch, which the processes below need not

    shard = Shard(path)
    for cutoff in PAIR_RADII:
        true = [len(find_pairs(s.positions, s.cell, s.pbc, cutoff)[2]) for s in structures]
        np.testing.assert_allclose(shard.estimate_edges(cutoff), true)
    between = shard.estimate_edges(5.2)
    assert (between >= shard.estimate_edges(5.0)).all() and (between <= shard.estimate_edges(5.5)).all()
    assert (shard.estimate_edges(8.0) >= shard.estimate_edges(6.0)).all()


def test_writing_in_many_pieces(tmp_path, molecule, monkeypatch):
    monkeypatch.setattr("lam.data.shard_writer.FLUSH_ATOMS", 10)
    with ShardWriter(tmp_path / "many.h5") as writer:
        for seed in range(50):
            writer.append(molecule(seed))
    shard = Shard(tmp_path / "many.h5")
    for seed in (0, 17, 49):
        _assert_same(molecule(seed), shard[seed])


def test_a_failed_write_leaves_nothing(tmp_path, molecule):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "a.h5") as writer:
        writer.append(molecule())
        raise RuntimeError
    with pytest.raises(LamError, match="no structures"), ShardWriter(tmp_path / "b.h5"):
        pass
    assert not list(tmp_path.iterdir())


def _energy(shard, row):
    return shard[row].energy


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_open_shard_goes_to_other_processes(path, structures, method):
    shard = Shard(path)
    assert shard[0].energy == structures[0].energy  # the file is open before the fork
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        found = list(pool.map(_energy, [shard] * 4, [0, 1, 4, 6]))
    assert found == [structures[row].energy for row in (0, 1, 4, 6)]
    assert len(pickle.dumps(shard)) < 1000


def _forked_read(shard, queue):
    queue.put(shard[1].energy)


def test_a_forked_child_opens_its_own_handle(path, structures):
    shard = Shard(path)
    _ = shard[0]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_forked_read, args=(shard, queue))
    child.start()
    assert queue.get(timeout=60) == structures[1].energy
    child.join()
    assert shard[4].energy == structures[4].energy


def test_missing_truncated_and_foreign_files(tmp_path, path):
    with pytest.raises(LamError, match="no shard"):
        Shard(tmp_path / "missing.h5")
    data = path.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.999):
        (tmp_path / "cut.h5").write_bytes(data[: int(share * len(data))])
        with pytest.raises(LamError, match=r"cut\.h5"):
            list(Shard(tmp_path / "cut.h5"))
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(LamError, match=r"text\.h5"):
        Shard(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(LamError, match="no shard of lam"):
        Shard(tmp_path / "other.h5")


def test_flipped_bits_are_noticed(path, structures):
    data = bytearray(path.read_bytes())
    place = data.index(structures[1].positions.tobytes())
    data[place + 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(LamError, match=r"crystals\.extxyz#1"):
        Shard(path)[1]


def test_a_newer_schema_is_refused(path):
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION + 1
    with pytest.raises(LamError, match="newer lam"):
        Shard(path)


def test_a_missing_column_is_damage(path):
    with h5py.File(path, "a") as file:
        del file["structures/mask"]
    with pytest.raises(LamError, match="damaged"):
        Shard(path)[0]


def test_absurd_stored_values_are_named(path):
    with h5py.File(path, "a") as file:
        file["structures/energy"][1] = np.nan
    shard = Shard(path)
    assert shard[0].energy is not None
    with pytest.raises(LamError, match=r"crystals\.extxyz#1: the energy is nan"):
        shard[1]


def test_rows_beyond_the_end(path):
    shard = Shard(path)
    for row in (-1, len(shard)):
        with pytest.raises(IndexError):
            shard[row]
