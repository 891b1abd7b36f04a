"""Arithmetic profiles: the named sets of choices a GEMM is computed with."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import field
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError, located, unknown
from hfp8sim.files import read_toml
from hfp8sim.formats import FloatFormat, get_format, register_format
from hfp8sim.formats.codec import check_mode
from hfp8sim.formats.notebook import html_table
from hfp8sim.formats.registry import formats_of_tables
from hfp8sim.formats.vocabulary import MAX_RANDOM_BITS, mode_number, takes_random_bits
from hfp8sim.registry import Registry
from hfp8sim.units.bitstream import MAX_LENGTH, MULTIPLIERS, STREAMS
from hfp8sim.units.mac import SUM_ORDERS, SumOrder
from hfp8sim.units.random import SOURCES

#: The largest magnitude of a scale's exponent: the register `post.scale` holds the sum of two.
MAX_SCALE = 256
#: Products of a chunk at most: compiled code counts them in int64. The machine's register holds fewer.
MAX_CHUNK_LENGTH = 1 << 62

#: The roles of A and B in each phase, as the fields of a profile name them.
_ROLES = {"fwd": ("a", "b"), "dgrad": ("error", "b"), "wgrad": ("a", "error")}


def operand_roles(phase: str) -> tuple[str, str]:
    """The roles of A and B in a phase: `a` for activations, `b` for weights, `error` for errors."""
    if phase not in _ROLES:
        raise unknown("phase", phase, tuple(_ROLES))
    return _ROLES[phase]


def _means(text: str) -> dict[str, str]:
    return {"meaning": text}


@dataclasses.dataclass(frozen=True)
class Profile:
    """How a GEMM is computed, and how its operands are rounded. Formats are names or records.

    `MEANINGS` has the meaning of each field. Every field can be replaced:
    `get_profile("hfp8").replace(chunk_length=32)`. Fields that contradict each other raise `InputError`.
    """

    name: str = field(metadata=_means("its name"))
    summary: str = field(default="", compare=False)
    a_format: str | FloatFormat = field(default="hfp8-143", metadata=_means("of activations"))
    b_format: str | FloatFormat = field(default="hfp8-143", metadata=_means("of weights"))
    error_format: str | FloatFormat = field(
        default="hfp8-152", metadata=_means("of errors, in the two backward phases")
    )
    accumulator: str | FloatFormat = field(
        default="dlfloat16", metadata=_means("format of the running sum inside a chunk")
    )
    between_chunks: str | FloatFormat = field(
        default="dlfloat16", metadata=_means("format of the running total of chunks")
    )
    chunk_length: int = field(default=64, metadata=_means("products in a chunk; 0: no chunks"))
    products_per_step: int = field(
        default=1, metadata=_means("products that share a rounding; 0: the whole chunk")
    )
    sum_order: str = field(
        default="fused", metadata=_means("`fused`, `pair-first`, `chain` or `aligned`")
    )
    guard_bits: int = field(default=0, metadata=_means("fraction bits that `aligned` sums keep"))
    rounding: str = field(default="nearest-away", metadata=_means("inside a chunk"))
    between_rounding: str = field(
        default="", metadata=_means("of the running total, and of the first chunk's copy")
    )
    random_bits: int = field(default=13, metadata=_means("r of a stochastic rounding, 1..24"))
    random_source: str = field(
        default="row-column", metadata=_means("`row-column`, `counter` or `lfsr`")
    )
    overflow: str = field(default="special", metadata=_means("policy of the accumulators"))
    operand_rounding: str = field(
        default="nearest-away", metadata=_means("of tensors into operand formats")
    )
    operand_overflow: str = field(default="saturate", metadata=_means("policy of that"))
    a_scale: int = field(
        default=0, metadata=_means("s: activations are multiplied by 2^s, the result by 2^−s")
    )
    b_scale: int = field(default=0, metadata=_means("the same of weights"))
    error_scale: int = field(
        default=0, metadata=_means("the same of errors: log2 of the loss scale")
    )

    multiplier: str = field(
        default="exact", metadata=_means("`exact`, or bit streams: `unipolar` or `bipolar`")
    )
    stream_length: int = field(
        default=0, metadata=_means("bits of a stream, a power of two; 0 with exact products")
    )
    streams: str = field(
        default="shared", metadata=_means("bit streams: `shared` by products, or `independent`")
    )

    def __post_init__(self) -> None:
        if not self.between_rounding:
            object.__setattr__(self, "between_rounding", self.rounding)
        if self.sum_order not in SUM_ORDERS:
            raise unknown("sum order", self.sum_order, SUM_ORDERS)
        if self.random_source not in SOURCES:
            raise unknown("random source", self.random_source, SOURCES)
        if self.multiplier not in MULTIPLIERS:
            raise unknown("multiplier", self.multiplier, list(MULTIPLIERS))
        if self.streams not in STREAMS:
            raise unknown("kind of bit streams", self.streams, list(STREAMS))
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(
                f"profile name is {self.name!r:.60}; it must be a text that is not empty"
            )
        problem = (
            self._integer_problem()
            or self._step_problem()
            or self._accumulator_problem()
            or self._stream_problem()
        )
        if problem:
            raise InputError(f"profile {self.name}: {problem}")
        for fmt in (self.a_format, self.b_format, self.error_format):
            check_mode(
                get_format(fmt), self.operand_rounding, self.operand_overflow, self.random_bits
            )

    def _integer_problem(self) -> str:
        for name in (
            "chunk_length", "products_per_step", "guard_bits", "random_bits", "stream_length",
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                return f"{name} is {value!r}, must be an integer ≥ 0"
        if self.chunk_length > MAX_CHUNK_LENGTH:
            return f"chunk_length is {self.chunk_length}, must be 0..{MAX_CHUNK_LENGTH}"
        if not 1 <= self.random_bits <= MAX_RANDOM_BITS:
            return f"random_bits is {self.random_bits}, must be 1..{MAX_RANDOM_BITS}"
        for name in ("a_scale", "b_scale", "error_scale"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or abs(value) > MAX_SCALE:
                return f"{name} is {value!r}, must be an integer in −{MAX_SCALE}..{MAX_SCALE}"
        return ""

    def _step_problem(self) -> str:
        """Why the sum order cannot take that many products, or ""."""
        n, order = self.products_per_step, self.sum_order
        if SumOrder.of(order).roundings == 2 and n != 2:
            return f"sum_order={order!r} needs products_per_step=2"
        if order == "fused" and n > 2:
            return f"fused steps take 1 or 2 products, or 0 for a whole chunk, not {n}"
        if order == "aligned" and not (1 <= n <= 64 and 1 <= self.guard_bits <= 48):
            return "aligned steps take 1..64 products and 1..48 guard bits"
        return ""

    def _accumulator_problem(self) -> str:
        """Why a format cannot hold sums, or ""; raises for a mode that it does not support."""
        for fmt, rounding in (
            (self.accumulator, self.rounding),
            (self.between_chunks, self.between_rounding),
        ):
            record = get_format(fmt)
            check_mode(record, rounding, self.overflow, self.random_bits)
            if not record.signed or record.zero == "none" or not record.has_nan:
                return f"{record.name} cannot accumulate: it needs a sign, a zero and a NaN"
        return ""

    def _stream_problem(self) -> str:
        """Why bit streams cannot be multiplied so, or ""."""
        length = self.stream_length
        if self.multiplier == "exact":
            return "" if length == 0 else "stream_length needs multiplier='unipolar' or 'bipolar'"
        if not 1 <= length <= MAX_LENGTH or length & (length - 1):
            return f"stream_length is {length}, must be a power of two in 1..{MAX_LENGTH}"
        if self.products_per_step or self.chunk_length or self.sum_order != "fused":
            return "bit streams are counted exactly: products_per_step and chunk_length must be 0"
        if self.stochastic:
            return "the sum of bit streams cannot be rounded stochastically"
        return ""

    def replace(self, **fields: Any) -> Profile:
        """Another profile with some fields changed.

        `rounding` also changes `between_rounding` if the two are equal in this profile. `sum_rounding` sets both
        in every profile.

        Raises:
            InputError: an unknown field, fields that contradict each other, or `sum_rounding` beside one of the two
                fields that it sets.
        """
        for word, together in TOGETHER.items():
            if word in fields:
                value = fields.pop(word)
                for name in together:
                    if name in fields:
                        raise InputError(f"{word} sets {name}; give one of the two")
                    fields[name] = value
        for name in fields:
            if name not in FIELDS:
                raise unknown("profile field", name, SETTABLE)
        if "rounding" in fields and "between_rounding" not in fields:
            if self.between_rounding == self.rounding:
                fields["between_rounding"] = fields["rounding"]
        return dataclasses.replace(self, **fields)

    def _repr_html_(self) -> str:
        """What a notebook shows: every field with its meaning."""
        values = ((name, getattr(self, name)) for name in FIELDS[1:])
        rows = [(name, getattr(value, "name", value), MEANINGS[name]) for name, value in values]
        return html_table(
            rows, ("field", "value", "meaning"), f"{self.name}: {self.summary}".rstrip(": ")
        )

    def operand_formats(self, phase: str) -> tuple[FloatFormat, FloatFormat]:
        """Formats of A and B in a phase: fwd activations × weights, dgrad errors × weights, wgrad
        activations × errors."""
        a, b = operand_roles(phase)
        return get_format(getattr(self, f"{a}_format")), get_format(getattr(self, f"{b}_format"))

    def operand_scales(self, phase: str) -> tuple[int, int]:
        """Exponents of the powers of two by which A and B are multiplied before they are rounded."""
        a, b = operand_roles(phase)
        return getattr(self, f"{a}_scale"), getattr(self, f"{b}_scale")

    def tensor_formats(self, phase: str) -> tuple[FloatFormat, FloatFormat]:
        """Formats that give the codes of A and B from tensors as they are, scales included.

        To multiply by 2^s and round to a format is to round to that format with a bias larger by s.
        """
        (a, b), (s, t) = self.operand_formats(phase), self.operand_scales(phase)
        return a.with_bias(a.bias + s), b.with_bias(b.bias + t)

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

    def chunks(self, k: int) -> int:
        """Chunks of one output whose sum has length k; 0 without chunks."""
        return -(-k // self.chunk_length) if self.chunk_length else 0

    def draws(self, k: int) -> int:
        """Random words that one output uses whose sum has length k."""
        of_step, of_chunk = self._draws
        return self.steps(k) * of_step + self.chunks(k) * of_chunk

    @functools.cached_property
    def _draws(self) -> tuple[int, int]:
        """Random words of a step, and of a chunk's addition to the running total."""
        inside, between = (
            takes_random_bits(mode_number(mode)) for mode in (self.rounding, self.between_rounding)
        )
        return SumOrder.of(self.sum_order).roundings * inside, int(between)

    @property
    def stochastic(self) -> bool:
        """Whether the accumulation draws random bits."""
        modes = mode_number(self.rounding), mode_number(self.between_rounding)
        return any(takes_random_bits(mode) for mode in modes)


#: The meaning of each field that `replace` and `--set` take.
MEANINGS: dict[str, str] = {
    entry.name: entry.metadata["meaning"] for entry in dataclasses.fields(Profile) if entry.metadata
}
#: The names of these fields.
FIELDS = tuple(MEANINGS)
#: A value of each field, of the type that files hold: formats by name.
_PLAIN_VALUES: dict[str, Any] = {"name": ""} | {
    entry.name: entry.default for entry in dataclasses.fields(Profile) if entry.name in FIELDS[1:]
}
#: Words that set several fields at once, with these fields.
TOGETHER = {"sum_rounding": ("rounding", "between_rounding")}
#: All names that `replace` and `--set` take.
SETTABLE = (*FIELDS, *TOGETHER)

PROFILES: Registry[Profile] = Registry("profile")


def register_profile(profile: Profile) -> Profile:
    """Make a profile known by its name, and return it; `InputError` if another one has that name."""
    if not isinstance(profile, Profile):
        raise InputError(f"profile {profile!r:.60}; it must be a Profile")
    return PROFILES.register(profile)


def profiles(multiplier: str | None = None) -> list[str]:
    """Names of all profiles, in order of registration.

    Args:
        multiplier: only those with this one: "exact", "unipolar" or "bipolar".

    Raises:
        InputError: an unknown multiplier.
    """
    names = PROFILES.names()
    if multiplier is None:
        return names
    if multiplier not in MULTIPLIERS:
        raise unknown("multiplier", multiplier, list(MULTIPLIERS))
    return [name for name in names if PROFILES.find(name).multiplier == multiplier]


def get_profile(name: str | Path | Profile) -> Profile:
    """The profile with that name, or of that TOML file; a record is returned as it is.

    Raises:
        InputError: an unknown name, or a file that makes no profile.
    """
    if isinstance(name, Profile):
        return name
    return load_profile(name) if str(name).endswith(".toml") else PROFILES.find(str(name))


def load_profile(path: str | Path) -> Profile:
    """The profile of a TOML file.

    Keys: the fields of a profile, and `base`, the profile that it changes (`hfp8` by default). Tables
    `[format.NAME]` define formats, as for `hs.load_formats`, and register them.

    Raises:
        InputError: the file cannot be read, is not TOML, has an unknown key or a value of another type, or makes no
            profile.
    """
    table = read_toml(path)
    for record in formats_of_tables(path, table.pop("format", {})):
        register_format(record)
    with located(path):
        base, summary = get_profile(table.pop("base", "hfp8")), table.pop("summary", "")
        for key, value in table.items():
            if key in FIELDS and type(value) is not type(_PLAIN_VALUES[key]):
                kind = type(_PLAIN_VALUES[key]).__name__
                raise InputError(f"{key} is {value!r:.60}; it must be of type {kind}")
        profile = base.replace(**({"name": Path(path).stem} | table))
        return dataclasses.replace(profile, summary=str(summary))


#: What Hopper's and Ada's FP8 matrix cores share (docs/numerics.md, "Matrix cores of GPUs").
_MATRIX_CORE: dict[str, Any] = {
    "a_format": "e4m3fn", "b_format": "e4m3fn", "error_format": "e5m2",
    "accumulator": "e8m13", "between_chunks": "binary32",
    "sum_order": "aligned", "guard_bits": 13,
    "rounding": "toward-zero", "between_rounding": "nearest-even",
    "operand_rounding": "nearest-even",
}  # fmt: skip

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
        chunk_length=128, products_per_step=32, **_MATRIX_CORE,
    ),
    Profile(
        "hopper-fp8-fast",
        "Hopper's FP8 matrix core with fast accumulation: never promoted",
        chunk_length=0, products_per_step=32, **_MATRIX_CORE,
    ),
    Profile(
        "ada-fp8",
        "Ada's FP8 matrix core: 16 products cut to 13 fraction bits, promoted every 128",
        chunk_length=128, products_per_step=16, **_MATRIX_CORE,
    ),
    Profile(
        "ada-fp8-fast",
        "Ada's FP8 matrix core with fast accumulation: never promoted",
        chunk_length=0, products_per_step=16, **_MATRIX_CORE,
    ),
    Profile(
        "bitstream",
        "in the spirit of arXiv 1409.2620 (2014), its abstract alone: AND of random bit streams, counted",
        a_format="fixed1.8", b_format="fixed1.8", error_format="fixed1.8",
        accumulator="binary32", between_chunks="binary32", chunk_length=0, products_per_step=0,
        rounding="nearest-even", operand_rounding="nearest-even",
        multiplier="unipolar", stream_length=256,
    ),
    Profile(
        "exact",
        "no rounding but one, of the exact sum, to binary32",
        accumulator="binary32", between_chunks="binary32", chunk_length=0, products_per_step=0,
        rounding="nearest-even",
    ),
):  # fmt: skip
    register_profile(_profile)
