"""SIMD vectors for Numba kernels: values that stay in registers over a whole loop.

LLVM keeps a sum in memory where it cannot prove that nothing else points there; of an array it never can. So
kernels that sum over the neighbours hold their sums in *tiles*: tuples of vectors, which are values like any
number. A vector of any number of lanes works on any machine; :func:`lanes` tells how many fill a register.

All functions take C-contiguous arrays and flat indices. Counts (lanes, rows) and strides must be constants.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.extending import intrinsic, register_model


def _register_bytes() -> int:
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


REGISTER = _register_bytes()
"""Bytes of a SIMD register of this machine."""
TILE = 16 if REGISTER == 64 else 8
"""Vectors of a tile that fit into the registers, with some to spare for operands."""


def lanes(size: int, itemsize: int) -> int:
    """Return the widest vector, a power of two, whose multiple is ``size`` numbers of ``itemsize`` bytes."""
    most = REGISTER // itemsize
    return min(size & -size, most) if size else most


def part(size: int, most: int) -> int:
    """Return the largest divisor of ``size`` that is at most ``most``."""
    return next(n for n in range(min(size, most), 0, -1) if size % n == 0) if size else 1


class Vector(types.Type):
    """Numba's type of a vector: ``lanes`` numbers of type ``dtype``."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


def _vector_type(vector: Vector) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if vector.dtype.bitwidth == 32 else ir.DoubleType(), vector.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _vector_type(vector))


_FAST = ("contract", "nsz", "reassoc", "arcp")


def _pointer(context: Any, builder: Any, array_type: types.Array, array: Any, index: Any, index_type: Any) -> Any:
    """Return the address of the flat index, or of the index of each axis."""
    structure = context.make_array(array_type)(context, builder, array)
    if isinstance(index_type, types.BaseTuple):
        indices = cgutils.unpack_tuple(builder, index, index_type.count)
        return cgutils.get_item_pointer(context, builder, array_type, structure, indices)
    if array_type.layout != "C":
        raise TypingError(f"A flat index needs a C-contiguous array, not {array_type}.")
    element = context.get_data_type(array_type.dtype)
    return builder.gep(structure.data, [index], inbounds=True, source_etype=element)


def _shifted(builder: Any, pointer: Any, element: Any, offset: int) -> Any:
    return builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)], inbounds=True, source_etype=element)


def _load(builder: Any, pointer: Any, vector: ir.VectorType) -> Any:
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=_itemsize(vector))


def _store(builder: Any, pointer: Any, value: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=_itemsize(value.type))


def _itemsize(vector: ir.VectorType) -> int:
    return 4 if isinstance(vector.element, ir.FloatType) else 8


def _spread(builder: Any, scalar: Any, vector: ir.VectorType) -> Any:
    """Return the scalar in all lanes."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, zeros)


def _spread_from(builder: Any, pointer: Any, vector: ir.VectorType) -> Any:
    return _spread(builder, builder.load(pointer, align=_itemsize(vector)), vector)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a b + c``."""
    kind = a.type
    name = f"llvm.fmuladd.v{kind.count}f{8 * _itemsize(kind)}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c], fastmath=_FAST)


@intrinsic(prefer_literal=True)
def load(typing, array, index, lanes):
    """Return ``lanes`` consecutive numbers from ``index`` on."""
    vector = Vector(array.dtype, lanes.literal_value)

    def code(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1], index)
        return _load(builder, pointer, _vector_type(vector))

    return vector(array, index, lanes), code


@intrinsic(prefer_literal=True)
def store(typing, array, index, value):
    """Write a vector from ``index`` on."""

    def code(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1], index)
        _store(builder, pointer, args[2])
        return context.get_dummy_value()

    return types.void(array, index, value), code


@intrinsic(prefer_literal=True)
def zeros(typing, array, rows, lanes):
    """Return a tile of zeros of the array's type."""
    vector = Vector(array.dtype, lanes.literal_value)
    result = types.UniTuple(vector, rows.literal_value)

    def code(context, builder, signature, args):
        return ir.Constant(context.get_value_type(result), None)

    return result(array, rows, lanes), code


@intrinsic(prefer_literal=True)
def spread(typing, array, index, lanes):
    """Return one number of the array in all lanes."""
    vector = Vector(array.dtype, lanes.literal_value)

    def code(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1], index)
        return _spread_from(builder, pointer, _vector_type(vector))

    return vector(array, index, lanes), code


@intrinsic
def times(typing, a, b):
    """Return the product of two vectors."""
    return a(a, b), lambda context, builder, signature, args: builder.fmul(*args, flags=_FAST)


@intrinsic
def plus(typing, a, b):
    """Return the sum of two vectors."""
    return a(a, b), lambda context, builder, signature, args: builder.fadd(*args, flags=_FAST)


@intrinsic
def times_plus(typing, a, b, c):
    """Return ``a b + c`` of three vectors."""
    return a(a, b, c), lambda context, builder, signature, args: _multiply_add(builder, *args)


@intrinsic(prefer_literal=True)
def plus_outer(typing, tile, value, array, index, stride):
    """Return the tile with ``value * array[index + row * stride]`` added to each row."""

    def code(context, builder, signature, args):
        vector = _vector_type(tile.dtype)
        pointer = _pointer(context, builder, array, args[2], args[3], index)
        rows = []
        for row, total in enumerate(cgutils.unpack_tuple(builder, args[0], tile.count)):
            at = _shifted(builder, pointer, vector.element, row * stride.literal_value)
            rows.append(_multiply_add(builder, _spread_from(builder, at, vector), args[1], total))
        return context.make_tuple(builder, tile, rows)

    return tile(tile, value, array, index, stride), code


@intrinsic(prefer_literal=True)
def plus_scaled(typing, tile, other, array, index, stride):
    """Return the tile with ``other[row] * array[index + row * stride]`` added to each row."""

    def code(context, builder, signature, args):
        vector = _vector_type(tile.dtype)
        pointer = _pointer(context, builder, array, args[2], args[3], index)
        totals, others = (cgutils.unpack_tuple(builder, arg, tile.count) for arg in args[:2])
        rows = []
        for row, (total, value) in enumerate(zip(totals, others, strict=True)):
            at = _shifted(builder, pointer, vector.element, row * stride.literal_value)
            rows.append(_multiply_add(builder, _spread_from(builder, at, vector), value, total))
        return context.make_tuple(builder, tile, rows)

    return tile(tile, other, array, index, stride), code


@intrinsic(prefer_literal=True)
def plus_product(typing, tile, value, array, index, stride):
    """Return the tile with ``value`` times the vector at ``index + row * stride`` added to each row."""

    def code(context, builder, signature, args):
        vector = _vector_type(tile.dtype)
        pointer = _pointer(context, builder, array, args[2], args[3], index)
        rows = []
        for row, total in enumerate(cgutils.unpack_tuple(builder, args[0], tile.count)):
            at = _shifted(builder, pointer, vector.element, row * stride.literal_value)
            rows.append(_multiply_add(builder, args[1], _load(builder, at, vector), total))
        return context.make_tuple(builder, tile, rows)

    return tile(tile, value, array, index, stride), code


@intrinsic(prefer_literal=True)
def combined(typing, tile, array, index, stride, rows):
    """Return ``sum_s array[index + row * stride + s] * tile[s]`` for ``rows`` rows: a small matrix times the tile."""
    result = types.UniTuple(tile.dtype, rows.literal_value)

    def code(context, builder, signature, args):
        vector = _vector_type(tile.dtype)
        pointer = _pointer(context, builder, array, args[1], args[2], index)
        totals: list[Any] = [ir.Constant(vector, None)] * result.count
        for s, value in enumerate(cgutils.unpack_tuple(builder, args[0], tile.count)):
            for row in range(result.count):
                at = _shifted(builder, pointer, vector.element, row * stride.literal_value + s)
                totals[row] = _multiply_add(builder, _spread_from(builder, at, vector), value, totals[row])
        return context.make_tuple(builder, result, totals)

    return result(tile, array, index, stride, rows), code


@intrinsic(prefer_literal=True)
def plus_outer_at(typing, tile, value, array, places, shift):
    """Return the tile with ``value * array[places[row] + shift]`` added to each row."""

    def code(context, builder, signature, args):
        vector = _vector_type(tile.dtype)
        totals, starts = (cgutils.unpack_tuple(builder, arg, tile.count) for arg in (args[0], args[3]))
        rows = []
        for total, start in zip(totals, starts, strict=True):
            row = _pointer(context, builder, array, args[2], start, places.dtype)
            at = builder.gep(row, [args[4]], inbounds=True)
            rows.append(_multiply_add(builder, _spread_from(builder, at, vector), args[1], total))
        return context.make_tuple(builder, tile, rows)

    return tile(tile, value, array, places, types.intp), code


@intrinsic
def plus_tile(typing, tile, other, value):
    """Return the tile with ``other[row] * value`` added to each row."""

    def code(context, builder, signature, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, arg, tile.count) for arg in args[:2]), strict=True)
        return context.make_tuple(builder, tile, [_multiply_add(builder, b, args[2], a) for a, b in pairs])

    return tile(tile, other, value), code


@intrinsic
def sum_of(typing, tile, other):
    """Return the sum of two tiles."""

    def code(context, builder, signature, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, arg, tile.count) for arg in args), strict=True)
        return context.make_tuple(builder, tile, [builder.fadd(a, b, flags=_FAST) for a, b in pairs])

    return tile(tile, other), code


@intrinsic(prefer_literal=True)
def plus_inner(typing, total, tile, array, index, stride):
    """Return ``total`` plus the sum over rows of ``tile[row]`` times the vector at ``index + row * stride``."""

    def code(context, builder, signature, args):
        vector = _vector_type(total)
        pointer = _pointer(context, builder, array, args[2], args[3], index)
        result = args[0]
        for row, value in enumerate(cgutils.unpack_tuple(builder, args[1], tile.count)):
            at = _shifted(builder, pointer, vector.element, row * stride.literal_value)
            result = _multiply_add(builder, value, _load(builder, at, vector), result)
        return result

    return total(total, tile, array, index, stride), code


@intrinsic(prefer_literal=True)
def dots(typing, value, array, index, stride, rows):
    """Return the vector of the inner products of ``value`` with the vectors at ``index + row * stride``."""
    count = rows.literal_value
    result = Vector(value.dtype, count)

    def code(context, builder, signature, args):
        vector = _vector_type(value)
        pointer = _pointer(context, builder, array, args[1], args[2], index)
        places = [_shifted(builder, pointer, vector.element, row * stride.literal_value) for row in range(count)]
        return _sums(builder, [builder.fmul(args[0], _load(builder, at, vector), flags=_FAST) for at in places])

    return result(value, array, index, stride, rows), code


def _sums(builder: Any, rows: list[Any]) -> Any:
    """Return the vector of the sums over the lanes of each row; numbers of lanes and rows are powers of two."""
    count, lanes, step = len(rows), rows[0].type.count, 1
    while step < min(count, lanes):  # two rows become one: this row's sums where a bit of the lane is clear
        low, high = _swap(lanes, step)
        pairs = zip(rows[::2], rows[1::2], strict=True)
        both = [(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high)) for a, b in pairs]
        rows, step = [builder.fadd(*pair, flags=_FAST) for pair in both], 2 * step
    while lanes > count:  # more lanes than rows: add the halves
        lanes //= 2
        halves = [_shuffle(builder, rows[0], rows[0], range(half, half + lanes)) for half in (0, lanes)]
        rows = [builder.fadd(*halves, flags=_FAST)]
    while len(rows) > 1:  # fewer lanes than rows: put vectors end to end
        order = range(2 * rows[0].type.count)
        rows = [_shuffle(builder, a, b, order) for a, b in zip(rows[::2], rows[1::2], strict=True)]
    return rows[0]


def _swap(lanes: int, step: int) -> tuple[list[int], list[int]]:
    """Return the lanes of two vectors that change places when blocks of ``step`` lanes are transposed."""
    low = [lane if not lane & step else lane - step + lanes for lane in range(lanes)]
    high = [lane + step if not lane & step else lane + lanes for lane in range(lanes)]
    return low, high


def _shuffle(builder: Any, a: Any, b: Any, order: Iterable[int]) -> Any:
    order = list(order)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


@intrinsic(prefer_literal=True)
def load_tile(typing, array, index, stride, rows, lanes):
    """Return the vectors at ``index + row * stride``."""
    vector = Vector(array.dtype, lanes.literal_value)
    result = types.UniTuple(vector, rows.literal_value)

    def code(context, builder, signature, args):
        kind = _vector_type(vector)
        pointer = _pointer(context, builder, array, args[0], args[1], index)
        places = [_shifted(builder, pointer, kind.element, row * stride.literal_value) for row in range(result.count)]
        return context.make_tuple(builder, result, [_load(builder, place, kind) for place in places])

    return result(array, index, stride, rows, lanes), code


@intrinsic(prefer_literal=True)
def store_tile(typing, array, index, stride, tile):
    """Write the rows of a tile at ``index + row * stride``."""

    def code(context, builder, signature, args):
        kind = _vector_type(tile.dtype)
        pointer = _pointer(context, builder, array, args[0], args[1], index)
        for row, value in enumerate(cgutils.unpack_tuple(builder, args[3], tile.count)):
            at = _shifted(builder, pointer, kind.element, row * stride.literal_value)
            _store(builder, at, value)
        return context.get_dummy_value()

    return types.void(array, index, stride, tile), code


@intrinsic
def transposed(typing, tile):
    """Return the transpose of a square tile whose size is a power of two."""
    count = tile.count

    def code(context, builder, signature, args):
        rows = cgutils.unpack_tuple(builder, args[0], count)
        step = 1
        while step < count:  # swap the off-diagonal blocks of size ``step``
            low, high = _swap(count, step)
            swapped = list(rows)
            for row in range(count):
                if not row & step:
                    swapped[row] = _shuffle(builder, rows[row], rows[row + step], low)
                    swapped[row + step] = _shuffle(builder, rows[row], rows[row + step], high)
            rows, step = swapped, 2 * step
        return context.make_tuple(builder, tile, rows)

    return tile(tile), code
