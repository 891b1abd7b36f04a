"""Train a small convolutional network on real digits and capture one mini-batch as `digits-cnn`.

    python examples/08_train_digits_cnn.py OUT.npz      train, capture, write
    python examples/08_train_digits_cnn.py --check      train again, compare with the shipped trace

Everything is plain NumPy in float32: forward, backward and momentum SGD are written out below. The
data are scikit-learn's `load_digits`: 1797 scanned 8x8 digits with 17 grey levels.

    conv1 3x3, 1->16, ReLU   conv2 3x3, 16->32, ReLU, max-pool 2x2   conv3 3x3, 32->32, ReLU,
    max-pool 2x2   fc1 128->64, ReLU   fc2 64->10, softmax cross-entropy

Reproducibility: the random numbers and the order of every sum are fixed, and matrix products run on one
thread. One machine with one NumPy therefore gives the same bits each time. Another processor or BLAS may
add in another order. The values then differ by rounding noise, and the accuracy is the same.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from hfp8sim.network import Conv, Layer, Workload
from hfp8sim.workloads import load_workload, save_trace

BATCH = 32
EPOCHS = 6
TEST = 360
LOSS_SCALE = np.float32(2**14)  # a power of two, so dividing it out again is exact
RATE, MOMENTUM, DECAY = 0.05, 0.9, 1e-4
Array = np.ndarray


def patches(x: Array, size: int = 3) -> Array:
    """Every `size`-square neighbourhood of a zero-padded NHWC tensor: (N, H, W, R, S, C)."""
    pad = size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return view.transpose(0, 1, 2, 4, 5, 3)


@dataclass
class Conv3x3:
    """y = x * w + b with padding 1. `saved` holds the last x and dy."""

    w: Array
    b: Array
    saved: dict[str, Array] = field(default_factory=dict)

    def forward(self, x: Array) -> Array:
        self.saved["x"] = x
        n, h, w, _ = x.shape
        return (patches(x).reshape(n * h * w, -1) @ self.matrix(self.w)).reshape(
            n, h, w, -1
        ) + self.b

    def backward(self, dy: Array) -> Array:
        self.saved["dy"] = dy
        n, h, w, f = dy.shape
        flat = dy.reshape(-1, f)
        columns = patches(self.saved["x"]).reshape(n * h * w, -1)
        self.dw = (columns.T @ flat).reshape(self.w.shape)
        self.db = flat.sum(axis=0)
        rotated = self.w[::-1, ::-1].swapaxes(2, 3)
        return (patches(dy).reshape(n * h * w, -1) @ self.matrix(rotated)).reshape(n, h, w, -1)

    @staticmethod
    def matrix(w: Array) -> Array:
        return w.reshape(-1, w.shape[-1])


@dataclass
class Linear:
    """y = x w + b on flattened x. `saved` holds the last x and dy."""

    w: Array
    b: Array
    saved: dict[str, Array] = field(default_factory=dict)

    def forward(self, x: Array) -> Array:
        self.saved["x"], self.shape = x.reshape(len(x), -1), x.shape
        return self.saved["x"] @ self.w + self.b

    def backward(self, dy: Array) -> Array:
        self.saved["dy"] = dy
        self.dw, self.db = self.saved["x"].T @ dy, dy.sum(axis=0)
        return (dy @ self.w.T).reshape(self.shape)


class Relu:
    def forward(self, x: Array) -> Array:
        self.positive = x > 0
        return x * self.positive

    def backward(self, dy: Array) -> Array:
        return dy * self.positive


class MaxPool:
    """2x2, stride 2. Among equal values the gradient goes to the first."""

    def forward(self, x: Array) -> Array:
        n, h, w, c = x.shape
        cells = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
        self.cells = cells.reshape(n, h // 2, w // 2, c, 4)
        self.choice = self.cells.argmax(axis=-1)[..., None]
        return np.take_along_axis(self.cells, self.choice, axis=-1)[..., 0]

    def backward(self, dy: Array) -> Array:
        gradient = np.zeros_like(self.cells)
        np.put_along_axis(gradient, self.choice, dy[..., None], axis=-1)
        n, h, w, c, _ = gradient.shape
        return (
            gradient.reshape(n, h, w, c, 2, 2)
            .transpose(0, 1, 4, 2, 5, 3)
            .reshape(n, 2 * h, 2 * w, c)
        )


def he_normal(rng: np.random.Generator, *shape: int) -> Array:
    scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
    return rng.standard_normal(shape, np.float32) * scale


class Network:
    """The layers in order, and the names of those with weights."""

    def __init__(self, rng: np.random.Generator) -> None:
        def conv(c: int, f: int) -> Conv3x3:
            return Conv3x3(he_normal(rng, 3, 3, c, f), np.zeros(f, np.float32))

        def linear(k: int, n: int) -> Linear:
            return Linear(he_normal(rng, k, n), np.zeros(n, np.float32))

        self.weighted: dict[str, Conv3x3 | Linear] = {
            "conv1": conv(1, 16),
            "conv2": conv(16, 32),
            "conv3": conv(32, 32),
            "fc1": linear(128, 64),
            "fc2": linear(64, 10),
        }
        layers = self.weighted
        self.stages = [
            *(layers["conv1"], Relu()),
            *(layers["conv2"], Relu(), MaxPool()),
            *(layers["conv3"], Relu(), MaxPool()),
            *(layers["fc1"], Relu()),
            layers["fc2"],
        ]
        self.velocity = [np.zeros_like(p) for p in self.parameters()]

    def parameters(self) -> list[Array]:
        return [p for layer in self.weighted.values() for p in (layer.w, layer.b)]

    def forward(self, x: Array) -> Array:
        for stage in self.stages:
            x = stage.forward(x)
        return x

    def backward(self, logits: Array, labels: Array, scale: np.float32) -> None:
        """Gradients of `scale` times the mean cross-entropy."""
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        dy = shifted / shifted.sum(axis=1, keepdims=True)
        dy[np.arange(len(labels)), labels] -= 1
        dy *= scale / np.float32(len(labels))
        for stage in reversed(self.stages):
            dy = stage.backward(dy)

    def step(self, rate: float) -> None:
        gradients = [g for layer in self.weighted.values() for g in (layer.dw, layer.db)]
        for p, g, v in zip(self.parameters(), gradients, self.velocity, strict=True):
            v *= np.float32(MOMENTUM)
            v -= np.float32(rate) * (g + np.float32(DECAY) * p)
            p += v

    def accuracy(self, x: Array, labels: Array) -> float:
        return float((self.forward(x).argmax(axis=1) == labels).mean())


def train() -> tuple[Network, Array, Array, float]:
    """(trained network, images and labels of the next mini-batch, test accuracy)."""
    digits = load_digits()
    x = (digits.images[..., None] / 16).astype(np.float32)
    labels = digits.target
    rng = np.random.default_rng(2021)
    order = rng.permutation(len(x))
    test, training = order[:TEST], order[TEST:]
    network = Network(rng)
    for epoch in range(EPOCHS):
        rate = RATE * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        shuffled = rng.permutation(training)
        for start in range(0, len(shuffled) - BATCH + 1, BATCH):
            batch = shuffled[start : start + BATCH]
            network.backward(network.forward(x[batch]), labels[batch], np.float32(1))
            network.step(rate)
        print(f"epoch {epoch + 1:2}: test accuracy {network.accuracy(x[test], labels[test]):.4f}")
    batch = rng.permutation(training)[:BATCH]
    return network, x[batch], labels[batch], network.accuracy(x[test], labels[test])


def capture(network: Network, x: Array, labels: Array, accuracy: float) -> Workload:
    """The workload of one mini-batch, forward and backward: every layer's x, w and dy."""
    network.backward(network.forward(x), labels, LOSS_SCALE)
    layers = []
    for name, layer in network.weighted.items():
        tensors = {"x": layer.saved["x"], "w": layer.w, "dy": layer.saved["dy"]}
        if isinstance(layer, Conv3x3):
            n, h, w, c = tensors["x"].shape
            geometry = Conv(n, h, w, c, layer.w.shape[-1], (3, 3), padding=(1, 1, 1, 1))
            phases = ("fwd", "wgrad") if name == "conv1" else ("fwd", "dgrad", "wgrad")
            layers.append(Layer.from_conv(name, geometry, phases=phases, tensors=tensors))
        else:
            k, n_out = layer.w.shape
            layers.append(Layer(name, "linear", len(x), n_out, k, tensors=tensors))
    trained = (
        f"small CNN trained in float32 on scikit-learn's digits for {EPOCHS} epochs; "
        f"accuracy {accuracy:.2%} on {TEST} images it never saw"
    )
    notes = (
        trained,
        f"one training mini-batch of {BATCH} images, captured after training",
        f"errors are gradients of {int(LOSS_SCALE)} (the loss scale) times the mean loss",
        "biases, ReLU and max-pooling happen between the layers and are not part of them",
    )
    return Workload("digits-cnn", tuple(layers), notes)


def check(workload: Workload) -> int:
    """Compare with the shipped trace, bit for bit. Returns the exit status, 0 if nothing differs."""
    shipped = load_workload("digits-cnn")
    different = [
        f"{layer.name}.{key}"
        for layer in workload
        for key, value in layer.tensors.items()
        if not np.array_equal(
            value.view(np.uint32), shipped[layer.name].tensors[key].view(np.uint32)
        )
    ]
    print("differs: " + ", ".join(different) if different else "the shipped trace, bit for bit")
    return 1 if different else 0


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    with threadpool_limits(1):  # the thread count decides the order of a sum
        workload = capture(*train())
    if arguments[0] == "--check":
        return check(workload)
    save_trace(arguments[0], workload)
    print(f"wrote {arguments[0]}: {os.path.getsize(arguments[0])} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
