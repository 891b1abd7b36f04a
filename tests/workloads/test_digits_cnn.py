"""The shipped trace: its size, and that its tensors belong to one network and one mini-batch.

The trace was captured in float32, whose sums the tests repeat in float64; they agree within float32
rounding, for which the bound |error| <= K·2⁻²⁴·Σ|a·b| holds whatever the order of the sum.
"""

from importlib import resources

import numpy as np
import pytest

from hfp8sim.network import PHASES, Layer, Workload
from hfp8sim.workloads import load_workload, operands


@pytest.fixture(scope="module")
def trace() -> Workload:
    return load_workload("digits-cnn")


def product(layer: Layer, phase: str) -> tuple[np.ndarray, np.ndarray]:
    """The float64 result of one phase and the float32 rounding bound of each element."""
    a, b, words = operands(layer, phase)
    assert words.count("captured") == 2
    a, b = a[0].astype(np.float64), b[0].astype(np.float64)
    return a @ b, a.shape[1] * 2.0**-24 * (np.abs(a) @ np.abs(b)) + 1e-30


def pooled(cells: np.ndarray) -> np.ndarray:
    n, h, w, c = cells.shape
    return cells.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def test_size_and_tensors(trace: Workload) -> None:
    file = resources.files("hfp8sim.workloads") / "data" / "digits-cnn.npz"
    assert len(file.read_bytes()) <= 400_000
    assert [layer.name for layer in trace] == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert all(set(layer.tensors) == {"x", "w", "dy"} for layer in trace)
    assert trace["conv1"].phases == ("fwd", "wgrad")
    assert trace.macs(PHASES) == 43_905_024
    assert "accuracy 98.89%" in trace.notes[0]


def test_images(trace: Workload) -> None:
    x = trace["conv1"].tensors["x"] * 16
    np.testing.assert_array_equal(x, np.round(x))
    assert x.min() == 0 and x.max() == 16


@pytest.mark.parametrize(
    ("name", "following", "pool"),
    [
        ("conv1", "conv2", False),
        ("conv2", "conv3", True),
        ("conv3", "fc1", True),
        ("fc1", "fc2", False),
    ],
)
def test_outputs_are_next_inputs(trace: Workload, name: str, following: str, pool: bool) -> None:
    """Behind bias, ReLU and pooling: the bias is what one channel's open outputs all differ by."""
    layer, received = trace[name], trace[following].tensors["x"]
    y, bound = product(layer, "fwd")
    shape = layer.tensor_shape("dy")
    y, bound = y.reshape(shape), bound.reshape(shape)
    if pool:
        y, bound = pooled(y), pooled(bound)  # the bias moves no maximum
    received = received.reshape(y.shape)
    for channel in range(shape[-1]):
        open_ = received[..., channel] > 0
        if not open_.any():
            continue
        difference = received[..., channel].astype(np.float64) - y[..., channel]
        bias = np.median(difference[open_])
        # one more rounding for adding the bias
        slack = 2 * bound[..., channel] + 2.0**-23 * (np.abs(y[..., channel]) + abs(bias))
        assert (np.abs(difference - bias)[open_] <= slack[open_].max()).all()
        assert (y[..., channel][~open_] + bias <= slack[~open_]).all()


@pytest.mark.parametrize(
    ("name", "before", "pool"),
    [
        ("conv2", "conv1", False),
        ("conv3", "conv2", True),
        ("fc1", "conv3", True),
        ("fc2", "fc1", False),
    ],
)
def test_input_gradients_are_errors(trace: Workload, name: str, before: str, pool: bool) -> None:
    """Behind ReLU (closed gates pass nothing) and pooling (one of four cells gets the gradient)."""
    dx, bound = product(trace[name], "dgrad")
    received, dy = trace[name].tensors["x"], trace[before].tensors["dy"]
    if pool:
        n, h, w, c = dy.shape
        cells = dy.reshape(n, h // 2, 2, w // 2, 2, c)
        assert ((cells != 0).sum(axis=(2, 4)) <= 1).all()
        dy = cells.sum(axis=(2, 4), dtype=np.float64)
    gate = received.reshape(dy.shape) > 0
    expected, bound = dx.reshape(dy.shape) * gate, bound.reshape(dy.shape)
    assert (np.abs(dy - expected) <= bound).all()


def test_last_errors(trace: Workload) -> None:
    """Rows sum to zero, one entry (the label's) is negative, and the loss scale is 2¹⁴."""
    dy = trace["fc2"].tensors["dy"].astype(np.float64)
    scale = 2.0**14 / 32
    assert (np.abs(dy.sum(axis=1)) <= 10 * 2.0**-24 * scale).all()
    assert ((dy < 0).sum(axis=1) <= 1).all()
    assert (np.abs(dy) <= scale).all() and np.abs(dy).max() > 1


def test_weight_gradients_descend(trace: Workload) -> None:
    """A small step against fc2's weight gradient lowers the loss that its errors belong to."""
    layer = trace["fc2"]
    x, dy = (layer.tensors[key].astype(np.float64) for key in ("x", "dy"))
    labels = dy.argmin(axis=1)
    # The bias is not in the trace; log p = log(dy/scale + onehot) up to a constant per row gives it.
    p = dy / (2.0**14 / 32)
    p[np.arange(32), labels] += 1
    logits = np.log(np.maximum(p, 1e-300))
    gradient = product(layer, "wgrad")[0]

    def loss(step: float) -> float:
        z = logits - step * (x @ gradient)
        z -= z.max(axis=1, keepdims=True)
        return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(32), labels]).sum())

    assert loss(1e-7) < loss(0)
