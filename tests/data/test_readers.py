"""Structure files: formats, compressions, selections, and every way in which a file can be bad."""

import gzip
import lzma

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from lam.data.readers import read_structures, stem
from lam.errors import LamError


@pytest.fixture
def frames(water):
    found = []
    for number in range(5):
        atoms = water.copy()
        atoms.info["group"] = f"run{number}"
        atoms.info["charge"] = number
        atoms.calc = SinglePointCalculator(atoms, energy=-float(number), forces=np.full((3, 3), 0.1 * number))
        found.append(atoms)
    return found


def _compress(path, suffix):
    data = path.read_bytes()
    if suffix == ".zst":
        zstandard = pytest.importorskip("zstandard")
        packed = zstandard.ZstdCompressor().compress(data)
    else:
        packed = {".xz": lzma.compress, ".gz": gzip.compress, "": bytes}[suffix](data)
    target = path.with_name(path.name + suffix)
    target.write_bytes(packed)
    return target


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
def test_extxyz_plain_and_compressed(tmp_path, frames, suffix):
    write(tmp_path / "a.extxyz", frames)
    path = _compress(tmp_path / "a.extxyz", suffix)
    structures = list(read_structures(path))
    assert [s.energy for s in structures] == [0.0, -1.0, -2.0, -3.0, -4.0]
    assert [s.total_charge for s in structures] == [0, 1, 2, 3, 4]
    assert structures[3].source == f"a.extxyz{suffix}#3"
    np.testing.assert_allclose(structures[2].forces, 0.2)


def test_another_format_goes_through_ase(tmp_path, frames):
    write(tmp_path / "a.traj", frames)
    assert [s.energy for s in read_structures(tmp_path / "a.traj")] == [0.0, -1.0, -2.0, -3.0, -4.0]


@pytest.mark.parametrize(
    ("index", "expected"),
    [(":2", [0, 1]), ("1::2", [1, 3]), (2, [2]), ("-1", [4]), ("-2:", [3, 4]), ("::-2", [4, 2, 0])],
)
def test_frames_can_be_selected(tmp_path, frames, index, expected):
    write(tmp_path / "a.extxyz", frames)
    assert [-s.energy for s in read_structures(tmp_path / "a.extxyz", index=index)] == expected


def test_reading_streams(tmp_path, frames):
    write(tmp_path / "a.extxyz", frames)
    with open(tmp_path / "a.extxyz", "a") as file:
        file.write("nonsense\n")
    reader = read_structures(tmp_path / "a.extxyz")
    assert [next(reader).energy for _ in range(5)] == [0.0, -1.0, -2.0, -3.0, -4.0]
    with pytest.raises(LamError, match=r"a\.extxyz#5"):
        next(reader)


def _read(path):
    with pytest.raises(LamError) as raised:
        list(read_structures(path))
    message = str(raised.value)
    assert path.name in message and "\n" not in message
    return message


def test_missing_folder_and_empty_files(tmp_path):
    assert "no file" in _read(tmp_path / "missing.extxyz")
    assert "folder" in _read(tmp_path)
    (tmp_path / "empty.extxyz").touch()
    assert "empty" in _read(tmp_path / "empty.extxyz")
    (tmp_path / "blank.extxyz").write_text("\n\n")
    assert "no structures" in _read(tmp_path / "blank.extxyz")
    (tmp_path / "nothing.extxyz.xz").write_bytes(lzma.compress(b""))
    assert "no structures" in _read(tmp_path / "nothing.extxyz.xz")


def test_a_file_cut_short_names_the_frame(tmp_path, frames):
    write(tmp_path / "a.extxyz", frames)
    lines = (tmp_path / "a.extxyz").read_text().splitlines(keepends=True)
    (tmp_path / "cut.extxyz").write_text("".join(lines[:-2]))
    message = _read(tmp_path / "cut.extxyz")
    assert "truncated" in message and "#4" in message and "1 are there" in message


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_a_truncated_compressed_file(tmp_path, frames, suffix):
    rng = np.random.default_rng(0)
    many = []
    for atoms in frames * 40:
        atoms = atoms.copy()
        atoms.positions += rng.random((3, 3))
        many.append(atoms)
    write(tmp_path / "a.extxyz", many)
    path = _compress(tmp_path / "a.extxyz", suffix)
    path.write_bytes(path.read_bytes()[:-1000])
    message = _read(path)
    assert "truncated" in message


def test_a_file_that_is_not_what_its_ending_says(tmp_path):
    for name in ("a.extxyz.xz", "a.extxyz.gz", "a.extxyz.zst", "a.extxyz", "a.traj", "a.unknownformat"):
        if name.endswith("zst"):
            pytest.importorskip("zstandard")
        path = tmp_path / name
        path.write_bytes(b"\x89\xff not a structure at all")
        _read(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0\nProperties=species:S:1:pos:R:3\n", "no atoms"),
        ("1\nProperties=species:S:1:pos:R:3\nH 0 0\n", "Cannot understand"),
        ("1\nProperties=species:S:1:pos:R:3\nQq 0 0 0\n", "Cannot understand"),
        ("1\nProperties=species:S:1:pos:R:3 energy=nan\nH 0 0 0\n", "energy is nan"),
        ("1\nProperties=species:S:1:pos:R:3:forces:R:2\nH 0 0 0 1 2\n", "forces have shape"),
        ('1\nProperties=species:S:1:pos:R:3 pbc="T T T"\nH 0 0 0\n', "zero length"),
        ("1\nProperties=species:S:1:pos:R:3\nX 0 0 0\n", "unknown element"),
        ("2\nProperties=species:S:1:pos:R:3\nH 0 0 0\n1\n\nH 0 0 0\n", "#"),
    ],
)
def test_bad_frames_are_named(tmp_path, text, words):
    path = tmp_path / "bad.extxyz"
    path.write_text("1\nProperties=species:S:1:pos:R:3\nH 0 0 0\n" + text)
    message = _read(path)
    assert words in message and "bad.extxyz#" in message


def test_names_without_endings():
    assert stem("x/a.extxyz.xz") == "a"
    assert stem("a-b.traj") == "a-b"
    assert stem("POSCAR") == "POSCAR"


def test_words_in_a_plain_xyz_comment_are_no_labels(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nsome charge and energy of a forces spin calculation\nH 0 0 0\n")
    (structure,) = read_structures(tmp_path / "a.xyz")
    assert structure.energy is structure.total_charge is structure.spin_multiplicity is structure.forces is None
