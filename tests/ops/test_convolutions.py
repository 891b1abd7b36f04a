"""`conv_fwd`, `conv_dgrad` and `conv_wgrad` against `gemm` on matrices that NumPy unfolds, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.network import PHASES, Conv, Layer
from hfp8sim.ops import Events
from hfp8sim.simulation.values import result_tensor
from hfp8sim.units import Profile, get_profile, profiles
from hfp8sim.workloads.operands import operand_matrices
from tests.units.problems import operand

HFP8 = get_profile("hfp8")
#: Geometry that differs from a plain 3×3 convolution in one thing each.
SHAPES = {
    "3x3": Conv(2, 5, 6, 4, 4, (3, 3), padding=(1, 1, 1, 1)),
    "strided": Conv(3, 7, 6, 8, 4, (3, 2), stride=(2, 3), padding=(1, 0, 0, 2)),
    "groups": Conv(2, 4, 5, 6, 9, (2, 3), padding=(1, 1, 1, 1), groups=3),
    "depthwise": Conv(2, 6, 5, 19, 19, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), groups=19),
    "multiplier": Conv(1, 5, 5, 3, 6, (3, 3), padding=(1, 1, 1, 1), groups=3),
    "long sums": Conv(1, 3, 3, 70, 5, (3, 3), padding=(1, 1, 1, 1)),
}


def tensors(conv: Conv, profile: Profile, phase: str, kind: str = "normal", seed: int = 0):
    """Codes of x, w and dy in the formats of a phase."""
    rng = np.random.default_rng([seed, conv.height, conv.channels])
    layer, (a, b) = Layer.from_conv("layer", conv), profile.operand_formats(phase)
    formats = {"fwd": {"x": a, "w": b}, "dgrad": {"dy": a, "w": b}, "wgrad": {"x": a, "dy": b}}
    return {
        name: operand(rng, fmt, layer.tensor_shape(name), kind)
        for name, fmt in formats[phase].items()
    }


def by_gemm(conv: Conv, phase: str, codes, profile: Profile, **how):
    """A phase by `gemm`, a group at a time: codes in the shape of the result's tensor, and events."""
    layer, events, products = Layer.from_conv("layer", conv), Events(), []
    a_format, b_format = profile.operand_formats(phase)
    stream = how.pop("stream", 0)
    for g, (a, b) in enumerate(zip(*operand_matrices(layer, phase, codes))):
        product, own = hs.gemm(
            a, b, profile, a_format=a_format, b_format=b_format, stream=stream + g, threads=1,
            events=True, **how,
        )  # fmt: skip
        products.append(product)
        events += own
    return result_tensor(layer, phase, np.stack(products)), events


def by_conv(conv: Conv, phase: str, codes, profile, layout="NHWC", **how):
    """A phase by its call: codes in the shape of the result's tensor (R, S, C/groups, F for weights)."""
    images = (0, 3, 1, 2) if layout == "NCHW" else (0, 1, 2, 3)
    weights = (3, 2, 0, 1) if layout == "NCHW" else (3, 0, 1, 2)
    named = {
        name: x.transpose(weights if name == "w" else images) for name, x in codes.items()
    }  # fmt: skip
    if how.pop("contiguous", False):
        named = {name: np.ascontiguousarray(x) for name, x in named.items()}
    how |= {
        "stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation,
        "groups": conv.groups, "layout": layout,
    }  # fmt: skip
    if phase == "fwd":
        result = hs.conv_fwd(named["x"], named["w"], profile, **how)
    elif phase == "dgrad":
        size = conv.height, conv.width
        result = hs.conv_dgrad(named["dy"], named["w"], size, profile, **how)
    else:
        result = hs.conv_wgrad(named["x"], named["dy"], conv.kernel, profile, **how)
    result, *events = result if isinstance(result, tuple) else (result,)
    axes = np.argsort(weights if phase == "wgrad" else images)
    return (result.transpose(axes), *events) if events else result.transpose(axes)


def compare(conv: Conv, phase: str, profile: Profile, kind: str = "normal", **how) -> None:
    """Codes and events, on one and two threads, in both layouts."""
    codes = tensors(conv, profile, phase, kind)
    expected, events = by_gemm(conv, phase, codes, profile, **how)
    for layout, threads in (("NHWC", 1), ("NCHW", 2)):
        result = by_conv(conv, phase, codes, profile, layout, threads=threads, **how)
        np.testing.assert_array_equal(result, expected)
        result, counted = by_conv(
            conv, phase, codes, profile, layout, threads=threads, contiguous=True, events=True, **how
        )  # fmt: skip
        np.testing.assert_array_equal(result, expected)
        assert counted == events


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grid_of_geometries(groups: int, phase: str) -> None:
    kernels, strides, pads = ((1, 1), (2, 3), (3, 3)), ((1, 1), (2, 2), (1, 3)), (0, 1, 2)
    for kernel, stride, pad, dilation in itertools.product(
        kernels, strides, pads, ((1, 1), (2, 1))
    ):
        conv = Conv(
            2, 5, 6, 4, 8, kernel, stride, (pad, pad, pad, max(pad - 1, 0)), dilation, groups
        )
        codes = tensors(conv, HFP8, phase)
        expected, events = by_gemm(conv, phase, codes, HFP8)
        for layout in ("NHWC", "NCHW"):
            result, counted = by_conv(conv, phase, codes, HFP8, layout, threads=1, events=True)
            np.testing.assert_array_equal(result, expected, err_msg=f"{conv}")
            assert counted == events, conv


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", profiles("exact"))
def test_every_profile(name: str, shape: str, phase: str) -> None:
    compare(SHAPES[shape], phase, get_profile(name))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", ["any", "extreme", "wide"])
def test_special_codes_and_limits(kind: str, phase: str) -> None:
    for shape in ("strided", "groups", "depthwise"):
        for name in ("hfp8", "rapid"):
            compare(SHAPES[shape], phase, get_profile(name), kind)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("source", ["row-column", "counter", "lfsr"])
def test_random_words_of_groups(source: str, phase: str) -> None:
    """Group g draws from stream + g, and rows and k are numbered as in the whole matrix."""
    profile = HFP8.replace(rounding="stochastic", random_source=source, chunk_length=7)
    for conv in SHAPES.values():
        compare(conv, phase, profile, seed=3, stream=11)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("shape", ["strided", "depthwise", "long sums"])
@pytest.mark.parametrize("kind", ["normal", "extreme", "any"])
def test_values_of_operands(kind: str, shape: str, phase: str) -> None:
    """Operands with a scale, values out, and a flag for those that are not finite."""
    conv, profile = SHAPES[shape], get_profile("rapid")
    codes = tensors(conv, profile, phase, kind)
    fmt = profile.result_format
    with np.errstate(all="ignore"):
        expected = np.ldexp(fmt.decode(by_gemm(conv, phase, codes, profile)[0]), 3)
    formats = dict(zip(codes, profile.operand_formats(phase)))
    scaled = {
        name: hs.Operand(x, formats[name], exponent)
        for (name, x), exponent in zip(codes.items(), (5, -2))
    }
    for dtype, layout, threads in ((np.float32, "NHWC", 1), (np.float64, "NCHW", 2)):
        status = hs.Status()
        values = by_conv(
            conv, phase, scaled, profile, layout, threads=threads, out_dtype=dtype, status=status
        )
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, expected)
        assert status.nonfinite == (not np.isfinite(expected).all())
        values, events = by_conv(
            conv, phase, scaled, profile, layout, out_dtype=dtype, events=True, threads=threads
        )
        np.testing.assert_array_equal(values, expected)
        assert events.nan == np.isnan(expected).sum()
    with pytest.raises(hs.InputError, match="codes cannot carry the operands' scale"):
        by_conv(conv, phase, scaled, profile)


def test_operand_of_another_format() -> None:
    x = hs.Operand(X, "e4m3fn")
    with pytest.raises(
        hs.InputError, match="x is an operand of e4m3fn codes, but a_format is e5m2"
    ):
        hs.conv_fwd(x, W, a_format="e5m2")


# -- against binary32 gradients ------------------------------------------------------------------------


def directly(conv: Conv, x, w, dy):
    """Forward pass and both gradients in float64, by the definition: a loop over taps, without im2col."""
    (top, bottom, left, right), (p, q), g = conv.padding, conv.output, conv.groups
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    y, dx, dw = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(w.shape)
    n, f, c = conv.batch, conv.filters // g, conv.channels // g
    for r, s, h in itertools.product(*map(range, conv.kernel), range(g)):
        lines = slice(r * conv.dilation[0], None, conv.stride[0])
        pixels = slice(s * conv.dilation[1], None, conv.stride[1])
        inputs, outputs = slice(h * c, (h + 1) * c), slice(h * f, (h + 1) * f)
        seen = x[:, lines, pixels, inputs][:, :p, :q]
        errors, weights = dy[..., outputs], w[r, s, :, outputs]
        y[..., outputs] += seen @ weights
        dx[:, lines, pixels, inputs][:, :p, :q] += errors @ weights.T
        dw[r, s, :, outputs] = seen.reshape(n * p * q, c).T @ errors.reshape(n * p * q, f)
    height, width = dx.shape[1] - bottom, dx.shape[2] - right
    return {"fwd": y, "dgrad": dx[:, top:height, left:width], "wgrad": dw}


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_profile_gives_the_gradients(shape: str) -> None:
    """binary32 operands, exact sums, one rounding: the bits of the convolution and its gradients.

    The float64 sums are within a millionth of a float32's last place of the exact ones, and none of them lies near a tie.
    """
    conv, wide = SHAPES[shape], hs.get_format("binary32")
    profile = get_profile("exact").replace(a_format=wide, b_format=wide, error_format=wide)
    rng, layer = np.random.default_rng(2), Layer.from_conv("layer", conv)
    values = {
        name: rng.standard_normal(layer.tensor_shape(name)).astype(np.float32)
        for name in ("x", "w", "dy")
    }
    expected = directly(conv, **{name: x.astype(np.float64) for name, x in values.items()})
    codes = {name: x.view(np.uint32) for name, x in values.items()}
    for phase in PHASES:
        result = np.ascontiguousarray(by_conv(conv, phase, codes, profile)).view(np.float32)
        np.testing.assert_array_equal(result, expected[phase].astype(np.float32))


@pytest.mark.parametrize("groups", [1, 16])
def test_out_may_overlap_images(groups: int) -> None:
    """Images of 16 bits are read where they lie, and so are results written."""
    rng, fmt = np.random.default_rng(0), hs.get_format("dlfloat16")
    memory = fmt.encode(rng.standard_normal((5, 16, 16, 16)))
    w = fmt.encode(rng.standard_normal((16, 3, 3, 16 // groups)))
    arguments = {"profile": "fp16", "padding": 1, "groups": groups}
    wanted = hs.conv_fwd(memory[:-1].copy(), w, **arguments)
    out = memory[1:]
    assert hs.conv_fwd(memory[:-1], w, out=out, **arguments) is out
    np.testing.assert_array_equal(out, wanted)


# -- arguments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_one_dimensional_convolution(layout: str) -> None:
    conv = Conv(2, 1, 9, 4, 6, (1, 3), (1, 2), (0, 0, 1, 1), (1, 2))
    axis = 1 if layout == "NHWC" else 2
    how = {"stride": 2, "padding": 1, "dilation": 2, "layout": layout}

    def flat(name):
        axes = (3, 0, 1, 2) if name == "w" else (0, 1, 2, 3)
        x = codes[name].transpose(axes)
        return (x if layout == "NHWC" else x.transpose(0, 3, 1, 2)).squeeze(axis)

    for phase in PHASES:
        codes = tensors(conv, HFP8, phase)
        expected = by_conv(conv, phase, codes, HFP8, layout)
        if phase == "fwd":
            result = hs.conv_fwd(flat("x"), flat("w"), **how)
        elif phase == "dgrad":
            result = hs.conv_dgrad(flat("dy"), flat("w"), (9,), **how)
        else:
            result = hs.conv_wgrad(flat("x"), flat("dy"), 3, **how)
        weights = phase == "wgrad"
        back = np.argsort(
            {"NHWC": (3, 0, 1, 2), "NCHW": (3, 2, 0, 1)}[layout]
            if weights
            else {"NHWC": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2)}[layout]
        )
        np.testing.assert_array_equal(np.expand_dims(result, axis).transpose(back), expected)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_out_is_filled_and_returned(layout: str, phase: str) -> None:
    conv = SHAPES["groups"]
    codes = tensors(conv, HFP8, phase)
    expected = by_conv(conv, phase, codes, HFP8, layout)
    axes = {"NHWC": (3, 0, 1, 2), "NCHW": (3, 2, 0, 1)} if phase == "wgrad" else {
        "NHWC": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2)
    }  # fmt: skip
    shape = expected.transpose(axes[layout]).shape
    for out in (np.zeros(shape, np.uint16), np.zeros((*shape, 2), np.uint16)[..., 0]):
        result = by_conv(conv, phase, codes, HFP8, layout, out=out)
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(out.transpose(np.argsort(axes[layout])), expected)


X, W = np.zeros((2, 5, 6, 4), np.uint8), np.zeros((8, 3, 3, 4), np.uint8)
DY = np.zeros((2, 3, 4, 8), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X.astype(float)}, "x must hold hfp8-143 codes"),
        ({"x": X[0, 0]}, r"x has shape \(6, 4\); it must have four axes, NHWC, or three"),
        ({"w": W[0]}, "w has shape .* must have 4 axes"),
        ({"layout": "HWC"}, "unknown layout 'HWC'"),
        ({"groups": 2}, "x has 4 channels and there are 2 groups, so w must have 2 channels, not 4"),
        ({"groups": 3}, "3 groups do not divide 4 channels"),
        ({"stride": 0}, "stride is 0"),
        ({"stride": (1, 1, 1)}, r"stride is \(1, 1, 1\); it must be two numbers"),
        ({"padding": "same"}, "padding is 'same'; it must be two numbers"),
        ({"w": W[:, :, :1].repeat(7, 2)}, "the filter reaches over 7 pixels"),
        ({"threads": 0}, "threads is 0"),
        ({"stream": 1 << 64}, "stream is"),
        ({"out": np.zeros((2, 3, 4, 8), np.uint8)}, r"out is uint8 \(2, 3, 4, 8\); it must be an array uint16"),
    ],
)  # fmt: skip
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(hs.InputError, match=message):
        hs.conv_fwd(**{"x": X, "w": W} | arguments)


def test_errors_of_another_size() -> None:
    message = (
        "error has 2 images of 3×4 pixels and 8 channels; this convolution gives 2 of 5×6 and 8"
    )
    with pytest.raises(hs.InputError, match=message):
        hs.conv_dgrad(DY, W, (5, 6), padding=1)
    with pytest.raises(hs.InputError, match=message):
        hs.conv_wgrad(X, DY, 3, padding=1)
    with pytest.raises(hs.InputError, match=r"input_size is .5.; it must be two numbers"):
        hs.conv_dgrad(DY, W, "5")
