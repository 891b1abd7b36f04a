"""Loop nests as layers: `O[..] += A[..] * B[..]` over named loops, as in einsums and mappers' problems.

An index is a loop, or, for a sliding window, a sum of two: `stride·p + dilation·r`, where p also indexes
the output and r the weights. The role of a loop follows from the operands that it indexes:

    in the output, A and B   groups            in A and B, not in the output   reduction (C)
    in the output and A      rows (batch)      in the output and B             columns (filters)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from hfp8sim.errors import InputError
from hfp8sim.network.records import Conv, GemmShape, Layer

Index = tuple[tuple[str, int], ...]
"""Loops of one index, each with its coefficient."""


class Roles(NamedTuple):
    """Loops by the role they play in a product of two operands."""

    groups: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    reduction: tuple[str, ...]

    def shape(self, sizes: Mapping[str, int]) -> GemmShape:
        """The GEMM of a nest without sliding windows."""
        g, m, n, k = (prod(sizes[loop] for loop in loops) for loops in self)
        return GemmShape(groups=g, m=m, n=n, k=k)


def roles(a: list[str], b: list[str], out: list[str]) -> Roles:
    """The roles of all loops of `a`, `b` and `out`; `InputError` for a loop that indexes only one of them."""
    for loop in dict.fromkeys(a + b + out):
        if (loop in a) + (loop in b) + (loop in out) < 2:
            raise InputError(
                f"loop {loop!r} indexes one operand only, so this is no matrix product"
            )
    return Roles(
        groups=tuple(x for x in out if x in a and x in b),
        rows=tuple(x for x in out if x in a and x not in b),
        columns=tuple(x for x in out if x in b and x not in a),
        reduction=tuple(x for x in a if x in b and x not in out),
    )


def arrange(array: np.ndarray, loops: list[str], *order: tuple[str, ...]) -> np.ndarray:
    """An operand with its axes in the given order; the loops of each tuple become one axis."""
    sizes = dict(zip(loops, array.shape, strict=True))
    permuted = array.transpose([loops.index(loop) for axis in order for loop in axis])
    return permuted.reshape([prod(sizes[loop] for loop in axis) for axis in order])


@dataclass(frozen=True)
class Product:
    """A product of two tensors with labelled axes, as a batch of GEMMs.

    Labels of axes of size 1 are dropped. An operand that is broadcast along an axis is therefore no batch
    there: the other operand's axis becomes rows or columns of one larger matrix.
    """

    roles: Roles
    sizes: Mapping[str, int]
    a_loops: list[str]
    b_loops: list[str]
    out_loops: list[str]

    @classmethod
    def of(
        cls,
        a: Sequence[int],
        a_loops: list[str],
        b: Sequence[int],
        b_loops: list[str],
        out: list[str],
    ) -> Product:
        """The product of operands of shapes `a` and `b`; `InputError` if labels and shapes do not fit."""
        sizes: dict[str, int] = {}
        for shape, loops in ((a, a_loops), (b, b_loops)):
            if len(loops) != len(shape) or len(set(loops)) != len(loops):
                raise InputError(f"axes {''.join(loops)!r} do not fit the shape {tuple(shape)}")
            for loop, size in zip(loops, shape, strict=True):
                other = sizes.get(loop, 1)
                if size != other and 1 not in (size, other):
                    raise InputError(f"axis {loop!r} has sizes {other} and {size}")
                sizes[loop] = max(size, other)
        a_loops = [loop for loop, size in zip(a_loops, a, strict=True) if size > 1]
        b_loops = [loop for loop, size in zip(b_loops, b, strict=True) if size > 1]
        out = [loop for loop in out if loop in a_loops + b_loops]
        return cls(roles(a_loops, b_loops, out), sizes, a_loops, b_loops, out)

    @property
    def shape(self) -> GemmShape:
        return self.roles.shape(self.sizes)

    def a(self, array: np.ndarray) -> np.ndarray:
        """The first operand as ([groups,] M, K)."""
        return self._matrix(array, self.a_loops, self.roles.rows, self.roles.reduction)

    def b(self, array: np.ndarray) -> np.ndarray:
        """The second operand as ([groups,] K, N)."""
        return self._matrix(array, self.b_loops, self.roles.reduction, self.roles.columns)

    def out(self, array: np.ndarray) -> np.ndarray:
        """The result, or its gradient, as ([groups,] M, N)."""
        return self._matrix(array, self.out_loops, self.roles.rows, self.roles.columns)

    def _matrix(
        self, array: np.ndarray, loops: list[str], rows: tuple[str, ...], columns: tuple[str, ...]
    ) -> np.ndarray:
        array = array.reshape([self.sizes[loop] for loop in loops])
        array = arrange(array, loops, self.roles.groups, rows, columns)
        return array if self.shape.groups > 1 else array[0]


def matmul_loops(a_axes: int, b_axes: int) -> tuple[list[str], list[str], list[str]]:
    """Labels of NumPy's matmul for operands of so many axes: leading axes are a batch."""
    a_loops = ["m", "k"] if a_axes > 1 else ["k"]
    b_loops = ["k", "n"] if b_axes > 1 else ["k"]
    lead = max(a_axes - len(a_loops), b_axes - len(b_loops))
    batch = [f"b{i}" for i in range(lead)]
    out = batch + [x for x in ("m", "n") if x in a_loops + b_loops]
    a_loops = batch[lead + len(a_loops) - a_axes :] + a_loops
    b_loops = batch[lead + len(b_loops) - b_axes :] + b_loops
    return a_loops, b_loops, out


def einsum_loops(equation: str) -> tuple[list[str], list[str], list[str]]:
    """Labels of an einsum of two operands, such as `ab,bc->ac`; `InputError` for any other."""
    terms, arrow, out = equation.replace(" ", "").partition("->")
    parts = terms.split(",")
    if not arrow or "." in equation or len(parts) != 2:
        raise InputError(f"equation {equation!r} is not of the form 'ab,bc->ac'")
    return list(parts[0]), list(parts[1]), list(out)


def layer_of_nest(
    name: str,
    sizes: Mapping[str, int],
    weights: list[Index],
    inputs: list[Index],
    out: list[Index],
    padding: Mapping[str, tuple[int, int]] | None = None,
    **fields: Any,
) -> Layer:
    """The layer that a nest computes: a convolution if an input index is a sliding window, else a GEMM.

    Args:
        sizes: of the loops.
        weights, inputs, out: the indices of each operand.
        padding: (before, after) by the output loop of a window. Without it the convolution has no
            padding, and its input is as large as the loops reach.
        fields: further fields of the layer.

    Raises `InputError` for a nest that is neither.
    """
    windows = [index for index in inputs if len(index) > 1]
    in_windows = {loop for window in windows for loop, _ in window}
    shape = roles(
        _loops(inputs, in_windows), _loops(weights, in_windows), _loops(out, in_windows)
    ).shape(sizes)
    if not windows:
        return Layer(name, "gemm", shape.m, shape.n, shape.k, shape.groups, **fields)
    if len(windows) > 2:
        raise InputError("it slides along more than two axes; convolutions here have at most two")
    axes = [_axis(window, weights, out, sizes, padding or {}) for window in windows]
    axes = [_Axis(1, 1, 1, 1, (0, 0))] * (2 - len(axes)) + axes
    extents = [
        (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation + 1 - sum(a.padding) for a in axes
    ]
    geometry = Conv(
        batch=shape.m,
        height=extents[0],
        width=extents[1],
        channels=shape.groups * shape.k,
        filters=shape.groups * shape.n,
        kernel=(axes[0].kernel, axes[1].kernel),
        stride=(axes[0].stride, axes[1].stride),
        padding=(*axes[0].padding, *axes[1].padding),
        dilation=(axes[0].dilation, axes[1].dilation),
        groups=shape.groups,
    )
    return Layer.from_conv(name, geometry, **fields)


class _Axis(NamedTuple):
    """One axis of a convolution; sizes of output and kernel in pixels, padding (before, after)."""

    out: int
    kernel: int
    stride: int
    dilation: int
    padding: tuple[int, int]


def _loops(indices: list[Index], without: set[str]) -> list[str]:
    """All loops of the indices but those in `without`."""
    return [loop for index in indices for loop, _ in index if loop not in without]


def _axis(
    window: Index,
    weights: list[Index],
    out: list[Index],
    sizes: Mapping[str, int],
    padding: Mapping[str, tuple[int, int]],
) -> _Axis:
    """The axis of a window: one of its two loops indexes the output, the other the weights."""
    text = " + ".join(f"{coefficient}·{loop}" for loop, coefficient in window)
    in_weights = [term for term in window if term[0] in _loops(weights, set())]
    in_out = [term for term in window if term[0] in _loops(out, set())]
    if len(window) != 2 or len(in_weights) != 1 or len(in_out) != 1 or in_weights == in_out:
        raise InputError(
            f"index {text} is no sliding window; one loop must index the output, one the weights"
        )
    (p, stride), (r, dilation) = in_out[0], in_weights[0]
    return _Axis(sizes[p], sizes[r], stride, dilation, padding.get(p, (0, 0)))
