"""The scripts in data_prep: one for each recipe, which states what the recipe states; and one run to the end."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lam.data.manifest import load_manifest
from lam.data.recipes import MODULES, get
from lam.data.recipes.script import script

FOLDER = Path(__file__).parents[3] / "data_prep"


@pytest.mark.parametrize("name", MODULES)
def test_every_recipe_has_a_script_that_states_its_facts(name):
    recipe = get(name)
    text = (FOLDER / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    said = " ".join(ast.get_docstring(ast.parse(text)).split())
    facts = [recipe.doi, recipe.level_of_theory, recipe.licence, recipe.files, recipe.notes]
    facts += [part for label in recipe.labels for part in (label.name, label.key, label.unit, label.sign)]
    for fact in filter(None, facts):
        assert " ".join(fact.split()) in said
    assert len(ast.parse(text).body) <= 6, "a script is thin"


def test_docstrings_are_as_written():
    specification = importlib.util.spec_from_file_location("write_docstrings", FOLDER / "write_docstrings.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for name in MODULES:
        text = (FOLDER / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
        assert text == module.script_text(get(name)), "run: python data_prep/write_docstrings.py"


@pytest.fixture
def trajectory(tmp_path):
    path = tmp_path / "md17_ethanol.npz"
    positions = np.arange(24.0).reshape(2, 4, 3)
    np.savez(path, R=positions, E=[-1000.0, -1001.0], F=np.zeros((2, 4, 3)), z=[6, 1, 1, 8])
    return path


def test_a_script_writes_a_manifest(trajectory, tmp_path, capsys):
    out = tmp_path / "out"
    assert script("md17", "doc", [str(trajectory), "-o", str(out), "--jobs", "1"]) == 0
    assert "2 structures, 8 atoms" in capsys.readouterr().out
    (spec,) = load_manifest(out / "manifest.yaml").datasets
    assert "PBE+TS" in spec.level_of_theory


def test_a_script_says_what_is_wrong(trajectory, tmp_path, capsys):
    assert script("rmd17", "doc", [str(trajectory), "-o", str(tmp_path / "out"), "--jobs", "1"]) == 2
    assert "no array 'coords'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["md17", "nequip"])
def test_scripts_start(name):
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "-o OUT" in done.stdout
