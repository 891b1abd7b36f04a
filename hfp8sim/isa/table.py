"""The instruction set, declared once.

Encoder, decoder, assembler, disassembler, static checks, the reference page (docs/isa.md) and the
constants of the compiled kernels are all derived from `INSTRUCTIONS` and `CSRS`.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.layouts import constants
from hfp8sim.formats.vocabulary import Overflow, Rounding

#: Bytes of one DRAM line: base addresses count lines.
LINE = 64

#: The loop counters, and the GEMM dimension each of them walks.
COUNTERS = ("g", "i", "j", "k")
#: The operand ports that LD fills: A, B and the bias vector D.
OPERANDS = ("a", "b", "d")
#: The units that execute instructions beside each other. The sequencer executes all others itself.
UNITS = ("DMA in", "weights", "array", "post", "DMA out")


@dataclasses.dataclass(frozen=True)
class Field:
    """Some bits of a word. `kind` says how the assembler writes the number."""

    name: str
    low: int
    width: int
    kind: str
    meaning: str

    @property
    def mask(self) -> int:
        """The largest value the field holds."""
        return (1 << self.width) - 1


@dataclasses.dataclass(frozen=True)
class Flag:
    """One bit of the flags byte, written as its name after the operands."""

    name: str
    bit: int
    meaning: str


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One row: what the encoder, the checks, the machine and the time models need to know of an instruction."""

    mnemonic: str
    opcode: int
    fields: tuple[Field, ...]
    flags: tuple[Flag, ...]
    summary: str
    semantics: str
    unit: str = ""  #: one of `UNITS`; empty: the sequencer
    tiled: bool = False  #: works on the current tile; a core without work skips it
    one_group: bool = False  #: the tile must lie within one group
    barrier: bool = False  #: waits for all units and cores; ends a segment; outside loops only

    def __post_init__(self) -> None:
        assert self.unit in ("", *UNITS), self.unit

    @functools.cached_property
    def multiplies(self) -> bool:
        """Whether it multiplies operands A and B."""
        return self.unit == "array"

    @functools.cached_property
    def computes(self) -> bool:
        """Whether it computes values, rather than moves or selects them."""
        return self.unit in ("array", "post")

    @functools.cached_property
    def writes_dram(self) -> bool:
        """Whether it stores to DRAM."""
        return self.unit == "DMA out"

    @functools.cached_property
    def writes_csr(self) -> bool:
        """Whether it writes a control register."""
        return any(field.kind == "csr" for field in self.fields)

    @functools.cached_property
    def opens_loop(self) -> bool:
        """Whether the words that follow it are the body of a loop."""
        return any(field.kind == "body" for field in self.fields)


@dataclasses.dataclass(frozen=True)
class Csr:
    """A control register of 32 bits, written by CSRW."""

    name: str
    address: int
    kind: str  #: uint, int, or the enumeration or record it holds
    low: int
    high: int
    reset: int
    meaning: str

    def number(self, word: int) -> int:
        """The number that 32 bits encode: two's complement in a signed register."""
        return word - (1 << 32) if self.kind == "int" and word >> 31 else word

    def holds(self, word: int) -> bool:
        """Whether the 32 bits are a value the register may have."""
        number = self.number(word)
        if self.kind in ENUMERATIONS and number not in ENUMERATIONS[self.kind].values():
            return False
        return self.low <= number <= self.high


OPCODE_LOW = 56
FLAGS_LOW = 48

_DST = Field("dst", 32, 16, "scratchpad", "first scratchpad row to write")
_SRC = Field("src", 16, 16, "scratchpad", "first scratchpad row to read")
_ACC = Field("acc", 32, 16, "accumulator", "first accumulator row to update")
_TOTAL = Field("total", 16, 16, "accumulator", "first accumulator row to read")
_WEIGHTS = Field("weights", 0, 16, "scratchpad", "first scratchpad row of the weights")
_OPERAND = Field("operand", 0, 2, "operand", "which port to fill")
_CSR = Field("csr", 32, 16, "csr", "register number")
_VALUE = Field("value", 0, 32, "value", "its new content")
_COUNTER = Field("counter", 44, 2, "counter", "which counter runs")
_BODY = Field("body", 32, 12, "body", "words in the body")
_COUNT = Field("count", 0, 32, "uint", "iterations")

INSTRUCTIONS = (
    Instruction(
        "nop", 0x00, (), (), "nothing", "Nothing happens.",
    ),
    Instruction(
        "halt", 0x01, (), (), "end of the program",
        "The program ends. HALT must be the last instruction that is reached.",
        barrier=True,
    ),
    Instruction(
        "csrw", 0x02, (_CSR, _VALUE), (), "write a control register",
        "csr[`csr`] ← `value`. Instructions after it read the new value, instructions before it the old one.",
    ),
    Instruction(
        "loop", 0x03, (_COUNTER, _COUNT, _BODY),
        (Flag("spread", 0, "distribute the iterations among the cores"),),
        "repeat the next words with a counter",
        "The next `body` words run `count` times, with `counter` = 0, 1, …. Inside a loop over a counter, the "
        "tile is one step of the counter's dimension: g is the group, i selects rows [i·tile.m, "
        "(i+1)·tile.m) of m, j columns of n, k steps of k, each cut off at the matrix's edge. Outside such a "
        "loop, the tile spans the whole dimension. A counter runs in one open loop at a time. With `spread`, "
        "core number c of C executes the iterations that are c modulo C. A loop over k cannot be spread, "
        "because its steps add to one sum. A loop inside a spread loop cannot be spread either, unless the "
        "registers `split` make the cores a grid of `split.g` × `split.i` × `split.j`, each of them 1 or more: "
        "then core number c is at place (c div (`split.i`·`split.j`), c div `split.j` mod `split.i`, c mod "
        "`split.j`) and executes the iterations of a spread loop that are its place along the loop's counter, "
        "modulo the grid's size along it. Fewer cores are a smaller grid: first g is cut off, then i, then j. If "
        "no loop between two fences is spread, core 0 alone executes what is between them. If one is, every core "
        "executes what is outside it; so ST must be inside it, and inside a spread loop for each counter along "
        "which the grid has more than one core.",
    ),
    Instruction(
        "fence", 0x04, (), (), "wait for everything",
        "FENCE does not change values, which are in order without it. In time, all units and all cores finish "
        "before the next instruction starts. A layer ends with a FENCE.",
        barrier=True,
    ),
    Instruction(
        "ld", 0x10, (_OPERAND, _DST),
        (
            Flag("image", 0, "the operand is unfolded from an image"),
            Flag("t", 1, "stored transposed: rows and columns are exchanged"),
            Flag("turned", 2, "the blocks of transposed b are in reverse order: filters rotated by 180°"),
        ),
        "DRAM to scratchpad",
        "Rotates the port's buffer to its next slot. Then copies what the current tile needs of operand a, b or "
        "d from DRAM to scratchpad row `dst` + slot·`slot_rows`, densely packed. The port remembers which "
        "box of the tensor it holds. Matrices: stored element (row, column) of group g is at "
        "`base`·64 bytes + (g·`group` + row·`pitch` + column) elements; a's rows are m and its columns k, "
        "b's are k and n. With `t` they are k and m, n and k; then k of b comes in blocks of `b.block`, "
        "`b.block_step` elements apart (0: one block), with `turned` the last block first. With `image` "
        "(operand a), the box is all lines and channels of the image that the tile touches, see CV. With `image` "
        "and `t`, A is the unfolded matrix transposed. Operand d is the bias vector: element n of group g is at "
        "g·`d.group` + n.",
        unit="DMA in", tiled=True,
    ),
    Instruction(
        "st", 0x11, (_SRC,), (), "scratchpad to DRAM",
        "Copies the result tile that POST wrote to `src` to DRAM: element (m, n) of group g goes to "
        "`c.base`·64 bytes + (g·`c.group` + m·`c.pitch` + n) elements.",
        unit="DMA out", tiled=True, one_group=True,
    ),
    Instruction(
        "ldw", 0x20, (_WEIGHTS,), (),
        "weights into the shadow plane",
        "Selects the tile of operand b, which is in the port's box at `weights`, for the next MM or "
        "CV. Its first block of array size goes into the shadow plane, the second set of weight registers. "
        "Further blocks follow during the MM, each while the block before it computes.",
        unit="weights", tiled=True, one_group=True,
    ),
    Instruction(
        "mm", 0x21, (_ACC, _SRC), (),
        "matrix tile: accumulate A·B",
        "For all (m, n) of the tile: the sum of (m, n) continues over the tile's k, in ascending "
        "order, with products A[m,k]·B[k,n], as docs/numerics.md section 3 defines. Chunk boundaries and "
        "random words depend on the global m, n and k alone; m and n count within their group, and group "
        "g draws from stream + g·`stream.group`. Tiles of k must come in order and without a gap, and each "
        "must start where a rounding step may start. The tile that reaches k = `k` closes the last chunk.",
        unit="array", tiled=True, one_group=True,
    ),
    Instruction(
        "cv", 0x22, (_ACC, _SRC), (),
        "convolution tile: the same with A unfolded from an image",
        "As MM, with A[m,k] = U[m,k], or U[k,m] if loaded with `t`. U is the im2col matrix; it is never stored. "
        "Its row is (image, p, q) of the output grid, its column is (r, s, c) with c fastest. With y = "
        "(p·`stride.height` + r·`dilation.height` − `pad.height`) / `divide.height` and x likewise, U is element "
        "(image, y, x, g·`image.channels` + c) of the image. U is +0 if a division leaves a "
        "remainder or if y or x is outside the image. A +0 is an operand like any other.",
        unit="array", tiled=True, one_group=True,
    ),
    Instruction(
        "clr", 0x23, (_ACC,), (), "start new sums",
        "Rotates the accumulators' buffer to its next slot and sets the sums of the tile to +0, at k = 0.",
        tiled=True, one_group=True,
    ),
    Instruction(
        "post", 0x30, (_DST, _TOTAL),
        (
            Flag("bias", 0, "add the bias of column n"),
            Flag("relu", 1, "negative numbers become +0"),
            Flag("clamp", 2, "clamp between post.low and post.high"),
        ),
        "accumulators through bias, activation, scale and rounding to scratchpad",
        "Rotates the result's buffer to its next slot. For all (m, n) of the tile: x is the finished sum, with "
        "`bias` plus bias n. x·2^`post.scale` is exact. It is rounded once to `c.format`, by "
        "`c.rounding` and `c.overflow`. A stochastic rounding takes the CONVERT word whose number is the "
        "element's place in the result tensor, see ST. `relu` replaces a negative number and −0 by +0. `clamp` "
        "replaces a number below `post.low` or above `post.high`, codes of `c.format`, by that code. NaN "
        "stays NaN; in a format without NaN it becomes code 0. The tile goes to row `dst` + "
        "slot·`c.slot_rows`, row by row.",
        unit="post", tiled=True, one_group=True,
    ),
)  # fmt: skip

#: Of each kind of register that holds a choice, the number of each name. A number never changes, because saved
#: programs hold it: a new name takes a free number.
ENUMERATIONS: dict[str, dict[str, int]] = {
    "rounding": {term.text: int(term) for term in Rounding},
    "overflow": {term.text: int(term) for term in (Overflow.SATURATE, Overflow.SPECIAL)},
    "order": {"fused": 0, "pair-first": 1, "chain": 2, "aligned": 3},
    "source": {"row-column": 0, "counter": 1, "lfsr": 2},
}


def number_name(kind: str, number: int) -> str | None:
    """The name of a number in an enumerated register; None if it has none."""
    names = {value: name for name, value in ENUMERATIONS[kind].items()}
    return names.get(number)


_U32 = (1 << 32) - 1
_I31 = (1 << 31) - 1


def _csrs() -> tuple[Csr, ...]:
    """The registers in blocks. A block starts at a round number, so that it can grow."""
    blocks: dict[int, list[tuple[str, str, int, int, int, str]]] = {
        0x00: [
            ("m", "uint", 1, _I31, 1, "rows of A and of the result, per group"),
            ("n", "uint", 1, _I31, 1, "columns of B and of the result, per group"),
            ("k", "uint", 0, _I31, 0, "length of the sums"),
            ("groups", "uint", 1, _I31, 1, "independent GEMMs in the layer"),
            ("tile.m", "uint", 1, _I31, 1, "rows per step of counter i"),
            ("tile.n", "uint", 1, _I31, 1, "columns per step of counter j"),
            ("tile.k", "uint", 1, _I31, 1, "k per step of counter k"),
        ],
        0x10: _port("a", "operand a"),
        0x20: [
            *_port("b", "operand b"),
            ("b.block", "uint", 0, _I31, 0, "transposed b: k per block, 0 for one block"),
            ("b.block_step", "uint", 0, _U32, 0, "transposed b: elements from block to block"),
        ],
        0x30: [p for p in _port("d", "bias vector") if p[0] != "d.pitch"],
        0x40: _port("c", "result"),
        0x50: [
            ("acc.slots", "uint", 1, 64, 1, "slots of the accumulators"),
            ("acc.slot_rows", "uint", 0, 65535, 0, "accumulator rows from slot to slot"),
        ],
        0x58: [
            (
                "split.g",
                "uint",
                0,
                1024,
                0,
                "cores along spread loops over g; all three 0: no grid",
            ),
            ("split.i", "uint", 0, 1024, 0, "the same over i"),
            ("split.j", "uint", 0, 1024, 0, "the same over j"),
        ],
        0x60: [
            ("image.height", "uint", 1, _I31, 1, "lines of an image"),
            ("image.width", "uint", 1, _I31, 1, "pixels of a line"),
            ("image.channels", "uint", 1, _I31, 1, "channels of one group"),
            ("image.pixel_pitch", "uint", 1, _U32, 1, "elements from pixel to pixel"),
            ("image.line_pitch", "uint", 1, _U32, 1, "elements from line to line"),
            ("image.pitch", "uint", 1, _U32, 1, "elements from image to image"),
            ("grid.height", "uint", 1, _I31, 1, "output grid: rows p"),
            ("grid.width", "uint", 1, _I31, 1, "output grid: columns q"),
            ("kernel.height", "uint", 1, _I31, 1, "filter: rows r"),
            ("kernel.width", "uint", 1, _I31, 1, "filter: columns s"),
            ("stride.height", "uint", 1, _I31, 1, "lines per p, before division"),
            ("stride.width", "uint", 1, _I31, 1, "pixels per q, before division"),
            ("pad.height", "int", -_I31, _I31, 0, "lines of padding above"),
            ("pad.width", "int", -_I31, _I31, 0, "pixels of padding to the left"),
            ("dilation.height", "uint", 1, _I31, 1, "lines per r, before division"),
            ("dilation.width", "uint", 1, _I31, 1, "pixels per s, before division"),
            (
                "divide.height",
                "uint",
                1,
                _I31,
                1,
                "input dilation: the stride, in an input gradient",
            ),
            (
                "divide.width",
                "uint",
                1,
                _I31,
                1,
                "input dilation: the stride, in an input gradient",
            ),
        ],
        0x80: [
            ("acc.format", "format", 0, _U32, 0, "accumulator of a chunk"),
            ("total.format", "format", 0, _U32, 0, "running total of the chunks"),
            ("chunk", "uint", 0, _I31, 0, "products per chunk; 0: no chunks"),
            ("step", "uint", 0, 64, 1, "products per rounding; 0: the whole chunk"),
            _choice("order", "order", 0, "order of the sum in a step"),
            ("guard", "uint", 0, 48, 0, "fraction bits that aligned sums keep"),
            _choice("acc.rounding", "rounding", 0, "intra-chunk: of the accumulator"),
            _choice("total.rounding", "rounding", 0, "inter-chunk: of the running total"),
            _choice("acc.overflow", "overflow", 1, "policy of accumulator and total"),
            ("random.bits", "uint", 1, 24, 13, "bits of a stochastic rounding"),
            _choice("random.source", "source", 0, "generator of the random bits"),
            ("seed.low", "uint", 0, _U32, 0, "seed, low half"),
            ("seed.high", "uint", 0, _U32, 0, "seed, high half"),
            ("stream.low", "uint", 0, _U32, 0, "stream (the layer's number), low half"),
            ("stream.high", "uint", 0, _U32, 0, "stream, high half"),
            ("stream.group", "uint", 0, _U32, 0, "increment of the stream from group to group"),
        ],
        0xA0: [
            _choice("c.rounding", "rounding", 0, "of POST"),
            _choice("c.overflow", "overflow", 0, "policy of POST"),
            ("post.scale", "int", -512, 512, 0, "POST multiplies by 2 to this power"),
            ("post.low", "uint", 0, _U32, 0, "lower clamp, a code of c.format"),
            ("post.high", "uint", 0, _U32, 0, "upper clamp, a code of c.format"),
        ],
    }
    return tuple(
        Csr(name, start + offset, kind, low, high, reset, meaning)
        for start, block in blocks.items()
        for offset, (name, kind, low, high, reset, meaning) in enumerate(block)
    )


def _choice(name: str, kind: str, reset: int, meaning: str) -> tuple[str, str, int, int, int, str]:
    """A register that holds a number of an enumeration."""
    numbers = ENUMERATIONS[kind].values()
    return (name, kind, min(numbers), max(numbers), reset, meaning)


def _port(port: str, what: str) -> list[tuple[str, str, int, int, int, str]]:
    return [
        (f"{port}.base", "uint", 0, _U32, 0, f"{what}: first DRAM line"),
        (f"{port}.pitch", "uint", 0, _U32, 0, f"{what}: elements from row to row"),
        (f"{port}.group", "uint", 0, _U32, 0, f"{what}: elements from group to group"),
        (f"{port}.format", "format", 0, _U32, 0, f"{what}: number format"),
        (f"{port}.slots", "uint", 1, 64, 1, f"{what}: slots of its buffer"),
        (f"{port}.slot_rows", "uint", 0, 65535, 0, f"{what}: scratchpad rows from slot to slot"),
    ]


CSRS = _csrs()

BY_MNEMONIC = {row.mnemonic: row for row in INSTRUCTIONS}
BY_OPCODE = {row.opcode: row for row in INSTRUCTIONS}
CSR_BY_NAME = {csr.name: csr for csr in CSRS}
CSR_BY_ADDRESS = {csr.address: csr for csr in CSRS}
CSR_COUNT = max(CSR_BY_ADDRESS) + 1


def reset_word(csr: Csr) -> int:
    """The 32 bits a register holds after reset."""
    return csr.reset & _U32


_FIELDS = {field.name: field for row in INSTRUCTIONS for field in row.fields}

#: Opcode numbers, register numbers, lowest bits and masks of fields, and flag bits, for kernels.
OP = constants("OP", {row.mnemonic: row.opcode for row in INSTRUCTIONS})
CSR = constants("CSR", {csr.name.replace(".", "_"): csr.address for csr in CSRS})
LOW = constants("LOW", {name: field.low for name, field in _FIELDS.items()})
MASK = constants("MASK", {name: field.mask for name, field in _FIELDS.items()})
FLAG = constants(
    "FLAG", {flag.name: 1 << (FLAGS_LOW + flag.bit) for row in INSTRUCTIONS for flag in row.flags}
)
PORT = constants("PORT", {name: number for number, name in enumerate(OPERANDS)})
COUNTER = constants("COUNTER", {name: number for number, name in enumerate(COUNTERS)})


def opcodes_with(attribute: str) -> NDArray[np.bool_]:
    """For each opcode, whether its row has an attribute such as `tiled`: a table for kernels, (256,)."""
    table = np.zeros(1 << (64 - OPCODE_LOW), np.bool_)
    for row in INSTRUCTIONS:
        table[row.opcode] = getattr(row, attribute)
    return table


def reset_registers() -> list[int]:
    """All registers after reset, by address."""
    values = [0] * CSR_COUNT
    for csr in CSR_BY_NAME.values():
        values[csr.address] = csr.reset
    return values
