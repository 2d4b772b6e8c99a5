"""The batch that fits in a given memory."""

import pytest

from lam.errors import LamError
from lam.train import batch_size
from lam.train.batch_size import Budget, find_budget


def linear(config, atoms, edges_per_atom, tell):
    return Budget(atoms, int(atoms * edges_per_atom), 0.5 + 2e-3 * atoms)


def test_the_largest_batch_that_fits(settings, monkeypatch):
    monkeypatch.setattr(batch_size, "_try", linear)
    found = find_budget(settings(), 8.0)
    assert 6.8 < found.gigabytes < 7.6
    assert found.max_edges > found.max_atoms > 3000


def test_a_memory_that_grows_faster_than_expected(settings, monkeypatch):
    def steep(config, atoms, edges_per_atom, tell):
        return Budget(atoms, atoms, 0.5 + 1e-3 * atoms + 5e-7 * atoms**2)

    monkeypatch.setattr(batch_size, "_try", steep)
    assert find_budget(settings(), 8.0).gigabytes <= 7.6


def test_a_memory_that_is_smaller_than_said(settings, monkeypatch):
    def killed(config, atoms, edges_per_atom, tell):
        return Budget(atoms, atoms, 1.0 if atoms <= 300 else float("inf"))

    monkeypatch.setattr(batch_size, "_try", killed)
    assert find_budget(settings(), 8.0).max_atoms == 256


def test_nothing_fits(settings, monkeypatch):
    monkeypatch.setattr(batch_size, "_try", linear)
    with pytest.raises(LamError, match=r"A batch of 256 atoms needs 1.01 GB.*take a smaller model"):
        find_budget(settings(), 0.6)


def test_a_trial_measures_a_real_training(settings):
    told = []
    small = batch_size._try(settings(), 30, 20.0, told.append)
    assert 0.1 < small.gigabytes < 20 and small.max_edges == 600
    assert told == [f"30 atoms, 600 edges: {small.gigabytes:.2f} GB"]


def test_a_trial_that_cannot_start_says_why(settings):
    with pytest.raises(LamError, match="nowhere"):
        batch_size._try(settings(default_heads=["nowhere"]), 30, 20.0, print)
