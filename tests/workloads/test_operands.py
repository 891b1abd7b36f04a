"""Operand matrices against the definition of convolution, sampling, and drawn values."""

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import PHASES, Conv, Layer
from hfp8sim.workloads import operands

GEOMETRIES = [
    Conv(2, 5, 6, 2, 3, (3, 3), padding=(1, 1, 1, 1)),
    Conv(1, 7, 5, 4, 6, (3, 2), (2, 1), (1, 0, 2, 1), (1, 2), groups=2),
    Conv(2, 6, 6, 3, 3, (2, 2), (3, 2), groups=3),
    Conv(1, 4, 4, 2, 2, (1, 1), (2, 2), (3, 3, 0, 1)),  # more padding than the filter reaches
    Conv(1, 1, 1, 1, 1, (1, 1), (3, 3), (2, 0, 2, 0)),  # no output reads the input
    Conv(1, 3, 4, 2, 2, (3, 3), padding=(1, 2, 2, 1), gaps=(2, 3)),  # a transposed convolution
    Conv(2, 1, 9, 2, 4, (1, 3), (1, 2), (0, 0, 1, 1)),  # one-dimensional
]


def definition(conv: Conv) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Integer tensors of a convolution, and its results in all phases by summing over every tap."""
    rng = np.random.default_rng(7)
    c, f = conv.channels // conv.groups, conv.filters // conv.groups
    (p, q), (r, s) = conv.output, conv.kernel

    def integers(*shape: int) -> np.ndarray:
        return rng.integers(-4, 5, shape).astype(np.float32)

    x = integers(conv.batch, conv.height, conv.width, conv.channels)
    w, dy = integers(r, s, c, conv.filters), integers(conv.batch, p, q, conv.filters)
    y, dx, dw = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(w)
    for n, i, j, u, v, o in np.ndindex(conv.batch, p, q, r, s, conv.filters):
        h, rest_h = divmod(
            i * conv.stride[0] + u * conv.dilation[0] - conv.padding[0], conv.gaps[0]
        )
        k, rest_k = divmod(
            j * conv.stride[1] + v * conv.dilation[1] - conv.padding[2], conv.gaps[1]
        )
        if rest_h or rest_k or not (0 <= h < conv.height and 0 <= k < conv.width):
            continue
        inputs = slice(o // f * c, (o // f + 1) * c)
        y[n, i, j, o] += x[n, h, k, inputs] @ w[u, v, :, o]
        dx[n, h, k, inputs] += dy[n, i, j, o] * w[u, v, :, o]
        dw[u, v, :, o] += dy[n, i, j, o] * x[n, h, k, inputs]
    return {"x": x, "w": w, "dy": dy}, {"fwd": y, "dgrad": dx, "wgrad": dw}


@pytest.mark.parametrize("conv", GEOMETRIES)
@pytest.mark.parametrize("phase", PHASES)
def test_unfolded_products_equal_the_convolution(conv: Conv, phase: str) -> None:
    tensors, results = definition(conv)
    layer = Layer.from_conv("c", conv, tensors=tensors)
    a, b, words = operands(layer, phase)
    assert (a.shape[0], a.shape[1], b.shape[2], a.shape[2]) == layer.shape(phase)
    product = a @ b  # small integers: exact in float32
    if phase == "wgrad":
        r, s = conv.kernel
        grouped = product.reshape(conv.groups, r, s, -1, conv.filters // conv.groups)
        result = np.moveaxis(grouped, 0, 3).reshape(results[phase].shape)
    else:
        result = np.moveaxis(product, 0, 1).reshape(results[phase].shape)
    np.testing.assert_array_equal(result, results[phase])
    assert "captured" in words and "drawn" not in words


def test_reduction_order_has_channels_fastest() -> None:
    conv = Conv(1, 3, 3, 2, 1, (2, 2))
    x = np.arange(18, dtype=np.float32).reshape(1, 3, 3, 2)
    a = operands(Layer.from_conv("c", conv, tensors={"x": x}), "fwd").a
    np.testing.assert_array_equal(a[0, 0], [0, 1, 2, 3, 6, 7, 8, 9])


def test_padding_is_plus_zero() -> None:
    conv = Conv(1, 2, 2, 1, 1, (3, 3), padding=(1, 1, 1, 1))
    x = np.full((1, 2, 2, 1), -1, np.float32)
    a = operands(Layer.from_conv("c", conv, tensors={"x": x}), "fwd").a
    zeros = a[a == 0]
    assert zeros.size == 20 and not np.signbit(zeros).any()


@pytest.mark.parametrize("groups", [1, 3])
def test_matrix_layers_in_all_phases(groups: int) -> None:
    rng = np.random.default_rng(1)
    lead = (groups,) if groups > 1 else ()
    x, w, dy = (
        rng.standard_normal((*lead, *shape)).astype(np.float32)
        for shape in ((4, 5), (5, 6), (4, 6))
    )
    layer = Layer("fc", "linear", 4, 6, 5, groups, tensors={"x": x, "w": w, "dy": dy})
    turn = {"fwd": (x, w), "dgrad": (dy, w.swapaxes(-1, -2)), "wgrad": (x.swapaxes(-1, -2), dy)}
    for phase, (a, b) in turn.items():
        computed = operands(layer, phase)
        np.testing.assert_array_equal(computed.a, a.reshape(computed.a.shape))
        np.testing.assert_array_equal(computed.b, b.reshape(computed.b.shape))


def test_operands_may_be_overwritten() -> None:
    x, w = np.ones((4, 5), np.float32), np.ones((5, 6), np.float32)
    layer = Layer("fc", "linear", 4, 6, 5, tensors={"x": x, "w": w})
    a, b, _ = operands(layer, "fwd")
    a[:], b[:] = 2, 3
    assert (layer.tensors["x"] == 1).all() and (layer.tensors["w"] == 1).all()


def test_recurrent_steps_share_their_weights() -> None:
    layer = Layer("h", "recurrent", 4, 6, 5, groups=3)
    fwd, wgrad = operands(layer, "fwd", 9), operands(layer, "wgrad", 9)
    assert (fwd.b[0] == fwd.b[2]).all() and (fwd.a[0] != fwd.a[2]).any()
    np.testing.assert_array_equal(wgrad.a[0], fwd.a.reshape(12, 5).T)


LAYERS = [
    Layer("fc", "linear", 500, 300, 700, groups=2),
    Layer("h", "recurrent", 40, 60, 50, groups=3),
    Layer("qk", "matmul", 100, 90, 64, groups=4),
    Layer.from_conv("c", Conv(3, 20, 20, 8, 12, (3, 3), (2, 2), (1, 1, 1, 1), groups=4)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_draws_depend_on_the_seed_and_agree_between_phases(layer: Layer) -> None:
    fwd, again, other = (operands(layer, "fwd", seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(fwd.a, again.a)
    assert (fwd.a != other.a).any() and (fwd.b != other.b).any()
    assert "drawn from" in fwd.provenance and "seed 3" in fwd.provenance
    wgrad, dgrad = operands(layer, "wgrad", 3), operands(layer, "dgrad", 3)
    if layer.kind != "recurrent":
        np.testing.assert_array_equal(wgrad.a, fwd.a.swapaxes(1, 2))
    assert set(np.unique(dgrad.a[dgrad.a != 0])) == set(np.unique(wgrad.b))
    assert set(np.unique(dgrad.b)) == set(np.unique(fwd.b))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("phase", PHASES)
def test_sample_equals_those_rows_and_columns_of_the_whole(layer: Layer, phase: str) -> None:
    whole = operands(layer, phase, 3)
    shape = layer.shape(phase)
    some = operands(layer, phase, 3, max_macs=shape.macs // 9)
    g, m, k = some.a.shape
    n = some.b.shape[2]
    assert k == shape.k and g * m * n * k <= shape.macs // 9
    pick = [np.arange(s) * t // s for s, t in zip((g, m, n), shape[:3], strict=True)]
    np.testing.assert_array_equal(some.a, whole.a[pick[0]][:, pick[1]])
    np.testing.assert_array_equal(some.b, whole.b[pick[0]][:, :, pick[2]])
    assert f"{m} of {shape.m} rows" in some.provenance or m == shape.m
    assert "sampled" in some.provenance and "sampled" not in whole.provenance


def test_huge_layers_are_sampled_by_default() -> None:
    layer = Layer("huge", "gemm", 2**20, 2**16, 64)
    a, b, words = operands(layer, "fwd")
    assert a.size + b.size + a.shape[1] * b.shape[2] <= 2**26
    assert "of 1048576 rows" in words


def test_draws_follow_the_stated_distributions() -> None:
    layer = Layer("fc", "linear", 2000, 1000, 500)
    fwd, dgrad = operands(layer, "fwd"), operands(layer, "dgrad")
    # A million draws: six standard errors of each estimate.
    assert (fwd.a >= 0).all()
    assert abs((fwd.a == 0).mean() - 0.5) < 6 * 0.5 / 1000
    assert abs((fwd.a.astype(np.float64) ** 2).mean() - 0.5) < 6 * 1.2 / 1000
    assert abs(fwd.b.std(dtype=np.float64) / np.sqrt(2 / 500) - 1) < 6 / np.sqrt(2 * fwd.b.size)
    assert abs(dgrad.a.std(dtype=np.float64) * 256 - 1) < 6 / np.sqrt(2 * dgrad.a.size)


@pytest.mark.parametrize(
    ("phase", "seed", "options", "message"),
    [
        ("bwd", 0, {}, "unknown phase 'bwd'"),
        ("fwd", -1, {}, "seed is -1"),
        ("fwd", 0.5, {}, "seed is 0.5"),
        ("fwd", 0, {"max_elements": 20}, "one dot product of length 64"),
    ],
)
def test_bad_requests(phase: str, seed: int, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        operands(Layer("fc", "linear", 8, 8, 64), phase, seed, **options)
