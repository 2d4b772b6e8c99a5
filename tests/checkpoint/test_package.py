"""What ``import lam`` gives, and what it costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lam


def test_import_is_cheap():
    code = "import sys, lam; assert lam.__version__; sys.exit('torch' in sys.modules or 'ase' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lazy_names():
    from lam.calculators import LAMCalculator
    from lam.checkpoint import load

    assert lam.LAMCalculator is LAMCalculator and lam.load is load
    assert {"load", "LAMCalculator", "finetune"} <= set(dir(lam))
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = lam.no_such_thing


def test_version_agrees_with_the_package():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text())["project"]
    assert project.get("version", lam.__version__) == lam.__version__
