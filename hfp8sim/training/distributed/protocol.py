"""The protocol of many learners as seen from one of them: what it sends, what it does with what it receives.

docs/distributed.md. Each function here is a generator: it yields the message of a hop to the next learner, and is sent what the
learner before has sent. So the same text runs in one process and in many (`hfp8sim.training.distributed.rings`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat
from hfp8sim.ops.updates import rounded_sum
from hfp8sim.units.sites import Place, Site, Values

Bytes = NDArray[np.uint8]
T = TypeVar("T")


class Message(NamedTuple):
    """A hop: what a learner sends to the next one, and how much it receives from the one before."""

    collective: str
    content: Bytes
    expected: int  #: bytes that are received at this hop
    tensors: tuple[
        tuple[int, int], ...
    ] = ()  #: number of each tensor in the content, and its bytes


#: The part of one learner in a collective; returns what the learner has afterwards.
Part = Generator[Message, Bytes, T]


class Seat(NamedTuple):
    """A learner's place in the ring."""

    learner: int
    learners: int

    def chunk(self, size: int, back: int = 0) -> slice:
        """The elements of a tensor's chunk `learner − back`."""
        c = (self.learner - back) % self.learners
        return slice(c * size // self.learners, (c + 1) * size // self.learners)


class Bundle(NamedTuple):
    """Tensors that travel together: equal formats on the wire."""

    numbers: tuple[int, ...]
    sizes: tuple[int, ...]
    reduce: Site
    gather: FloatFormat

    def spans(self, seat: Seat, back: int) -> list[slice]:
        """Chunk `learner − back` of each tensor."""
        return [seat.chunk(size, back) for size in self.sizes]

    def elements(self, seat: Seat, back: int) -> int:
        """Elements of chunk `learner − back` of all tensors."""
        return sum(span.stop - span.start for span in self.spans(seat, back))

    def cut(self, arrays: Sequence[Values], seat: Seat, back: int) -> Values:
        """Chunk `learner − back` of all tensors, one after the other."""
        return np.concatenate(
            [array[span] for array, span in zip(arrays, self.spans(seat, back), strict=True)]
        )

    def paste(self, arrays: Sequence[Values], values: Values, seat: Seat, back: int) -> None:
        """Write chunk `learner − back` of all tensors."""
        start = 0
        for array, span in zip(arrays, self.spans(seat, back), strict=True):
            stop = start + span.stop - span.start
            array[span] = values[start:stop]
            start = stop

    def bytes_of(self, seat: Seat, back: int, fmt: FloatFormat) -> tuple[tuple[int, int], ...]:
        """Number and bytes of each tensor in chunk `learner − back`."""
        width = number_bytes(fmt)
        spans = self.spans(seat, back)
        return tuple((n, width * (s.stop - s.start)) for n, s in zip(self.numbers, spans))


# -- numbers as bytes ------------------------------------------------------------------------------------


def number_bytes(fmt: FloatFormat) -> int:
    """Bytes of a number on the wire: 1 up to 8 bits, 2 up to 16, else 4."""
    return int(fmt.dtype.itemsize)


def encode(values: Values, fmt: FloatFormat) -> Bytes:
    """Numbers of a format as bytes, little-endian."""
    if fmt.name == "binary32":
        return np.ascontiguousarray(values, "<f4").view(np.uint8)
    codes = fmt.encode(values, "toward-zero", "special" if fmt.has_nan else "saturate")
    return np.ascontiguousarray(codes, codes.dtype.newbyteorder("<")).view(np.uint8)


def decode(content: Bytes, fmt: FloatFormat) -> Values:
    """The numbers of bytes, float32."""
    if fmt.name == "binary32":
        return content.view("<f4").astype(np.float32, copy=False)
    codes = content.view(fmt.dtype.newbyteorder("<")).astype(fmt.dtype, copy=False)
    return np.asarray(fmt.decode(codes, dtype=np.float32))


# -- collectives -----------------------------------------------------------------------------------------


def reduce_scatter(
    bundle: Bundle, gradients: Sequence[Values], seat: Seat, seed: int, step: int
) -> Part[Values]:
    """Sum a bundle's gradients over learners.

    Args:
        gradients: of this learner, a 1-D float32 array for each tensor of the bundle.
        seed, step: of the random words of site `reduce`.

    Returns:
        The sums of this learner's chunk of every tensor, one after the other.
    """
    own = bundle.cut(gradients, seat, 1 if seat.learners > 1 else 0)
    if seat.learners == 1:
        return own
    fmt = bundle.reduce.record
    width = number_bytes(fmt)
    total = _rounded(bundle, [own], seat, 1, seed, step, 0)
    for hop in range(1, seat.learners):
        content = yield Message(
            "reduce-scatter", encode(total, fmt), width * bundle.elements(seat, hop + 1),
            bundle.bytes_of(seat, hop, fmt),
        )  # fmt: skip
        own = bundle.cut(gradients, seat, hop + 1)
        total = _rounded(bundle, [decode(content, fmt), own], seat, hop + 1, seed, step, hop)
    return total


def _rounded(
    bundle: Bundle, terms: list[Values], seat: Seat, back: int, seed: int, step: int, hop: int
) -> Values:
    """The sum of terms, rounded at `reduce`."""
    if not bundle.reduce.stochastic:  # no words: all tensors at once
        return rounded_sum(Place.REDUCE, bundle.reduce, [(1.0, x) for x in terms])
    parts, start = [], 0
    for number, span in zip(bundle.numbers, bundle.spans(seat, back), strict=True):
        stop = start + span.stop - span.start
        parts.append(
            rounded_sum(
                Place.REDUCE, bundle.reduce, [(1.0, x[start:stop]) for x in terms],
                seed=seed, step=step, tensor=number, hop=hop, first=span.start,
            )
        )  # fmt: skip
        start = stop
    return np.concatenate(parts)


def all_gather(
    bundle: Bundle, arrays: Sequence[Values], seat: Seat, fmt: FloatFormat, name: str = "all-gather"
) -> Part[None]:
    """Give every learner all chunks of a bundle's tensors; each has its own chunk before.

    Args:
        arrays: 1-D float32 of this learner, in which the other chunks are written. They hold numbers of `fmt`.
        fmt: of the codes that are sent.
    """
    content = encode(bundle.cut(arrays, seat, 0), fmt)
    width = number_bytes(fmt)
    for hop in range(1, seat.learners):
        content = yield Message(
            name, content, width * bundle.elements(seat, hop), bundle.bytes_of(seat, hop - 1, fmt)
        )
        bundle.paste(arrays, decode(content, fmt), seat, hop)


def share(content: bytes, seat: Seat) -> Part[list[bytes]]:
    """Give every learner a few bytes of each; returns those of learner 0, 1, …, all of one length."""
    result = {seat.learner: content}
    for hop in range(1, seat.learners):
        sent = np.frombuffer(result[(seat.learner - hop + 1) % seat.learners], np.uint8)
        received = yield Message("status", sent, len(content))
        result[(seat.learner - hop) % seat.learners] = received.tobytes()
    return [result[k] for k in range(seat.learners)]


def broadcast(content: Bytes, seat: Seat) -> Part[Bytes]:
    """Learner 0's content to all, from learner to learner."""
    for hop in range(1, seat.learners):
        sends, receives = seat.learner == hop - 1, seat.learner == hop
        received = yield Message(
            "buffers", content if sends else content[:0], content.size if receives else 0
        )
        if receives:
            content = received
    return content
