"""The error sums against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lam.evaluate.metrics import ElementSums, EnergyPairs, ErrorSum, Sample, fit_offsets, ratio


def test_error_sum_by_hand():
    total = ErrorSum()
    assert total.mae is None and total.rmse is None
    total.add(np.array([0.001, -0.003]))
    total.add(np.array([[0.002]]))
    assert total.count == 3
    assert total.mae == pytest.approx(2.0)
    assert total.rmse == pytest.approx(np.sqrt((1 + 9 + 4) / 3))


def test_merged_sums_equal_one_sum():
    errors = np.random.default_rng(0).normal(size=20)
    one, first, second = ErrorSum(), ErrorSum(), ErrorSum()
    one.add(errors)
    first.add(errors[:7])
    second.add(errors[7:])
    first.merge(second)
    assert (first.count, first.mae, first.rmse) == (one.count, pytest.approx(one.mae), pytest.approx(one.rmse))


def test_element_sums_separate_elements():
    sums = ElementSums()
    sums.add(np.array([1, 8, 1]), np.array([[0.001, 0.002, 0.003], [0.01, 0.01, 0.01], [0.0, 0.0, -0.006]]))
    assert sums.of(1).count == 6
    assert sums.of(1).mae == pytest.approx((1 + 2 + 3 + 6) / 6)
    assert sums.of(1).rmse == pytest.approx(np.sqrt((1 + 4 + 9 + 36) / 6))
    assert sums.of(8).mae == pytest.approx(10.0)
    assert sums.of(6).mae is None


def test_sample_keeps_pairs_together_and_is_bounded():
    sample = Sample(size=50)
    for start in range(0, 1000, 100):
        values = np.arange(start, start + 100, dtype=float)
        sample.add(values, values + 0.5)
    assert len(sample.reference) == 50
    np.testing.assert_allclose(sample.predicted - sample.reference, 0.5)
    assert sample.reference.max() > 700 and sample.reference.min() < 300  # not the head of the stream


def _pairs(compositions: list[list[int]], energies: list[float]) -> EnergyPairs:
    pairs = EnergyPairs()
    for numbers, energy in zip(compositions, energies, strict=True):
        pairs.add(np.array(numbers), energy, 0.0)
    return pairs


def test_offsets_are_found_exactly():
    pairs = _pairs([[1, 1], [8, 8], [1, 1, 8], [1, 8]], [-2.0, -20.0, -12.0, -11.0])
    fit = fit_offsets(pairs.composition, pairs.arrays[0])
    assert fit.rank == 2
    assert fit.offsets[1] == pytest.approx(-1.0) and fit.offsets[8] == pytest.approx(-10.0)
    assert np.count_nonzero(fit.offsets) == 2


def test_offsets_of_one_formula_are_finite_and_fit():
    pairs = _pairs([[1, 1, 8]] * 3, [-12.0, -12.0, -12.0])
    fit = fit_offsets(pairs.composition, pairs.arrays[0])
    assert fit.rank == 1  # only 2 E_H + E_O is known
    np.testing.assert_allclose(fit.apply(pairs.composition), -12.0)


def test_offsets_weigh_structures_per_atom():
    # One atom at 1 eV, 100 atoms at 0 eV/atom: the per-atom error is minimal half way.
    pairs = _pairs([[1], [1] * 100], [1.0, 0.0])
    assert fit_offsets(pairs.composition, pairs.arrays[0]).offsets[1] == pytest.approx(0.5)


def test_ratio_without_a_baseline_says_nothing():
    assert ratio(1.0, 4.0) == 0.25
    assert ratio(1.0, 0.0) is None and ratio(None, 1.0) is None and ratio(1.0, None) is None
