"""Vectors and tiles in Numba kernels, against NumPy."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from lam.model.kernels import numba_simd as simd


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("lanes", [1, 2, 8, 16])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_inner_products_of_any_number_of_lanes_and_rows(lanes: int, rows: int) -> None:
    @numba.njit
    def kernel(value, array, out):
        simd.store(out, 0, simd.dots(simd.load(value, 0, lanes), array, 0, lanes, rows))

    value, array, out = random(lanes), random(rows, lanes), np.zeros(rows)
    kernel(value, array, out)
    np.testing.assert_allclose(out, array @ value, atol=1e-14)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_transpose(size: int) -> None:
    @numba.njit
    def kernel(array, out):
        simd.store_tile(out, 0, size, simd.transposed(simd.load_tile(array, 0, size, size, size)))

    array, out = random(size, size), np.zeros((size, size))
    kernel(array, out)
    np.testing.assert_array_equal(out, array.T)


def test_sums_over_a_loop_stay_a_tile() -> None:
    @numba.njit
    def kernel(left, right, out):
        total = simd.zeros(left, 3, 4)
        for e in range(len(left)):
            total = simd.plus_outer(total, simd.load(right, (e, 0), 4), left, e * 3, 1)
        simd.store_tile(out, 0, 4, total)

    left, right, out = random(7, 3), random(4, 7).T, np.zeros((3, 4))
    assert not right.flags.c_contiguous
    right = np.ascontiguousarray(right)
    kernel(left, right, out)
    np.testing.assert_allclose(out, left.T @ right, atol=1e-14)


def test_flat_index_into_a_strided_array_is_refused() -> None:
    @numba.njit
    def kernel(array, out):
        simd.store(out, 0, simd.load(array, 0, 2))

    with pytest.raises(TypingError, match="contiguous"):
        kernel(random(4, 4)[:, ::2], np.zeros(2))


@pytest.mark.parametrize(("size", "itemsize"), [(16, 4), (6, 4), (1, 8), (24, 8), (0, 4)])
def test_widths_divide_the_size_and_fit_a_register(size: int, itemsize: int) -> None:
    width = simd.lanes(size, itemsize)
    assert size % width == 0 and width * itemsize <= simd.REGISTER
    assert size % simd.part(size, 5) == 0 and simd.part(size, 5) <= 5
