"""Collective exchanges of N chips: messages and bytes, from which a link gives the time.

Sizes are bytes of the whole vector on each chip, S. A ring cuts the vector into N chunks of ⌈S/N⌉ bytes. With
α seconds for a message and B bytes a second on each link and in each direction:

    ring reduce-scatter, ring all-gather    (N−1)·(α + ⌈S/N⌉/B)
    ring all-reduce                         both, one after the other
    tree reduce, tree broadcast             ⌈log₂N⌉·(α + S/B)
    tree all-reduce                         both, one after the other
    server push, server pull                α + N·S/B, through the server's one port
    neighbours on a ring                    2·(α + S/B)

One chip exchanges nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from hfp8sim.systems.links import Link


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What chips exchange. Exchanges that follow each other are added with `+`."""

    messages: int = 0  #: one after the other
    path_bytes: int = 0  #: one after the other through the busiest link; they take the time
    total_bytes: int = 0  #: that all chips send together

    def __add__(self, other: Exchange) -> Exchange:
        return Exchange(
            self.messages + other.messages,
            self.path_bytes + other.path_bytes,
            self.total_bytes + other.total_bytes,
        )

    def seconds(self, link: Link) -> float:
        """The time on links of one kind."""
        return link.seconds(self.messages, self.path_bytes)


#: (bytes of the vector, chips) → the exchange.
Collective = Callable[[int, int], Exchange]


def _ring(size: int, chips: int) -> Exchange:
    """N−1 rounds in which each chip sends one chunk to the next chip. The longest chunk takes the time."""
    path = (chips - 1) * -(-size // chips)
    return Exchange(chips - 1, path, (chips - 1) * size)


def ring_reduce_scatter(size: int, chips: int) -> Exchange:
    """Each chip ends with the sum of one chunk over all chips."""
    return _ring(size, chips)


def ring_all_gather(size: int, chips: int) -> Exchange:
    """Each chip begins with one chunk of the vector and ends with all of it."""
    return _ring(size, chips)


def ring_all_reduce(size: int, chips: int) -> Exchange:
    """Each chip ends with the sum of the whole vector: a reduce-scatter and an all-gather."""
    return ring_reduce_scatter(size, chips) + ring_all_gather(size, chips)


def tree_rounds(chips: int) -> int:
    """⌈log₂ N⌉, the depth of a binary tree over N chips."""
    return (chips - 1).bit_length()


def _tree(size: int, chips: int) -> Exchange:
    """Each chip but the root sends, or receives, the whole vector once."""
    rounds = tree_rounds(chips)
    return Exchange(rounds, rounds * size, (chips - 1) * size)


def tree_reduce(size: int, chips: int) -> Exchange:
    """The root ends with the sum of the whole vector."""
    return _tree(size, chips)


def tree_broadcast(size: int, chips: int) -> Exchange:
    """The root's vector goes to all chips."""
    return _tree(size, chips)


def tree_all_reduce(size: int, chips: int) -> Exchange:
    """Each chip ends with the sum of the whole vector: a reduce and a broadcast."""
    return tree_reduce(size, chips) + tree_broadcast(size, chips)


def _server(size: int, chips: int) -> Exchange:
    """The vectors of all chips pass the one port of the server, which is no chip itself."""
    if chips == 1:
        return Exchange()
    return Exchange(1, chips * size, chips * size)


def server_push(size: int, chips: int) -> Exchange:
    """Each chip sends its vector to the server."""
    return _server(size, chips)


def server_pull(size: int, chips: int) -> Exchange:
    """The server sends a vector to each chip."""
    return _server(size, chips)


def neighbours(size: int, chips: int) -> Exchange:
    """Each chip of a ring sends its vector to both neighbours; of two chips each has one neighbour."""
    messages = min(chips - 1, 2)
    return Exchange(messages, messages * size, chips * messages * size)


@dataclasses.dataclass(frozen=True)
class Topology:
    """How the chips of a system sum a vector, and how they distribute the result."""

    name: str
    names: tuple[str, str]  #: of the two exchanges
    reduce: Collective
    distribute: Collective

    def all_reduce(self, size: int, chips: int) -> Exchange:
        """Both, one after the other."""
        return self.reduce(size, chips) + self.distribute(size, chips)


#: Every topology by its name.
TOPOLOGIES = {
    topology.name: topology
    for topology in (
        Topology("ring", ("reduce-scatter", "all-gather"), ring_reduce_scatter, ring_all_gather),
        Topology("tree", ("reduce", "broadcast"), tree_reduce, tree_broadcast),
        Topology("server", ("push", "pull"), server_push, server_pull),
    )
}
