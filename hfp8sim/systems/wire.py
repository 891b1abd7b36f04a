"""The wire account: bytes and messages that a learner sends in a training step, by layer and collective.

docs/distributed.md has the protocols. Sizes are exact: chunks are whole elements, so a learner's bytes depend on which chunk it
owns. The engine of `hfp8sim.training.distributed` sends just these.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.systems.protocols import PROTOCOLS

#: Elements that AdaComp sends of a bin, in the paper's operating point (docs/distributed.md).
SENDS_PER_BIN = 5


@dataclasses.dataclass(frozen=True)
class Sent:
    """What the average learner sends in a collective; `bytes` is the sum over learners divided by their number."""

    layer: str
    collective: str
    bytes: float
    messages: int


def chunk(size: int, learners: int, number: int) -> int:
    """Elements of chunk `number` of a tensor."""
    number %= learners
    return (number + 1) * size // learners - number * size // learners


def reduce_scatter_bytes(size: int, width: int, learners: int, learner: int) -> int:
    """Bytes that a learner sends in a ring reduce-scatter: every chunk but its own, once.

    Args:
        size: elements of the tensor.
        width: bytes of an element on the wire.
    """
    return width * (size - chunk(size, learners, learner))


def all_gather_bytes(size: int, width: int, learners: int, learner: int) -> int:
    """Bytes that a learner sends in a ring all-gather: every chunk but the next learner's, once."""
    return width * (size - chunk(size, learners, learner + 1))


def adacomp_bytes(size: int, bin_length: int, sent: float, empty: float = 0) -> float:
    """Bytes of an AdaComp packet of which `sent` elements are sent, and `empty` symbols stand for bins without any."""
    width = 1 if bin_length <= 63 else 2
    return 4 + width * (sent + empty)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of a layer."""

    name: str
    count: int
    gather: int = (
        1  #: bytes of a weight in the all-gather of HFP8: 2 in layers that stay in 16 bits
    )
    linear: bool = False  #: a linear or recurrent layer, whose bins AdaComp makes longer


def hfp8(layers: Iterable[Weights], learners: int, gradient: int = 2) -> list[Sent]:
    """The HFP8 protocol: reduce-scatter of gradients in `gradient` bytes, all-gather of weights."""
    check_whole_number(learners, "learners", 1)
    rows = []
    for layer in layers:
        moved = (learners - 1) * layer.count / learners
        rows.append(Sent(layer.name, "reduce-scatter", gradient * moved, learners - 1))
        rows.append(Sent(layer.name, "all-gather", layer.gather * moved, learners - 1))
    return rows


def all_reduce(layers: Iterable[Weights], learners: int, width: int) -> list[Sent]:
    """A ring all-reduce of gradients in `width` bytes; every learner updates all weights."""
    plain = [dataclasses.replace(layer, gather=width) for layer in layers]
    return hfp8(plain, learners, gradient=width)


def adacomp(
    layers: Iterable[Weights], learners: int, bins: tuple[int, int] = (50, 500),
    per_bin: float = SENDS_PER_BIN,
) -> list[Sent]:  # fmt: skip
    """AdaComp: every packet goes to all learners.

    Args:
        bins: bin length of convolutions, and of linear layers.
        per_bin: elements that are sent of each bin, or all of a shorter one; no bin is empty.
    """
    check_whole_number(learners, "learners", 1)
    rows = []
    for layer in layers:
        length = bins[layer.linear]
        sent = min(per_bin * math.ceil(layer.count / length), layer.count)
        packet = adacomp_bytes(layer.count, length, sent)
        rows.append(
            Sent(layer.name, "all-gather of packets", (learners - 1) * packet, learners - 1)
        )
    return rows


def scalecom(
    layers: Iterable[Weights], learners: int, rate: int = 100, width: int = 2, chunks: bool = True
) -> list[Sent]:
    """ScaleCom: the leader's indices go from learner to learner, the values twice round the ring.

    Args:
        rate: one element in so many is sent.
        width: bytes of a value.
        chunks: one index in each chunk of `rate` elements, else any.
    """
    check_whole_number(learners, "learners", 1)
    rows = []
    for layer in layers:
        k = max(math.ceil(layer.count / rate), 1)
        bits = max(math.ceil(layer.count / k) - 1, 0).bit_length() if chunks else 32
        moved = (learners - 1) / learners
        rows.append(Sent(layer.name, "broadcast of indices", math.ceil(k * bits / 8) * moved, 1))
        rows.append(
            Sent(layer.name, "all-reduce of values", 2 * width * k * moved, 2 * (learners - 1))
        )
    return rows


def gossip(
    layers: Iterable[Weights], learners: int, width: int = 4, differences: bool = False
) -> list[Sent]:
    """D-PSGD on a ring: the weights to both neighbours, however many learners there are.

    Args:
        width: bytes of a weight, or of a difference.
        differences: these are sent, with a byte for the exponent of each layer.
    """
    neighbours = min(check_whole_number(learners, "learners", 1) - 1, 2)
    return [
        Sent(
            layer.name, "weights to neighbours", neighbours * (width * layer.count + differences),
            neighbours,
        )
        for layer in layers
    ]  # fmt: skip


def total(rows: Iterable[Sent]) -> float:
    """Bytes of all rows."""
    return sum(row.bytes for row in rows)


@dataclasses.dataclass(frozen=True)
class Gain:
    """An assumption on what is sent and what the computation hides, and what it saves against 16-bit all-reduce.

    x is the exposed exchange of 16-bit all-reduce as a multiple of the computation.
    """

    assumption: str
    protocol: str  #: a name in `PROTOCOLS`
    hides_reduce: bool = False  #: whether the backward pass hides the sums of gradients

    def _exposed(self, protocol: str) -> int:
        """Exposed bytes of a weight."""
        record = PROTOCOLS[protocol]
        return record.result_bytes + (0 if self.hides_reduce else record.gradient_bytes)

    @property
    def share(self) -> float:
        """Of the exposed exchange, what is saved."""
        return 1 - self._exposed(self.protocol) / self._exposed("fp16")

    def saved(self, x: float) -> float:
        """Of the time of a step, what is saved: share · x / (1 + x)."""
        return self.share * x / (1 + x)

    def needed(self, saved: float) -> float:
        """The x that saves so much of the time of a step; infinite if none does."""
        return saved / (self.share - saved) if self.share > saved else math.inf


def saved_by(speed_up: float) -> float:
    """Of the time of a step, what is saved if it is faster by a share: 60 % faster takes 37.5 % less time."""
    return speed_up / (1 + speed_up)


#: The assumptions that are compared.
GAINS = (
    Gain("nothing hidden", "hfp8"),
    Gain("reduce-scatter hidden", "hfp8", hides_reduce=True),
    Gain("nothing hidden, 8-bit gradients", "8-bit"),
)


def layer_weights(
    names: Iterable[tuple[str, int, bool]], wide: Iterable[str] = ()
) -> list[Weights]:
    """Layers of (name, weights, linear), of which those in `wide` gather two bytes.

    Raises:
        InputError: a wide layer that is not among them.
    """
    rows = list(names)
    kept = set(wide)
    missing = kept - {name for name, _, _ in rows}
    if missing:
        raise InputError(f"no layer {sorted(missing)[0]!r} with weights")
    return [Weights(name, count, 2 if name in kept else 1, linear) for name, count, linear in rows]
