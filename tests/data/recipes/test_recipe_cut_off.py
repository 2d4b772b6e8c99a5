"""Outputs that were cut off or damaged: no step differs from that of the whole output, and no reader fails."""

import random
import warnings

import numpy as np
import pytest
import test_recipe_abacus as abacus
import test_recipe_cp2k as cp2k
import test_recipe_espresso as espresso
import test_recipe_molecular_codes as molecular
import test_recipe_vasp as vasp

from lam.data.recipes import get
from lam.errors import LamError


def _texts(folder):
    """Return an output of each program: recipe, name of the file, text."""
    scf, reached = espresso.SCF.format(energy=-124.0), vasp.REACHED
    orca = molecular.ORCA.format(problem="", note="") + molecular.ORCA_LAST
    gaussian = molecular.START.format(route="") + 2 * (molecular.INPUT + molecular.DONE + molecular.FORCES)
    relaxed = abacus.NEW.format(energy="-1000.5") + abacus.MOVED + abacus.NEW.format(energy="-1000.75")
    return {
        "outcar": ("vasp", "OUTCAR", vasp._outcar(folder, [(-15.0, reached), (-16.0, reached)]).read_text()),
        "vasprun": ("vasp", "vasprun.xml", vasp._xml([(-15.0, 2), (-16.0, 2)])),
        "espresso": ("espresso", "job.out", espresso.HEADER.format(electrons="16.00") + scf + espresso.MOVED + scf),
        "orca": ("orca", "job.out", orca),
        "engrad": ("orca", "job.engrad", molecular.ENGRAD),
        "gaussian": ("gaussian", "job.log", gaussian),
        "fchk": ("gaussian", "job.fchk", molecular.FCHK),
        "cp2k": ("cp2k", "job.out", cp2k.SETTINGS + cp2k.COORDINATES.format(unit="angstrom") + cp2k.NEW),
        "abacus": ("abacus", "running_relax.log", abacus.HEADER + relaxed),
    }


def _read(recipe, path):
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in recipe.parts(path):
            found |= {item.source: item for item in recipe.read(part) if not isinstance(item, LamError)}
    return found


PROGRAMS = ["outcar", "vasprun", "espresso", "orca", "engrad", "gaussian", "fchk", "cp2k", "abacus"]
# What stands in outputs instead of a number: overflown columns, a disk that was full.
DAMAGE = ["****", "NaN", "-", "1.0.0", "", "abc", "\0", "=", ":"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_step_of_a_cut_off_output_is_wrong(tmp_path, program):
    name, file, text = _texts(tmp_path / "made")[program]
    recipe, path = get(name), tmp_path / file
    path.write_text(text)
    whole = _read(recipe, path)
    assert whole
    for end in range(1, len(text), max(1, len(text) // 60)):
        path.write_text(text[:end])
        for source, one in _read(recipe, path).items():
            other = whole[source]
            for label in ("numbers", "positions", "cell", "energy", "forces", "stress"):
                value = getattr(one, label)
                if value is not None:  # a label that was not written yet is missing
                    np.testing.assert_allclose(value, getattr(other, label), err_msg=f"{label}, cut at {end}")


@pytest.mark.parametrize("program", PROGRAMS)
def test_damaged_lines_are_errors_with_a_sentence(tmp_path, program):
    name, file, text = _texts(tmp_path / "made")[program]
    recipe, path = get(name), tmp_path / file
    chance = random.Random(5)
    lines = text.splitlines(keepends=True)
    for _ in range(60):
        changed = list(lines)
        row = chance.randrange(len(lines))
        words = changed[row].rstrip("\n").split(" ")
        words[chance.randrange(len(words))] = chance.choice(DAMAGE)
        changed[row] = chance.choice(["", " ".join(words) + "\n", changed[chance.randrange(len(lines))]])
        path.write_text("".join(changed))
        _read(recipe, path)  # a structure or a LamError, nothing else
