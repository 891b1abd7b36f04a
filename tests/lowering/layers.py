"""Layers, their codes, and the explicitly unfolded GEMMs they must equal."""

import numpy as np

from hfp8sim.formats import get_format
from hfp8sim.ops import gemm
from hfp8sim.units.profile import get_profile
from hfp8sim.workloads import operands

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
    """The operands A (G, M, K) and B (G, K, N) of the layer, as the workloads room unfolds them."""
    tensors = {name: array.astype(np.float32) for name, array in codes.items()}
    found = operands(layer.replace(tensors=tensors), phase)
    return found.a.astype(np.uint32), found.b.astype(np.uint32)


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
