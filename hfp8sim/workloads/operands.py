"""The operand matrices of a layer's three GEMMs, from its tensors or from a stated, seeded draw.

Drawn values depend on the seed, the layer's name, the tensor and the position alone: not on the phase,
nor on how much of the tensor is asked for. So all three phases see the same network, and a sample of
the rows sees the same rows as the whole.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from hfp8sim.errors import InputError, unknown
from hfp8sim.network.records import (
    PHASES,
    TENSORS,
    Conv,
    GemmShape,
    Layer,
)

MAX_ELEMENTS = 2**26
"""Default bound on the elements of A, B and the result together: 256 MiB of float32."""

_WORDS = {"x": "activations", "w": "weights", "dy": "errors"}
_BLOCK_ELEMENTS = 2**18
_KEEP = 64  # rows and columns that sampling leaves before it gives up groups

_ERROR_SCALE = 2.0**-8


class Operands(NamedTuple):
    """Operands of `groups` GEMMs and how they came about.

    `a` is (G, M, K) and `b` is (G, K, N), float32; `provenance` says in words where the values come
    from and what was left out.
    """

    a: np.ndarray
    b: np.ndarray
    provenance: str


class _Sample(NamedTuple):
    """Indices of the groups, rows of A and columns of B that are taken; the reduction stays whole."""

    groups: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    words: str


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
    Tensors that the layer does not carry are drawn (see `distribution`). Where A, B and the result
    would hold more than `max_elements` values together, or the product more than `max_macs`
    multiply-accumulates, evenly spaced rows, columns and groups are taken instead of all; the
    reduction is never shortened, since its length decides the rounding error. `provenance` says so.

    Raises `InputError` for an unknown phase or seed, and where one dot product alone is too large.
    """
    if phase not in PHASES:
        raise unknown("phase", phase, list(PHASES))
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed is {seed!r}; it must be a whole number of at least 0")
    shape = layer.shape(phase)
    take = _sample(layer.name, shape, max_elements, max_macs)
    if layer.conv is not None:
        a, b = _CONVOLUTION[phase](layer, layer.conv, int(seed), take)
    else:
        a, b = _matrices(layer, phase, int(seed), take)
    used = {"fwd": ("x", "w"), "dgrad": ("dy", "w"), "wgrad": ("x", "dy")}[phase]
    words = "; ".join(_provenance(layer, key, int(seed)) for key in used)
    return Operands(
        np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32), words + take.words
    )


class Distribution(NamedTuple):
    """What a tensor is drawn from: `scale` times a unit normal, negative values as zeros where `rectified`;
    the law in `words`."""

    rectified: bool
    scale: float
    words: str


def distribution(layer: Layer, key: str) -> Distribution:
    """What tensor `key` is drawn from.

    Weights have He et al.'s deviation (arXiv 1502.01852), √(2 / fan-in), and activations are what
    a ReLU lets through of a unit normal, so that a layer's output has unit second moment again. Both
    operands of a `matmul` are unit normals. Errors are normal with deviation 2⁻⁸: those of a network
    under loss scaling.
    """
    if key == "dy":
        return Distribution(False, _ERROR_SCALE, "N(0, 2⁻¹⁶)")
    if layer.kind == "matmul":
        return Distribution(False, 1.0, "N(0, 1)")
    if key == "w":
        return Distribution(False, float(np.sqrt(2.0 / layer.k)), "N(0, 2/fan-in)")
    return Distribution(True, 1.0, "max(0, N(0, 1))")


def _provenance(layer: Layer, key: str, seed: int) -> str:
    word = _WORDS[key]
    if key in layer.tensors:
        return f"{word} {layer.origin}"
    return f"{word} drawn from {distribution(layer, key).words}, seed {seed}"


def _sample(name: str, shape: GemmShape, max_elements: int, max_macs: int | None) -> _Sample:
    """Halve rows or columns (the longer), then groups, until both bounds hold."""
    g, m, n, k = shape

    def too_large() -> bool:
        elements = g * (m * k + k * n + m * n)
        return elements > max_elements or (max_macs is not None and g * m * n * k > max_macs)

    while too_large():
        if max(m, n) > _KEEP or (g == 1 and max(m, n) > 1):
            if m >= n:
                m = (m + 1) // 2
            else:
                n = (n + 1) // 2
        elif g > 1:
            g = (g + 1) // 2
        else:
            few = max_macs is not None and k > max_macs
            bound = f"max_macs, {max_macs}" if few else f"max_elements, {max_elements}"
            raise InputError(
                f"layer {name!r}: one dot product of length {k} is beyond {bound}; raise that bound"
            )
    parts = [
        f"{some} of {all_} {word}"
        for some, all_, word in (
            (g, shape.groups, "groups"),
            (m, shape.m, "rows"),
            (n, shape.n, "columns"),
        )
        if some < all_
    ]
    words = f"; sampled {', '.join(parts)} (evenly spaced, reduction whole)" if parts else ""
    return _Sample(_spread(g, shape.groups), _spread(m, shape.m), _spread(n, shape.n), words)


def _spread(some: int, total: int) -> np.ndarray:
    """`some` of the indices 0..total-1, evenly spaced, the first among them."""
    return np.arange(some, dtype=np.int64) * total // some


# --- where values come from --------------------------------------------------------------------


def _draw(
    layer: Layer, key: str, seed: int, block: tuple[int, ...], size: tuple[int, ...]
) -> np.ndarray:
    """One block of a drawn tensor; its stream is keyed by seed, layer, tensor and block."""
    entropy = [seed, zlib.crc32(layer.name.encode()), TENSORS.index(key), *block]
    values = np.random.default_rng(entropy).standard_normal(size, np.float32)
    law = distribution(layer, key)
    values *= np.float32(law.scale)
    return np.maximum(values, 0, out=values) if law.rectified else values


def _image(layer: Layer, key: str, n: int, seed: int) -> np.ndarray:
    """Image `n` of a convolution's x or dy: (height, width, channels)."""
    if key in layer.tensors:
        image: np.ndarray = layer.tensors[key][n]
        return image
    return _draw(layer, key, seed, (n,), layer.tensor_shape(key)[1:])


def _filters(layer: Layer, conv: Conv, seed: int) -> np.ndarray:
    """A convolution's weights by group: (groups, R, S, C/groups, F/groups)."""
    shape = layer.tensor_shape("w")
    w = layer.tensors["w"] if "w" in layer.tensors else _draw(layer, "w", seed, (), shape)
    return np.moveaxis(w.reshape(*shape[:3], conv.groups, -1), 3, 0)


def _matrix(
    layer: Layer,
    key: str,
    group: int,
    seed: int,
    rows: np.ndarray | None,
    columns: np.ndarray | None,
) -> np.ndarray:
    """The chosen rows and columns (None: all) of one group's tensor of a layer that is no convolution."""
    height, width = layer.tensor_shape(key)[-2:]
    rows = np.arange(height) if rows is None else rows
    pick = slice(None) if columns is None or len(columns) == width else columns
    if key in layer.tensors:
        whole = layer.tensors[key].reshape(-1, height, width)
        chosen: np.ndarray = whole[group % len(whole)][rows][:, pick]
        return chosen
    if key == "w" and layer.kind == "recurrent":
        group = 0
    step = max(1, _BLOCK_ELEMENTS // width)
    blocks, at = np.unique(rows // step, return_index=True)
    parts = []
    for block, inside in zip(blocks, np.split(rows, at[1:]), strict=True):
        start = int(block) * step
        drawn = _draw(layer, key, seed, (group, int(block)), (min(step, height - start), width))
        parts.append(drawn[inside - start][:, pick])
    return np.concatenate(parts)


# --- matrices of the three phases ----------------------------------------------------------------


def _matrices(layer: Layer, phase: str, seed: int, take: _Sample) -> tuple[np.ndarray, np.ndarray]:
    """A and B of a layer that is no convolution."""

    def get(key: str, g: int, rows: np.ndarray | None, columns: np.ndarray | None) -> np.ndarray:
        return _matrix(layer, key, g, seed, rows, columns)

    rows, columns = take.rows, take.columns
    if phase == "wgrad" and layer.kind == "recurrent":  # dW sums over every step
        steps = range(layer.groups)
        a = np.concatenate([get("x", t, None, rows) for t in steps]).T[None]
        b = np.concatenate([get("dy", t, None, columns) for t in steps])[None]
        return a, b

    def pair(g: int) -> tuple[np.ndarray, np.ndarray]:
        if phase == "fwd":
            return get("x", g, rows, None), get("w", g, None, columns)
        if phase == "dgrad":
            return get("dy", g, rows, None), get("w", g, columns, None).T
        return get("x", g, None, rows).T, get("dy", g, None, columns)

    pairs = [pair(int(g)) for g in take.groups]
    return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])


def unfold(
    image: np.ndarray,
    conv: Conv,
    rows: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    columns: np.ndarray | None = None,
) -> np.ndarray:
    """One image (height, width, channels) as GEMM operands: (groups, P·Q, R·S·C/groups).

    Row p·Q + q, column (r·S + s)·C/groups + c holds input pixel (p·sh + r·dh - top, q·sw + s·dw - left)
    of the gapped image, +0 outside. `rows`, `groups` and `columns` choose some of them (None: all).
    """
    (p, q), (r, s) = conv.output, conv.kernel
    (sh, sw), (dh, dw) = conv.stride, conv.dilation
    reach = (dh * (r - 1) + 1, dw * (s - 1) + 1)
    windows = np.lib.stride_tricks.sliding_window_view(_spaced(image, conv), reach, axis=(0, 1))
    windows = windows[::sh, ::sw, :, ::dh, ::dw].transpose(0, 1, 3, 4, 2)  # (P, Q, R, S, C), a view
    if rows is None:
        taken = windows.reshape(p * q, r * s, conv.groups, -1)
    else:
        taken = windows[rows // q, rows % q].reshape(len(rows), r * s, conv.groups, -1)
    if groups is not None:
        taken = taken[:, :, groups]
    unfolded: np.ndarray = taken.transpose(2, 0, 1, 3).reshape(taken.shape[2], taken.shape[0], -1)
    return unfolded if columns is None else unfolded[:, :, columns]


def _spaced(image: np.ndarray, conv: Conv) -> np.ndarray:
    """The image with zeros in its gaps and around it; negative padding crops."""
    if conv.gaps != (1, 1):
        gh, gw = conv.gaps
        gapped = np.zeros(
            ((conv.height - 1) * gh + 1, (conv.width - 1) * gw + 1, conv.channels), image.dtype
        )
        gapped[::gh, ::gw] = image
        image = gapped
    top, bottom, left, right = conv.padding
    grow = [(max(0, top), max(0, bottom)), (max(0, left), max(0, right)), (0, 0)]
    image = np.pad(image, grow)  # first, since a crop may reach into the other side's padding
    height, width = image.shape[:2]
    return np.ascontiguousarray(
        image[max(0, -top) : height - max(0, -bottom), max(0, -left) : width - max(0, -right)]
    )


def _unfold_rows(layer: Layer, key: str, conv: Conv, seed: int, take: _Sample) -> np.ndarray:
    """The chosen rows of the unfolded tensor, image by image: (G, rows, K)."""
    per_image = conv.output[0] * conv.output[1]
    images, at = np.unique(take.rows // per_image, return_index=True)
    groups = None if len(take.groups) == conv.groups else take.groups
    parts = []
    for n, rows in zip(images, np.split(take.rows, at[1:]), strict=True):
        image, inside = _image(layer, key, int(n), seed), rows - n * per_image
        chosen = None if len(inside) == per_image else inside
        parts.append(unfold(image, conv, chosen, groups))
    return np.concatenate(parts, axis=1)


def _conv_fwd(layer: Layer, conv: Conv, seed: int, take: _Sample) -> tuple[np.ndarray, np.ndarray]:
    w = _filters(layer, conv, seed)[take.groups]
    b = w.reshape(len(take.groups), layer.k, layer.n)[:, :, take.columns]
    return _unfold_rows(layer, "x", conv, seed, take), b


def _conv_dgrad(
    layer: Layer, conv: Conv, seed: int, take: _Sample
) -> tuple[np.ndarray, np.ndarray]:
    """Errors unfolded over (r, s, f) times the filters turned by 180 degrees, F before C."""
    turned = _filters(layer, conv, seed)[take.groups][:, ::-1, ::-1].swapaxes(3, 4)
    b = turned.reshape(len(take.groups), -1, turned.shape[-1])[:, :, take.columns]
    return _unfold_rows(layer, "dy", conv.input_gradient(), seed, take), b


def _conv_wgrad(
    layer: Layer, conv: Conv, seed: int, take: _Sample
) -> tuple[np.ndarray, np.ndarray]:
    """The chosen columns of the unfolded activations, transposed, and those of the errors."""
    a_parts, b_parts = [], []
    for n in range(conv.batch):
        x = _image(layer, "x", n, seed)
        a_parts.append(unfold(x, conv, groups=take.groups, columns=take.rows))
        dy = _image(layer, "dy", n, seed).reshape(-1, conv.groups, layer.n)
        b_parts.append(dy[:, take.groups][:, :, take.columns].swapaxes(0, 1))
    return np.concatenate(a_parts, axis=1).swapaxes(1, 2), np.concatenate(b_parts, axis=1)


_CONVOLUTION = {"fwd": _conv_fwd, "dgrad": _conv_dgrad, "wgrad": _conv_wgrad}
