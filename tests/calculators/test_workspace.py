"""Memory used again: bounded whatever structures come, and safe where threads ask at once."""

import sys
import threading

import numpy as np
import pytest
from ase.build import bulk

from lam.calculators import Predictor
from lam.calculators.workspace import Workspace
from lam.data.structure import Structure
from lam.model import PRESETS
from lam.testing import tiny_potential

TINY = {"channels": 8, "scalar_channels": 8, "readout_channels": 4}


@pytest.fixture
def hasty():
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_arrays_lie_side_by_side_and_come_again():
    space = Workspace(np.float32)
    first, second = space.arrays("a", ((3, 5), (7,)))
    other = space.get("b", 4)
    first[:], second[:], other[:] = 1, 2, 3
    assert first.shape == (3, 5) and (first == 1).all() and (second == 2).all()
    assert all(array.ctypes.data % 64 == 0 and array.dtype == np.float32 for array in (first, second, other))
    assert space.get("b", 4) is other
    assert np.shares_memory(space.get("b", 2, 2), other)


def test_smaller_arrays_need_no_memory_of_their_own():
    space = Workspace(np.float64)
    space.get("a", 1000)
    held = space.nbytes
    for size in range(1000):
        assert space.get("a", size).shape == (size,)
    assert space.nbytes == held
    space.get("a", 2000)
    assert 16_000 <= space.nbytes < 17_000


def test_threads_may_ask_at_once(hasty):
    space, errors = Workspace(np.float32), []

    def work(number: int) -> None:
        try:
            for size in range(1, 400):
                array = space.get(("mine", number, size % 50), size)
                array[:] = number
                assert space.get(("mine", number, size % 50), size) is array and (array == number).all()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_that_of_the_largest_structure(threads, monkeypatch):
    monkeypatch.setattr("lam.calculators.passes.MOST_THREADS", threads)
    monkeypatch.setattr("lam.calculators.passes.WORTH_A_THREAD", 1)
    model = tiny_potential(PRESETS["small"].model_copy(update=TINY))
    atoms = bulk("Cu", cubic=True) * (4, 4, 3)
    atoms.rattle(0.05, seed=0)
    frames = [Structure.from_atoms(atoms[:size]) for size in (*range(20, 190, 6), 192)]

    def held(frames: list[Structure]) -> int:
        predictor = Predictor(model, head="cryst", device="cpu")
        predictor.predict(frames[:1])
        engine = predictor._fast._engine
        engine.block_atoms = 8
        for frame in frames:
            predictor.predict([frame])
        assert engine.keep_bytes >= len(frames[-1]) * engine.kept_per_atom
        return engine.workspace.nbytes

    assert held(frames) <= 1.25 * held(frames[-1:])
