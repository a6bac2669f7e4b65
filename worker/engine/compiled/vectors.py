"""Loops over float32 vectors, written in LLVM's own terms: what numba cannot be trusted to find by itself.

Every loop adds its terms in one fixed order whatever runs beside it, so a row's numbers never depend on the company.
Arrays are flat and contiguous; places and steps count floats.
"""

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FEATURES = llvm.get_host_cpu_features()
LANES, ACROSS = (16, 4) if _FEATURES.get("avx512f") else (8, 2) if _FEATURES.get("avx2") else (4, 4)
"""Floats of a register, and how many registers of a row's results are computed together."""
PANEL = LANES * ACROSS
"""Columns of a matrix that lie side by side: (depth, PANEL) after (depth, PANEL)."""

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_SIZE = ir.IntType(64)


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _load(builder: Any, data: Any, place: Any, kind: Any = _VECTOR) -> Any:
    where = builder.gep(data, [place])
    return builder.load(builder.bitcast(where, kind.as_pointer()), align=4)


def _spread(builder: Any, number: Any) -> Any:
    """A vector that holds ``number`` everywhere."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, f"llvm.fma.v{LANES}f32", _VECTOR, a, b, c)


def tile(rows: int) -> Any:
    """A function that multiplies ``rows`` rows with one panel, in registers.

    ``f(x, x_at, x_step, w, w_at, w_step, w_next, depth, out, out_at, out_step, begin)``: out[r, c] = Σ_k x[r, k]
    w[k, c] for ``PANEL`` columns c, on top of what is in ``out`` where ``begin`` is true. ``w_step`` leads from k to
    k + 1, ``w_next`` from ``LANES`` columns to the next ones.
    """

    @intrinsic
    def multiply(_typing, x, x_at, x_step, w, w_at, w_step, w_next, depth, out, out_at, out_step, begin):
        size = types.intp
        signature = types.void(x, size, size, w, size, size, size, size, out, size, size, types.boolean)

        def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
            x_data, w_data, out_data = (_data(context, builder, kinds.args[i], arguments[i]) for i in (0, 3, 8))
            _, x_at, x_step, _, w_at, w_step, w_next, depth, _, out_at, out_step, begin = arguments
            cells = [(r, c) for r in range(rows) for c in range(ACROSS)]
            places = {
                (r, c): builder.add(builder.add(out_at, builder.mul(out_step, _SIZE(r))), _SIZE(c * LANES))
                for r, c in cells
            }
            sums = {cell: cgutils.alloca_once(builder, _VECTOR) for cell in cells}
            with builder.if_else(begin) as (then, otherwise):
                with then:
                    for cell in cells:
                        builder.store(_load(builder, out_data, places[cell]), sums[cell])
                with otherwise:
                    for cell in cells:
                        builder.store(ir.Constant(_VECTOR, None), sums[cell])
            firsts = [builder.add(x_at, builder.mul(x_step, _SIZE(r))) for r in range(rows)]
            with cgutils.for_range(builder, depth, intp=_SIZE) as loop:
                row = builder.add(w_at, builder.mul(loop.index, w_step))
                weights = [
                    _load(builder, w_data, builder.add(row, builder.mul(w_next, _SIZE(c)))) for c in range(ACROSS)
                ]
                numbers = [
                    _spread(builder, _load(builder, x_data, builder.add(first, loop.index), _FLOAT)) for first in firsts
                ]
                for r, c in cells:
                    builder.store(_fused(builder, numbers[r], weights[c], builder.load(sums[r, c])), sums[r, c])
            for cell in cells:
                where = builder.bitcast(builder.gep(out_data, [places[cell]]), _VECTOR.as_pointer())
                builder.store(builder.load(sums[cell]), where, align=4)
            return context.get_dummy_value()

        return signature, generate

    return multiply


@intrinsic
def dot(_typing, a, a_at, b, b_at, size):
    """Σ a b over ``size`` numbers, a multiple of ``LANES``."""
    signature = types.float32(a, types.intp, b, types.intp, types.intp)

    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        a_data, b_data = (_data(context, builder, kinds.args[i], arguments[i]) for i in (0, 2))
        _, a_at, _, b_at, size = arguments
        total = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None))
        with cgutils.for_range(builder, builder.udiv(size, _SIZE(LANES)), intp=_SIZE) as loop:
            place = builder.mul(loop.index, _SIZE(LANES))
            left = _load(builder, a_data, builder.add(a_at, place))
            right = _load(builder, b_data, builder.add(b_at, place))
            builder.store(_fused(builder, left, right, builder.load(total)), total)
        return _sum(builder, builder.load(total))

    return signature, generate


@intrinsic
def total(_typing, a, a_at, size):
    """Σ a over ``size`` numbers, a multiple of ``LANES``."""
    signature = types.float32(a, types.intp, types.intp)

    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        data = _data(context, builder, kinds.args[0], arguments[0])
        found = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None))
        with cgutils.for_range(builder, builder.udiv(arguments[2], _SIZE(LANES)), intp=_SIZE) as loop:
            some = _load(builder, data, builder.add(arguments[1], builder.mul(loop.index, _SIZE(LANES))))
            builder.store(builder.fadd(builder.load(found), some), found)
        return _sum(builder, builder.load(found))

    return signature, generate


@intrinsic
def largest(_typing, a, a_at, size):
    """The largest of ``size`` numbers, a multiple of ``LANES``; NaN if one of them is."""
    signature = types.float32(a, types.intp, types.intp)

    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        data = _data(context, builder, kinds.args[0], arguments[0])
        found = cgutils.alloca_once_value(builder, _load(builder, data, arguments[1]))
        with cgutils.for_range(builder, builder.udiv(arguments[2], _SIZE(LANES)), intp=_SIZE) as loop:
            some = _load(builder, data, builder.add(arguments[1], builder.mul(loop.index, _SIZE(LANES))))
            best = builder.load(found)
            # "not best >= some" takes NaN in, and "best is NaN" keeps it.
            keep = builder.or_(builder.fcmp_ordered(">=", best, some), builder.fcmp_unordered("uno", best, best))
            builder.store(builder.select(keep, best, some), found)
        return _call(builder, f"llvm.vector.reduce.fmaximum.v{LANES}f32", _FLOAT, builder.load(found))

    return signature, generate


@intrinsic
def power_of_two(_typing, exponent):
    """2 to a whole number from -126 to 127."""

    def generate(_context: Any, builder: Any, _kinds: Any, arguments: Any) -> Any:
        whole = ir.IntType(32)
        biased = builder.add(builder.fptosi(arguments[0], whole), whole(127))
        return builder.bitcast(builder.shl(biased, whole(23)), _FLOAT)

    return types.float32(types.float32), generate


@intrinsic
def float_of_bits(_typing, bits):
    """The float32 that these 32 bits spell."""

    def generate(_context: Any, builder: Any, _kinds: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.int32), generate


def _sum(builder: Any, vector: Any) -> Any:
    """All of its numbers, halves onto halves: the same order every time."""
    width = LANES
    while width > 1:
        width //= 2
        whole = ir.VectorType(ir.IntType(32), width)
        nothing = ir.Constant(vector.type, ir.Undefined)
        low = builder.shuffle_vector(vector, nothing, ir.Constant(whole, list(range(width))))
        high = builder.shuffle_vector(vector, nothing, ir.Constant(whole, list(range(width, 2 * width))))
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@intrinsic
def mass_above(_typing, a, size, bound):
    """Σ of those of the first ``size`` numbers that are greater than ``bound``, in float64; ``size`` as above."""
    signature = types.float64(a, types.intp, types.float32)

    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        wide = ir.VectorType(ir.DoubleType(), LANES)
        data = _data(context, builder, kinds.args[0], arguments[0])
        limit = _spread(builder, arguments[2])
        found = cgutils.alloca_once_value(builder, ir.Constant(wide, None))
        with cgutils.for_range(builder, builder.udiv(arguments[1], _SIZE(LANES)), intp=_SIZE) as loop:
            some = _load(builder, data, builder.mul(loop.index, _SIZE(LANES)))
            kept = builder.select(builder.fcmp_ordered(">", some, limit), some, ir.Constant(_VECTOR, None))
            builder.store(builder.fadd(builder.load(found), builder.fpext(kept, wide)), found)
        return _sum(builder, builder.load(found))

    return signature, generate
