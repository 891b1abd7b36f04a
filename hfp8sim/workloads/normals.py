"""Normal deviates as `numpy.random.Generator.standard_normal` draws them in float32, in compiled code.

The random words are those of PCG64 (XSL-RR of 128 bits, M. E. O'Neill, HMC-CS-2014-0905): each has 64 bits, and its
lower half is used first. The method is the ziggurat of Marsaglia and Tsang (J. Statistical Software 5(8), 2000),
with 256 layers of equal area under exp(−x²/2). A word of 32 bits gives the layer (8 bits), the sign (1 bit) and the
place in the layer (23 bits).
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import config, jit

_LAYERS, _SIGNED_LAYERS = 256, 512
#: A layer's place has so many bits, and a uniform deviate has so many.
_PLACE_BITS, _UNIFORM_BITS = 23, 24
#: Where the lowest layer's rectangle ends and the tail begins.
_TAIL = 3.6541528853610088
_TAIL_32, _INVERSE_TAIL_32 = np.float32(_TAIL), np.float32(1 / _TAIL)
_UNIFORM_STEP = np.float32(2.0**-_UNIFORM_BITS)

#: The multiplier of the generator's state: upper and lower half.
_MULTIPLIER_HIGH, _MULTIPLIER_LOW = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)
_S32, _S58, _S63, _S64 = np.uint64(32), np.uint64(58), np.uint64(63), np.uint64(64)
_LOW32 = np.uint64(0xFFFFFFFF)
#: Words of 32 bits that are generated together. It does not change the deviates.
_BUFFER = 1024


class Ziggurat(NamedTuple):
    """The layers, by the 9 lowest bits of a word: the layer, and above it the sign."""

    widths: NDArray[np.float32]  #: x of a place, divided by the place; negative where the sign is
    inner: NDArray[np.int64]  #: places below it lie under the curve whatever their height
    heights: NDArray[np.float32]  #: exp(−x²/2) at the layer's edge, (256,)


@functools.cache
def ziggurat() -> Ziggurat:
    """The 256 layers; the lowest is number 0."""
    area = _TAIL * _density(_TAIL) + math.sqrt(math.pi / 2) * math.erfc(_TAIL / math.sqrt(2))
    edges = np.empty(_LAYERS)
    edges[0], edges[-1] = area / _density(_TAIL), _TAIL
    for i in range(_LAYERS - 2, 0, -1):
        edges[i] = math.sqrt(-2 * math.log(area / edges[i + 1] + _density(edges[i + 1])))
    next_edges = np.concatenate([[_TAIL, 0], edges[1:-1]])
    widths = (edges * 2.0**-_PLACE_BITS).astype(np.float32)
    inner = np.rint(next_edges / edges * 2.0**_PLACE_BITS).astype(np.int64)
    heights = np.exp(-edges * edges / 2)
    heights[0] = 1
    return Ziggurat(
        np.concatenate([widths, -widths]), np.tile(inner, 2), heights.astype(np.float32)
    )


def _density(x: float) -> float:
    return math.exp(-x * x / 2)


# -- words -------------------------------------------------------------------------------------------


@jit
def multiply_high(a, b):
    """The upper half of the product of two uint64."""
    low, high = a & _LOW32, a >> _S32
    low_b, high_b = b & _LOW32, b >> _S32
    middle, other = high * low_b, low * high_b
    carry = (low * low_b >> _S32) + (middle & _LOW32) + (other & _LOW32) >> _S32
    return high * high_b + (middle >> _S32) + (other >> _S32) + carry


@jit
def fill_words(state, words):
    """Fill in the next words (uint32, an even number) of a generator.

    Args:
        state: uint64 (4,): the upper and lower half of the state, and of the increment.
    """
    high, low, add_high, add_low = state[0], state[1], state[2], state[3]
    for i in range(0, words.size, 2):
        added = multiply_high(low, _MULTIPLIER_LOW) + low * _MULTIPLIER_HIGH + add_high
        low = low * _MULTIPLIER_LOW + add_low
        added += np.uint64(low < add_low)  # the carry
        high = high * _MULTIPLIER_LOW + added  # last: the next word waits for this alone
        mixed, turn = high ^ low, high >> _S58
        word = (mixed >> turn) | (mixed << (_S64 - turn & _S63))
        words[i], words[i + 1] = np.uint32(word & _LOW32), np.uint32(word >> _S32)
    state[0], state[1] = high, low


@jit
def _next_word(source, place):
    """The word at a place of the buffer, and the place after it; a place beyond the buffer fills it again."""
    state, words = source
    if place == words.size:
        fill_words(state, words)
        place = 0
    return np.int64(words[place]), place + 1


@jit
def _next_uniform(source, place):
    """A float32 in [0, 1), and the place after it."""
    word, place = _next_word(source, place)
    return np.float32(word >> 32 - _UNIFORM_BITS) * _UNIFORM_STEP, place


# -- deviates ----------------------------------------------------------------------------------------


@jit
def _scaled(x, scale, least):
    """A deviate times a scale, and at least `least`."""
    x = x * scale
    return x if x > least else least


@jit
def _draw_inner(words, place, layers, scale, least, out, first):
    """Deviates from `first` on, as long as the words lie in the inner parts of their layers; how many there are."""
    # Unsigned places: a signed one may count from the end, which takes two instructions more.
    for i in range(min(words.size - place, out.size - first)):
        word = np.int64(words[np.uintp(place + i)])
        layer, x = word & _SIGNED_LAYERS - 1, word >> 32 - _PLACE_BITS
        if x >= layers.inner[layer]:
            return i
        out[np.uintp(first + i)] = _scaled(np.float32(x) * layers.widths[layer], scale, least)
    return min(words.size - place, out.size - first)


@jit
def _draw_tail(source, place):
    """A deviate beyond the lowest layer's rectangle without its sign (Marsaglia, 1964), and the place after it."""
    while True:
        u, place = _next_uniform(source, place)
        v, place = _next_uniform(source, place)
        beyond, height = -_INVERSE_TAIL_32 * math.log1p(-u), -math.log1p(-v)
        if height + height > beyond * beyond:
            return _TAIL_32 + beyond, place


@jit
def _draw_outer(source, place, layers):
    """A deviate of a word outside the inner part of its layer: x, whether it is accepted, the place after it."""
    word, place = _next_word(source, place)
    layer, number = word & _LAYERS - 1, word >> 32 - _PLACE_BITS
    if layer == 0:
        x, place = _draw_tail(source, place)
        return (-x if number >> 8 & 1 else x), True, place
    x = np.float32(number) * layers.widths[word & _SIGNED_LAYERS - 1]
    u, place = _next_uniform(source, place)
    height = (layers.heights[layer - 1] - layers.heights[layer]) * u + layers.heights[layer]
    return x, height < math.exp(-0.5 * np.float64(x) * np.float64(x)), place


@jit
def _draw(source, layers, scale, least, out):
    """Fill `out` with deviates times a scale, and at least `least`.

    Args:
        source: the generator's state, and a buffer for its words.
        layers: a `Ziggurat`.
        scale, least: float32.
    """
    words = source[1]
    place, drawn = words.size, 0
    while drawn < out.size:
        if place == words.size:
            fill_words(*source)
            place = 0
        inner = _draw_inner(words, place, layers, scale, least, out, drawn)
        place, drawn = place + inner, drawn + inner
        if drawn < out.size and place < words.size:
            x, accepted, place = _draw_outer(source, place, layers)
            out[drawn] = _scaled(x, scale, least)
            drawn += accepted


def normals(
    key: Sequence[int], shape: Sequence[int], scale: float = 1.0, *, rectified: bool = False
) -> NDArray[np.float32]:
    """Deviates of a normal distribution, float32, the same on every processor.

    Args:
        key: whole numbers from 0 on, the seed of the random words by NumPy's `SeedSequence`.
        shape: of the array.
        scale: the standard deviation, rounded to float32.
        rectified: negative deviates become +0.

    Returns:
        The values of `numpy.random.default_rng(key).standard_normal(shape, numpy.float32)`, times the scale.
    """
    generator = np.random.PCG64(key)
    least = np.float32(0 if rectified else -np.inf)
    if config.DISABLE_JIT:
        values = np.random.Generator(generator).standard_normal(tuple(shape), np.float32)
        values *= np.float32(scale)
        return np.maximum(values, least, out=values)
    source = _state(generator), np.empty(_BUFFER, np.uint32)
    values = np.empty(tuple(shape), np.float32)
    _draw(source, ziggurat(), np.float32(scale), least, values.reshape(-1))
    return values


def _state(generator: np.random.PCG64) -> NDArray[np.uint64]:
    """The state and the increment of a generator, as `fill_words` takes them."""
    numbers: Any = generator.state["state"]
    halves = [divmod(numbers[name], 1 << 64) for name in ("state", "inc")]
    return np.array(halves, np.uint64).reshape(-1)
