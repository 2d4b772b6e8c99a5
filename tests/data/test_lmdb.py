"""ASE LMDB files and the S2EF files of Open Catalyst, made here in the schema of the originals."""

import json
import lzma
import pickle
import zlib

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from ase.io.jsonio import encode

from lam.data.convert import convert
from lam.data.manifest import load_manifest
from lam.data.recipes import Part, get
from lam.data.shards import open_shard
from lam.errors import LamError

lmdb = pytest.importorskip("lmdb")


def _plain(row):
    """As fairchem's own class writes rows (orjson with numpy): arrays are nested lists."""
    return json.dumps(row, default=lambda array: array.tolist()).encode()


def _marked(row):
    """As ase-db-backends writes rows (ASE's JSON): arrays are marked."""
    return encode(row).encode()


def _crystal(number):
    rng = np.random.default_rng(number)
    return {
        "numbers": np.array([29, 29, 8]),
        "positions": rng.random((3, 3)) * 4.0,
        "cell": np.diag([4.0, 5.0, 6.0]),
        "pbc": np.array([True, True, True]),
        "unique_id": f"{number:032x}",
        "ctime": 24.8,
        "mtime": 24.8,
        "user": "me",
        "calculator": "unknown",
        "calculator_parameters": {},
        "energy": -12.5 - number,
        "forces": rng.normal(size=(3, 3)),
        "stress": rng.normal(size=6) * 0.01,
        "data": {},
    }


def _ion(number):
    rng = np.random.default_rng(100 + number)
    return {
        "numbers": np.array([8, 1]),
        "positions": np.array([[0.0, 0, 0], [0, 0, 0.97]]) + rng.normal(scale=0.02, size=(2, 3)),
        "cell": np.zeros((3, 3)),
        "pbc": np.array([False, False, False]),
        "constraints": [{"name": "FixAtoms", "kwargs": {"indices": [0]}}],
        "energy": -2060.0 - number,
        "forces": rng.normal(size=(2, 3)),
        "data": {"charge": -1, "spin": 1, "source": "made/here", "composition": "H1O1", "num_electrons": 10},
    }


def _write(path, rows, dump=_plain, *, deleted=(), raw=None):
    path.parent.mkdir(exist_ok=True)
    with lmdb.open(str(path), subdir=False, map_size=2**24) as env, env.begin(write=True) as transaction:
        for number, row in enumerate(rows, start=1):
            if number not in deleted:
                transaction.put(str(number).encode("ascii"), zlib.compress(dump(row)))
        transaction.put(b"nextid", zlib.compress(str(len(rows) + 1).encode()))
        transaction.put(b"metadata", zlib.compress(b'{"made": "here"}'))
        if deleted:
            transaction.put(b"deleted_ids", zlib.compress(json.dumps(list(deleted)).encode()))
        for key, value in (raw or {}).items():
            transaction.put(key, value)
    return path


def _read(name, path):
    recipe = get(name)
    return [item for source in recipe.find(path) for part in recipe.parts(source) for item in recipe.read(part)]


@pytest.mark.parametrize("dump", [_plain, _marked])
def test_crystals_as_in_omat24(tmp_path, dump):
    rows = [_crystal(number) for number in range(5)]
    (tmp_path / "rattled").mkdir()
    _write(tmp_path / "rattled" / "data.0000.aselmdb", rows, dump)
    found = _read("omat24", tmp_path)
    assert [structure.source for structure in found] == [f"data.0000.aselmdb#{index}" for index in range(5)]
    for structure, row in zip(found, rows, strict=True):
        for key in ("numbers", "positions", "cell", "forces"):
            np.testing.assert_array_equal(getattr(structure, key), row[key])
        assert structure.energy == row["energy"] and structure.pbc.all() and structure.group == "Cu2O"
        xx, yy, zz, yz, xz, xy = row["stress"]
        np.testing.assert_array_equal(structure.stress, [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert structure.total_charge is None and structure.spin_multiplicity is None


@pytest.mark.parametrize("dump", [_plain, _marked])
def test_ions_as_in_omol25(tmp_path, dump):
    found = _read("omol25", _write(tmp_path / "data0000.aselmdb", [_ion(0), _ion(1)], dump))
    assert [(s.total_charge, s.spin_multiplicity, s.group) for s in found] == [(-1.0, 1.0, "HO")] * 2
    assert found[1].energy == -2061.0 and found[0].stress is None
    np.testing.assert_array_equal(found[0].forces, _ion(0)["forces"])  # of the fixed atom, too


def test_a_spin_of_zero_is_not_stated(tmp_path):
    rows = [_crystal(0) | {"data": {"charge": 0, "spin": 0}}]
    (found,) = _read("aselmdb", _write(tmp_path / "a.aselmdb", rows))
    assert (found.total_charge, found.spin_multiplicity) == (0.0, None)


def test_deleted_rows_and_parts(tmp_path):
    path = _write(tmp_path / "a.aselmdb", [_crystal(number) for number in range(6)], deleted=(2, 5))
    assert [s.energy for s in _read("aselmdb", path)] == [-12.5, -14.5, -15.5, -17.5]
    recipe = get("aselmdb")
    one, other = recipe.read(Part(path, 1, 3)), recipe.read(Part(path, 3, 4))
    assert next(one).source == "a.aselmdb#1" and next(other).source == "a.aselmdb#3"  # both open at a time
    assert [s.energy for s in one] == [-15.5] and not list(other)


def test_groups_by_system(tmp_path):
    rows = [_crystal(number) | {"data": {"sid": 7 + number // 2}} for number in range(4)]
    path = _write(tmp_path / "a.aselmdb", rows)
    assert [s.group for s in _read("oc20", path)] == ["7", "7", "8", "8"]
    assert [s.group for s in _read("oc22", path)] == ["7", "7", "8", "8"]


def test_broken_rows_are_named_and_do_not_end_the_reading(tmp_path):
    rows = [_crystal(0), _crystal(1) | {"forces": np.zeros((2, 3))}, _crystal(2), _crystal(3), _crystal(4)]
    rows[3] = _crystal(3) | {"energy": float("nan")}
    raw = {b"3": b"no zlib", b"6": zlib.compress(b'{"numbers": [1]'), b"nextid": zlib.compress(b"8")}
    found = _read("aselmdb", _write(tmp_path / "a.aselmdb", rows, raw=raw))
    reasons = [str(item) for item in found if isinstance(item, LamError)]
    expected = (
        "#1: the forces have shape",
        "#2 is damaged",
        "#3: the energy is nan",
        "#5 is damaged",
        "#6 (row 7) is missing",
    )
    assert [s.energy for s in found if not isinstance(s, LamError)] == [-12.5, -16.5]
    for reason, words in zip(reasons, expected, strict=True):
        assert f"a.aselmdb{words}" in reason


class _Bomb:
    """Unpickling it would end the tests."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was read')",)


def test_pickled_objects_are_refused(tmp_path):
    bomb = pickle.dumps(_Bomb())
    for name, keys in (
        ("a.lmdb", {b"0": bomb, b"length": bomb}),
        ("b.lmdb", {b"0": bomb}),
        ("c.aselmdb", {b"1": bomb}),
    ):
        with lmdb.open(str(tmp_path / name), subdir=False, map_size=2**20) as env, env.begin(write=True) as transaction:
            for key, value in keys.items():
                transaction.put(key, value)
        with pytest.raises(LamError, match=r"pickled objects.*refused.*\.aselmdb"):
            _read("oc20", tmp_path / name)
    (one,) = _read("aselmdb", _write(tmp_path / "d.aselmdb", [_crystal(0)], raw={b"1": bomb}))
    assert "pickled" in str(one)


def test_files_that_are_no_ase_lmdb(tmp_path):
    (tmp_path / "a.aselmdb").write_bytes(b"no database")
    with pytest.raises(LamError, match="damaged, truncated or no LMDB"):
        _read("omat24", tmp_path / "a.aselmdb")
    with lmdb.open(str(tmp_path / "b.aselmdb"), subdir=False, map_size=2**20) as env, env.begin(write=True) as txn:
        txn.put(b"something", b"else")
    with pytest.raises(LamError, match="no key 'nextid'"):
        _read("omat24", tmp_path / "b.aselmdb")


@pytest.fixture
def s2ef(tmp_path):
    """Two files of the published form: frames with total energies, and lines ``system,frame,reference``."""
    frames, lines = [], []
    for number in range(4):
        rng = np.random.default_rng(number)
        atoms = Atoms("Cu2O", positions=rng.random((3, 3)) * 4, cell=[4, 5, 20], pbc=True, tags=[0, 1, 2])
        atoms.set_constraint(FixAtoms([0]))
        forces = rng.normal(size=(3, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-100.0 - number, free_energy=-100.0 - number, forces=forces)
        frames.append(atoms)
        lines.append(f"random{55 + number // 3},frame{7 * number},{-98.5 - number // 3}\n")
    folder = tmp_path / "s2ef_train"
    folder.mkdir()
    write(tmp_path / "0.extxyz", frames, format="extxyz")
    (folder / "0.extxyz.xz").write_bytes(lzma.compress((tmp_path / "0.extxyz").read_bytes()))
    (folder / "0.txt.xz").write_bytes(lzma.compress("".join(lines).encode()))
    return folder


def test_s2ef_of_oc20(s2ef):
    found = _read("oc20", s2ef)
    assert [s.group for s in found] == ["random55"] * 3 + ["random56"]
    assert [s.energy for s in found] == [-100.0, -101.0, -102.0, -103.0]
    assert found[0].source == "0.extxyz.xz#0" and found[0].forces[0].any()  # a fixed atom
    found = _read("oc20-adsorption", s2ef)
    np.testing.assert_allclose([s.energy for s in found], [-1.5, -2.5, -3.5, -3.5])


def test_s2ef_uncompressed_and_without_text(s2ef, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "0.extxyz").write_bytes(lzma.decompress((s2ef / "0.extxyz.xz").read_bytes()))
    assert {s.group for s in _read("oc20", plain)} == {"Cu2O"}
    with pytest.raises(LamError, match=r"no \.txt file"):
        _read("oc20-adsorption", plain)
    (plain / "0.txt").write_bytes(lzma.decompress((s2ef / "0.txt.xz").read_bytes()))
    assert [s.group for s in _read("oc20", plain)] == ["random55"] * 3 + ["random56"]


def test_s2ef_files_that_do_not_belong_together(s2ef):
    lines = lzma.decompress((s2ef / "0.txt.xz").read_bytes()).splitlines(keepends=True)
    (s2ef / "0.txt.xz").write_bytes(lzma.compress(b"".join(lines[:-1])))
    with pytest.raises(LamError, match="different lengths"):
        _read("oc20", s2ef)
    (s2ef / "0.txt.xz").write_bytes(lzma.compress(b"random1,frame0,oops\n" * 4))
    found = _read("oc20-adsorption", s2ef)
    assert len(found) == 4 and all("is no line" in str(item) for item in found)


def test_several_files_are_converted_by_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("lam.data.stream_plan.PART_STRUCTURES", 6)
    for file in range(3):
        _write(tmp_path / "omat" / f"data.{file:04d}.aselmdb", [_crystal(10 * file + row) for row in range(6)])
    (result,) = convert([tmp_path / "omat"], tmp_path / "out", recipe="omat24", jobs=2)
    assert (result.name, result.structures, result.shards) == ("omat24", 18, 3)
    assert [s.energy for s in open_shard(result.path)] == [
        -12.5 - 10 * file - row for file in range(3) for row in range(6)
    ]
    (spec,) = load_manifest(tmp_path / "out").datasets
    assert (spec.licence, spec.source) == ("CC-BY-4.0", "https://doi.org/10.48550/arXiv.2410.12771")
