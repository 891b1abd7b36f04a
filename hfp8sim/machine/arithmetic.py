"""Translation between the arithmetic registers and profiles with formats, in both directions."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.codec import check_mode
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.isa.format_words import format_word, word_format
from hfp8sim.isa.table import CSR, CSR_BY_NAME, ENUMERATIONS, number_name
from hfp8sim.units.profile import Profile

#: Register values by CSR number.
Registers = list[int] | NDArray[np.int64]

#: Registers that decide what MM and CV compute.
MULTIPLY_CSRS = (
    "a.format", "b.format", "acc.format", "total.format", "chunk", "step", "order", "guard",
    "acc.rounding", "total.rounding", "acc.overflow", "random.bits", "random.source",
)  # fmt: skip
#: Registers that decide what POST computes.
POST_CSRS = (
    "acc.format", "total.format", "chunk", "c.format", "d.format", "c.rounding", "c.overflow",
    "random.bits", "post.scale", "post.low", "post.high",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How POST converts a sum into a code."""

    sums: FloatFormat
    result: FloatFormat
    bias: FloatFormat | None
    mode: int
    policy: int
    random_bits: int
    scale: int
    low: int
    high: int

    @functools.cached_property
    def copies(self) -> bool:
        """Whether format and scale leave every code as it is."""
        return self.scale == 0 and self.sums.facts == self.result.facts


def registers(values: Registers, names: tuple[str, ...]) -> tuple[int, ...]:
    """The contents of the named registers."""
    return tuple(int(values[CSR_BY_NAME[name].address]) for name in names)


def multiply_profile(values: Registers) -> tuple[Profile, FloatFormat, FloatFormat]:
    """Profile and formats of A and B that the registers of MM and CV describe.

    Raises:
        InputError: registers that are not set or contradict each other.
    """
    return _multiply_profile(registers(values, MULTIPLY_CSRS))


def post_conversion(values: Registers) -> Conversion:
    """The conversion that the registers of POST describe; errors as in `multiply_profile`."""
    return _post_conversion(registers(values, POST_CSRS))


def _name(kind: str, number: int) -> str:
    """The name of a number in an enumerated register; `check` has accepted the number."""
    name = number_name(kind, number)
    assert name is not None, (kind, number)
    return name


@functools.lru_cache(maxsize=256)
def _multiply_profile(values: tuple[int, ...]) -> tuple[Profile, FloatFormat, FloatFormat]:
    a, b, acc, total, chunk, step, order, guard, mode, between, policy, bits, source = values
    for name, word in zip(MULTIPLY_CSRS, (a, b, acc, total)):
        if word == 0:
            raise InputError(f"register {name} is not set")
    profile = Profile(
        name="registers",
        accumulator=word_format(acc),
        between_chunks=word_format(total),
        chunk_length=chunk,
        products_per_step=step,
        sum_order=_name("order", order),
        guard_bits=guard,
        rounding=_name("rounding", mode),
        between_rounding=_name("rounding", between),
        overflow=_name("overflow", policy),
        random_bits=bits,
        random_source=_name("source", source),
    )
    return profile, word_format(a), word_format(b)


@functools.lru_cache(maxsize=256)
def _post_conversion(values: tuple[int, ...]) -> Conversion:
    acc, total, chunk, c, d, mode, policy, bits, scale, low, high = values
    sums = total if chunk else acc
    for name, word in (("c.format", c), ("total.format" if chunk else "acc.format", sums)):
        if word == 0:
            raise InputError(f"register {name} is not set")
    result = word_format(c)
    check_mode(result, _name("rounding", mode), _name("overflow", policy), bits)
    if not word_format(sums).signed or result.zero == "none":
        raise InputError(f"post cannot write {result.name}: it has no zero")
    for name, code in (("post.low", low), ("post.high", high)):
        if code >> result.bits:
            raise InputError(f"{name} is {code}, which is no code of {result.name}")
    bias = word_format(d) if d else None
    return Conversion(word_format(sums), result, bias, mode, policy, bits, scale, low, high)


def multiply_registers(profile: Profile, a: FloatFormat, b: FloatFormat) -> dict[str, int]:
    """Register contents, by name, with which MM and CV compute as a profile specifies.

    Raises:
        InputError: a profile that no registers describe.
    """
    if profile.overflow == "error":
        raise InputError(
            "a machine cannot stop at an overflow: use overflow 'saturate' or 'special'"
        )
    if profile.multiplier != "exact":
        raise InputError(
            f"a machine multiplies exactly, profile {profile.name} by {profile.multiplier} bit streams:"
            " hs.gemm and hfp8sim.training compute it"
        )
    if profile.products_per_step > CSR_BY_NAME["step"].high:
        raise InputError(
            f"products_per_step is {profile.products_per_step}, a machine takes at most 64"
        )
    return {
        "a.format": format_word(a),
        "b.format": format_word(b),
        "acc.format": format_word(get_format(profile.accumulator)),
        "total.format": format_word(get_format(profile.between_chunks)),
        "chunk": profile.chunk_length,
        "step": profile.products_per_step,
        "order": ENUMERATIONS["order"][profile.sum_order],
        "guard": profile.guard_bits,
        "acc.rounding": mode_number(profile.rounding),
        "total.rounding": mode_number(profile.between_rounding),
        "acc.overflow": overflow_number(profile.overflow),
        "random.bits": profile.random_bits,
        "random.source": ENUMERATIONS["source"][profile.random_source],
    }


def seed_and_stream(values: Registers, group: int) -> tuple[int, int]:
    """Seed and stream of one group."""
    seed = int(values[CSR.seed_high]) << 32 | int(values[CSR.seed_low])
    stream = int(values[CSR.stream_high]) << 32 | int(values[CSR.stream_low])
    return seed, (stream + group * int(values[CSR.stream_group])) % (1 << 64)
