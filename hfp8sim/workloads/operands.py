"""The operand matrices of a layer's three GEMMs as NumPy arrays, from its tensors or from a seeded draw.

`network.phase_gemm` defines these matrices; this module evaluates its views.

Drawn values depend on the seed, the layer's name, the tensor and the position alone. They depend neither
on the phase nor on the part of the tensor that is requested. So all three phases compute the same
network, and a sample of the rows has the same values as those rows of the whole.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.network import TENSORS, GemmShape, Image, Layer, OperandView, phase_gemm

MAX_ELEMENTS = 2**26
"""Default bound on the elements of A, B and the result together: 256 MiB of float32."""

#: Default bound on the drawn elements of one tensor in `tensor_values`.
MAX_DRAWN = 2**24

_TENSOR_NAMES = {"x": "activations", "w": "weights", "dy": "errors"}

#: Elements that are drawn together; part of the definition of the drawn values.
_BLOCK_ELEMENTS = 2**18

#: Sampling halves rows and columns down to this number before it halves the groups.
_LEAST_ROWS = 64

_ERROR_SCALE = 2.0**-8

Indices = NDArray[np.int64]


class Operands(NamedTuple):
    """Operands of G GEMMs and where they came from.

    `a` is (G, M, K) and `b` is (G, K, N), float32; `provenance` says in words where the values come
    from and which rows, columns and groups were sampled.
    """

    a: np.ndarray
    b: np.ndarray
    provenance: str


class _Sample(NamedTuple):
    """Indices of the groups, rows of A and columns of B that are computed; the reduction stays whole."""

    groups: Indices
    rows: Indices
    columns: Indices
    words: str  #: what was left out, for the provenance


@standard_arithmetic
def operands(
    layer: Layer,
    phase: str,
    seed: int = 0,
    *,
    max_elements: int = MAX_ELEMENTS,
    max_macs: int | None = None,
) -> Operands:
    """A (G, M, K) and B (G, K, N) of `layer` in `phase`, as float32.

    fwd: activations × weights. dgrad: errors × weights. wgrad: activations, transposed × errors.
    Tensors that the layer does not carry are drawn (see `distribution`).

    Args:
        seed: of the draws, a whole number of at least 0.
        max_elements: bound on the elements of A, B and the result together.
        max_macs: bound on the multiply-accumulates; None: no bound. Beyond a bound, evenly spaced rows,
            columns and groups are computed instead of all. The reduction is never shortened, since its
            length decides the rounding error. `provenance` says what was sampled.

    Raises:
        InputError: an unknown phase, a bad seed, or one dot product that exceeds a bound on its own.
    """
    work = phase_gemm(layer, phase)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed is {seed!r}; it must be a whole number of at least 0")
    sample = _sample(layer.name, work.gemm, max_elements, max_macs)
    reduction = np.arange(work.gemm.k)
    a_tensor, b_tensor = (_Tensor(layer, view.tensor, int(seed)) for view in (work.a, work.b))
    a = _operand(a_tensor, work.a, sample.groups, sample.rows, reduction)
    b = _operand(b_tensor, work.b, sample.groups, reduction, sample.columns)
    return Operands(
        _writable(a),
        _writable(b),
        f"{a_tensor.provenance}; {b_tensor.provenance}{sample.words}",
    )


def _writable(array: np.ndarray) -> np.ndarray:
    """The array as contiguous float32 that the caller may overwrite: no part of a layer's tensor."""
    contiguous = np.ascontiguousarray(array, np.float32)
    return contiguous if contiguous.flags.writeable else contiguous.copy()


def operand_matrices(
    layer: Layer, phase: str, tensors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A (G, M, K) and B (G, K, N) of given tensors of any dtype, such as codes; padding and gaps are 0.

    Args:
        layer: its geometry; tensors that it carries are not used.
        tensors: arrays of the shapes of `Layer.tensor_shape`, by name.
    """
    work = phase_gemm(layer, phase)
    a, b = (_Tensor(layer, v.tensor, 0, tensors[v.tensor]) for v in (work.a, work.b))
    groups, m, n, k = (np.arange(size, dtype=np.int64) for size in work.gemm)
    return _operand(a, work.a, groups, m, k), _operand(b, work.b, groups, k, n)


def tensor_values(
    layer: Layer, key: str, seed: int = 0, max_elements: int = MAX_DRAWN
) -> np.ndarray:
    """The values of tensor `key`: all that the layer carries, or as many drawn ones as the bound allows.

    Args:
        seed: of the draws.
        max_elements: bound on drawn values; the first rows are taken.

    Returns:
        float32, in the tensor's shape if the layer carries it, else (rows, elements in a row).
    """
    tensor = _Tensor(layer, key, seed)
    if tensor.values is not None:
        return tensor.values
    width = tensor.shape[-1]
    rows = math.prod(tensor.shape[:-1])
    first = np.arange(min(rows, max(1, max_elements // width)), dtype=np.int64)
    return tensor.matrix(width, first, np.arange(width, dtype=np.int64))


class Distribution(NamedTuple):
    """What a tensor is drawn from: `scale` times a unit normal."""

    rectified: bool  #: whether negative values become zeros
    scale: float
    words: str  #: the distribution in mathematical notation


def distribution(layer: Layer, key: str) -> Distribution:
    """What tensor `key` ("x", "w" or "dy") is drawn from.

    Weights have the standard deviation √(2 / fan-in) of He et al. (arXiv 1502.01852). Activations are a
    unit normal after a ReLU, so that a layer's output has unit second moment again. Both operands of a
    `matmul` are unit normals. Errors are normal with standard deviation 2⁻⁸, as under loss scaling.
    """
    if key == "dy":
        return Distribution(False, _ERROR_SCALE, "N(0, 2⁻¹⁶)")
    if layer.kind == "matmul":
        return Distribution(False, 1.0, "N(0, 1)")
    if key == "w":
        return Distribution(False, float(np.sqrt(2.0 / layer.k)), "N(0, 2/fan-in)")
    return Distribution(True, 1.0, "max(0, N(0, 1))")


def _sample(name: str, shape: GemmShape, max_elements: int, max_macs: int | None) -> _Sample:
    """Halve rows or columns (the longer), then groups, until both bounds hold."""
    g, m, n, k = shape

    def too_large() -> bool:
        elements = g * (m * k + k * n + m * n)
        return elements > max_elements or (max_macs is not None and g * m * n * k > max_macs)

    while too_large():
        if max(m, n) > _LEAST_ROWS or (g == 1 and max(m, n) > 1):
            if m >= n:
                m = (m + 1) // 2
            else:
                n = (n + 1) // 2
        elif g > 1:
            g = (g + 1) // 2
        else:
            exceeds_macs = max_macs is not None and k > max_macs
            bound = f"max_macs, {max_macs}" if exceeds_macs else f"max_elements, {max_elements}"
            raise InputError(
                f"layer {name!r}: one dot product of length {k} is beyond {bound}; raise that bound"
            )
    sizes = ((g, shape.groups, "groups"), (m, shape.m, "rows"), (n, shape.n, "columns"))
    parts = [f"{count} of {total} {axis}" for count, total, axis in sizes if count < total]
    words = f"; sampled {', '.join(parts)} (evenly spaced, reduction whole)" if parts else ""
    groups, rows, columns = (_evenly_spaced(count, total) for count, total, _ in sizes)
    return _Sample(groups, rows, columns, words)


def _evenly_spaced(count: int, total: int) -> Indices:
    """`count` of the indices 0 … total-1, ascending from 0."""
    indices: Indices = np.arange(count, dtype=np.int64) * total // count
    return indices


# --- where values come from --------------------------------------------------------------------


class _Tensor:
    """A tensor of a layer: the values that the layer carries, or values that are drawn block by block.

    A block is an image of a convolution's x and dy, all of its w, or some rows of one group of another
    layer's tensor.
    """

    def __init__(self, layer: Layer, key: str, seed: int, values: np.ndarray | None = None) -> None:
        self.layer, self.key, self.seed = layer, key, seed
        self.shape = layer.tensor_shape(key)
        self.values = layer.tensors.get(key) if values is None else values

    @property
    def provenance(self) -> str:
        """Where the values come from, in words."""
        name = _TENSOR_NAMES[self.key]
        if self.values is not None:
            return f"{name} {self.layer.origin}"
        distribution_text = (
            f"drawn from {distribution(self.layer, self.key).words}, seed {self.seed}"
        )
        reason = self.layer.unread.get(self.key)
        return (
            f"{name} not known ({reason}), {distribution_text}"
            if reason
            else f"{name} {distribution_text}"
        )

    def image(self, n: int) -> np.ndarray:
        """Image `n` of a convolution's x or dy: (height, width, channels)."""
        if self.values is None:
            return self._draw((n,), self.shape[1:])
        image: np.ndarray = self.values[n]
        return image

    def matrix(self, width: int, rows: Indices, columns: Indices) -> np.ndarray:
        """Rows and columns of the whole tensor, read as a matrix with `width` elements in a row."""
        pick = _as_slice(columns)
        if self.values is not None:
            chosen: np.ndarray = self.values.reshape(-1, width)[_as_slice(rows)][:, pick]
            return chosen
        if self.layer.conv is None:
            return self._rows_of_groups(rows, pick)
        if self.key == "w":
            return self._draw((), self.shape).reshape(-1, width)[_as_slice(rows)][:, pick]
        parts = [
            self.image(n).reshape(-1, width)[_as_slice(inside)][:, pick]
            for n, inside in _by_part(rows, int(np.prod(self.shape[1:])) // width)
        ]
        return _joined(parts)

    def _rows_of_groups(self, rows: Indices, pick: slice | Indices) -> np.ndarray:
        """Drawn rows of a layer that is no convolution, its groups one below the other."""
        height, width = self.shape[-2:]
        step = max(1, _BLOCK_ELEMENTS // width)
        parts = []
        for group, inside in _by_part(rows, height):
            for block, inner in _by_part(inside, step):
                size = (min(step, height - block * step), width)
                parts.append(self._draw((group, block), size)[_as_slice(inner)][:, pick])
        return _joined(parts)

    def _draw(self, block: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
        """One block; its random stream is keyed by seed, layer, tensor and block."""
        from hfp8sim.kernels.normals import normals  # loads the compiler

        name = zlib.crc32(self.layer.name.encode())
        law = distribution(self.layer, self.key)
        key = self.seed, name, TENSORS.index(self.key), *block
        return normals(key, size, law.scale, rectified=law.rectified)


def _as_slice(indices: Indices) -> slice | Indices:
    """Ascending indices as a slice if they are evenly spaced, since NumPy copies nothing then."""
    first, last = int(indices[0]), int(indices[-1])
    step = max(int(indices[1]) - first, 1) if len(indices) > 1 else 1
    if np.array_equal(indices, np.arange(first, last + 1, step)):
        return slice(first, last + 1, step)
    return indices


def _joined(parts: list[np.ndarray], axis: int = 0) -> np.ndarray:
    """Arrays one after another; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def _by_part(rows: Indices, size: int) -> Iterator[tuple[int, Indices]]:
    """Ascending rows by parts of `size` rows: (number of the part, rows counted from its first one)."""
    parts = range(int(rows[0]) // size, int(rows[-1]) // size + 1)
    stops = np.searchsorted(rows, [(part + 1) * size for part in parts])
    for part, start, stop in zip(parts, [0, *stops], stops):
        if start < stop:
            yield part, rows[start:stop] - part * size


# --- views of tensors ----------------------------------------------------------------------------


def _operand(
    tensor: _Tensor, view: OperandView, groups: Indices, rows: Indices, columns: Indices
) -> np.ndarray:
    """Groups, rows and columns of an operand: (groups, rows, columns). The reduction axis is whole."""
    if view.transposed:
        stored = _stored(tensor, view, groups, columns, rows)
        return stored.swapaxes(1, 2)
    return _stored(tensor, view, groups, rows, columns)


def _stored(
    tensor: _Tensor, view: OperandView, groups: Indices, rows: Indices, columns: Indices
) -> np.ndarray:
    """Rows and columns of the stored matrix that a view is, or is the transpose of."""
    if view.image is not None:
        return _unfolded(tensor, view.image, groups, rows, columns)
    if view.block == 0:
        return _plain(tensor, view, groups, rows, columns)
    # The matrix consists of blocks of `block` columns, which the tensor stores one below the other.
    blocks = np.arange(len(columns) // view.block)[:: -1 if view.turned else 1]
    block_rows = blocks[:, None] * (view.block_step // view.pitch) + rows
    stored = _plain(tensor, view, groups, block_rows.ravel(), np.arange(view.block))
    stored = stored.reshape(len(groups), len(blocks), len(rows), view.block)
    return stored.swapaxes(1, 2).reshape(len(groups), len(rows), len(columns))


def _plain(
    tensor: _Tensor, view: OperandView, groups: Indices, rows: Indices, columns: Indices
) -> np.ndarray:
    """Rows and columns of a matrix whose element (row, column) lies at group·g + pitch·row + column."""
    if view.group == 0:  # all groups share one matrix
        shared = tensor.matrix(view.pitch, rows, columns)
        return np.broadcast_to(shared, (len(groups), *shared.shape))
    first_row, first_column = np.divmod(groups * view.group, view.pitch)
    if not first_row.any():  # the groups lie side by side
        side_by_side = (first_column[:, None] + columns).ravel()
        stored = tensor.matrix(view.pitch, rows, side_by_side)
        return stored.reshape(len(rows), len(groups), len(columns)).swapaxes(0, 1)
    below = (first_row[:, None] + rows).ravel()  # one below the other
    return tensor.matrix(view.pitch, below, columns).reshape(len(groups), len(rows), len(columns))


def _unfolded(
    tensor: _Tensor, view: Image, groups: Indices, rows: Indices, columns: Indices
) -> np.ndarray:
    """Rows and columns of the unfolded images, which lie one below the other."""
    parts = [
        unfold(tensor.image(n), view, groups, inside, columns)
        for n, inside in _by_part(rows, view.grid[0] * view.grid[1])
    ]
    return _joined(parts, axis=1)


def unfold(
    image: np.ndarray, view: Image, groups: Indices, rows: Indices, columns: Indices
) -> np.ndarray:
    """One image (height, width, channels) as a GEMM's operand (im2col): (groups, rows, columns).

    Row p·Q + q, column (r·S + s)·C + c holds line (p·stride + r·dilation - pad) / divide of the image and
    the pixel likewise, for C channels of a group. It is +0 where there is no such pixel.
    """
    (_, q), (r, s) = view.grid, view.kernel
    (sh, sw), (dh, dw) = view.stride, view.dilation
    reach = (dh * (r - 1) + 1, dw * (s - 1) + 1)
    padded = _padded(image, view)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(0, 1))
    windows = windows[::sh, ::sw, :, ::dh, ::dw].transpose(0, 1, 3, 4, 2)  # (P, Q, R, S, C), a view
    if len(rows) == windows.shape[0] * windows.shape[1]:
        taps = windows.reshape(len(rows), r * s, -1, view.channels)
    else:
        taps = windows[rows // q, rows % q].reshape(len(rows), r * s, -1, view.channels)
    if len(groups) < taps.shape[2]:
        taps = taps[:, :, groups]
    unfolded = taps.transpose(2, 0, 1, 3).reshape(len(groups), len(rows), -1)
    if len(columns) < unfolded.shape[2]:
        unfolded = unfolded[:, :, columns]
    return np.ascontiguousarray(unfolded)  # here, where one image fits into the cache


def _padded(image: np.ndarray, view: Image) -> np.ndarray:
    """The part of the input that taps reach, with zeros in its gaps and around it."""
    lines = view.line_pitch // (image.shape[1] * image.shape[2])
    pixels = image[::lines, :: view.pixel_pitch // image.shape[2]]
    extents, targets, sources = [], [], []
    for axis, size in enumerate((view.height, view.width)):
        pad, gap = view.pad[axis], view.divide[axis]
        extent = (view.grid[axis] - 1) * view.stride[axis]
        extent += view.dilation[axis] * (view.kernel[axis] - 1) + 1
        first = max(0, -(pad // gap))
        stop = max(first, min(size, -((pad - extent) // gap)))
        extents.append(extent)
        targets.append(slice(first * gap + pad, first * gap + pad + (stop - first) * gap, gap))
        sources.append(slice(first, stop))
    padded = np.zeros((*extents, image.shape[2]), image.dtype)
    padded[tuple(targets)] = pixels[tuple(sources)]
    return padded
