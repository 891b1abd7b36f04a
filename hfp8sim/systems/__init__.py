"""Several chips and the links between them: what a training step exchanges, and how long that takes.

A `System` is some chips that each compute a share of the mini-batch with all of the weights. Each chip has
one link of a bandwidth, in each direction, and a latency for each message.

    system = System("four", chips=4, link=Link(gb_per_s=32, latency_us=1))
    ring_all_reduce(size=51_114_064, chips=4).seconds(system.link)

    step = time_step([LayerWork("fc", forward=1e-3, backward=2e-3, weights=1 << 20)], system)
    step.exposed, step.seconds, step.efficiency

`collectives` has the exchanges: messages and bytes one after the other on the busiest link, and the bytes of
all chips. `protocols` has the ways to update weights: formats in which gradients are summed and weights are
distributed. `step` has the time of a training step, with the part of the exchange that no computation hides.
Nothing here computes a value: the sums themselves belong to whoever trains.
"""

from hfp8sim.systems.collectives import (
    TOPOLOGIES,
    Exchange,
    Topology,
    neighbours,
    ring_all_gather,
    ring_all_reduce,
    ring_reduce_scatter,
    server_pull,
    server_push,
    tree_all_reduce,
    tree_broadcast,
    tree_reduce,
)
from hfp8sim.systems.config import System, load_system
from hfp8sim.systems.links import Link
from hfp8sim.systems.protocols import PROTOCOLS, Protocol, get_protocol
from hfp8sim.systems.step import LayerExchange, LayerWork, Step, layer_works, time_step

__all__ = [
    "PROTOCOLS",
    "TOPOLOGIES",
    "Exchange",
    "LayerExchange",
    "LayerWork",
    "Link",
    "Protocol",
    "Step",
    "System",
    "Topology",
    "get_protocol",
    "layer_works",
    "load_system",
    "neighbours",
    "ring_all_gather",
    "ring_all_reduce",
    "ring_reduce_scatter",
    "server_pull",
    "server_push",
    "time_step",
    "tree_all_reduce",
    "tree_broadcast",
    "tree_reduce",
]
