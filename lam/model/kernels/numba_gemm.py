"""Matrix products in Numba that add to what is there and take transposed factors, by the BLAS that Numba itself uses.

``numpy.dot`` in Numba can do neither. Matrices are C-contiguous and of one type.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np import linalg

from lam.model.kernels.jit import jit

linalg.ensure_blas()

SINGLE_THREADED = 4 * 65536
"""Multiplications up to which a BLAS surely computes a matrix product in the calling thread (OpenBLAS's limit)."""

_CHAR, _POINTER = ir.IntType(8), ir.IntType(8).as_pointer()


@intrinsic(prefer_literal=True)
def _gemm(typing, a, b, out, transpose_a, transpose_b, add):
    """``out = op(a) op(b)``, plus ``out`` if ``add``; flags are literal integers."""
    for kind in (a, b, out):
        if kind.layout != "C" or kind.ndim != 2 or kind.dtype != out.dtype:
            raise TypingError(f"Matrix products need C-contiguous matrices of one type, not {kind}.")
    flags = transpose_a.literal_value, transpose_b.literal_value, add.literal_value
    letter = linalg.get_blas_kind(out.dtype)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args[:3]
        one, two, result = (context.make_array(k)(context, builder, v) for k, v in zip(kinds, args[:3], strict=True))
        size = ir.IntType(64)
        arguments = [_CHAR, _CHAR, _CHAR, size, size, size, _POINTER, _POINTER, size, _POINTER, size, _POINTER]
        function_type = ir.FunctionType(ir.IntType(32), [*arguments, _POINTER, size])
        function = cgutils.get_or_insert_function(builder.module, function_type, "numba_xxgemm")

        def shape(array: Any) -> list[Any]:
            return cgutils.unpack_tuple(builder, array.shape, 2)

        def data(array: Any) -> Any:
            return builder.bitcast(array.data, _POINTER)

        def number(value: float) -> Any:
            constant = context.get_constant_generic(builder, out.dtype, value)
            return builder.bitcast(cgutils.alloca_once_value(builder, constant), _POINTER)

        def letter_of(flag: int) -> Any:
            return ir.Constant(_CHAR, ord("t" if flag else "n"))

        # Rows and columns change places, since BLAS stores by columns: out^T = op(b)^T op(a)^T.
        rows, columns = shape(result)
        inner = shape(one)[0 if flags[0] else 1]
        code = builder.call(
            function,
            [
                ir.Constant(_CHAR, ord(letter)), letter_of(flags[1]), letter_of(flags[0]), columns, rows, inner,
                number(1.0), data(two), shape(two)[1], data(one), shape(one)[1],
                number(1.0 if flags[2] else 0.0), data(result), columns,
            ],
        )  # fmt: skip
        linalg.check_blas_return(context, builder, code)
        return context.get_dummy_value()

    return types.void(a, b, out, transpose_a, transpose_b, add), code


@jit
def _rows(inner, columns):
    """Return how many rows at a time stay in the calling thread."""
    return max(1, SINGLE_THREADED // (inner * columns + 1))


@jit
def multiply(a, b, out):
    """Set ``out = a b``."""
    if a.shape[1] == 0:
        out[:] = out.dtype.type(0)
        return
    step = _rows(b.shape[0], b.shape[1])
    for begin in range(0, a.shape[0], step):
        _gemm(a[begin : begin + step], b, out[begin : begin + step], 0, 0, 0)


@jit
def multiply_add(a, b, out):
    """Add ``a b`` to ``out``."""
    if a.shape[1] == 0:
        return
    step = _rows(b.shape[0], b.shape[1])
    for begin in range(0, a.shape[0], step):
        _gemm(a[begin : begin + step], b, out[begin : begin + step], 0, 0, 1)


@jit
def multiply_back(a, b, out):
    """Set ``out = a b^T``: the gradient of what entered :func:`multiply` with the matrix ``b``."""
    step = _rows(b.shape[0], b.shape[1])
    for begin in range(0, a.shape[0], step):
        _gemm(a[begin : begin + step], b, out[begin : begin + step], 0, 1, 0)


@jit
def multiply_back_add(a, b, out):
    """Add ``a b^T`` to ``out``."""
    step = _rows(b.shape[0], b.shape[1])
    for begin in range(0, a.shape[0], step):
        _gemm(a[begin : begin + step], b, out[begin : begin + step], 0, 1, 1)


@jit
def add_gradient(a, b, out):
    """Add ``a^T b`` to ``out``: the gradient of the matrix of :func:`multiply`, from its input and its output's."""
    step = _rows(a.shape[1], b.shape[1])
    for begin in range(0, a.shape[0], step):
        _gemm(a[begin : begin + step], b[begin : begin + step], out, 1, 0, 1)
