"""Folders are recognised by what they hold, without a recipe being named."""

import numpy as np
import pytest

from lam.data.recipes import detect
from lam.errors import LamError

ABACUS = "                             WELCOME TO ABACUS\n"
GAUSSIAN = " Entering Gaussian System, Link 0=g16\n"


def test_folders_below(tmp_path):
    for number in range(3):
        folder = tmp_path / str(number) / "OUT.ABACUS"
        folder.mkdir(parents=True)
        (folder / "running_scf.log").write_text(ABACUS)
        (folder.parent / "STRU").write_text("ATOMIC_SPECIES\n")
    assert detect(tmp_path) == "abacus"
    (tmp_path / "0" / "job.log").write_text(GAUSSIAN)
    with pytest.raises(LamError, match=r"several formats \(abacus, gaussian\)"):
        detect(tmp_path)


def test_archives(tmp_path):
    names = ("nuclear_charges", "coords", "energies", "forces")
    for molecule in ("aspirin", "benzene"):
        np.savez(tmp_path / f"rmd17_{molecule}.npz", **dict.fromkeys(names, np.zeros(3)))
    assert detect(tmp_path) == "rmd17"


def test_files_that_are_data_sets_of_their_own(tmp_path):
    (tmp_path / "a.out").write_text("     Program PWSCF v.7.2 starts\n")
    (tmp_path / "b.log").write_text(GAUSSIAN)
    assert detect(tmp_path) is None and detect(tmp_path / "a.out") == "espresso"


def test_trajectories_of_cp2k_with_what_belongs_to_them(tmp_path):
    for kind in ("pos", "frc", "vel"):
        (tmp_path / f"water-{kind}-1.xyz").write_text("1\n i = 0, time = 0.0, E = -17.0\nH 0 0 0\n")
    (tmp_path / "md.out").write_text(" CP2K| version string\n")
    assert detect(tmp_path) == "cp2k"
    (tmp_path / "train.extxyz").write_text("1\n\nH 0 0 0\n")
    with pytest.raises(LamError, match=r"several formats \(cp2k, files that ASE reads"):
        detect(tmp_path)


def test_nothing_known(tmp_path):
    assert detect(tmp_path) is None
    (tmp_path / "notes.txt").write_text("nothing")
    assert detect(tmp_path) is None
