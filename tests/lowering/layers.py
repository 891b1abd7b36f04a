"""Layers, their codes, and the explicitly unfolded GEMMs they must equal."""

import numpy as np

from hfp8sim.formats import get_format
from hfp8sim.ops import gemm
from hfp8sim.units.profile import get_profile

INPUTS = {"fwd": ("x", "w"), "dgrad": ("dy", "w"), "wgrad": ("x", "dy")}


def random_codes(fmt, shape, rng):
    """Codes of normal numbers around one, a tenth of them zero."""
    numbers = rng.standard_normal(shape) * (rng.random(shape) > 0.1)
    return get_format(fmt).encode(numbers * 0.25, rounding="nearest-even")


def layer_inputs(layer, phase, profile, rng):
    """Codes of the layer's two input tensors, by name."""
    formats = get_profile(profile).operand_formats(phase)
    return {
        name: random_codes(fmt, layer.tensor_shape(name), rng)
        for name, fmt in zip(INPUTS[phase], formats, strict=True)
    }


def unfolded(layer, phase, codes):
    """The operands A (G, M, K) and B (G, K, N) of the layer, without `network.phase_gemm`."""
    if layer.conv is None:
        return _matrix_operands(layer, phase, codes)
    return _convolution_operands(layer.conv, phase, codes)


def _matrix_operands(layer, phase, codes):
    x, w, dy = (
        codes[name].reshape(-1, *layer.tensor_shape(name)[-2:]) if name in codes else None
        for name in ("x", "w", "dy")
    )
    if w is not None:
        w = np.broadcast_to(w, (layer.groups, *w.shape[1:]))
    if phase == "fwd":
        return x, w
    if phase == "dgrad":
        return dy, w.swapaxes(1, 2)
    if layer.kind == "recurrent":  # one dW for all steps
        x, dy = x.reshape(1, -1, layer.k), dy.reshape(1, -1, layer.n)
    return x.swapaxes(1, 2), dy


def _convolution_operands(conv, phase, codes):
    groups = conv.groups
    if "w" in codes:  # (groups, R, S, C/groups, F/groups)
        w = np.moveaxis(codes["w"].reshape(*codes["w"].shape[:3], groups, -1), 3, 0)
    if phase == "fwd":
        return im2col(codes["x"], conv), w.reshape(groups, -1, w.shape[-1])
    if phase == "dgrad":
        rotated = w[:, ::-1, ::-1].swapaxes(3, 4)
        b = rotated.reshape(groups, -1, rotated.shape[-1])
        return im2col(codes["dy"], conv.input_gradient()), b
    errors = codes["dy"].reshape(-1, groups, conv.filters // groups).swapaxes(0, 1)
    return im2col(codes["x"], conv).swapaxes(1, 2), errors


def im2col(images, conv):
    """NHWC images as (groups, batch·P·Q, R·S·C/groups), one tap after the other."""
    (p, q), (top, _, left, _) = conv.output, conv.padding
    columns = np.zeros((conv.batch, p, q, *conv.kernel, conv.channels), images.dtype)
    for r, s, i, j in np.ndindex(*conv.kernel, p, q):
        line, no_line = divmod(i * conv.stride[0] + r * conv.dilation[0] - top, conv.gaps[0])
        pixel, no_pixel = divmod(j * conv.stride[1] + s * conv.dilation[1] - left, conv.gaps[1])
        inside = 0 <= line < conv.height and 0 <= pixel < conv.width
        if inside and not no_line and not no_pixel:
            columns[:, i, j, r, s] = images[:, line, pixel]
    columns = columns.reshape(conv.batch * p * q, -1, conv.groups, conv.channels // conv.groups)
    return columns.transpose(2, 0, 1, 3).reshape(conv.groups, conv.batch * p * q, -1)


def expected(layer, phase, codes, profile, seed=0, stream=0):
    """`gemm` on the unfolded operands, group by group, in the shape of the layer's output tensor."""
    profile = get_profile(profile)
    a_format, b_format = profile.operand_formats(phase)
    a, b = unfolded(layer, phase, codes)
    groups = [
        gemm(
            a[g], b[g], profile, a_format=a_format, b_format=b_format, seed=seed, stream=stream + g
        )
        for g in range(a.shape[0])
    ]
    return np.concatenate(groups, axis=1) if layer.conv else np.stack(groups)
