"""Arithmetic profiles: the named sets of choices a GEMM is computed with."""

from __future__ import annotations

import dataclasses
from typing import Any

from hfp8sim.errors import InputError, unknown
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.codec import check_mode
from hfp8sim.formats.vocabulary import MAX_RANDOM_BITS, is_stochastic, mode_number
from hfp8sim.network.records import PHASES
from hfp8sim.units.mac import SUM_ORDERS
from hfp8sim.units.random import SOURCES


@dataclasses.dataclass(frozen=True)
class Profile:
    """How a GEMM is computed, and how its operands come about. Formats are names or records.

    Every field can be replaced: `get_profile("hfp8").replace(chunk_length=32)`. Inconsistent fields
    raise `InputError`.
    """

    name: str
    summary: str = dataclasses.field(default="", compare=False)
    a_format: str | FloatFormat = "hfp8-143"  #: activations
    b_format: str | FloatFormat = "hfp8-143"  #: weights
    error_format: str | FloatFormat = "hfp8-152"  #: errors, in the two backward phases
    accumulator: str | FloatFormat = "dlfloat16"  #: running sum inside a chunk
    between_chunks: str | FloatFormat = "dlfloat16"  #: running total of chunks
    chunk_length: int = 64  #: products per chunk; 0: no chunks
    products_per_step: int = 1  #: products per rounding; 0: the whole chunk
    sum_order: str = "fused"  #: one of `SUM_ORDERS`
    guard_bits: int = 0  #: fraction bits that `aligned` sums keep
    rounding: str = "nearest-away"  #: inside a chunk
    between_rounding: str = ""  #: between chunks; empty: as inside
    random_bits: int = 13  #: random bits of a stochastic rounding, 1..24
    random_source: str = "row-column"  #: one of `SOURCES`
    overflow: str = "special"  #: policy of the accumulators
    operand_rounding: str = "nearest-away"  #: of tensors into operand formats
    operand_overflow: str = "saturate"

    def __post_init__(self) -> None:
        if not self.between_rounding:
            object.__setattr__(self, "between_rounding", self.rounding)
        if self.sum_order not in SUM_ORDERS:
            raise unknown("sum order", self.sum_order, SUM_ORDERS)
        if self.random_source not in SOURCES:
            raise unknown("random source", self.random_source, SOURCES)
        for field in ("chunk_length", "products_per_step", "guard_bits", "random_bits"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(
                    f"profile {self.name}: {field} is {value!r}, must be an integer ≥ 0"
                )
        if not 1 <= self.random_bits <= MAX_RANDOM_BITS:
            raise InputError(
                f"profile {self.name}: random_bits is {self.random_bits}, must be 1..{MAX_RANDOM_BITS}"
            )
        n, order = self.products_per_step, self.sum_order
        if order in ("pair-first", "chain") and n != 2:
            raise InputError(f"profile {self.name}: sum_order={order!r} needs products_per_step=2")
        if order == "fused" and n > 2:
            raise InputError(
                f"profile {self.name}: fused steps take 1 or 2 products, or 0 for a whole chunk, not {n}"
            )
        if order == "aligned" and not (1 <= n <= 64 and 1 <= self.guard_bits <= 48):
            raise InputError(
                f"profile {self.name}: aligned steps take 1..64 products and 1..48 guard bits"
            )
        for fmt, rounding in (
            (self.accumulator, self.rounding),
            (self.between_chunks, self.between_rounding),
        ):
            record = get_format(fmt)
            check_mode(record, rounding, self.overflow, self.random_bits)
            if not record.signed or record.zero == "none" or not record.has_nan:
                raise InputError(
                    f"profile {self.name}: {record.name} cannot accumulate: "
                    "it needs a sign, a zero and a NaN"
                )
        for fmt in (self.a_format, self.b_format, self.error_format):
            check_mode(
                get_format(fmt), self.operand_rounding, self.operand_overflow, self.random_bits
            )

    def replace(self, **fields: Any) -> Profile:
        """Another profile with some fields changed; `InputError` for an unknown field."""
        for field in fields:
            if field not in FIELDS:
                raise unknown("profile field", field, FIELDS)
        if "rounding" in fields and "between_rounding" not in fields:
            if self.between_rounding == self.rounding:
                fields["between_rounding"] = fields["rounding"]
        return dataclasses.replace(self, **fields)

    def operand_formats(self, phase: str) -> tuple[FloatFormat, FloatFormat]:
        """Formats of A and B in a phase: fwd activations × weights, dgrad errors × weights, wgrad
        activations × errors."""
        names = {
            "fwd": (self.a_format, self.b_format),
            "dgrad": (self.error_format, self.b_format),
            "wgrad": (self.a_format, self.error_format),
        }
        if phase not in names:
            raise unknown("phase", phase, PHASES)
        a, b = names[phase]
        return get_format(a), get_format(b)

    @property
    def result_format(self) -> FloatFormat:
        """The format of a GEMM's result codes."""
        return get_format(self.between_chunks if self.chunk_length else self.accumulator)

    def steps(self, k: int) -> int:
        """Steps of one output whose sum has length k: each adds `products_per_step` products, or the whole chunk."""
        length = self.chunk_length or max(k, 1)
        width = self.products_per_step or length
        whole, rest = divmod(k, length)
        return whole * -(-length // width) + -(-rest // width)

    def draws(self, k: int) -> int:
        """Random words that one output uses whose sum has length k."""
        inside, between = (
            is_stochastic(mode_number(mode)) for mode in (self.rounding, self.between_rounding)
        )
        per_step = 2 if self.sum_order in ("pair-first", "chain") else 1
        chunks = -(-k // self.chunk_length) if self.chunk_length else 0
        return self.steps(k) * per_step * inside + chunks * between

    @property
    def stochastic(self) -> bool:
        """Whether the accumulation draws random bits."""
        modes = mode_number(self.rounding), mode_number(self.between_rounding)
        return any(is_stochastic(mode) for mode in modes)


#: Names of the fields that `replace` and `--set` take.
FIELDS = tuple(f.name for f in dataclasses.fields(Profile) if f.name != "summary")

_PROFILES: dict[str, Profile] = {}


def register_profile(profile: Profile) -> Profile:
    """Make a profile known by its name; `InputError` if the name means another one."""
    if _PROFILES.get(profile.name, profile) != profile:
        raise InputError(f"profile name {profile.name!r} is taken by a different profile")
    _PROFILES[profile.name] = profile
    return profile


def profiles() -> list[str]:
    """Names of all profiles, in order of registration."""
    return list(_PROFILES)


def get_profile(name: str | Profile) -> Profile:
    """A profile by name; a record is handed through."""
    if isinstance(name, Profile):
        return name
    if name not in _PROFILES:
        raise unknown("profile", name, profiles())
    return _PROFILES[name]


for _profile in (
    Profile("hfp8", "Sun et al., NeurIPS 2019: hybrid 1-4-3/1-5-2, chunks of 64 in DLFloat16"),
    Profile(
        "rapid",
        "the 7 nm chip (Agrawal et al., ISSCC 2021): two products per rounding, NaN-Infinity codes",
        a_format="hfp8-143-hw", b_format="hfp8-143-hw", error_format="hfp8-152-hw",
        products_per_step=2,
    ),
    Profile(
        "aiu",
        "IBM's published software model: exact chunk sums rounded once, added in binary32",
        a_format="dl8-143", b_format="dl8-143", error_format="dl8-143",
        products_per_step=0, between_chunks="binary32", between_rounding="nearest-even",
    ),
    Profile(
        "fp8-2018",
        "Wang et al., NeurIPS 2018: 1-5-2 operands, chunks of 64 in 1-6-9, nearest-even",
        a_format="hfp8-152", b_format="hfp8-152", error_format="hfp8-152",
        accumulator="ieee-169", between_chunks="ieee-169", rounding="nearest-even",
        operand_rounding="nearest-even",
    ),
    Profile(
        "fp16",
        "DLFloat16 operands and sums, as the papers use for first and last layers",
        a_format="dlfloat16", b_format="dlfloat16", error_format="dlfloat16",
    ),
    Profile(
        "e5m2-fp32",
        "Mellempudi et al., 2019: IEEE-like 1-5-2 operands, binary32 sums without chunks",
        a_format="e5m2", b_format="e5m2", error_format="e5m2",
        accumulator="binary32", between_chunks="binary32", chunk_length=0, rounding="nearest-even",
        operand_rounding="nearest-even",
    ),
    Profile(
        "hopper-fp8",
        "Hopper's FP8 matrix core: 32 products cut to 13 fraction bits, promoted every 128",
        a_format="e4m3fn", b_format="e4m3fn", error_format="e5m2",
        accumulator="e8m13", between_chunks="binary32", chunk_length=128, products_per_step=32,
        sum_order="aligned", guard_bits=13, rounding="toward-zero", between_rounding="nearest-even",
        operand_rounding="nearest-even",
    ),
    Profile(
        "exact",
        "no rounding but one, of the exact sum, to binary32",
        accumulator="binary32", between_chunks="binary32", chunk_length=0, products_per_step=0,
        rounding="nearest-even",
    ),
):  # fmt: skip
    register_profile(_profile)
