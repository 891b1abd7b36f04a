"""The converter: whole tensors of real numbers into operand codes, random bits included."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim import kernels
from hfp8sim._numba.jit import config
from hfp8sim.arrays import check_out, checked_array, coded_name, widened
from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.codec import check_mode, check_random_width, encode
from hfp8sim.formats.rounding import OVERFLOWED, UNDERFLOWED
from hfp8sim.formats.vocabulary import takes_random_bits
from hfp8sim.kernels.convert import Rounder, convert_piece, narrow_to_odd, rounder
from hfp8sim.ops.threads import thread_count
from hfp8sim.units.accumulator import check_source
from hfp8sim.units.random import CONVERT, fill_words, key

Codes = NDArray[np.unsignedinteger[Any]]
Index = tuple[Any, ...]

#: Elements below which a second thread costs more than it gains.
_ELEMENTS_WORTH_THREADS = 1 << 19
#: Elements that are made contiguous float32 at once: they stay in the second-level cache.
_PIECE = 1 << 15
#: Parts of contiguous float32 for each thread.
_PARTS_PER_THREAD = 4


@standard_arithmetic
def convert(
    x: ArrayLike,
    fmt: str | FloatFormat,
    rounding: str = "nearest-even",
    overflow: str = "saturate",
    *,
    bits: int = 13,
    seed: int = 0,
    stream: int = 0,
    source: str | None = None,
    out: Codes | None = None,
    threads: int | None = None,
) -> tuple[Codes, dict[str, int]]:
    """Round a tensor into a format; stochastic modes draw from the counter-based source.

    Args:
        x: real numbers of any shape and strides: float32, float64, float16, integers, or a dtype of ml_dtypes or
            PyTorch such as bfloat16. All but 8-bit floats, and those that the vector converter does not take, are
            read where they lie, piece by piece.
        fmt, rounding, overflow, bits: as `FloatFormat.encode`.
        seed, stream: of the random source, 0 ≤ n < 2^64. Equal ones give equal codes, whatever x's strides.
        source: "bfloat16" if x is uint16, the bit patterns of bfloat16 numbers.
        out: an array of codes, of x's shape and the format's dtype, to fill in and return. If it overlaps x, x is
            copied first.
        threads: worker threads; all cores by default. No result depends on it.

    Returns:
        Codes of x's shape, and how many elements `saturated` (overflowed) and `underflowed`. Without `out`, the codes
        lie in memory in the order in which x does (in C order if the mode is stochastic).

    Raises:
        InputError: as `FloatFormat.encode`; `out` of another shape or dtype or read-only, threads < 1.
    """
    record = get_format(fmt)
    array = _numbers(x, source)
    if out is not None:
        check_out(out, record.dtype, array.shape)
        array = array.copy() if np.may_share_memory(array, out) else array
    work = _Conversion(array, record, rounding, overflow, bits, seed, stream)
    codes = work.empty(record.dtype) if out is None else out
    counts = work.run(codes, None, threads)
    return codes, counts


@standard_arithmetic
def round_values(
    x: ArrayLike,
    fmt: str | FloatFormat,
    rounding: str = "nearest-even",
    overflow: str = "saturate",
    *,
    bits: int = 13,
    seed: int = 0,
    stream: int = 0,
    source: str | None = None,
    out: NDArray[np.float32] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Round a tensor to numbers of a format, as float32: what `convert` gives, decoded, in one pass.

    Args:
        x, fmt, rounding, overflow, bits, seed, stream, source, threads: as `convert`. The random words are the same.
        out: a float32 array of x's shape to fill in and return. It may be x itself, which is then rounded in place. If
            it overlaps x otherwise, x is copied first.

    Returns:
        float32 of x's shape, and counts as those of `convert`.

    Raises:
        InputError: as `convert`; a format some of whose numbers are no float32.
    """
    record = get_format(fmt)
    array = _numbers(x, source)
    if record.emax > 127 or record.facts.min_exp < -149:
        raise InputError(f"some numbers of {record.name} are no float32; use convert")
    if out is not None:
        check_out(out, np.dtype(np.float32), array.shape)
        apart = not np.may_share_memory(array, out) or _same_elements(array, out)
        array = array if apart else array.copy()
    work = _Conversion(array, record, rounding, overflow, bits, seed, stream)
    values = work.empty(np.dtype(np.float32)) if out is None else out
    counts = work.run(None, values, threads)
    return values, counts


def conversion_bits(shape: tuple[int, ...], r: int, seed: int, stream: int) -> NDArray[np.int64]:
    """The r random bits of every element of an array that is converted, by row-major element number."""
    words = np.empty(int(np.prod(shape)), np.uint32)
    fill_words(_key(seed, stream), np.uint64(0), words)
    return (words >> np.uint32(32 - r)).astype(np.int64).reshape(shape)


def _key(seed: int, stream: int) -> np.uint64:
    """The key of a conversion's random words; `InputError` for a seed or a stream out of range."""
    check_source(seed, stream)
    return np.uint64(key(np.uint64(seed), np.uint64(stream), np.uint64(CONVERT)))


# -- what is converted -------------------------------------------------------------------------------


def _numbers(x: ArrayLike, source: str | None) -> NDArray[Any]:
    """The numbers as an array; bfloat16 as its bit patterns in a structured dtype of one field."""
    array = checked_array(x, "x")
    if source not in (None, "bfloat16"):
        raise InputError(f"source is {source!r}; it must be None or 'bfloat16'")
    dtype = coded_name(array.dtype)
    if source is None and dtype != "bfloat16":
        return widened(array) if dtype else array
    if source is not None and array.dtype != np.uint16:
        raise InputError(f"bit patterns of bfloat16 are uint16, not {array.dtype}")
    return array.view(_BFLOAT16)


def _same_elements(x: NDArray[Any], out: NDArray[Any]) -> bool:
    """Whether each element of `out` has the memory of the same element of `x`."""
    return (x.ctypes.data, x.strides, x.itemsize) == (out.ctypes.data, out.strides, out.itemsize)


#: Bit patterns of bfloat16, told apart from integers.
_BFLOAT16 = np.dtype([("bfloat16", np.uint16)])


def _widen(x: NDArray[Any]) -> NDArray[np.float32]:
    """float16 and float32 as contiguous float32."""
    return np.ascontiguousarray(x, np.float32)


def _widen_bfloat16(x: NDArray[Any]) -> NDArray[np.float32]:
    """Bit patterns of bfloat16 as float32, which hold them exactly."""
    return (x["bfloat16"].astype(np.uint32) << 16).view(np.float32)


def _narrow_float64(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """float64 as float32 that a narrower format rounds alike, see `narrow_to_odd`."""
    narrow = np.empty(x.shape, np.float32)
    narrow_to_odd(np.ascontiguousarray(x).reshape(-1), narrow.reshape(-1))
    return narrow


def _plain(x: NDArray[Any]) -> NDArray[Any]:
    """What the integer path reads."""
    return _widen_bfloat16(x) if x.dtype == _BFLOAT16 else x


@functools.lru_cache(256)
def _rounding(
    fmt: FloatFormat, rounding: str, overflow: str, bits: int
) -> tuple[bool, Rounder | None]:
    """Whether a rounding takes random words; the vector converter's numbers, or None for the integer path."""
    mode, _ = check_mode(fmt, rounding, overflow, bits)
    return takes_random_bits(mode), None if config.DISABLE_JIT else rounder(
        fmt, rounding, overflow, bits
    )


class _Piece(NamedTuple):
    """A part of an array, whose elements follow one another in row-major order."""

    place: Index
    start: int  #: number of its first element


class _Conversion:
    """One conversion: an array, a format and a rounding."""

    def __init__(
        self, x: NDArray[Any], fmt: FloatFormat, rounding: str, overflow: str, bits: int, seed: int, stream: int
    ) -> None:  # fmt: skip
        self.x, self.fmt, self.how = x, fmt, (rounding, overflow, bits)
        self.source = seed, stream
        try:
            stochastic, self.rounder = _rounding(fmt, rounding, overflow, bits)
        except TypeError:  # a list or a dict, which no table can be asked for
            check_mode(fmt, rounding, overflow, bits)
            check_random_width(bits)
            raise
        self.key = _key(seed, stream) if stochastic else None
        #: Whether elements are walked in row-major order: random words are numbered by it.
        self.in_order = self.key is not None or x.flags.c_contiguous
        #: The axes in the order in which elements lie in memory and are walked, if that is another one.
        self.axes: tuple[int, ...] = ()
        if not self.in_order:
            self.axes = tuple(sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis])))

    def empty(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """A result whose elements lie in memory as they are walked."""
        if self.in_order:
            return np.empty(self.x.shape, dtype)
        return np.empty([self.x.shape[axis] for axis in self.axes], dtype).transpose(
            np.argsort(self.axes)
        )

    def run(
        self, codes: Codes | None, values: NDArray[np.float32] | None, threads: int | None
    ) -> dict[str, int]:
        """Fill in codes or values; counts of events."""
        small = self.x.size < _ELEMENTS_WORTH_THREADS
        if threads is not None or not small:
            threads = thread_count(threads)
        threads = 1 if small or threads is None else threads
        parameters, narrow = self._fast()
        # Values may be written over the numbers: NaN must be found before.
        safe = values is None or self.fmt.has_nan or not np.isnan(_plain(self.x)).any()
        if parameters is not None and safe:
            counts = self._pieces(parameters, narrow, codes, values, threads)
            if self.fmt.has_nan or not counts[2]:
                return {"saturated": counts[0], "underflowed": counts[1]}
        rounding, overflow, bits = self.how
        random = None
        if self.key is not None:
            random = conversion_bits(self.x.shape, bits, *self.source)
        exact, flags = encode(_plain(self.x), self.fmt, rounding, overflow, random, bits)
        if codes is not None:
            codes[...] = exact
        else:
            self.fmt.decode(exact, dtype=np.float32, out=values)
        return {
            "saturated": int(np.count_nonzero(flags & OVERFLOWED)),
            "underflowed": int(np.count_nonzero(flags & UNDERFLOWED)),
        }

    def _fast(self) -> tuple[Rounder | None, Callable[[NDArray[Any]], NDArray[np.float32]]]:
        """The vector converter's numbers, or None for the integer path; and how x becomes float32."""
        dtype, parameters = self.x.dtype, self.rounder
        if dtype == _BFLOAT16:
            return parameters, _widen_bfloat16
        if dtype == np.float64:
            # The last bit of a number rounded to odd is below all that random bits are added to.
            lost = self.key is not None and self.how[-1] > 22 - self.fmt.fraction_bits
            return None if lost else parameters, _narrow_float64
        return parameters if dtype in (np.float32, np.float16) else None, _widen

    def _pieces(
        self, how: Rounder, narrow: Callable[[NDArray[Any]], NDArray[np.float32]],
        codes: Codes | None, values: NDArray[np.float32] | None, threads: int,
    ) -> tuple[int, int, int]:  # fmt: skip
        """Convert piece by piece; overflows, underflows, and NaN among the numbers."""
        x, target = self.x, codes if codes is not None else values
        assert target is not None
        if not self.in_order:
            x, target = x.transpose(self.axes), target.transpose(self.axes)
        if threads == 1 and codes is not None and x.dtype == np.float32 and x.size:
            if x.flags.c_contiguous and codes.flags.c_contiguous:  # one piece, in one call
                return convert_piece(x.reshape(-1), how, codes.reshape(-1), self.key)
        step = _PIECE
        if x.flags.c_contiguous and target.flags.c_contiguous:
            x, target = x.reshape(-1), target.reshape(-1)
            if codes is not None and x.dtype == np.float32:
                step = max(
                    -(-x.size // (threads * _PARTS_PER_THREAD)) if threads > 1 else x.size, step
                )
        counted: list[tuple[int, int, int]] = []

        def convert_part(piece: _Piece) -> None:
            numbers, place = narrow(x[piece.place]).reshape(-1), target[piece.place]
            direct = codes is not None and place.flags.c_contiguous
            some: NDArray[Any] = np.empty(numbers.size, self.fmt.dtype)
            if direct:
                some = place.reshape(-1)
            counted.append(convert_piece(numbers, how, some, self.key, piece.start))
            if codes is None:
                some = self.fmt.decode(some, dtype=np.float32)
            if not direct:
                place[...] = some.reshape(place.shape)

        kernels.share(convert_part, list(_cut(x.shape, step)), threads)
        over, under, nan = (sum(each) for each in zip(*counted)) if counted else (0, 0, 0)
        return over, under, nan


def _cut(shape: tuple[int, ...], size: int) -> Iterator[_Piece]:
    """An array cut into pieces of about `size` elements, each some rows along one axis."""
    if 0 in shape:
        return
    if not shape:
        yield _Piece((...,), 0)
        return
    axis, row = len(shape) - 1, 1
    while axis > 0 and row * shape[axis] < size:
        row *= shape[axis]
        axis -= 1
    step = max(size // row, 1)
    for number, index in enumerate(itertools.product(*map(range, shape[:axis]))):
        for rows in kernels.slices(shape[axis], step):
            yield _Piece((*index, rows), (number * shape[axis] + rows.start) * row)
