"""Records of the sequencer: what a core remembers between instructions, and what an instruction resolves to.

Rows of the scratchpad are `row_bytes` bytes, rows of the accumulators are as many sums. Ranges are `first` and
`count`, rows of memories are `first` and `stop`.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import RANGE, SPAN, enumerate_names, layout
from hfp8sim.isa.table import COUNTERS, CSR_BY_NAME, OPERANDS, reset_registers

# -- the resolved instruction ------------------------------------------------------------------------

#: One executed instruction, with its loops, its tile and its addresses resolved.
RESOLVED = layout(
    index=np.int64,  # of its word in the program
    opcode=np.int64,  # that of NOP where this core skips the instruction
    # The tile. All four are empty if the instruction does not work on one.
    group=RANGE,
    m=RANGE,  # rows of A and of the result, within the group
    n=RANGE,  # columns of B and of the result, within the group
    k=RANGE,
    # Scratchpad rows. An instruction reads at most two operands.
    read=SPAN,  # operand A (MM, CV), the weights (LDW), the result (ST)
    read_second=SPAN,  # operand B (MM, CV), the bias vector (POST)
    write=SPAN,  # what LD and POST write
    sums=SPAN,  # accumulator rows
    bytes=np.int64,  # that LD and ST move, or that POST writes
    port=np.int64,  # that LD fills, as its number in `OPERANDS`
)

# -- what a port has loaded --------------------------------------------------------------------------

#: What the last LD of a port brought to the scratchpad.
BOX_KIND = enumerate_names("BoxKind", "empty", "matrix", "image")

#: The box of a DRAM tensor that a port has in the scratchpad, densely packed. A matrix box holds groups ×
#: blocks × rows × columns of the stored tensor. An image box holds lines (rows) × pixels × channels (columns).
BOX = layout(
    kind=np.int64,  # a member of `BOX_KIND`
    transposed=np.int64,  # 1: rows and columns of the tensor are those of the transposed operand
    reversed=np.int64,  # 1: the blocks of k of a transposed B lie in reverse order in DRAM
    element_bytes=np.int64,
    operand_row=np.int64,  # scratchpad row that the instruction names, the first row of slot 0
    row=np.int64,  # first scratchpad row of the slot that was filled
    groups=RANGE,
    blocks=RANGE,  # of k, for a transposed B
    rows=RANGE,
    columns=RANGE,
)

# -- the state of a core -----------------------------------------------------------------------------

#: An open loop.
LOOP = layout(
    counter=np.int64,  # its number in `COUNTERS`
    start=np.int64,  # first word of the body
    stop=np.int64,  # first word after the body
    count=np.int64,  # the counter stays below it
    stride=np.int64,  # of the counter: 1, or the number of cores in a distributed loop
)
#: The weights that LDW selected.
WEIGHTS = layout(selected=np.int64, group=np.int64, n=RANGE, k=RANGE)
#: The accumulators that CLR started.
SUMS = layout(
    started=np.int64,
    slot=np.int64,  # that was filled last, −1 before the first
    operand_row=np.int64,  # accumulator row that CLR names, the first row of slot 0
    row=np.int64,  # first accumulator row of the slot
    group=np.int64,
    m=RANGE,
    n=RANGE,
    next_k=np.int64,  # first k that no MM or CV has added yet
    depth=np.int64,  # register k when CLR started the sums
)
#: The result tile that POST left in the scratchpad.
RESULT = layout(
    written=np.int64,
    slot=np.int64,  # that was filled last, −1 before the first
    operand_row=np.int64,  # scratchpad row that POST names, the first row of slot 0
    row=np.int64,  # first scratchpad row of the slot
    group=np.int64,
    m=RANGE,
    n=RANGE,
)
#: The state of one core.
CORE = layout(
    pc=np.int64,  # index of the next word
    number=np.int64,  # of this core
    cores=np.int64,  # that share the program
    row_bytes=np.int64,  # of a scratchpad row
    dram_bytes=np.int64,
    halted=np.int64,
    idle=np.int64,  # 1: core 0 alone executes what comes up to the next fence
    slots=(
        np.int64,
        (len(OPERANDS),),
    ),  # of each port, the slot that was filled last; −1 before the first
    depth=np.int64,  # open loops
    loops=(LOOP, (len(COUNTERS),)),  # from the outermost one inward
    running=(np.int64, (len(COUNTERS),)),  # of each counter, whether a loop runs it
    counters=(np.int64, (len(COUNTERS),)),  # their values
    weights=WEIGHTS,
    sums=SUMS,
    result=RESULT,
)

# -- execution ---------------------------------------------------------------------------------------

#: What a core has executed.
WORK = layout(
    instructions=np.int64,
    fences=np.int64,
    csr_writes=np.int64,
    loads=(np.int64, (len(OPERANDS),)),  # of each port
    macs=np.int64,  # multiply-accumulates
    fault=np.int64,  # a member of `FAULT`, of the instruction that ended the program
)


class Context(NamedTuple):
    """The memories and records of one core, as its compiled loop sees them."""

    words: Any  #: the program, int64
    core: Any  #: a `CORE` record
    regs: Any  #: register values by CSR number, int64
    boxes: Any  #: a `BOX` record for each port
    op: Any  #: the current instruction, a `RESOLVED` record
    dram: Any  #: uint8
    scratchpad: Any  #: uint8, with `copies.MOVE_BYTES` bytes behind its last row
    work: Any  #: a `WORK` record
    tiles: Any  #: an array of one `tiles.TILES` record: the tiles that the loop computes without Python
    spare: Any  #: uint8, room for an operand that is rearranged before it is packed


#: What the compiled loop does after an instruction, or why it returns to Python.
OUTCOME = enumerate_names(
    "Outcome",
    "next",  # the next instruction follows
    "multiply",  # Python computes the tile of MM or CV
    "post",  # Python computes the results of POST
    "fence",  # all cores wait for each other
    "halt",  # the program has ended
    "fault",  # `WORK.fault` holds which
    "limit",  # as many instructions as were asked for
    "interruptible",  # much time may have passed: Python handles signals, then calls again
)

# -- faults ------------------------------------------------------------------------------------------

#: What can be wrong with an instruction when it is resolved, and the text of the error.
FAULT_TEXTS = {
    "none": "",
    "tile_outside": "the tile lies outside the matrix: the loop runs too often for it",
    "format_unset": "the port's format is not set",
    "no_a": "no operand a has been loaded",
    "no_weights": "no weights have been selected by ldw",
    "no_sums": "no accumulators have been cleared",
    "no_result": "no result of post is waiting",
    "wrong_row_a": "reads s[...] at another row than operand a was loaded to",
    "wrong_row_b": "reads s[...] at another row than operand b was loaded to",
    "wrong_row_sums": "uses c[...] at another row than the accumulators that were cleared",
    "wrong_row_result": "reads s[...] at another row than post wrote",
    "outside_a": "the tile is not within what was loaded of operand a",
    "outside_b": "the tile is not within what was loaded of operand b",
    "outside_d": "the tile is not within what was loaded of the bias vector",
    "other_weights": "the weights that ldw selected are those of another tile",
    "other_sums": "the accumulators are those of another tile",
    "other_result": "the result of post is that of another tile",
    "k_gap": "tiles of k must follow one another from 0 without a gap",
    "k_step": "the tile of k does not start where a step may start (chunk and step decide)",
    "unfinished": "the sums are not finished: tiles of k up to the last are missing",
    "not_matrix": "operand a was loaded as an image: cv reads images, mm matrices",
    "not_image": "operand a was loaded as a matrix: cv reads images, mm matrices",
    "many_groups": "needs one group: a loop over g must be open",
    "beyond_dram": "moves bytes beyond the end of DRAM",
    "other_size": "an operand was loaded in a format of another size than its port has now",
    "other_depth": "register k has been written since the accumulators were cleared",
}
FAULT = enumerate_names("Fault", *FAULT_TEXTS)
_TEXTS = tuple(FAULT_TEXTS.values())


def fault_text(fault: int) -> str:
    """The error text of a member of `FAULT`."""
    return _TEXTS[fault]


# -- registers of a port -----------------------------------------------------------------------------


class PortCsrs(NamedTuple):
    """Register numbers of one port; −1 where the port has no such register."""

    base: int
    pitch: int
    group: int
    format: int
    slots: int
    slot_rows: int


def _port_csrs(port: str) -> PortCsrs:
    csrs = (CSR_BY_NAME.get(f"{port}.{name}") for name in PortCsrs._fields)
    return PortCsrs(*(-1 if csr is None else csr.address for csr in csrs))


#: Register numbers of the ports, by port number.
PORT_CSRS = tuple(_port_csrs(port) for port in OPERANDS)


_RESET = np.array(reset_registers(), np.int64)


def new_core(
    number: int, cores: int, row_bytes: int, dram_bytes: int
) -> tuple[Any, np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, Any]]:
    """State, registers and boxes after reset, for one core of several.

    Returns:
        A `CORE` record, int64 register values by CSR number, and a `BOX` record for each port.
    """
    cores_array = np.zeros(
        1, CORE
    )  # Python assigns fields of an array faster than those of a record.
    for name, value in (
        ("number", number), ("cores", cores), ("row_bytes", row_bytes), ("dram_bytes", dram_bytes),
        ("slots", -1),
    ):  # fmt: skip
        cores_array[name] = value
    for buffer in ("sums", "result"):
        cores_array[buffer]["slot"] = -1
    return cores_array[0], _RESET.copy(), np.zeros(len(OPERANDS), BOX)


# -- small arithmetic --------------------------------------------------------------------------------


@jit
def ceil_div(a, b):
    """⌈a/b⌉ for b > 0."""
    return -(-a // b)


@jit
def format_bits(word):
    """Bits of a code of the format with this word (docs/isa.md); 0 if no format is set."""
    if word & 31 == 0:
        return 0
    return (word >> 10 & 1) + (word >> 5 & 31) + (word & 31)


@jit
def element_bytes(word):
    """Bytes that a code of the format with this word occupies in memory: 1, 2 or 4."""
    bits = format_bits(word)
    return 1 if bits <= 8 else 2 if bits <= 16 else 4


@jit
def equal_ranges(a, b):
    """Whether two ranges are the same."""
    return a.first == b.first and a.count == b.count


@jit
def within(first, count, outer):
    """Whether `count` elements from `first` on lie within a range."""
    return first >= outer.first and first + count <= outer.first + outer.count


@jit
def set_range(target, first, count):
    """Assign a range."""
    target.first, target.count = first, count


@jit
def set_rows(span, first, size, row_size):
    """Assign the rows that `size` bytes or sums take from row `first` on."""
    span.first = first
    span.stop = first + ceil_div(size, row_size)
