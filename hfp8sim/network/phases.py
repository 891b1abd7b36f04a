"""What lowering needs to know of a layer, and how the layer's tensors become GEMM operands.

A layer is anything with the attributes of `LayerLike`; a convolution anything with those of
`Convolution`. Activations and errors are NHWC, weights (R, S, C/groups, F); a matrix layer has X (M, K),
W (K, N) and dY (M, N), with the groups in front where there are several.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from hfp8sim.errors import unknown
from hfp8sim.network.gemm_shape import GemmShape
from hfp8sim.network.records import PHASES


class Convolution(Protocol):
    """A two-dimensional convolution's geometry; padding is (top, bottom, left, right)."""

    @property
    def batch(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def filters(self) -> int: ...
    @property
    def kernel(self) -> tuple[int, int]: ...
    @property
    def stride(self) -> tuple[int, int]: ...
    @property
    def padding(self) -> tuple[int, int, int, int]: ...
    @property
    def dilation(self) -> tuple[int, int]: ...
    @property
    def groups(self) -> int: ...
    @property
    def gaps(self) -> tuple[int, int]: ...
    @property
    def output(self) -> tuple[int, int]: ...
    def input_gradient(self) -> Convolution: ...


class LayerLike(Protocol):
    """A layer: its name, its kind, its forward GEMM per group, and its convolution if it is one."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def m(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def groups(self) -> int: ...
    @property
    def conv(self) -> Convolution | None: ...


@dataclasses.dataclass(frozen=True)
class Image:
    """An NHWC tensor as CV unfolds it; the fields are the registers of docs/isa.md."""

    height: int
    width: int
    channels: int  #: of one group
    pixel_pitch: int
    line_pitch: int
    image_pitch: int
    grid: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    divide: tuple[int, int]

    @property
    def is_matrix(self) -> bool:
        """Whether the unfolded matrix is the tensor itself, pixel by pixel."""
        return (
            (self.kernel, self.stride, self.pad, self.divide) == ((1, 1), (1, 1), (0, 0), (1, 1))
            and self.grid == (self.height, self.width)
            and self.line_pitch == self.width * self.pixel_pitch
            and self.image_pitch == self.height * self.line_pitch
        )

    @property
    def touched(self) -> int:
        """Pixels of an image that some tap falls on."""
        lines, pixels = (
            len(
                {
                    place // self.divide[axis]
                    for first in range(0, self.grid[axis] * self.stride[axis], self.stride[axis])
                    for tap in range(
                        0, self.kernel[axis] * self.dilation[axis], self.dilation[axis]
                    )
                    if (place := first + tap - self.pad[axis]) % self.divide[axis] == 0
                    and 0 <= place < size * self.divide[axis]
                }
            )
            for axis, size in enumerate((self.height, self.width))
        )
        return lines * pixels


@dataclasses.dataclass(frozen=True)
class Operand:
    """A tensor in its role as A, B or result; element (row, column) of group g of a matrix lies at
    g·group + row·pitch + column."""

    tensor: str
    shape: tuple[int, ...]
    pitch: int = 0
    group: int = 0
    transposed: bool = False
    block: int = 0  #: transposed B: k per block …
    block_step: int = 0  #: … and elements from block to block
    turned: bool = False  #: blocks in reverse
    image: Image | None = None


@dataclasses.dataclass(frozen=True)
class Job:
    """One phase of a layer: a GEMM and where its operands come from."""

    gemm: GemmShape
    a: Operand
    b: Operand
    c: Operand


def job(layer: LayerLike, phase: str) -> Job:
    """The GEMM of a layer in a phase; `InputError` for an unknown phase."""
    if phase not in PHASES:
        raise unknown("phase", phase, PHASES)
    if layer.conv is not None:
        return _convolution(layer.conv, phase)
    return _matrices(layer, phase)


def _matrices(layer: LayerLike, phase: str) -> Job:
    m, n, k, groups = layer.m, layer.n, layer.k, layer.groups
    shared = layer.kind == "recurrent"  # one weight matrix for all groups
    lead = (groups,) if groups > 1 else ()
    x, w = (*lead, m, k), ((k, n) if shared else (*lead, k, n))
    y, weights = (*lead, m, n), 0 if shared else k * n
    if phase == "fwd":
        return Job(
            GemmShape(m, n, k, groups),
            Operand("x", x, k, m * k), Operand("w", w, n, weights), Operand("y", y, n, m * n),
        )  # fmt: skip
    if phase == "dgrad":
        return Job(
            GemmShape(m, k, n, groups),
            Operand("dy", y, n, m * n),
            Operand("w", w, n, weights, transposed=True),
            Operand("dx", x, k, m * k),
        )
    steps = groups if shared else 1  # dW of shared weights sums over all of them
    return Job(
        GemmShape(k, n, m * steps, groups // steps),
        Operand("x", x, k, m * k, transposed=True),
        Operand("dy", y, n, m * n),
        Operand("dw", w, n, k * n),
    )


def _convolution(conv: Convolution, phase: str) -> Job:
    depth, filters = conv.channels // conv.groups, conv.filters // conv.groups
    pixels = conv.batch * conv.output[0] * conv.output[1]
    taps = conv.kernel[0] * conv.kernel[1]
    x = (conv.batch, conv.height, conv.width, conv.channels)
    w = (*conv.kernel, depth, conv.filters)
    y = (conv.batch, *conv.output, conv.filters)
    if phase == "fwd":
        return Job(
            GemmShape(pixels, filters, taps * depth, conv.groups),
            _unfolded("x", x, conv, transposed=False),
            Operand("w", w, conv.filters, filters),
            Operand("y", y, conv.filters, filters),
        )
    if phase == "dgrad":
        return Job(
            GemmShape(conv.batch * conv.height * conv.width, depth, taps * filters, conv.groups),
            _unfolded("dy", y, conv.input_gradient(), transposed=False),
            Operand(
                "w", w, conv.filters, filters, transposed=True,
                block=filters, block_step=depth * conv.filters, turned=True,
            ),
            Operand("dx", x, conv.channels, depth),
        )  # fmt: skip
    return Job(
        GemmShape(taps * depth, filters, pixels, conv.groups),
        _unfolded("x", x, conv, transposed=True),
        Operand("dy", y, conv.filters, filters),
        Operand("dw", w, conv.filters, filters),
    )


def _unfolded(tensor: str, shape: tuple[int, ...], conv: Convolution, transposed: bool) -> Operand:
    """Operand A of a convolution: an image, or a plain matrix where unfolding would change nothing."""
    grid = conv.output
    size, pitch = [conv.height, conv.width], [conv.width * conv.channels, conv.channels]
    stride, pad = list(conv.stride), [conv.padding[0], conv.padding[2]]
    for axis in (0, 1):
        # With one tap and no padding, only every stride-th line is touched: see those alone.
        reach = (grid[axis] - 1) * stride[axis]
        if conv.kernel[axis] == conv.gaps[axis] == 1 and pad[axis] == 0 and reach < size[axis]:
            size[axis], pitch[axis], stride[axis] = grid[axis], pitch[axis] * stride[axis], 1
    image = Image(
        size[0], size[1], conv.channels // conv.groups,
        pitch[1], pitch[0], conv.height * conv.width * conv.channels,
        grid, conv.kernel, (stride[0], stride[1]), (pad[0], pad[1]), conv.dilation, conv.gaps,
    )  # fmt: skip
    if image.is_matrix:
        return Operand(tensor, shape, image.pixel_pitch, image.channels, transposed)
    return Operand(tensor, shape, transposed=transposed, image=image)
