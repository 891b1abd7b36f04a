"""The C reference (`c_ref/`) on NumPy arrays.

It is written from docs/numerics.md alone, in integers, one scalar at a time. It is slow, and every kernel is
compared with it. It is built with the package where a C compiler is found. `available()` returns whether it was
built; every other function raises `InputError` where it was not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import LOWEST, OVERFLOW, SPECIALS, ZEROS, FloatFormat, get_format
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.ops import Events
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.mac import SUM_ORDERS
from hfp8sim.units.random import SOURCES, step_stream
from hfp8sim.units.sites import Draw, Place, Site, Values
from hfp8sim.units.update import RULES, Constants, Counts, Slot, Update

#: The error where the C reference was not built.
NOT_BUILT = (
    "the C reference is not built: install a C compiler, then reinstall hfp8sim "
    "(from a source tree: python c_ref/build.py)"
)


def _module() -> ModuleType | None:
    try:
        from hfp8sim import _c_ref
    except ImportError:
        return None
    return _c_ref  # type: ignore[no-any-return]


def available() -> bool:
    """Whether the C reference was built."""
    return _module() is not None


def library() -> tuple[Any, Any]:
    """(ffi, lib) of the extension module; `InputError` when it was not built."""
    module = _module()
    if module is None:
        raise InputError(NOT_BUILT)
    return module.ffi, module.lib


def check_memory(status: int) -> None:
    """Raise `MemoryError` if a function of the C reference returned that it had none."""
    if status:
        raise MemoryError("the C reference ran out of memory")


def c_format(fmt: FloatFormat) -> Any:
    """A `ref_format *` with the facts of a record."""
    ffi, _ = library()
    return ffi.new(
        "ref_format *",
        [
            fmt.exponent_bits, fmt.fraction_bits, fmt.bias, int(fmt.signed),
            ZEROS.index(fmt.zero), LOWEST.index(fmt.lowest), SPECIALS.index(fmt.special),
        ],
    )  # fmt: skip


def c_profile(profile: Profile, a: FloatFormat, b: FloatFormat) -> Any:
    """A `ref_profile *` for operands a × b; `InputError` if the C reference refuses it."""
    ffi, lib = library()
    if profile.multiplier != "exact":
        raise InputError(f"profile {profile.name} multiplies by bit streams: use bitstream_counts")
    record = ffi.new("ref_profile *")
    record.a, record.b = c_format(a)[0], c_format(b)[0]
    record.accumulator = c_format(get_format(profile.accumulator))[0]
    record.between = c_format(get_format(profile.between_chunks))[0]
    record.chunk_length = profile.chunk_length
    record.products_per_step = profile.products_per_step
    record.sum_order = SUM_ORDERS.index(profile.sum_order)
    record.guard_bits = profile.guard_bits
    record.rounding = mode_number(profile.rounding)
    record.between_rounding = mode_number(profile.between_rounding)
    record.random_bits = profile.random_bits
    record.random_source = SOURCES.index(profile.random_source)
    record.overflow = OVERFLOW.index(profile.overflow)
    problem = lib.ref_profile_problem(record)
    if problem != ffi.NULL:
        raise InputError(f"profile {profile.name}: {ffi.string(problem).decode()}")
    return record


def word_offsets(record: str) -> dict[str, int]:
    """The first word of each field of a C record of 32-bit words."""
    ffi, _ = library()
    return {name: field.offset // 4 for name, field in ffi.typeof(record).fields}


def pointer(array: NDArray[Any]) -> Any:
    """A C pointer to an array's first element. The caller must keep the array alive."""
    ffi, _ = library()
    kinds = {"u1": "uint8_t *", "u2": "uint16_t *", "u4": "uint32_t *", "u8": "uint64_t *"}
    return ffi.cast(kinds[array.dtype.str[1:]], array.ctypes.data)


@standard_arithmetic
def bitstream_counts(
    a: NDArray[Any], b: NDArray[Any], profile: Profile, a_format: FloatFormat, b_format: FloatFormat,
    seed: int = 0, stream: int = 0,
) -> NDArray[np.int64]:  # fmt: skip
    """Sums of signed counts of codes (M, K) × (K, N), int64 (M, N), as `units.bitstream.plain_counts`."""
    ffi, lib = library()
    (rows, depth), columns = a.shape, b.shape[1]
    left, right = (np.ascontiguousarray(x, np.uint32) for x in (a, b))
    out = np.empty((rows, columns), np.int64)
    problem = lib.ref_bitstream_counts(
        c_format(a_format), c_format(b_format), pointer(left), pointer(right), rows, columns, depth,
        profile.stream_length, int(profile.multiplier == "bipolar"),
        int(profile.streams == "independent"), seed, stream,
        ffi.cast("int64_t *", out.ctypes.data),
    )  # fmt: skip
    if problem:
        raise InputError("an operand of bit streams is beyond ±1, or finer than 2^−32")
    return out


@standard_arithmetic
def encode(
    x: ArrayLike,
    fmt: str | FloatFormat,
    rounding: str = "nearest-even",
    overflow: str = "saturate",
    random_bits: ArrayLike | None = None,
    bits: int = 13,
) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.uint8]]:
    """As `FloatFormat.encode`, with the flags of every element (uint8, x's shape).

    It raises InputError where `FloatFormat.encode` does: for a NaN without a code, and under policy `error`.
    """
    ffi, lib = library()
    record = get_format(fmt)
    values = np.ascontiguousarray(x, np.float64)
    codes, flags = np.empty(values.size, np.uint32), np.empty(values.size, np.uint8)
    random = None
    if random_bits is not None:
        random = np.ascontiguousarray(np.broadcast_to(random_bits, values.shape), np.uint32)
    raises = lib.ref_convert_array64(
        _binary64(), pointer(values.view(np.uint64)), values.size, c_format(record),
        mode_number(rounding), overflow_number(overflow), bits,
        ffi.NULL if random is None else pointer(random), pointer(codes), pointer(flags),
    )  # fmt: skip
    if raises >= 0:
        raise InputError(f"element {raises} has no code in {record.name} under {overflow!r}")
    return codes.astype(record.dtype).reshape(values.shape), flags.reshape(values.shape)


def _binary64() -> Any:
    ffi, _ = library()
    return ffi.new("ref_format *", [11, 52, 1023, 1, 0, 0, SPECIALS.index("ieee")])


@standard_arithmetic
def decode(codes: ArrayLike, fmt: str | FloatFormat) -> NDArray[np.float64]:
    """As `FloatFormat.decode`."""
    _, lib = library()
    record = c_format(get_format(fmt))
    flat = np.asarray(codes).ravel()
    values = np.array([lib.ref_decode(record, int(code)) for code in flat], np.uint64)
    return values.view(np.float64).reshape(np.shape(codes))


@standard_arithmetic
def gemm(
    a: ArrayLike,
    b: ArrayLike,
    profile: str | Profile = "hfp8",
    *,
    a_format: str | FloatFormat | None = None,
    b_format: str | FloatFormat | None = None,
    seed: int = 0,
    stream: int = 0,
) -> tuple[NDArray[np.unsignedinteger[Any]], Events, NDArray[np.uint8]]:
    """As `hfp8sim.gemm`: (codes (M, N), events, flags (M, N) of each output's roundings)."""
    ffi, lib = library()
    profile = get_profile(profile)
    fmt_a = get_format(profile.a_format if a_format is None else a_format)
    fmt_b = get_format(profile.b_format if b_format is None else b_format)
    left, right = np.ascontiguousarray(a, np.uint32), np.ascontiguousarray(b, np.uint32)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise InputError(f"cannot multiply arrays of shapes {left.shape} and {right.shape}")
    (m, k), n = left.shape, right.shape[1]
    out, flags = np.zeros((m, n), np.uint32), np.zeros((m, n), np.uint8)
    events = ffi.new("ref_events *")
    status = lib.ref_gemm(
        c_profile(profile, fmt_a, fmt_b), pointer(left), pointer(right), m, n, k, seed, stream,
        pointer(out), events, pointer(flags),
    )  # fmt: skip
    check_memory(status)
    counts = Events(**{f.name: int(getattr(events, f.name)) for f in dataclasses.fields(Events)})
    return out.astype(profile.result_format.dtype), counts, flags


def _c_site(site: Site) -> list[Any]:
    return [
        c_format(site.record)[0], mode_number(site.rounding), overflow_number(site.overflow),
        site.random_bits,
    ]  # fmt: skip


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


#: Numbers of `ref_update.rule`.
_RULES = {"master": 0, "axpy": 0, "residual-wide": 1, "residual-small": 2, "residual-naive": 3}


def c_update(rule: Update, constants: Constants) -> Any:
    """A `ref_update *` for the constants of a step."""
    ffi, _ = library()
    record = ffi.new("ref_update *")
    record.rule = _RULES[rule.rule]
    record.optimiser = int(rule.optimiser == "adam")
    record.momentum_roundings, record.nesterov = rule.momentum_roundings, int(rule.nesterov)
    sites = ["unscale", "decay", "momentum", "second-moment", "update"]
    sites += ["residual"] if RULES[rule.rule].residual else []
    fields = {"second-moment": "second", "update": "weight"}
    for name in sites:
        setattr(record, fields.get(name, name), _c_site(rule.sites[name]))
    record.scale, record.decay_rate = _bits(constants.scale), _bits(constants.decay)
    record.momentum_rate, record.gain = _bits(constants.momentum), _bits(constants.gain)
    record.second_rate, record.second_gain = _bits(constants.second), _bits(constants.second_gain)
    record.correction, record.epsilon = _bits(constants.correction), _bits(constants.epsilon)
    record.rate, record.shrink = _bits(constants.rate), _bits(constants.shrink)
    return record


@standard_arithmetic
def update(
    rule: Update,
    constants: Constants,
    tensors: dict[Slot, Values],
    draw: Draw,
    first: int = 0,
) -> Counts:
    """As `units.update.plain_update`; `first` is the number of the first element in its tensor."""
    ffi, lib = library()
    counts = ffi.new("ref_update_counts *")

    def words(slot: Slot) -> Any:
        return pointer(tensors[slot].view(np.uint32)) if slot in tensors else ffi.NULL

    invalid = lib.ref_update_array(
        c_update(rule, constants), words(Slot.WEIGHT), words(Slot.RESIDUAL), words(Slot.MOMENTUM),
        words(Slot.SECOND), words(Slot.GRADIENT), first, tensors[Slot.WEIGHT].size,
        draw.seed, draw.step, draw.tensor, counts,
    )  # fmt: skip
    result = Counts(stuck=int(counts.stuck), invalid=int(invalid))
    for place in dict.fromkeys(step.place for step in rule.steps(constants)):
        if place is not None:
            result.add(place, int(counts.overflowed[place]), int(counts.underflowed[place]))
    return result


@standard_arithmetic
def reduce(gradients: NDArray[np.float32], site: Site, draw: Draw) -> Values:
    """As `ops.reduce`, of gradients (learners, elements)."""
    ffi, lib = library()
    learners, size = gradients.shape
    out = np.empty(size, np.float32)
    lib.ref_reduce(
        ffi.new("ref_site *", _c_site(site)), pointer(gradients.view(np.uint32)), learners, size,
        draw.seed, draw.step, draw.tensor, pointer(out.view(np.uint32)),
    )  # fmt: skip
    return out


@standard_arithmetic
def rounded_sum(place: Place, site: Site, terms: list[NDArray[np.float32]], draw: Draw) -> Values:
    """As `ops.updates.rounded_sum`, of one-dimensional terms without constants."""
    ffi, lib = library()
    ones, record = [_bits(1.0)] * len(terms), ffi.new("ref_site *", _c_site(site))
    stream = int(step_stream(np.uint64(draw.step), np.uint64(draw.tensor)))
    key, out = lib.ref_key(draw.seed, stream, int(place)), np.empty(terms[0].size, np.uint32)
    for t, elements in enumerate(zip(*(x.view(np.uint32) for x in terms), strict=True)):
        random = lib.ref_word(key, 0, t) >> (32 - site.random_bits)
        out[t] = lib.ref_site_sum(
            record, len(terms), ones, list(map(int, elements)), random, ffi.NULL
        )
    return out.view(np.float32)


@standard_arithmetic
def softmax_input(z: NDArray[np.float32], site: Site, draw: Draw) -> tuple[Values, int]:
    """As `ops.updates.softmax_input`, of rows (rows, columns); and the first element without a code, or −1."""
    ffi, lib = library()
    z, out = np.ascontiguousarray(z), np.empty(z.shape, np.float32)
    invalid = lib.ref_softmax_input(
        ffi.new("ref_site *", _c_site(site)), pointer(z.view(np.uint32)), *z.shape,
        draw.seed, draw.step, draw.tensor, pointer(out.view(np.uint32)),
    )  # fmt: skip
    return out, int(invalid)


def _sweep(
    fmt: FloatFormat, call: Callable[[Any, Any], None]
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    if fmt.bits > 16:
        raise InputError(f"format {fmt.name} has {fmt.bits} bits: sweeps take at most 16")
    out, flags = np.empty(1 << fmt.bits, np.uint16), np.empty(1 << fmt.bits, np.uint8)
    call(pointer(out), pointer(flags))
    return out, flags


def product_sweep(
    negative: bool, significand: int, exponent: int, fmt: FloatFormat, mode: int, overflow: int,
    bits: int = 13, random: int = 0,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:  # fmt: skip
    """round(acc + ±significand·2^exponent) for every accumulator code: codes and flags."""
    _, lib = library()
    record = c_format(fmt)
    return _sweep(
        fmt,
        lambda out, flags: lib.ref_product_sweep(
            negative, significand, exponent, record, mode, overflow, bits, random, out, flags
        ),
    )


def add_sweep(
    total: int, fmt: FloatFormat, addend: FloatFormat, mode: int, overflow: int,
    bits: int = 13, random: int = 0,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:  # fmt: skip
    """round(total + addend) for every addend code: codes and flags."""
    _, lib = library()
    records = c_format(fmt), c_format(addend)
    return _sweep(
        addend,
        lambda out, flags: lib.ref_add_sweep(
            records[0], total, records[1], mode, overflow, bits, random, out, flags
        ),
    )


def convert_sweep(
    source: FloatFormat, start: int, count: int, target: FloatFormat, mode: int, overflow: int,
    bits: int = 13, random: int = 0,
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:  # fmt: skip
    """Every code in [start, start + count) of the source, rounded into the target: codes and flags."""
    _, lib = library()
    out, flags = np.empty(count, np.uint32), np.empty(count, np.uint8)
    lib.ref_convert_sweep(
        c_format(source), start, count, c_format(target), mode, overflow, bits, random,
        pointer(out), pointer(flags),
    )  # fmt: skip
    return out, flags
