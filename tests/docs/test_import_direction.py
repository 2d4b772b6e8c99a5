"""Who may import whom, read from the source. docs/development.md explains why."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lam

ROOT = Path(lam.__file__).parent
GROUND = {"errors", "keys", "atomic_write"}
PLOTS = {"plot_style"}
DATA = GROUND | PLOTS | {"config", "data"}
MODEL = GROUND | {"config", "model"}
# Every part of lam, and what it may import (besides itself). A new part is entered here and in the docs.
ALLOWED = {
    **{part: set() for part in GROUND},
    "plot_style": GROUND,
    "config": GROUND,
    "data": GROUND | PLOTS | {"config"},
    "model": GROUND | {"config"},
    "checkpoint": MODEL,
    "calculators": DATA | MODEL | {"checkpoint"},
    "select": DATA | MODEL | {"checkpoint", "calculators"},
    "testing": DATA | MODEL | {"checkpoint", "calculators"},
    "evaluate": DATA | MODEL | {"checkpoint", "calculators", "testing"},
    "train": DATA | MODEL | {"checkpoint"},
    "label": DATA,
    "corpus": DATA | MODEL | {"label", "evaluate"},
    "demo": DATA | MODEL | {"checkpoint", "calculators", "evaluate", "train", "label"},
    "cli": DATA | MODEL | {"checkpoint", "calculators", "evaluate", "train", "label", "select"},
    "__init__": {"errors", "checkpoint", "calculators", "train"},
    "__main__": {"cli"},
}


def part_of(file):
    """Return the part of lam that a file belongs to: its folder, or its own name."""
    relative = file.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imported_parts(source):
    """Return the parts of lam that a source text imports, at the top or anywhere inside."""
    parts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            parts |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lam.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "lam":
            parts |= {lam._LAZY.get(alias.name, f"lam.{alias.name}").split(".")[1] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lam."):
            parts.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError("relative imports hide the direction: write them out")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lam":
            parts |= {lam._LAZY[node.attr].split(".")[1]} if node.attr in lam._LAZY else set()
    return {part for part in parts if not part.startswith("__")}


@pytest.mark.parametrize("part", sorted({part_of(file) for file in ROOT.rglob("*.py")}))
def test_parts_import_only_what_is_below_them(part):
    assert part in ALLOWED, f"enter lam.{part} in the table of this test and in docs/development.md"
    for file in (file for file in ROOT.rglob("*.py") if part_of(file) == part):
        wrong = imported_parts(file.read_text(encoding="utf-8")) - ALLOWED[part] - {part}
        assert not wrong, f"{file.relative_to(ROOT)} imports lam.{', lam.'.join(sorted(wrong))}"


def test_data_and_model_do_not_know_each_other_nor_the_training():
    assert not ALLOWED["data"] & {"model", "train", "cli"}
    assert not ALLOWED["model"] & {"data", "train", "cli"}
    assert "cli" not in ALLOWED["train"]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import lam.train.run", {"train"}),
        ("def f():\n    from lam.train.run import x", {"train"}),
        ("from lam import keys, finetune, __version__", {"keys", "train"}),
        ("import lam\nlam.load('x')", {"checkpoint"}),
        ("import lam\nprint(lam.__version__)", set()),
        ("import lamp, os", set()),
    ],
)
def test_the_reading_of_imports_itself(source, parts):
    assert imported_parts(source) == parts
