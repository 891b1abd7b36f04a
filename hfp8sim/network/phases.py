"""The three matrix products of a layer: each phase's GEMM, and where its operands lie in the tensors.

`phase_gemm` is the only place that defines how a layer becomes matrices. Lowering turns its views into
addresses in DRAM, `hfp8sim.workloads.operands` turns them into NumPy arrays.

Activations and errors are NHWC, weights (R, S, C/groups, F). A layer that is no convolution has X (M, K),
W (K, N) and dY (M, N), with the groups in front where there are several (`Layer.tensor_shape`).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from hfp8sim.network.records import Conv, GemmShape, Layer


@dataclasses.dataclass(frozen=True)
class Image:
    """An NHWC tensor as a convolution unfolds it (im2col); the fields are registers of docs/isa.md.

    Pairs are (vertical, horizontal). Row (p, q) and tap (r, s) of the unfolded matrix read line
    (p·stride + r·dilation − pad) / divide and the pixel likewise. Where the division leaves a remainder
    or the quotient lies outside the image, the element is +0.
    """

    height: int
    width: int
    channels: int  #: of one group
    pixel_pitch: int  #: elements from one pixel to the next
    line_pitch: int
    image_pitch: int
    grid: tuple[int, int]  #: output positions of one image
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]  #: above and to the left; negative values crop
    dilation: tuple[int, int]
    divide: tuple[int, int]  #: the input's own dilation, `Conv.gaps`

    @property
    def is_matrix(self) -> bool:
        """Whether the unfolded matrix is the tensor itself, one pixel after the other."""
        return (
            (self.kernel, self.stride, self.pad, self.divide) == ((1, 1), (1, 1), (0, 0), (1, 1))
            and self.grid == (self.height, self.width)
            and self.line_pitch == self.width * self.pixel_pitch
            and self.image_pitch == self.height * self.line_pitch
        )

    @property
    def pixels_read(self) -> int:
        """Pixels of one image that at least one tap reads."""
        return self._coordinates_read(0, self.height) * self._coordinates_read(1, self.width)

    def _coordinates_read(self, axis: int, size: int) -> int:
        """Lines (axis 0) or columns (axis 1) of the image that at least one tap reads."""
        stride, dilation, divide = self.stride[axis], self.dilation[axis], self.divide[axis]
        grid, kernel = self.grid[axis], self.kernel[axis]
        # Places i·stride + j·dilation, of positions i and taps j, as marks.
        marks = np.zeros((grid - 1) * stride + (kernel - 1) * dilation + 1, bool)
        (count, step), (others, other_step) = sorted([(grid, stride), (kernel, dilation)])
        for start in range(0, count * step, step):
            marks[start : start + others * other_step : other_step] = True
        pad = self.pad[axis]
        first, stop = pad if pad >= 0 else pad % divide, max(pad + size * divide, 0)
        return int(np.count_nonzero(marks[first:stop:divide]))


@dataclasses.dataclass(frozen=True)
class OperandView:
    """A tensor in its role as A, B or result of a GEMM.

    Element (row, column) of group g of the stored matrix lies g·group + row·pitch + column elements
    behind the tensor's first. The operand is that matrix, or its transpose, or the unfolded `image`.
    """

    tensor: str
    shape: tuple[int, ...]
    pitch: int = 0
    group: int = 0
    transposed: bool = False
    block: int = 0  #: transposed B only: k's per block; the blocks are matrices of their own …
    block_step: int = 0  #: … this many elements apart; 0 blocks: one matrix
    turned: bool = False  #: the blocks come in reverse order (filters rotated by 180°)
    image: Image | None = None


@dataclasses.dataclass(frozen=True)
class PhaseGemm:
    """The matrix product of a layer in one phase: `groups` times C (M×N) = A (M×K) · B (K×N)."""

    gemm: GemmShape
    a: OperandView
    b: OperandView
    c: OperandView


def phase_gemm(layer: Layer, phase: str) -> PhaseGemm:
    """The matrix product of a layer in a phase; `InputError` for an unknown phase."""
    gemm = layer.shape(phase)
    views = _matrix_views if layer.conv is None else _convolution_views
    return PhaseGemm(gemm, *views(layer, phase))


def _matrix_views(layer: Layer, phase: str) -> tuple[OperandView, OperandView, OperandView]:
    """A, B and result of a layer that is no convolution."""
    m, n, k = layer.m, layer.n, layer.k
    shared = layer.kind == "recurrent"  # one weight matrix for all groups
    x = OperandView("x", layer.tensor_shape("x"), k, m * k)
    w = OperandView("w", layer.tensor_shape("w"), n, 0 if shared else k * n)
    dy = OperandView("dy", layer.tensor_shape("dy"), n, m * n)
    if phase == "fwd":
        return x, w, dataclasses.replace(dy, tensor="y")
    if phase == "dgrad":
        return dy, _transposed(w), dataclasses.replace(x, tensor="dx")
    return _transposed(x), dy, dataclasses.replace(w, tensor="dw", group=k * n)


def _convolution_views(layer: Layer, phase: str) -> tuple[OperandView, OperandView, OperandView]:
    """A, B and result of a convolution; A is unfolded."""
    conv = layer.conv
    assert conv is not None
    depth, filters = conv.channels // conv.groups, conv.filters // conv.groups
    x, w, dy = (layer.tensor_shape(key) for key in ("x", "w", "dy"))
    weights = OperandView("w", w, conv.filters, filters)
    if phase == "fwd":
        return _unfolded("x", x, conv), weights, OperandView("y", dy, conv.filters, filters)
    if phase == "dgrad":
        rotated = dataclasses.replace(
            weights, transposed=True, block=filters, block_step=depth * conv.filters, turned=True
        )
        result = OperandView("dx", x, conv.channels, depth)
        return _unfolded("dy", dy, conv.input_gradient()), rotated, result
    errors = OperandView("dy", dy, conv.filters, filters)
    result = dataclasses.replace(weights, tensor="dw")
    return _transposed(_unfolded("x", x, conv)), errors, result


def _transposed(view: OperandView) -> OperandView:
    return dataclasses.replace(view, transposed=True)


def _unfolded(tensor: str, shape: tuple[int, ...], conv: Conv) -> OperandView:
    """Operand A of a convolution: an image, or a plain matrix where unfolding would change nothing."""
    grid = conv.output
    size, pitch = [conv.height, conv.width], [conv.width * conv.channels, conv.channels]
    stride, pad = list(conv.stride), [conv.padding[0], conv.padding[2]]
    for axis in (0, 1):
        # One tap without padding reads every stride-th line only: the image consists of those.
        reach = (grid[axis] - 1) * stride[axis]
        if conv.kernel[axis] == conv.gaps[axis] == 1 and pad[axis] == 0 and reach < size[axis]:
            size[axis], pitch[axis], stride[axis] = grid[axis], pitch[axis] * stride[axis], 1
    image = Image(
        height=size[0], width=size[1], channels=conv.channels // conv.groups,
        pixel_pitch=pitch[1], line_pitch=pitch[0],
        image_pitch=conv.height * conv.width * conv.channels,
        grid=grid, kernel=conv.kernel, stride=(stride[0], stride[1]), pad=(pad[0], pad[1]),
        dilation=conv.dilation, divide=conv.gaps,
    )  # fmt: skip
    if image.is_matrix:
        return OperandView(tensor, shape, image.pixel_pitch, image.channels)
    return OperandView(tensor, shape, image=image)
