"""A network with quantised operands for studies: activations, weights and errors, sums in binary32.

The quantisers are those of `hfp8sim.ops.quantisers`. PyTorch multiplies what they give: these studies are about the
quantisers, not about the sums.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hfp8sim.errors import InputError
from hfp8sim.ops import quantisers
from hfp8sim.recipes.scale import LayerScale
from hfp8sim.training.data import load_data
from hfp8sim.training.runs import batches_of_test_set
from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Check, StudyRecord, Values

Array = NDArray[Any]
#: Steps at the end of a run whose mean loss is its training loss.
_LAST = 20
_WIDTH, _HIDDEN = 64, 3
#: The first clipping level of an activation. **Choice**: the papers start at about 8 to 10.
ALPHA = 8.0


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How a layer's operands are quantised; None leaves one in binary32."""

    activation: int | None = None  #: bits of PACT
    weight: str | None = None  #: grid of SAWB
    error: str | None = None  #: `radix4` (two phases), `radix4-even` (one), `luq`
    scale: float | None = None  #: of all errors; None: GradScale, one for each layer
    largest: bool = False  #: scale by the largest magnitude, in place of PACT's α and SAWB's fit


class Quantised(nn.Linear):
    """A linear layer whose operands are quantised; its input is not negative."""

    def __init__(self, inputs: int, outputs: int, scheme: Scheme, seed: int) -> None:
        super().__init__(inputs, outputs)
        self.scheme = scheme
        self.alpha = nn.Parameter(torch.tensor(ALPHA))
        self.random = np.random.default_rng(seed)
        self.scale_rule = LayerScale()
        self.error_scale = self.scale_rule.start if scheme.scale is None else scheme.scale

    def forward(self, input: Any) -> Any:
        """x · wᵀ + b of quantised x and w."""
        product: Any = _Product.apply(input, self.weight, self.alpha, self)
        return product + self.bias

    def quantise_weight(self, w: Array) -> Array:
        """SAWB's weights, or levels up to the largest magnitude."""
        scheme = self.scheme
        if scheme.weight is None:
            return w
        if not scheme.largest:
            return _values(quantisers.sawb(w, scheme.weight))
        levels = quantisers.sawb_grid(scheme.weight).levels
        step = 2 * float(np.abs(w).max()) / (levels - 1)
        offset = 0.0 if levels % 2 else step / 2
        return np.asarray(np.rint((w - offset) / step) * step + offset, np.float32)

    def clip(self, x: Array) -> float:
        """α of an activation."""
        return float(x.max()) or 1.0 if self.scheme.largest else max(float(self.alpha), 1e-3)

    def quantise_errors(self, error: Array) -> tuple[Array, Array]:
        """The errors of dgrad and of wgrad."""
        scheme = self.scheme
        if scheme.error is None:
            return error, error
        if scheme.error == "luq":
            words = self.random.integers(0, 1 << 24, error.shape)
            both = _values(quantisers.luq(error, words))
            return both, both
        scale = self.error_scale
        scaled = error * scale
        if scheme.scale is None:
            self.error_scale = self.scale_rule.advance(scale, float(np.abs(error).max()))
        even = quantisers.radix4(scaled, "even") / scale
        odd = even if scheme.error == "radix4-even" else quantisers.radix4(scaled, "odd") / scale
        return even.astype(np.float32), odd.astype(np.float32)


def _values(codes: quantisers.Quantised) -> Array:
    return np.asarray(codes.codes * codes.step + codes.offset, np.float32)


class _Product(torch.autograd.Function):
    """x · wᵀ of quantised operands; their gradients are straight-through."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, alpha: Any, layer: Quantised) -> Any:
        """The result (M, N)."""
        plain, scheme = x.detach().numpy(), layer.scheme
        top = layer.clip(plain)
        xq = (
            plain
            if scheme.activation is None
            else _values(quantisers.pact(plain, top, scheme.activation))
        )
        wq = layer.quantise_weight(w.detach().numpy())
        ctx.layer, ctx.plain, ctx.top, ctx.quantised = layer, plain, top, (xq, wq)
        return torch.from_numpy(xq @ wq.T)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:  # type: ignore[override]
        """Gradients of x, w and α."""
        layer, (xq, wq) = ctx.layer, ctx.quantised
        of_dgrad, of_wgrad = layer.quantise_errors(np.ascontiguousarray(dy.numpy()))
        dx, dw, dalpha = of_dgrad @ wq, of_wgrad.T @ xq, None
        if layer.scheme.activation is not None and not layer.scheme.largest:
            gradient = quantisers.pact_gradient(ctx.plain, ctx.top, dx)
            dx, dalpha = (
                gradient.x.astype(np.float32),
                torch.tensor(gradient.alpha, dtype=torch.float32),
            )
        return torch.from_numpy(dx), torch.from_numpy(dw), dalpha, None


def network(inner: Callable[[int], nn.Linear]) -> nn.Module:
    """Five linear layers with ReLU for 8×8 images, 64 wide; `inner` makes layer 0, 1, 2 of those in the middle."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, _WIDTH), nn.ReLU()]
    for number in range(_HIDDEN):
        layers += [inner(number), nn.ReLU()]
    return runs.started(nn.Sequential(*layers, nn.Linear(_WIDTH, 10)))


def plain_network() -> nn.Module:
    """The network without quantisers, for a recipe; after the same seed its first weights are the same."""
    return network(lambda _: nn.Linear(_WIDTH, _WIDTH))


def train_recipe(recipe: str, seed: int, steps: int, rate: float = 0.05) -> Values:
    """A run as `train` does it, of layers that are emulated as a recipe says: losses and accuracy."""
    run = runs.train(
        f"{__name__}:plain_network", recipe, seed, rate=rate, decay=1e-4, batch=32, steps=steps
    )
    return runs.chosen(runs.metrics(run), "training loss", "test loss", "accuracy")


def train(scheme: Scheme, seed: int, steps: int, rate: float = 0.05) -> Values:
    """A run of SGD with momentum on digits, batch 32, the rate falling as a half cosine: losses and accuracy.

    A run whose loss is no longer finite ends there. Its losses are infinite, its accuracy is that of guessing.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = load_data("digits")
    model = network(lambda number: Quantised(_WIDTH, _WIDTH, scheme, 100 * seed + number))
    optimiser = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            losses = _losses(model, optimiser, data.batches(32, seed, steps), steps)
            ended, tested = sum(losses[-_LAST:]) / len(losses[-_LAST:]), _tested(model, data)
    except InputError:  # a quantiser has met a number that is not finite
        ended = math.inf
    if not math.isfinite(ended):
        return {"training loss": math.inf, "test loss": math.inf, "accuracy": 100 / data.classes}
    return {"training loss": ended} | tested


def _losses(model: nn.Module, optimiser: Any, batches: Iterable[Any], steps: int) -> list[float]:
    """The loss of each step of a run."""
    first, losses = optimiser.defaults["lr"], []
    for step, (x, y) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = first * (1 + math.cos(math.pi * step / steps)) / 2
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return losses


def no_divergence(record: StudyRecord) -> Check:
    """Whether every run ends below the loss of guessing, ln 10; the text names those that do not."""
    guessing = math.log(10)
    place = record.sweep.name if record.sweep else ""
    bad = [
        f"{row['arm']}{f' at {row[place]:g} {place}' if place else ''}, seed {row['seed']}"
        for row in record.rows
        if not row["training loss"] < guessing
    ]
    text = f"Runs whose training loss ends at {guessing:.2f} nats, that of guessing, or above: {'; '.join(bad) or 'none'}"
    return Check(f"{text}; wanted: none", not bad)


def _tested(model: Callable[[Any], Any], data: Any) -> Values:
    right = count = loss = 0.0
    for x, y in batches_of_test_set(data):
        with torch.no_grad():
            logits = model(x)
        loss += nn.functional.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(-1) == y).sum().item()
        count += len(y)
    return {"test loss": loss / count, "accuracy": 100 * right / count}
