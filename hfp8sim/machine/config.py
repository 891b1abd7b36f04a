"""Machines: the configuration of an accelerator, as frozen records read from TOML.

Each key is declared once, with its meaning and its range. The checks of a machine file and the table in
docs/machine.md are derived from the declarations. `assumed` lists the keys of a preset whose values are not
public.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable
from typing import Any

from hfp8sim.errors import InputError, unknown

#: Names of the time models that a machine's file may choose. `hfp8sim.timing.MODELS` has their functions,
#: and docs/machine.md describes what each assumes.
TIME_MODELS = ("pipelined", "scalesim-os", "scalesim-ws", "scalesim-is", "multicast")

#: Scratchpad and accumulator rows are addressed by 16 bits.
MAX_ROWS = 1 << 16


def _number(low: int, high: int, meaning: str, default: Any = dataclasses.MISSING) -> Any:
    metadata = {"low": low, "high": high, "meaning": meaning}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Array:
    """The weight-stationary multiply-accumulate array of a core. Partial sums pass down its rows."""

    rows: int = _number(1, 1024, "rows of processing elements: the depth of a dot product")
    columns: int = _number(1, 1024, "lanes across, and bytes of a scratchpad row")
    corelets: int = _number(1, 64, "arrays of a core, which share the rows of A")
    macs_8bit: int = _number(1, 64, "multiply-accumulates per lane and cycle, operands of ≤ 8 bits")
    macs_16bit: int = _number(1, 64, "the same with an operand of more than 8 bits")


@dataclasses.dataclass(frozen=True)
class Memory:
    """On-chip memories of a core, and the channel to DRAM that all cores share."""

    scratchpad_kib: int = _number(1, 1 << 16, "KiB of scratchpad per core")
    accumulators: int = _number(1, 1 << 26, "outputs whose running sums a core can hold")
    bytes_per_cycle: int = _number(
        1, 1 << 16, "bytes the DRAM channel moves per cycle, both ways together"
    )
    latency: int = _number(0, 1 << 20, "cycles until the first byte of a load arrives")
    refresh_ns: int = _number(
        0,
        99_999,
        "nanoseconds of a refresh, in which the DRAM channel moves nothing (tRFC); 0: bytes_per_cycle "
        "is what refresh leaves",
        0,
    )
    refresh_interval_ns: int = _number(
        1, 100_000, "nanoseconds from the start of a refresh to that of the next one (tREFI)", 3906
    )

    @property
    def sustained_bytes_per_cycle(self) -> float:
        """Bytes that the DRAM channel moves per cycle in the long run: what refresh leaves of `bytes_per_cycle`."""
        share = (self.refresh_interval_ns - self.refresh_ns) / self.refresh_interval_ns
        return self.bytes_per_cycle * share


@dataclasses.dataclass(frozen=True)
class Post:
    """The unit that finishes sums: bias, activation, scale, rounding."""

    lanes: int = _number(1, 1 << 16, "results per cycle and core")


@dataclasses.dataclass(frozen=True)
class Ring:
    """The ring between cores, and what they share over it."""

    receivers: int = _number(1, 1024, "cores that one fetch of an operand serves", 1)
    bytes_per_cycle: int = _number(
        1,
        1 << 16,
        "bytes that the ring moves per cycle at the memory's place on it, where every transfer passes",
        1 << 16,
    )
    partial_bytes_per_cycle: int = _number(
        1, 1 << 16, "bytes of partial sums that the ring moves per cycle", 32
    )
    block_bytes_per_cycle: int = _number(
        1, 1 << 16, "bytes per cycle at which a core's arrays load weights", 128
    )
    turnaround: int = _number(
        0,
        1 << 20,
        "cycles that the DRAM channel loses per MiB of the smaller of reads and writes",
        0,
    )


SECTIONS = {"array": Array, "memory": Memory, "post": Post, "ring": Ring}


@dataclasses.dataclass(frozen=True)
class Machine:
    """The configuration of a machine. Values out of range raise `InputError`.

    `replace(**{"memory.latency": 0})` returns a changed copy; `machine["memory.latency"]` reads a key.
    """

    name: str
    array: Array
    memory: Memory
    post: Post
    cores: int = _number(1, 1024, "cores; they share one program and one DRAM channel")
    clock_mhz: int = _number(1, 100_000, "clock")
    time_model: str = TIME_MODELS[0]  #: used if no other is chosen
    summary: str = ""
    assumed: tuple[str, ...] = ()  #: keys whose values are not public
    inferred: tuple[
        str, ...
    ] = ()  #: keys whose values follow from public figures of something else
    notes: tuple[str, ...] = ()
    ring: Ring = Ring()

    def __post_init__(self) -> None:
        for key, (value, low, high) in self._numbers().items():
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(
                    f"machine {self.name}: {key} is {value!r}, must be an integer {low}..{high}"
                )
        if self.time_model not in TIME_MODELS:
            raise unknown("time_model", self.time_model, TIME_MODELS, of=f"machine {self.name}")
        for key, rows, most in (
            ("memory.scratchpad_kib", self.scratchpad_rows, MAX_ROWS * self.array.columns >> 10),
            ("memory.accumulators", self.accumulator_rows, MAX_ROWS * self.array.columns),
        ):
            if not 1 <= rows <= MAX_ROWS:
                raise InputError(
                    f"machine {self.name}: {key} gives {rows} rows of {self.array.columns}, must be "
                    f"1..{MAX_ROWS} rows (so at most {most})"
                )
        memory = self.memory
        if memory.refresh_ns >= memory.refresh_interval_ns:
            raise InputError(
                f"machine {self.name}: memory.refresh_ns is {memory.refresh_ns}, must be less than "
                f"memory.refresh_interval_ns, {memory.refresh_interval_ns}"
            )
        for name in ("assumed", "inferred"):
            for key in getattr(self, name):
                if key not in self._numbers():
                    where = f"key in `{name}` of machine {self.name}"
                    raise unknown(where, key, list(self._numbers()))

    def _numbers(self) -> dict[str, tuple[int, int, int]]:
        """Every number by its dotted key: value, lowest, highest."""
        return {
            key: (self[key], field.metadata["low"], field.metadata["high"])
            for key, field in number_fields()
        }

    def __getitem__(self, key: str) -> Any:
        section, dot, name = key.rpartition(".")
        owner = getattr(self, section) if dot else self
        return getattr(owner, name)

    def replace(self, **values: Any) -> Machine:
        """A copy with some values changed, by dotted key; unknown keys raise `InputError`."""
        allowed = [key for key, _ in number_fields()] + ["name", "time_model", "summary"]
        top: dict[str, Any] = {}
        for key, value in values.items():
            if key not in allowed:
                raise unknown("machine key", key, allowed)
            section, dot, name = key.rpartition(".")
            if dot:
                owner = top.get(section, getattr(self, section))
                top[section] = dataclasses.replace(owner, **{name: value})
            else:
                top[key] = value
        for name in ("assumed", "inferred"):
            top[name] = tuple(key for key in getattr(self, name) if key not in values)
        return dataclasses.replace(self, **top)

    def status(self, key: str) -> str:
        """Where the value of a key comes from: `published`, `inferred` or `assumed`."""
        if key in self.assumed:
            return "assumed"
        return "inferred" if key in self.inferred else "published"

    # -- derived -----------------------------------------------------------------------------------

    @property
    def scratchpad_rows(self) -> int:
        """Scratchpad rows of a core; a row is as many bytes as the array has columns."""
        return self.memory.scratchpad_kib * 1024 // self.array.columns

    @property
    def accumulator_rows(self) -> int:
        """Accumulator rows of a core; a row is as many outputs as the array has columns."""
        return self.memory.accumulators // self.array.columns

    @property
    def transfer_bytes_per_cycle(self) -> float:
        """Bytes that all cores load and store per cycle in the long run: of the DRAM channel or of the ring."""
        return min(self.memory.sustained_bytes_per_cycle, self.ring.bytes_per_cycle)

    def macs_per_lane(self, bits: int) -> int:
        """Multiply-accumulates per lane and cycle for operands of at most `bits` bits."""
        return self.array.macs_8bit if bits <= 8 else self.array.macs_16bit

    def macs_per_cycle(self, bits: int = 8) -> int:
        """Peak multiply-accumulates per cycle of all cores."""
        a = self.array
        return self.cores * a.corelets * a.rows * a.columns * self.macs_per_lane(bits)

    def peak_tflops(self, bits: int = 8) -> float:
        """Peak, a multiply-accumulate counted as two operations."""
        return 2 * self.macs_per_cycle(bits) * self.clock_mhz / 1e6

    def seconds(self, cycles: int) -> float:
        """The time of a number of cycles."""
        return cycles / (self.clock_mhz * 1e6)


def number_fields() -> list[tuple[str, dataclasses.Field[Any]]]:
    """(dotted key, field) of every number of a machine, in the order of docs/machine.md."""
    pairs = [(f.name, f) for f in dataclasses.fields(Machine) if f.metadata]
    for section, record in SECTIONS.items():
        pairs += [(f"{section}.{f.name}", f) for f in dataclasses.fields(record)]
    return pairs


# -- files -----------------------------------------------------------------------------------------

_TEXTS = ("name", "summary", "time_model")
_LISTS = ("assumed", "inferred", "notes")


def from_toml(content: bytes, where: str) -> Machine:
    """The machine that a TOML text describes.

    Raises:
        InputError: a key that is unknown, missing or out of range; the message begins with `where`.
    """
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a TOML file: {error}") from None
    numbers = [key for key, _ in number_fields() if "." not in key]
    _check_keys(where, "", table, [*_TEXTS, *_LISTS, *numbers, *SECTIONS], [*numbers, "name"])
    for key in _TEXTS:
        if not isinstance(table.get(key, ""), str):
            raise InputError(f"{where}: {key} must be a string")
    for key in _LISTS:
        if not all(isinstance(item, str) for item in _list(table.get(key, []))):
            raise InputError(f"{where}: {key} must be a list of strings")
        table[key] = tuple(table.get(key, []))
    for section, record in SECTIONS.items():
        part = table.get(section, {})
        if not isinstance(part, dict):
            raise InputError(f"{where}: [{section}] must be a table")
        fields = dataclasses.fields(record)
        required = [field.name for field in fields if field.default is dataclasses.MISSING]
        _check_keys(where, f"{section}.", part, [field.name for field in fields], required)
        table[section] = record(**part)
    try:
        return Machine(**table)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [None]


def _check_keys(
    where: str, prefix: str, table: dict[str, Any], allowed: list[str], required: Iterable[str]
) -> None:
    for key in table:
        if key not in allowed:
            hint = unknown("key", prefix + key, [prefix + name for name in allowed])
            raise InputError(f"{where}: {hint}")
    for key in required:
        if key not in table:
            raise InputError(f"{where}: key {prefix + key!r} is missing")
