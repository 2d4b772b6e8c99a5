"""MPtrj, MatPES, Alexandria: keys, VASP's stress, energies chosen, groups, cutting by bytes, damaged files."""

import bz2
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from recipe_tools import KBAR, assert_same, problems, structures

from lam.data.recipes import detect, get, mptrj
from lam.data.recipes.json_stream import JsonStream
from lam.data.recipes.matpes import MATPES_R2SCAN
from lam.errors import LamError

MATRIX = [[4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.5, 6.0]]
FORCES = [[0.5, -0.25, 0.0], [-0.5, 0.25, 0.0]]
STRESS = [[10.0, 1.0, 2.0], [1.0, -20.0, 3.0], [2.0, 3.0, 0.0]]


def _structure(*, charge=0, elements=("Li", "O"), properties=None, xyz=True):
    sites = []
    for number, element in enumerate(elements):
        abc = [0.0, 0.0, 0.5 * number]
        site = {"species": [{"element": element, "occu": 1}], "abc": abc, "label": element}
        site["properties"] = {} if properties is None else properties[number]
        if xyz:
            site["xyz"] = (np.array(abc) @ np.array(MATRIX)).tolist()
        sites.append(site)
    lattice = {"matrix": MATRIX, "a": 4.0, "b": 5.0, "c": 6.02, "alpha": 85.2, "beta": 90, "gamma": 90, "volume": 120}
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": charge,
        "lattice": lattice,
        "sites": sites,
    }


def _frame(material, energy, **changes):
    frame = {
        "structure": _structure(),
        "uncorrected_total_energy": energy,
        "corrected_total_energy": energy - 0.7,
        "energy_per_atom": (energy - 0.7) / 2,
        "ef_per_atom": 0.1,
        "e_per_atom_relaxed": -4.9,
        "ef_per_atom_relaxed": 0.0,
        "force": FORCES,
        "stress": STRESS,
        "magmom": None,
        "bandgap": 1.0,
        "mp_id": material,
    }
    return frame | changes


@pytest.fixture
def trajectories():
    return {
        "mp-1": {"mp-11-0-0": _frame("mp-1", -10.0), "mp-11-0-1": _frame("mp-1", -10.5)},
        "mp-22": {"mp-22-1-0": _frame("mp-22", -9.0, stress=None)},
        "mvc-3": {"mvc-3-0-0": _frame("mvc-3", -8.0, structure=_structure(charge=1, xyz=False))},
    }


@pytest.fixture
def path(tmp_path, trajectories):
    file = tmp_path / "MPtrj_2022.9_full.json"
    file.write_text(json.dumps(trajectories))
    return file


def test_mptrj_values(path):
    found = structures(get("mptrj"), path)
    name = "MPtrj_2022.9_full.json"
    assert [s.source for s in found] == [f"{name}/mp-1#0", f"{name}/mp-1#1", f"{name}/mp-22#0", f"{name}/mvc-3#0"]
    second = found[1]
    assert second.energy == -10.5  # not the corrected energy
    np.testing.assert_array_equal(second.numbers, [3, 8])
    np.testing.assert_allclose(second.positions, [[0, 0, 0], [0, 0.25, 3]])
    np.testing.assert_array_equal(second.cell, MATRIX)
    np.testing.assert_array_equal(second.forces, FORCES)
    # 10 kbar of compression is -1 GPa.
    np.testing.assert_allclose(second.stress, -KBAR * np.array(STRESS), rtol=1e-6)
    assert second.stress[0, 0] == pytest.approx(-1 / 160.21766)
    assert [s.group for s in found] == ["mp-1", "mp-1", "mp-22", "mvc-3"]
    assert found[2].stress is None
    assert found[3].total_charge == 1
    np.testing.assert_allclose(found[3].positions[1], [0, 0.25, 3])


@pytest.mark.parametrize("indent", [None, 2])
def test_mptrj_cut_by_bytes_reads_the_same(path, trajectories, indent, monkeypatch):
    path.write_text(json.dumps(trajectories, indent=indent))
    whole = structures(get("mptrj"), path)
    for size in (500, 1000, 1700):
        monkeypatch.setattr(mptrj, "_PART_BYTES", size)
        assert len(list(mptrj.parts(path))) > 1
        assert_same(structures(get("mptrj"), path), whole)


def test_mptrj_in_another_form_is_one_part(path, trajectories, monkeypatch):
    monkeypatch.setattr(mptrj, "_PART_BYTES", 1000)
    path.write_text(json.dumps({"agm1": trajectories["mp-1"]}))
    assert len(list(mptrj.parts(path))) == 1
    assert len(structures(get("mptrj"), path)) == 2
    # A material of another form between the others is not lost in silence.
    path.write_text(json.dumps({"mp-1": trajectories["mp-1"], "agm1": trajectories["mp-1"]}))
    with pytest.raises(LamError, match="not in the form of MPtrj after 'mp-1'"):
        structures(get("mptrj"), path)


@pytest.mark.parametrize("size", [1 << 26, 1500])
def test_mptrj_truncated(path, size, monkeypatch):
    monkeypatch.setattr(mptrj, "_PART_BYTES", size)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(LamError, match=r"MPtrj_2022.9_full.json' is truncated"):
        structures(get("mptrj"), path)


def test_mptrj_bad_frames_are_named(path, trajectories):
    del trajectories["mp-1"]["mp-11-0-0"]["force"]
    trajectories["mp-1"]["mp-11-0-1"]["stress"] = [1, 2, 3]
    trajectories["mp-22"]["mp-22-1-0"]["force"] = FORCES[:1]
    trajectories["mvc-3"]["mvc-3-0-0"]["structure"]["sites"][0]["species"].append({"element": "Na", "occu": 0.5})
    path.write_text(json.dumps(trajectories))
    messages = problems(get("mptrj"), path)
    assert len(messages) == 4
    assert "mp-1#0 (mp-11-0-0) has no 'force'" in messages[0]
    assert "mp-1#1" in messages[1] and "stress" in messages[1]
    assert "mp-22#0" in messages[2] and "(1, 3)" in messages[2]
    assert "mvc-3#0 is disordered" in messages[3]


def _matpes(number, functional="PBE", **changes):
    entry = {
        "nsites": 2,
        "structure": _structure(charge=None),
        "energy": -13.5 - number,
        "forces": FORCES,
        "stress": [-5.0, -9.0, 13.0, 22.0, 23.0, 6.0],
        "matpes_id": f"matpes-20240214_999484_{number}",
        "functional": functional,
        "provenance": {"original_mp_id": "mp-999484", "md_ensemble": "NpT", "md_step": number},
    }
    return entry | changes


@pytest.mark.parametrize("ending", [".json.gz", ".json"])
def test_matpes_values(tmp_path, ending):
    path = tmp_path / f"MatPES-PBE-2025.1{ending}"
    text = json.dumps([_matpes(0), _matpes(1, provenance=None)])
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    first, second = structures(get("matpes"), path)
    assert first.energy == -13.5
    # Voigt order of pymatgen: xx, yy, zz, yz, xz, xy.
    expected = -KBAR * np.array([[-5.0, 6.0, 23.0], [6.0, -9.0, 22.0], [23.0, 22.0, 13.0]])
    np.testing.assert_allclose(first.stress, expected, rtol=1e-6)
    assert (first.group, second.group) == ("mp-999484", "mp-999484")
    assert first.total_charge is None
    assert second.source == f"{path.name}#1"


def test_matpes_does_not_mix_functionals(tmp_path):
    path = tmp_path / "MatPES.json"
    path.write_text(json.dumps([_matpes(0), _matpes(1, "r2SCAN"), _matpes(2, energy=None), _matpes(3, forces="x")]))
    messages = problems(get("matpes"), path)
    assert "MatPES.json#1 was computed with r2SCAN, not PBE" in messages[0]
    assert "MatPES.json#3" in messages[1] and "forces" in messages[1]
    assert [
        s.energy for p in MATPES_R2SCAN.parts(path) for s in MATPES_R2SCAN.read(p) if not isinstance(s, LamError)
    ] == [-14.5]


def test_matpes_truncated(tmp_path):
    path = tmp_path / "MatPES.json.gz"
    path.write_bytes(gzip.compress(json.dumps([_matpes(0)] * 50).encode())[:-20])
    with pytest.raises(LamError, match=r"MatPES.json.gz' is damaged or truncated"):
        structures(get("matpes"), path)
    path.write_bytes(gzip.compress(json.dumps({"a": 1}).encode()))
    with pytest.raises(LamError, match=r"has no 'structure'; is this a file of MatPES"):
        structures(get("matpes"), path)
    path.write_bytes(gzip.compress(b'"a"'))
    with pytest.raises(LamError, match=r"no JSON of the expected form"):
        structures(get("matpes"), path)


def test_matpes_as_json_lines(tmp_path):
    path = tmp_path / "MatPES-PBE-2025.2-train.jsonl"
    lines = "".join(json.dumps(_matpes(number)) + "\n" for number in range(3))
    path.write_text(lines)
    assert len(structures(get("matpes"), path)) == 3
    assert detect(path) == "matpes"
    path.write_text(lines[:-20])
    with pytest.raises(LamError, match="truncated"):
        structures(get("matpes"), path)


def test_alexandria_entries(tmp_path):
    path = tmp_path / "alexandria_000.json.bz2"
    properties = [{"charge": 0.9, "forces": row, "magmom": 0.0} for row in FORCES]
    entry = {
        "@module": "pymatgen.entries.computed_entries",
        "@class": "ComputedStructureEntry",
        "energy": -11.7,
        "composition": {"Li": 1.0, "O": 1.0},
        "entry_id": None,
        "correction": 0.0,
        "parameters": {},
        "data": {"mat_id": "agm001", "energy_total": -11.0, "stress": STRESS},
        "structure": _structure(properties=properties),
    }
    other = entry | {"data": {"mat_id": "agm002"}, "structure": _structure()}
    path.write_bytes(bz2.compress(json.dumps({"entries": [entry, other]}).encode()))
    first, second = structures(get("alexandria"), path)
    assert (first.energy, second.energy) == (-11.0, -11.7)
    np.testing.assert_array_equal(first.forces, FORCES)
    np.testing.assert_allclose(first.stress, -KBAR * np.array(STRESS), rtol=1e-6)
    assert second.forces is None and second.stress is None
    assert (first.group, second.group) == ("agm001", "agm002")


def test_alexandria_trajectories(tmp_path):
    path = tmp_path / "alex_go_aao_000.json.bz2"
    steps = [{"structure": _structure(), "energy": -10.0 - n, "forces": FORCES, "stress": STRESS} for n in range(2)]
    content = {"agm001": [{"steps": steps}, {"steps": steps[:1]}], "agm002": [{"steps": [{"energy": 1.0}]}]}
    path.write_bytes(bz2.compress(json.dumps(content).encode()))
    found = [s for p in get("alexandria").parts(path) for s in get("alexandria").read(p)]
    assert [s.source for s in found[:3]] == [f"{path.name}/agm001#{n}" for n in range(3)]
    assert [s.energy for s in found[:3]] == [-10, -11, -10]
    np.testing.assert_allclose(found[0].stress[1, 1], 20 * KBAR, rtol=1e-6)
    assert found[0].group == "agm001"
    assert "agm002#0 has no 'structure'" in str(found[3])


def test_json_stream_survives_any_cut():
    text = json.dumps({"a": [1, 23.5, {"b": "}],"}], "long": 123456, "t": True})
    for size in range(1, 20):
        stream = JsonStream(_Pieces(text, size), Path("x.json"))
        assert {key: stream.value() for key in stream.keys()} == json.loads(text)  # noqa: SIM118


class _Pieces(io.StringIO):
    """A text that gives a few characters at once."""

    def __init__(self, text, size):
        super().__init__(text)
        self._size = size

    def read(self, _=-1):
        return super().read(self._size)
