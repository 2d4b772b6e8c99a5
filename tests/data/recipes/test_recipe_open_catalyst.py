"""Open Catalyst and ASE LMDB as published: the very lines of OC20, recognition, and files that end too early."""

import json
import lzma
import zlib

import numpy as np
import pytest
from recipe_tools import structures

from lam.data.recipes import detect, get
from lam.errors import LamError

lmdb = pytest.importorskip("lmdb")

# As in s2ef_train_200K: the energy is extrapolated to zero smearing, the free energy is not.
FRAME = """\
2
Lattice="4.0 0.0 0.0 0.5 4.2 0.0 0.0 0.3 5.0" Properties=species:S:1:pos:R:3:move_mask:L:1:tags:I:1:forces:R:3 \
energy=-181.54722937 free_energy=-181.54878652 pbc="T T T"
Cu       0.00000000       0.00000000       0.00000000 F 0  0.10000000  0.20000000 -0.30000000
O        2.25000000       2.17500000       1.25000000 T 2 -0.10000000 -0.20000000  0.30000000
"""
LINES = "random1331084,frame3,-170.25\nrandom77,frame0,-171.0\n"


@pytest.fixture
def s2ef(tmp_path):
    folder = tmp_path / "s2ef" / "s2ef_train_200K"
    folder.mkdir(parents=True)
    (folder / "0.extxyz.xz").write_bytes(lzma.compress((FRAME * 2).encode()))
    (folder / "0.txt.xz").write_bytes(lzma.compress(LINES.encode()))
    return folder


def test_total_and_adsorption_energies_of_oc20(s2ef):
    first, second = structures(get("oc20"), s2ef / "0.extxyz.xz")
    assert first.energy == -181.54878652  # the free energy, which the forces derive from
    np.testing.assert_array_equal(first.forces, [[0.1, 0.2, -0.3], [-0.1, -0.2, 0.3]])  # also of the fixed atom
    assert (first.group, second.group) == ("random1331084", "random77")
    first, second = structures(get("oc20-adsorption"), s2ef / "0.extxyz.xz")
    # The references were taken from extrapolated energies.
    assert first.energy == pytest.approx(-181.54722937 + 170.25, abs=1e-9)
    assert second.energy == pytest.approx(-181.54722937 + 171.0, abs=1e-9)


def test_oc20_is_recognised_by_its_text_files(s2ef):
    assert detect(s2ef.parent) == detect(s2ef / "0.extxyz.xz") == "oc20"
    (s2ef / "0.txt.xz").unlink()
    assert detect(s2ef / "0.extxyz.xz") is None


def test_an_lmdb_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "data.0000.aselmdb"
    row = {"numbers": [29], "positions": [[0, 0, 0]], "cell": np.eye(3).tolist(), "pbc": [True] * 3, "energy": -3.5}
    row["forces"] = [[0.0, 0.0, 0.0]]
    row["data"] = {"sid": "x" * 5000}
    with lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 22) as env, env.begin(write=True) as transaction:
        for number in range(1, 40):
            noise = np.random.default_rng(number).integers(0, 1 << 30, 900).tolist()  # incompressible
            transaction.put(str(number).encode(), zlib.compress(json.dumps(row | {"user": str(noise)}).encode()))
        transaction.put(b"nextid", zlib.compress(b"40"))
    assert len(structures(get("omat24"), path)) == 39
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 3])
    with pytest.raises(LamError, match=r"data.0000.aselmdb' is truncated: it has \d+ of \d+ bytes"):
        structures(get("omat24"), path)
