"""The registry of recipes: names find their modules, and one that is missing does not hurt the others."""

import gzip
import json
import sys
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest

import lam.data.recipes as recipes
from lam.data.recipes import MODULES, available, detect, get
from lam.errors import LamError

FOLDER = Path(recipes.__file__).parent


@pytest.mark.parametrize("name", MODULES)
def test_every_recipe_states_what_a_user_must_know(name):
    recipe = get(name)
    assert recipe.name == name and recipe.title and recipe.files and recipe.licence and recipe.level_of_theory
    assert recipe.labels and all(label.key or label.sign for label in recipe.labels)
    dimensionless = {"spin_multiplicity"}
    assert all(label.unit for label in recipe.labels if label.name not in dimensionless)
    known = {"energy", "forces", "stress", "total_charge", "spin_multiplicity", "positions"}
    assert {label.name for label in recipe.labels} <= known
    assert not recipe.doi.startswith("http")


def test_every_recipe_of_a_module_is_registered():
    found = {}
    for file in FOLDER.glob("*.py"):
        module = import_module(f"lam.data.recipes.{file.stem}" if file.stem != "__init__" else "lam.data.recipes")
        found |= {recipe.name: file.stem for recipe in getattr(module, "RECIPES", ())}
    assert found == MODULES


def test_unknown_and_missing_recipes(monkeypatch):
    with pytest.raises(LamError, match=r"no recipe 'oc21'\. Did you mean 'oc2"):
        get("oc21")
    monkeypatch.setitem(MODULES, "gone", "not_there")
    with pytest.raises(LamError, match="not part of this installation"):
        get("gone")
    monkeypatch.setitem(MODULES, "other", "lmdb_ase")
    with pytest.raises(LamError, match="not part of this installation"):
        get("other")
    assert {recipe.name for recipe in available()} == set(MODULES) - {"gone", "other"}


def test_a_module_that_needs_a_missing_package(monkeypatch, tmp_path):
    (tmp_path / "needy.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    monkeypatch.setitem(MODULES, "needy", "needy")
    with pytest.raises(LamError, match="needs the package 'a_package_that_is_not_there'"):
        get("needy")
    sys.modules.pop("lam.data.recipes.needy", None)


def _h5(path, **data):
    with h5py.File(path, "w") as file:
        for key, value in data.items():
            file[key.replace("__", "/")] = value
    return path


def test_formats_are_recognised(tmp_path):
    def text(name, content):
        path = tmp_path / name
        path.write_text(content)
        return path

    x = np.zeros((2, 3))
    np.savez(tmp_path / "aspirin.npz", R=x, E=x, F=x, z=x)
    np.savez(tmp_path / "rmd17.npz", nuclear_charges=x, coords=x, energies=x, forces=x)
    np.savez(tmp_path / "other.npz", a=x)
    (tmp_path / "system" / "set.000").mkdir(parents=True)
    (tmp_path / "system" / "type.raw").write_text("0")
    np.save(tmp_path / "system" / "set.000" / "coord.npy", x)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "OUTCAR").write_text(" vasp.6.3.0")
    (tmp_path / "gz.json.gz").write_bytes(gzip.compress(b'[{"matpes_id": "x"}]'))
    mptrj = {"mp-1": {"mp-1-0-0": {"structure": {}, "uncorrected_total_energy": -1.0, "mp_id": "mp-1"}}}
    cases = {
        "aselmdb": tmp_path / "data.0000.aselmdb",
        "md17": tmp_path / "aspirin.npz",
        "rmd17": tmp_path / "rmd17.npz",
        "ani1x": _h5(tmp_path / "ani1x.h5", **{"C1H4__wb97x_dz.energy": x, "C1H4__coordinates": x}),
        "ani2x": _h5(tmp_path / "ani2x.h5", **{"003__coordinates": x, "003__energies": x, "003__species": x}),
        "spice2": _h5(tmp_path / "SPICE.hdf5", **{"m__conformations": x, "m__dft_total_energy": x}),
        "transition1x": _h5(tmp_path / "t1x.h5", data__C2H2__rxn0__energy=x, train__C2H2__rxn0__energy=x),
        "deepmd": tmp_path / "system",
        "vasp": tmp_path / "run",
        "mptrj": text("MPtrj.json", json.dumps(mptrj)),
        "matpes": tmp_path / "gz.json.gz",
        "espresso": text("pw.out", "\n     Program PWSCF v.7.0 starts\n"),
        "orca": text("orca.out", "\n    * O   R   C   A *\n"),
        "gaussian": text("g.log", " Entering Gaussian System, Link 0=g16\n"),
        "cp2k": text("cp2k.out", " CP2K| version string: CP2K 2023.1\n"),
        None: text("plain.extxyz", "1\n\nH 0 0 0\n"),
    }
    for expected, path in cases.items():
        assert detect(path) == expected, path
    assert detect(tmp_path / "run" / "OUTCAR") == "vasp"
    with pytest.raises(LamError, match=r"several formats \(aselmdb, deepmd, vasp.*--recipe"):
        text("data.0000.aselmdb", "")
        detect(tmp_path)
    text("run/extra.xyz.gz", "")
    with pytest.raises(LamError, match=r"several formats \(vasp, files that ASE reads"):
        detect(tmp_path / "run")
    for path in (tmp_path / "other.npz", text("notes.txt", "nothing"), _h5(tmp_path / "x.h5", a=x), tmp_path / "no.h5"):
        assert detect(path) is None
