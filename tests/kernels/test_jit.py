"""Compiled kernels that are kept on disk: none outlives a change of what it was made from."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest

from lam.model.kernels import jit, numba_message, numba_product

FILES = {
    "constants.py": "SIZE = 2.0\n",
    "inlined.py": """
from lam.model.kernels.jit import jit
from some_kernels.constants import SIZE

@jit(inline="always")
def double(x):
    return SIZE * x
""",
    "kernel.py": """
from lam.model.kernels.jit import jit
from some_kernels import inlined
from some_kernels.inlined import double

@jit
def kernel(x):
    return double(x)
""",
    "other.py": "COUNT = 1\n",
    "__init__.py": "from some_kernels.kernel import kernel\nfrom some_kernels.other import COUNT\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a kernel that is made from three files, beside one that has nothing to do with it."""
    package = tmp_path / "some_kernels"
    package.mkdir()
    for name, text in FILES.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield package
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "some_kernels"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def fresh() -> ModuleType:
    """Import the package as a new process would."""
    _forget()
    return importlib.import_module("some_kernels.kernel")


def hits(kernel) -> int:
    """Return how often a kernel was read from the disk."""
    return sum(kernel.stats.cache_hits.values())


@pytest.mark.parametrize(
    ("name", "old", "new", "value"),
    [("constants.py", "2.0", "5.0", 15.0), ("inlined.py", "SIZE * x", "SIZE * x + 1.0", 7.0)],
)
def test_a_change_of_what_a_kernel_is_made_from_is_noticed(folder: Path, name, old, new, value) -> None:
    assert fresh().kernel(3.0) == 6.0
    (folder / name).write_text(FILES[name].replace(old, new))
    module = fresh()
    assert module.kernel(3.0) == value
    assert hits(module.kernel) == 0


def test_kept_on_disk_while_nothing_of_it_changes(folder: Path) -> None:
    assert fresh().kernel(3.0) == 6.0
    (folder / "other.py").write_text("COUNT = 2\n")
    module = fresh()
    assert module.kernel(3.0) == 6.0
    assert hits(module.kernel) == 1


def test_a_numba_that_keeps_its_cache_otherwise_compiles_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise AttributeError("_cache_file")

    monkeypatch.setattr(jit, "_watch", unknown)
    for value, size in ((6.0, "2.0"), (15.0, "5.0")):
        (folder / "constants.py").write_text(f"SIZE = {size}\n")
        module = fresh()
        assert module.kernel(3.0) == value
        assert hits(module.kernel) == 0 and not list(folder.glob("**/*.nbi"))


def test_an_unknown_stamp_is_refused() -> None:
    kept = mock.Mock()
    kept._cache_file._source_stamp = "one"
    kept._impl.locator.get_source_stamp.return_value = "another"
    with pytest.raises(AttributeError):
        jit._watch(kept, "text")


RECORDS = """
from typing import NamedTuple

class Record(NamedTuple):
    {fields}
"""


def test_fields_of_tuples_that_change_places_are_noticed(folder: Path) -> None:
    kernel = FILES["kernel.py"].replace("def kernel(x):\n    return double(x)", "def kernel(x):\n    return x.first")
    (folder / "kernel.py").write_text(kernel)
    for fields, value in (("first: float\n    other: float", 1.0), ("other: float\n    first: float", 2.0)):
        (folder / "records.py").write_text(RECORDS.format(fields=fields))
        compiled = fresh().kernel
        assert compiled(importlib.import_module("some_kernels.records").Record(1.0, 2.0)) == value
        assert hits(compiled) == 0


def test_a_class_that_has_moved_is_no_error(folder: Path) -> None:
    kernel = FILES["kernel.py"].replace("def kernel(x):\n    return double(x)", "def kernel(x):\n    return x.first")
    (folder / "kernel.py").write_text(kernel)
    (folder / "elsewhere.py").write_text(RECORDS.format(fields="first: float"))
    (folder / "records.py").write_text(RECORDS.format(fields="first: float"))
    for place, count in (("records", 0), ("elsewhere", 0), ("elsewhere", 1)):
        compiled = fresh().kernel
        assert compiled(importlib.import_module(f"some_kernels.{place}").Record(1.0)) == 1.0
        assert hits(compiled) == count
        if place == "records":
            (folder / "records.py").write_text("")


def test_messages_know_their_files_and_no_others() -> None:
    files: dict[str, bytes] = {}
    jit._collect(numba_message, files)
    names = {name.rpartition(".")[2] for name in files if name.startswith("lam.model.kernels.")}
    assert names == {"numba_message", "numba_simd", "numba_tiles", "numba_geometry", "sizes"}


def test_products_know_their_coefficients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr(numba_product, "jit", lambda function, text: seen.append(text))
    for _ in range(2):
        numba_product.couple.__wrapped__(1, True)
        monkeypatch.setattr(numba_product, "gaunt_coefficients", lambda l_max: np.ones((4, 4, 4)))
    assert seen[0] != seen[1]
