"""What the roundings of each emulated layer cost in inference."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from hfp8sim.training.conversion import is_emulated, plain_forward

Tensor = Any  #: PyTorch's


@dataclasses.dataclass(frozen=True)
class LayerFinding:
    """One emulated layer in inference."""

    name: str
    kind: str  #: its class
    profile: str
    sqnr: float  #: dB, its result against PyTorch's on the same inputs: what its own roundings cost
    reference_sqnr: (
        float | None
    )  #: dB, its result against the reference's; None without a reference
    saturated: float  #: share of its operands that saturated, 0 … 1
    flushed: float  #: share of its operands that became zero, 0 … 1


def decibels(signal: float, noise: float) -> float:
    """Signal over noise in dB; ∞ without noise."""
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


@dataclasses.dataclass
class _Sums:
    """Sums over the calls of one layer."""

    signal: float = 0.0
    noise: float = 0.0
    reference_signal: float = 0.0
    reference_noise: float = 0.0
    size: int = 0
    saturated: int = 0
    flushed: int = 0


class Watch:
    """Findings of the layers of a model while hooks are on them."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[Any, _Sums]] = {}
        self._results: dict[str, list[Tensor]] = {}  #: of calls whose reference's is to come
        self._has_reference = False

    def attach(self, model: nn.Module, reference: nn.Module | None) -> list[Any]:
        """Hooks on the emulated layers of a model, and on the reference's layers of these names."""
        handles = []
        self._has_reference = reference is not None
        theirs = dict(reference.named_modules()) if reference is not None else {}
        for name, module in model.named_modules():
            if not is_emulated(module):
                continue
            self._layers[name] = (module, _Sums())
            module.products.shares.clear()
            hook = self._of_layer(name)
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
            if name in theirs:
                handles.append(theirs[name].register_forward_hook(self._of_reference(name)))
        return handles

    def _of_layer(self, name: str) -> Any:
        module, sums = self._layers[name]

        def hook(_: Any, args: Any, kwargs: Any, result: Any) -> None:
            y = _first(result).double()
            exact = _first(plain_forward(module, *args, **kwargs)).double()
            sums.signal += exact.square().sum().item()
            sums.noise += (y - exact).square().sum().item()
            for role, share in module.products.shares.items():
                if not role.endswith("error"):
                    sums.size += share.size
                    sums.saturated += share.saturated
                    sums.flushed += share.underflowed
            if self._has_reference:
                self._results.setdefault(name, []).append(y)

        return hook

    def _of_reference(self, name: str) -> Any:
        _, sums = self._layers[name]

        def hook(_: Any, args: Any, result: Any) -> None:
            wanted, results = _first(result).double(), self._results.get(name)
            if results and results[0].shape == wanted.shape:
                sums.reference_signal += wanted.square().sum().item()
                sums.reference_noise += (results.pop(0) - wanted).square().sum().item()

        return hook

    def results(self) -> tuple[LayerFinding, ...]:
        """The findings of the layers that were called."""
        return tuple(
            LayerFinding(
                name or type(module).__name__, type(module).__name__, module.products.profile.name,
                decibels(sums.signal, sums.noise),
                decibels(sums.reference_signal, sums.reference_noise) if sums.reference_signal else None,
                sums.saturated / max(sums.size, 1), sums.flushed / max(sums.size, 1),
            )
            for name, (module, sums) in self._layers.items() if sums.size
        )  # fmt: skip


def _first(result: Any) -> Tensor:
    """The first tensor of a result."""
    while isinstance(result, tuple):
        result = result[0]
    return result.detach()


@contextlib.contextmanager
def watch(model: nn.Module, reference: nn.Module | None, wanted: bool) -> Iterator[Watch]:
    """Watch the emulated layers of a model inside; none if not wanted."""
    found = Watch()
    handles = found.attach(model, reference) if wanted else []
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
