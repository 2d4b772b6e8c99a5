"""What looking at data loads: commands that need no model start without PyTorch and matplotlib."""

import subprocess
import sys

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

HEAVY = ("torch", "matplotlib", "lightning", "pytorch_lightning", "dask", "ase.calculators.emt")


def loaded(code):
    """Return which of the heavy modules a fresh interpreter has loaded after some code."""
    code += f"\nimport sys\nprint('LOADED', *[name for name in {HEAVY} if sys.modules.get(name)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.rsplit("LOADED", 1)[1].split()


@pytest.mark.parametrize("line", [["--help"], ["data", "--help"], ["data", "check", "--help"], ["data", "recipes"]])
def test_help_and_lists_load_nothing_heavy(line):
    code = f"from lam.cli.main import main\ntry:\n    main({line!r})\nexcept SystemExit:\n    pass"
    assert loaded(code) == []


def test_looking_at_a_file_loads_nothing_heavy(tmp_path):
    path = tmp_path / "few.extxyz"
    write(path, [molecule("H2O"), molecule("CH4")])
    for action in ("check", "info"):
        assert loaded(f"from lam.cli.main import main\nmain(['data', {action!r}, {str(path)!r}])") == []


def test_neighbour_lists_without_torch_leave_vesin_whole_for_others():
    code = (
        "import numpy as np, sys\n"
        "from lam.data.neighbors import find_pairs\n"
        "places, no = np.array([[0, 0, 0], [0, 0, 1.0]]), np.zeros(3, bool)\n"
        "pairs, _, distances = find_pairs(places, np.zeros((3, 3)), no, 2.0)\n"
        "assert len(pairs) == 2 and 'torch' not in sys.modules\n"
        "import torch, vesin._neighbors\n"
        "assert vesin._neighbors.HAS_TORCH\n"
    )
    assert "torch" in loaded(code)


def test_neighbour_lists_agree_before_and_after_torch():
    code = (
        "import numpy as np, sys\n"
        "{}from lam.data.neighbors import find_pairs\n"
        "places = np.random.default_rng(0).uniform(size=(20, 3)) * 5\n"
        "print(len(find_pairs(places, np.eye(3) * 5, np.ones(3, bool), 4.0)[0]))"
    )
    counts = [
        subprocess.run([sys.executable, "-c", code.format(first)], capture_output=True, text=True, check=True).stdout
        for first in ("", "import torch\n")
    ]
    assert counts[0] == counts[1] != "0\n"
    assert np.isfinite(float(counts[0]))
