"""The time of a training step on a system: computation, and the part of the exchange that it does not hide.

The backward pass runs from the last layer to the first. When a layer's gradient is ready, and the link is
free, its sum over all chips begins:

    finish(l) = max(ready(l), finish(l+1)) + T(l)

What comes after the end of the backward pass is exposed. Then the results are distributed in the order of the
forward pass. A layer's forward computation begins when its weights are there and the layer before it is done;
where it waits, the distribution is exposed. Without `overlap` the whole exchange is exposed. The update itself
takes no time here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hfp8sim.errors import InputError
from hfp8sim.network import Layer
from hfp8sim.systems.collectives import TOPOLOGIES, Exchange
from hfp8sim.systems.config import System
from hfp8sim.systems.protocols import Protocol, get_protocol


@dataclasses.dataclass(frozen=True)
class LayerWork:
    """A layer of a training step on one chip: seconds of its computation, and its weights."""

    name: str
    forward: float
    backward: float  #: both gradients
    weights: int
    weight_bytes: int = 1  #: of a weight in the layer's format


@dataclasses.dataclass(frozen=True)
class LayerExchange:
    """The exchange of a layer. Times are seconds."""

    name: str
    weights: int
    reduce: Exchange
    distribute: Exchange
    ready: float  #: when its gradient is computed, since the start of the backward pass
    reduced: float  #: when its sum is complete, since the same
    distributed: float  #: when its result is on all chips, since the last sum is complete
    exposed_reduce: float  #: of its sum, after the end of the backward pass
    exposed_distribute: float  #: of its distribution: its forward computation waits

    @property
    def exchange(self) -> Exchange:
        """Both halves."""
        return self.reduce + self.distribute


@dataclasses.dataclass(frozen=True)
class Step:
    """The time of a training step, in seconds."""

    system: System
    protocol: Protocol
    layers: tuple[LayerExchange, ...]
    forward: float  #: computation
    backward: float
    exposed_reduce: float  #: of the sums, after the end of the backward pass
    exposed_distribute: float  #: of the distribution, in which the forward pass waits

    @property
    def compute(self) -> float:
        """What one chip computes."""
        return self.forward + self.backward

    @property
    def exposed(self) -> float:
        """The part of the exchange that no computation hides."""
        return self.exposed_reduce + self.exposed_distribute

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute + self.exposed

    @property
    def efficiency(self) -> float:
        """Computation as a share of the step."""
        return self.compute / self.seconds if self.seconds else 1.0

    @property
    def exchange(self) -> Exchange:
        """What all layers exchange."""
        return sum((layer.exchange for layer in self.layers), Exchange())

    @property
    def latency_part(self) -> float:
        """Seconds of the exchange that latency takes, exposed or not."""
        return self.system.link.seconds(self.exchange.messages, 0)

    @property
    def bandwidth_part(self) -> float:
        """Seconds of the exchange that bytes take, exposed or not."""
        return self.system.link.seconds(0, self.exchange.path_bytes)

    def facts(self) -> dict[str, Any]:
        """The step in JSON's own types: seconds, bytes, and a row for each layer."""
        return {
            "system": dataclasses.asdict(self.system),
            "protocol": self.protocol.name,
            "compute": self.compute,
            "exposed_reduce": self.exposed_reduce,
            "exposed_distribute": self.exposed_distribute,
            "step": self.seconds,
            "efficiency": self.efficiency,
            "latency_part": self.latency_part,
            "bandwidth_part": self.bandwidth_part,
            "path_bytes": self.exchange.path_bytes,
            "total_bytes": self.exchange.total_bytes,
            "layers": [
                {
                    "layer": layer.name,
                    "weights": layer.weights,
                    "path_bytes": layer.exchange.path_bytes,
                    "exchange": layer.exchange.seconds(self.system.link),
                    "ready": layer.ready,
                    "reduced": layer.reduced,
                    "exposed_reduce": layer.exposed_reduce,
                    "exposed_distribute": layer.exposed_distribute,
                }
                for layer in self.layers
            ],
        }


def layer_works(
    layers: Iterable[Layer], seconds: Mapping[tuple[str, str], float]
) -> list[LayerWork]:
    """The layers of a network with the times of their phases.

    Args:
        seconds: by layer's name and phase. A phase that a layer does not have takes no time.

    Raises:
        InputError: the time of a phase is missing.
    """
    works = []
    for layer in layers:
        for phase in layer.phases:
            if (layer.name, phase) not in seconds:
                raise InputError(
                    f"layer {layer.name!r}: the time of {phase} is missing; a step needs all phases"
                )
        forward, *backward = (
            seconds.get((layer.name, phase), 0.0) if phase in layer.phases else 0.0
            for phase in ("fwd", "dgrad", "wgrad")
        )
        weights = layer.parameters if "wgrad" in layer.phases else 0
        works.append(LayerWork(layer.name, forward, sum(backward), weights))
    return works


def time_step(
    layers: Sequence[LayerWork], system: System, protocol: str | Protocol | None = None
) -> Step:
    """The time of a training step.

    Args:
        layers: what each chip computes, in the order of the forward pass.
        protocol: a name in `PROTOCOLS` or a record; the system's own by default.
    """
    chosen, topology = get_protocol(protocol or system.protocol), TOPOLOGIES[system.topology]
    link, chips = system.link, system.chips
    reduces = [chosen.reduce(layer.weights, chips, topology) for layer in layers]
    distributions = [
        chosen.distribute(layer.weights, chips, topology, layer.weight_bytes) for layer in layers
    ]
    # A layer without weights exchanges nothing.
    reduces = [x if work.weights else Exchange() for x, work in zip(reduces, layers, strict=True)]
    distributions = [
        x if work.weights else Exchange() for x, work in zip(distributions, layers, strict=True)
    ]
    forward = sum(layer.forward for layer in layers)
    backward = sum(layer.backward for layer in layers)
    times = [x.seconds(link) for x in reduces]
    ready, reduced = _reduce_times(layers, times, system.overlap)
    # Sums follow each other without a gap once all gradients are ready.
    late = [min(time, max(0.0, end - backward)) for time, end in zip(times, reduced, strict=True)]
    distributed, waited = _distribution_times(
        layers, [x.seconds(link) for x in distributions], system.overlap
    )
    rows = zip(
        layers, reduces, distributions, ready, reduced, distributed, late, waited, strict=True
    )
    return Step(
        system,
        chosen,
        tuple(LayerExchange(work.name, work.weights, *row) for work, *row in rows),
        forward,
        backward,
        exposed_reduce=max(0.0, max(reduced, default=0.0) - backward),
        exposed_distribute=sum(waited),
    )


def _reduce_times(
    layers: Sequence[LayerWork], times: Sequence[float], overlap: bool
) -> tuple[list[float], list[float]]:
    """When each layer's gradient is ready and when its sum is complete."""
    clock, ready = 0.0, [0.0] * len(layers)
    for number in reversed(range(len(layers))):
        clock += layers[number].backward
        ready[number] = clock
    free, reduced = 0.0 if overlap else clock, [0.0] * len(layers)
    for number in reversed(range(len(layers))):
        start = max(free, ready[number]) if times[number] else ready[number]
        reduced[number] = start + times[number]
        free = max(free, reduced[number])
    return ready, reduced


def _distribution_times(
    layers: Sequence[LayerWork], times: Sequence[float], overlap: bool
) -> tuple[list[float], list[float]]:
    """When each layer's result is on all chips, and how long the computation waits for it."""
    if not overlap:
        return [sum(times)] * len(layers), list(times)
    arrived = clock = 0.0
    distributed, waited = [], []
    for work, seconds in zip(layers, times, strict=True):
        arrived += seconds
        wait = max(0.0, arrived - clock) if seconds else 0.0
        clock += wait + work.forward
        distributed.append(arrived)
        waited.append(wait)
    return distributed, waited
