"""Normal deviates as `numpy.random.Generator.standard_normal` draws them in float32, in compiled code.

The random words are those of PCG64 (XSL-RR of 128 bits, M. E. O'Neill, HMC-CS-2014-0905): each has 64 bits, and its
lower half is used first. The method is the ziggurat of Marsaglia and Tsang (J. Statistical Software 5(8), 2000),
with 256 layers of equal area under exp(−x²/2). A word of 32 bits gives the layer (8 bits), the sign (1 bit) and the
place in the layer (23 bits).

Words come in buffers, by vectors: each lane of the generator jumps over the words of the others (F. B. Brown, Random number
generation with arbitrary strides, 1994). The deviates of a buffer are computed as if all its words lay in the inner parts of
their layers. Runs of words that do are copied, and the others, 1.5 % of all, are looked at one by one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.calls import address_of
from hfp8sim._numba.jit import config, jit
from hfp8sim._numba.layouts import layout
from hfp8sim._numba.simd import F32, I16, I32, I64, Code, Lanes, Pointer, Type, Value, integer

_LAYERS, _SIGNED_LAYERS = 256, 512
#: A layer's place has so many bits, and a uniform deviate has so many.
_PLACE_BITS, _UNIFORM_BITS = 23, 24
#: Where the lowest layer's rectangle ends and the tail begins.
_TAIL = 3.6541528853610088
_TAIL_32, _INVERSE_TAIL_32 = np.float32(_TAIL), np.float32(1 / _TAIL)
_UNIFORM_STEP = np.float32(2.0**-_UNIFORM_BITS)

#: The multiplier of the generator's state.
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_S32 = np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
#: Words of 32 bits that are generated together, and words of 64 bits. They do not change the deviates.
_BUFFER = 1024
_STATES = _BUFFER // 2
#: Deviates of a vector.
_VECTOR = 16


#: A generator whose words come in buffers, the deviates of a buffer, and the layers.
SOURCE = layout(
    # The states of the next words of 64 bits: upper and lower halves.
    high=(np.uint64, _STATES),
    low=(np.uint64, _STATES),
    # Multiplier and increment over _STATES steps: upper and lower halves.
    jump=(np.uint64, 4),
    # A buffer of words, and for each …
    words=(np.uint32, _BUFFER),
    entries=(np.uint64, _BUFFER),  # … that of `edges`,
    values=(np.float32, _BUFFER + _VECTOR),  # … its deviate,
    outer=(
        np.uint64,
        _BUFFER // 64 + 1,
    ),  # … a bit if it is outside the inner part of its layer; then ones.
    # The layers; the lowest is number 0. Those with a sign are numbered by the 9 lowest bits of a word.
    widths=(
        np.float32,
        _SIGNED_LAYERS,
    ),  # x of a place, divided by the place; negative where the sign is
    heights=(np.float32, _LAYERS),  # exp(−x²/2) at the edge
    # Places below a number lie under the curve whatever their height. Upper half: it; lower half: the bits of the width.
    edges=(np.uint64, _SIGNED_LAYERS),
    # What a deviate is multiplied by, and the least there is.
    limits=(np.float32, 2),
)


def _offset(name: str) -> int:
    """Bytes from a SOURCE to a field."""
    assert SOURCE.fields is not None
    return SOURCE.fields[name][1]


@functools.cache
def _blank() -> NDArray[Any]:
    """An array of one SOURCE with the layers alone."""
    area = _TAIL * _density(_TAIL) + math.sqrt(math.pi / 2) * math.erfc(_TAIL / math.sqrt(2))
    edges = np.empty(_LAYERS)
    edges[0], edges[-1] = area / _density(_TAIL), _TAIL
    for i in range(_LAYERS - 2, 0, -1):
        edges[i] = math.sqrt(-2 * math.log(area / edges[i + 1] + _density(edges[i + 1])))
    next_edges = np.concatenate([[_TAIL, 0], edges[1:-1]])
    widths = (edges * 2.0**-_PLACE_BITS).astype(np.float32)
    inner = np.rint(next_edges / edges * 2.0**_PLACE_BITS).astype(np.uint64)
    source = np.zeros(1, SOURCE)
    source["widths"] = np.concatenate([widths, -widths])
    source["heights"] = np.exp(-edges * edges / 2)
    source["heights"][0, 0] = 1
    source["edges"] = np.tile(inner, 2) << _S32 | source["widths"].view(np.uint32)
    source["outer"][0, -1] = np.uint64((1 << 64) - 1)
    return source


def _density(x: float) -> float:
    return math.exp(-x * x / 2)


# -- words -------------------------------------------------------------------------------------------


def _multiply_high(a: Any, b: Any) -> Any:
    """The upper half of the product of two uint64, or of vectors of them."""
    low, high = a & _LOW32, a >> _S32
    low_b, high_b = b & _LOW32, b >> _S32
    middle, other = high * low_b, low * high_b
    carry = (low * low_b >> _S32) + (middle & _LOW32) + (other & _LOW32) >> _S32
    return high * high_b + (middle >> _S32) + (other >> _S32) + carry


multiply_high = jit(_multiply_high)


def source_of(generator: np.random.PCG64, scale: float = 1.0, least: float = -math.inf) -> Any:
    """A record of SOURCE with the words of a generator, which does not change."""
    numbers: Any = generator.state["state"]
    multiplier, terms = _jump()
    sources = _blank().copy()
    sources["jump"] = *_halves(multiplier), *_halves(terms * numbers["inc"])
    sources["limits"] = scale, least
    state = [*map(_halves, (numbers["state"], _MULTIPLIER, numbers["inc"]))]
    _fill_states(np.array(state, np.uint64).reshape(-1), sources["high"][0], sources["low"][0])
    return sources[0]


def _halves(number: int) -> tuple[int, int]:
    """The upper and the lower half of the last 128 bits."""
    return number >> 64 & (1 << 64) - 1, number & (1 << 64) - 1


@functools.cache
def _jump() -> tuple[int, int]:
    """The multiplier of _STATES steps, and the sum of the powers by which the increment is multiplied meanwhile."""
    multiplier, terms = 1, 0
    for _ in range(_STATES):
        terms += multiplier
        multiplier = multiplier * _MULTIPLIER % (1 << 128)
    return multiplier, terms


@jit
def _fill_states(state, high, low):
    """Fill in the states of the next words of 64 bits.

    Args:
        state: uint64 (6,): upper and lower half of a state, the multiplier and the increment.
    """
    upper, lower, times_upper, times_lower, add_upper, add_lower = state
    for i in range(high.size):
        added = multiply_high(lower, times_lower) + lower * times_upper + add_upper
        lower = lower * times_lower + add_lower
        upper = upper * times_lower + added + np.uint64(lower < add_lower)  # with the carry
        high[i], low[i] = upper, lower


@jit
def fill_words(source):
    """Fill in the next words of a buffer."""
    _fill_words(address_of(source))


@jit
def _refill(source):
    """The next words, and their deviates."""
    fill_words(source)
    words, entries, edges = source.words, source.entries, source.edges
    for i in range(_BUFFER):
        entries[i] = edges[words[i] & _SIGNED_LAYERS - 1]
    _transform(address_of(source))


def _field(code: Code, source: Value, name: str, kind: Type) -> Pointer:
    """The address of a field of a SOURCE at an address."""
    return code.pointer((source + _offset(name)).ir, kind)


@intrinsic
def _fill_words(typingctx, source):
    """`fill_words` of a SOURCE at an address. The processor is little-endian: a word's lower half comes first."""

    def codegen(context, builder, signature, arguments):
        code = Code(builder)
        start = code.value(arguments[0])
        lanes = Lanes(code, 64, _VECTOR)
        high, low, jump, words = (
            _field(code, start, name, I64) for name in ("high", "low", "jump", "words")
        )
        times_upper, times_lower, add_upper, add_lower = (
            lanes.load_splat(jump, i) for i in range(4)
        )

        def fill(t, state):
            i = t * _VECTOR
            upper, lower = (lanes.load(each, i, lanes.words) for each in (high, low))
            mixed, turn = upper ^ lower, upper >> 58
            lanes.store(code.call(f"fshr.v{_VECTOR}i64", lanes.words, mixed, mixed, turn), words, i)
            added = _multiply_high(lower, times_lower) + lower * times_upper + add_upper
            lower = lower * times_lower + add_lower
            carry = lower.is_below(add_lower).widened(lanes.words)
            lanes.store(upper * times_lower + added + carry, high, i)
            lanes.store(lower, low, i)
            return state

        code.repeat(_STATES // _VECTOR, fill, [])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def _transform(typingctx, source):
    """The deviates of the buffer of a SOURCE at an address, as if all words lay in the inner parts of their layers."""

    def codegen(context, builder, signature, arguments):
        code = Code(builder)
        start = code.value(arguments[0])
        lanes, wide = Lanes(code, 32, _VECTOR), Lanes(code, 64, _VECTOR)
        words, values, masks = (
            _field(code, start, name, kind)
            for name, kind in (("words", I32), ("values", F32), ("outer", I16))
        )
        entries = _field(code, start, "entries", I64)
        limits = _field(code, start, "limits", F32)
        scale, least = (lanes.load_splat(limits, i) for i in range(2))

        def transform(t, state):
            i = t * _VECTOR
            number = lanes.load(words, i, lanes.words) >> 32 - _PLACE_BITS
            entry = wide.load(entries, i, wide.words)
            width, inner = entry.cut(lanes.words).floats(), (entry >> 32).cut(lanes.words)
            x = lanes.from_int(number) * width * scale
            lanes.store(x.where(x > least, least), values, i)
            (masks + t).store((number >= inner).mask(), align=2)
            return state

        code.repeat(_BUFFER // _VECTOR, transform, [])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def _trailing_zeros(typingctx, word):
    """How many of the lowest bits of a uint64 other than 0 are 0."""

    def codegen(context, builder, signature, arguments):
        code = Code(builder)
        return code.call("cttz.i64", I64, code.value(arguments[0]), code.number(1, integer(1))).ir

    return types.int64(types.uint64), codegen


@intrinsic
def _copy_vectors(typingctx, source, target, count):
    """Copy so many vectors of _VECTOR float32, at least one, from one address to another."""

    def codegen(context, builder, signature, arguments):
        code = Code(builder)
        lanes = Lanes(code, 32, _VECTOR)
        left, right = (code.pointer(each, F32) for each in arguments[:2])

        def move(t, state):
            lanes.store(lanes.load(left, t * _VECTOR, lanes.floats), right, t * _VECTOR)
            return state

        code.repeat(code.value(arguments[2]), move, [])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@jit
def _next_word(source, place):
    """The word at a place of the buffer, and the place after it; a place beyond the buffer fills it again."""
    if place == _BUFFER:
        _refill(source)
        place = 0
    return np.int64(source.words[place]), place + 1


@jit
def _next_uniform(source, place):
    """A float32 in [0, 1), and the place after it."""
    word, place = _next_word(source, place)
    return np.float32(word >> 32 - _UNIFORM_BITS) * _UNIFORM_STEP, place


# -- deviates ----------------------------------------------------------------------------------------


@jit
def _next_outer(outer, place):
    """The first place from `place` on with a word outside the inner part of its layer, or that after the buffer."""
    number = place >> 6
    bits = outer[number] >> np.uint64(place & 63)
    if bits:
        return place + _trailing_zeros(bits)
    number += 1
    while outer[number] == 0:
        number += 1
    return number * 64 + _trailing_zeros(outer[number])


#: Bytes from a SOURCE to its deviates.
_VALUES = _offset("values")


@jit
def _copy_run(source, place, out, first, count):
    """Copy deviates from a place of the buffer. Others may follow them in `out`, up to its end."""
    vectors = (count + _VECTOR - 1) // _VECTOR
    if first + vectors * _VECTOR <= out.size:
        target = np.int64(out.ctypes.data) + 4 * first
        _copy_vectors(address_of(source) + _VALUES + 4 * place, target, vectors)
    else:
        values = source.values
        for i in range(count):
            out[first + i] = values[place + i]


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
def _draw_outer(source, place):
    """A deviate of a word outside the inner part of its layer: x, whether it is accepted, the place after it."""
    widths, heights = source.widths, source.heights
    word, place = _next_word(source, place)
    layer, number = word & _LAYERS - 1, word >> 32 - _PLACE_BITS
    if layer == 0:
        x, place = _draw_tail(source, place)
        return (-x if number >> 8 & 1 else x), True, place
    x = np.float32(number) * widths[word & _SIGNED_LAYERS - 1]
    u, place = _next_uniform(source, place)
    height = (heights[layer - 1] - heights[layer]) * u + heights[layer]
    return x, height < math.exp(-0.5 * np.float64(x) * np.float64(x)), place


@jit
def _draw(source, out):
    """Fill `out` with the deviates of a SOURCE."""
    scale, least, outer = source.limits[0], source.limits[1], source.outer
    place, drawn = _BUFFER, 0
    while drawn < out.size:
        if place == _BUFFER:
            _refill(source)
            place = 0
        inner = min(_next_outer(outer, place) - place, out.size - drawn)
        if inner:
            _copy_run(source, place, out, drawn, inner)
        place, drawn = place + inner, drawn + inner
        if drawn < out.size and place < _BUFFER:
            x, accepted, place = _draw_outer(source, place)
            x *= scale
            out[drawn] = x if x > least else least
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
    least = 0 if rectified else -math.inf
    if config.DISABLE_JIT:
        values = np.random.Generator(generator).standard_normal(tuple(shape), np.float32)
        values *= np.float32(scale)
        return np.maximum(values, np.float32(least), out=values)
    values = np.empty(tuple(shape), np.float32)
    _draw(source_of(generator, scale, least), values.reshape(-1))
    return values
