"""Whole training steps, forward, backward and update, beside the same in PyTorch's float32.

The networks: ResNet-20 on CIFAR's shapes (He et al. 2016), a Transformer of four layers of width 256 on windows of
128 symbols, and a network of inverted residuals (MobileNetV2, Sandler et al. 2018) on 32×32 pixels. The emulated step
is recipe hfp8 with its own optimiser: a residual update of 8-bit weights and a loss scale. PyTorch's is SGD with
momentum.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case, Run

GROUP = "training steps"
THREADS = (1, 2)


@dataclasses.dataclass(frozen=True)
class Step:
    """A network, the shape of a batch, and the least speed relative to PyTorch that the project aims at."""

    network: Callable[[], Any]
    batch: Callable[[], tuple[Any, Any]]  #: inputs and targets
    examples: int
    target: float


def _images(batch: int) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, 32, 32, generator=generator)
    return x, torch.randint(0, 10, (batch,), generator=generator)


def _windows(batch: int, length: int = 128, symbols: int = 96) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, symbols, (batch, length + 1), generator=generator)
    return text[:, :-1], text[:, 1:]


def _network(name: str, *sizes: int, **how: int) -> Callable[[], Any]:
    def make() -> Any:
        import torch

        from hfp8sim.training import networks

        torch.manual_seed(0)
        return getattr(networks, name)(*sizes, **how)

    return make


STEPS = {
    "ResNet-20, batch 128": Step(_network("resnet20"), lambda: _images(128), 128, 0.4),
    "ResNet-20, batch 32": Step(_network("resnet20"), lambda: _images(32), 32, 0.4),
    "Transformer, d 256, 4 layers, 16 × 128 symbols": Step(
        _network("Transformer", 96, width=256, depth=4, length=128), lambda: _windows(16), 16, 0.42
    ),
    "MobileNetV2-like, batch 32": Step(_network("mobile", 3), lambda: _images(32), 32, 0.5),
}


def plain(step: Step, threads: int) -> Run:
    """A step in PyTorch's float32."""
    import torch

    model, (x, y) = step.network(), step.batch()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        torch.set_num_threads(threads)
        optimiser.zero_grad()
        _loss(model(x), y).backward()
        optimiser.step()

    return run


def emulated(step: Step, threads: int) -> Run:
    """The same step on the emulator."""
    import torch

    from hfp8sim import training

    model, (x, y) = step.network(), step.batch()
    training.convert(model, "hfp8", threads=threads)
    optimiser = training.make_optimiser(
        model, "hfp8", "sgd", lr=0.01, momentum=0.9, threads=threads
    )

    def run() -> None:
        torch.set_num_threads(threads)
        optimiser.zero_grad()
        optimiser.backward(_loss(model(x), y))
        optimiser.step()

    return run


def _loss(scores: Any, targets: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(
        scores.reshape(-1, scores.shape[-1]), targets.reshape(-1)
    )


def training_steps() -> list[Case]:
    """The rows: for each network PyTorch's step and the emulated one, on one thread and on two.

    One thread is compared by CPU time, two by wall time. Rows of two threads are left out on a single core.
    """
    if importlib.util.find_spec("torch") is None:
        return []
    cases = []
    for name, step in STEPS.items():
        for threads in THREADS[: os.cpu_count()]:
            clock: Callable[[], float] = time.process_time if threads == 1 else time.perf_counter
            suffix = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
            peer = f"torch float32, {suffix}"
            cases += [
                Case(
                    GROUP, peer, step.examples, "examples/s",
                    functools.partial(plain, step, threads), clock=clock,
                ),
                Case(
                    GROUP, f"recipe hfp8, {suffix}", step.examples, "examples/s",
                    functools.partial(emulated, step, threads), peer, step.target, clock=clock,
                ),
            ]  # fmt: skip
    return cases
