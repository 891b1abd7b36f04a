"""Protocols of weight updates: in which format gradients are summed, and in which the result is distributed.

On a ring of N chips a chip sends (N−1)/N · (gradient bytes + result bytes) for each weight. HFP8 sums FP16
gradients. Each chip updates its share of the weights, which it then distributes in 8 bits; the residue of the
rounding stays on the chip (Sun et al., NeurIPS 2019; docs/updates.md).
"""

from __future__ import annotations

import dataclasses

from hfp8sim.errors import unknown
from hfp8sim.systems.collectives import Exchange, Topology


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Bytes that a weight costs in the two halves of an exchange.

    A layer whose weights have more bytes than `result_bytes`, as those that stay in 16 bits, distributes its own.
    """

    name: str
    summary: str
    gradient_bytes: int  #: of an element of the gradient, summed over all chips
    result_bytes: int  #: of an element of what comes back: the summed gradient or the new weight

    def reduce(self, weights: int, chips: int, topology: Topology) -> Exchange:
        """The exchange that sums the gradients of some weights."""
        return topology.reduce(weights * self.gradient_bytes, chips)

    def distribute(
        self, weights: int, chips: int, topology: Topology, weight_bytes: int = 1
    ) -> Exchange:
        """The exchange that brings the result to all chips; `weight_bytes` are those of the layer's format."""
        return topology.distribute(weights * max(self.result_bytes, weight_bytes), chips)

    def exchange(
        self, weights: int, chips: int, topology: Topology, weight_bytes: int = 1
    ) -> Exchange:
        """Both, one after the other."""
        distributed = self.distribute(weights, chips, topology, weight_bytes)
        return self.reduce(weights, chips, topology) + distributed


#: Every protocol by its name.
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("fp32", "all-reduce of FP32 gradients", 4, 4),
        Protocol("fp16", "all-reduce of FP16 gradients", 2, 2),
        Protocol("hfp8", "FP16 gradients are summed, 8-bit weights are distributed", 2, 1),
        Protocol("8-bit", "8-bit gradients are summed, 8-bit weights are distributed", 1, 1),
    )
}


def get_protocol(name: str | Protocol) -> Protocol:
    """The protocol of a name; `InputError` for an unknown one."""
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise unknown("update protocol", name, list(PROTOCOLS))
    return PROTOCOLS[name]
