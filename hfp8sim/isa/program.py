"""A program: its words, the places of its tensors in DRAM, and the layer that each word belongs to.

The file (`save`, `load`) is

    8 bytes   "hfp8prog"
    uint32    version, 1
    uint32    length of the header in bytes
    header    JSON, UTF-8: words (their number), sha256 (of the words), symbols, layers
    words     uint64 each

with all numbers little-endian. `save` writes the file completely or leaves the old one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError, unknown
from hfp8sim.files import write_whole
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.registry import is_registered
from hfp8sim.isa.encoding import encode
from hfp8sim.isa.table import CSR_BY_ADDRESS, LINE, LOW, MASK, OP, OPCODE_LOW, reset_word

_MAGIC = b"hfp8prog"
_VERSION = 1
_PREFIX = struct.Struct("<8sII")
#: Sizes, lines and counts of bytes in a header are at most this.
_MAX_NUMBER = (1 << 63) - 1

ROLES = ("input", "output")


@dataclasses.dataclass(frozen=True)
class Symbol:
    """A tensor in DRAM: codes of `format`, row-major, densely packed from line `line` on.

    The format is a registered name, or a record that is not registered. Files and texts hold names alone.
    """

    name: str
    role: str  #: one of `ROLES`
    line: int
    format: str | FloatFormat
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise unknown("role", self.role, ROLES, of=f"symbol {self.name!r}")
        if self.line < 0 or any(size < 0 for size in self.shape):
            raise InputError(f"symbol {self.name!r}: line and shape must not be negative")
        get_format(self.format)

    @property
    def record(self) -> FloatFormat:
        """The format of its codes."""
        return get_format(self.format)

    @property
    def format_name(self) -> str:
        """The format's registered name; `InputError` if it has none."""
        if not isinstance(self.format, FloatFormat):
            return self.format
        if not is_registered(self.format):
            raise InputError(
                f"a program's file names the formats of its tensors, and {self.name}'s, {self.format.name!r}, is not "
                "registered; hs.register_format does that"
            )
        return self.format.name

    @property
    def bytes(self) -> int:
        """Size in DRAM."""
        return math.prod(self.shape) * self.record.dtype.itemsize

    @property
    def stop(self) -> int:
        """The first line after it."""
        return self.line + -(-self.bytes // LINE)


@dataclasses.dataclass(frozen=True)
class ProgramLayer:
    """The words [start, stop) of a program that are one layer in one phase."""

    name: str
    phase: str
    start: int
    stop: int
    compulsory: int = 0  #: bytes of its tensors, each counted once


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """Instructions as one read-only uint64 array, with symbols and layers. Programs compare by content."""

    words: NDArray[np.uint64]
    symbols: tuple[Symbol, ...] = ()
    layers: tuple[ProgramLayer, ...] = ()

    def __post_init__(self) -> None:
        words = np.array(self.words, dtype=np.uint64).reshape(-1)
        words.setflags(write=False)
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "symbols", tuple(self.symbols))
        object.__setattr__(self, "layers", tuple(self.layers))
        names = [symbol.name for symbol in self.symbols]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two symbols are named {name!r}")
        end = 0
        for layer in self.layers:
            if not end <= layer.start <= layer.stop <= words.size:
                raise InputError(
                    f"layer {layer.name!r}: words {layer.start}..{layer.stop} must follow the layer "
                    f"before it and end within the {words.size} words of the program"
                )
            end = layer.stop

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are made from the fields, so that their words are read-only, too."""
        return Program, (self.words, self.symbols, self.layers)

    def __len__(self) -> int:
        return int(self.words.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return NotImplemented
        return (
            np.array_equal(self.words, other.words)
            and self.symbols == other.symbols
            and self.layers == other.layers
        )

    def __hash__(self) -> int:
        return hash((self.words.tobytes(), self.symbols, self.layers))

    def __getitem__(self, name: str) -> Symbol:
        for symbol in self.symbols:
            if symbol.name == name:
                return symbol
        raise unknown("symbol", name, [symbol.name for symbol in self.symbols])

    @property
    def dram_lines(self) -> int:
        """DRAM lines that its symbols occupy."""
        return max((symbol.stop for symbol in self.symbols), default=0)

    def layer_at(self, index: int) -> ProgramLayer | None:
        """The layer that word number `index` belongs to."""
        for layer in self.layers:
            if layer.start <= index < layer.stop:
                return layer
        return None

    @staticmethod
    def join(programs: list[Program]) -> Program:
        """Concatenate programs. Each starts with registers as after reset and has DRAM lines of its own.

        Symbols of a program that is a layer become `LAYER.PHASE.NAME`.
        """
        return _join(programs)

    # -- files -------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the program to a file, completely or not at all; `InputError` for a format without a name."""
        words = self.words.astype("<u8").tobytes()
        header = json.dumps(
            {
                "words": len(self),
                "sha256": hashlib.sha256(words).hexdigest(),
                "symbols": [
                    dataclasses.asdict(symbol) | {"format": symbol.format_name}
                    for symbol in self.symbols
                ],
                "layers": [dataclasses.asdict(layer) for layer in self.layers],
            }
        ).encode()
        content = _PREFIX.pack(_MAGIC, _VERSION, len(header)) + header + words
        write_whole(path, lambda file: file.write(content), binary=True)

    @staticmethod
    def load(path: str | Path) -> Program:
        """Read a program; `InputError` for a file that is not a program, truncated or changed."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        if len(content) < _PREFIX.size or not content.startswith(_MAGIC):
            raise InputError(f"{path}: not a program (it does not begin with {_MAGIC.decode()!r})")
        _, version, length = _PREFIX.unpack_from(content)
        if version != _VERSION:
            raise InputError(
                f"{path}: program file of version {version}; this is version {_VERSION}"
            )
        body = content[_PREFIX.size + length :]
        try:
            header = json.loads(content[_PREFIX.size : _PREFIX.size + length])
            symbols = [
                _checked(Symbol(**entry | {"shape": tuple(entry["shape"])}))
                for entry in header["symbols"]
            ]
            layers = [_checked(ProgramLayer(**entry)) for entry in header["layers"]]
            count, digest = header["words"], header["sha256"]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{path}: the program's header is torn") from None
        if (
            type(count) is not int
            or len(body) != 8 * count
            or hashlib.sha256(body).hexdigest() != digest
        ):
            raise InputError(
                f"{path}: the program is torn: its {count} words are not all as written"
            )
        try:
            return Program(np.frombuffer(body, "<u8"), tuple(symbols), tuple(layers))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def image(program: Program, inputs: dict[str, ArrayLike]) -> NDArray[np.uint8]:
    """DRAM before the program runs: its inputs at their lines, zeros elsewhere.

    Args:
        inputs: codes by symbol name, of the symbol's shape (or any shape of as many elements).

    Raises:
        InputError: an input missing, unknown, of another size, or with codes its format lacks.
    """
    dram = np.zeros(program.dram_lines * LINE, np.uint8)
    for name, codes in check_inputs(program, inputs).items():
        symbol = program[name]
        _view(dram, symbol)[...] = codes.reshape(symbol.shape)
    return dram


Record = TypeVar("Record", Symbol, ProgramLayer)


def _checked(record: Record) -> Record:
    """A record of a file's header; TypeError unless its texts are texts and its numbers are sizes."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        numbers = value if field.name == "shape" else (value,)
        wanted = int if field.type in ("int", "tuple[int, ...]") else str
        if any(type(number) is not wanted for number in numbers):
            raise TypeError
        if wanted is int and not all(0 <= number <= _MAX_NUMBER for number in numbers):
            raise ValueError
    return record


def check_inputs(program: Program, inputs: dict[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """The inputs as arrays, in the program's order; `InputError` as in `image`."""
    expected = [symbol.name for symbol in program.symbols if symbol.role == "input"]
    checked: dict[str, NDArray[Any]] = {}
    for name in inputs:
        if name not in expected:
            raise unknown("input", name, expected)
    for name in expected:
        symbol, fmt = program[name], program[name].record
        if name not in inputs:
            raise InputError(f"input {name!r} is missing: {fmt.name} codes of shape {symbol.shape}")
        codes = np.asarray(inputs[name])
        if codes.dtype.kind not in "ui":
            raise InputError(f"input {name!r} must hold {fmt.name} codes, not {codes.dtype}")
        if codes.size != math.prod(symbol.shape):
            raise InputError(f"input {name!r} has shape {codes.shape}, must be {symbol.shape}")
        exact = codes.dtype == fmt.dtype and fmt.bits == 8 * fmt.dtype.itemsize
        if not exact and codes.size and (int(codes.min()) < 0 or int(codes.max()) >> fmt.bits):
            raise InputError(f"input {name!r} holds codes outside 0..{(1 << fmt.bits) - 1}")
        checked[name] = codes
    return checked


def outputs(program: Program, dram: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The program's results in DRAM: codes by symbol name, views of their shapes."""
    return {s.name: _view(dram, s) for s in program.symbols if s.role == "output"}


def _view(dram: NDArray[np.uint8], symbol: Symbol) -> NDArray[Any]:
    start = symbol.line * LINE
    return dram[start : start + symbol.bytes].view(symbol.record.dtype).reshape(symbol.shape)


def _join(programs: list[Program]) -> Program:
    words: list[int] = []
    symbols: list[Symbol] = []
    layers: list[ProgramLayer] = []
    dirty: set[int] = set()  # registers that the program before has written
    offset = 0
    for program in programs:
        own = [int(word) for word in program.words]
        if own and own[-1] == encode("halt"):
            own.pop()
        written = {number for number, _ in _register_writes(own)}
        bases = {n for n, csr in CSR_BY_ADDRESS.items() if offset and csr.name.endswith(".base")}
        stale = sorted((dirty | bases) - written)
        resets = [encode("csrw", csr=n, value=reset_word(CSR_BY_ADDRESS[n])) for n in stale]
        resets = [_rebased(word, offset) for word in resets]
        dirty = written
        start = len(words)
        shift = start + len(resets)
        words += resets + [_rebased(word, offset) for word in own]
        for layer in program.layers:
            begin = start if layer.start == 0 else layer.start + shift
            stop = min(layer.stop, len(own)) + shift
            layers.append(dataclasses.replace(layer, start=begin, stop=stop))
        prefix = (
            ".".join((program.layers[0].name, program.layers[0].phase)) if program.layers else ""
        )
        for symbol in program.symbols:
            name = f"{prefix}.{symbol.name}" if prefix else symbol.name
            symbols.append(dataclasses.replace(symbol, name=name, line=symbol.line + offset))
        offset += program.dram_lines
    return Program(np.array([*words, encode("halt")], np.uint64), tuple(symbols), tuple(layers))


def _register_writes(words: list[int]) -> Iterator[tuple[int, int]]:
    """(number, value) of every CSRW."""
    for word in words:
        if word >> OPCODE_LOW == OP.csrw:
            yield word >> LOW.csr & MASK.csr, word & MASK.value


def _rebased(word: int, lines: int) -> int:
    """The word with DRAM moved by some lines: a CSRW of a base address changes, the rest does not."""
    for number, value in _register_writes([word]):
        csr = CSR_BY_ADDRESS.get(number)
        if csr is not None and csr.name.endswith(".base"):
            return encode("csrw", csr=number, value=value + lines)
    return word
