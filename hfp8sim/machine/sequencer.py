"""The sequencer: one instruction at a time, with its loops, its tile and its addresses resolved.

Static checks, executor, time model, timeline and log all take their instructions from `step`, so they
cannot disagree about what an instruction touches. It computes no values and no time.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, CSR_COUNT, CSRS, FLAG, LINE, LOW, MASK, OP, OPCODE_LOW, PORT

_OPCODE_LOW = OPCODE_LOW
_LINE = LINE

# -- the resolved instruction ------------------------------------------------------------------------

#: Places in a resolved instruction: index and opcode; the tile (group, m, n, k: first and count); the
#: scratchpad rows it reads (two ranges) and writes and its accumulator rows, each [start, stop); the
#: bytes it moves; the port of an LD.
(
    INDEX, CODE, G0, GT, M0, MT, N0, NT, K0, KT,
    READ, READ_STOP, READ2, READ2_STOP, WRITE, WRITE_STOP, ACC, ACC_STOP, BYTES, OPERAND,
) = range(20)  # fmt: skip
OP_SIZE = 20

# -- what the machine remembers between instructions -------------------------------------------------

#: Places in the sequencer's state. Loops: depth, then LOOP_SIZE words each from LOOPS on.
(
    PC, CORE, CORES, ROW_BYTES, DRAM_BYTES, HALTED, DEPTH,
    SLOT_A, SLOT_B, SLOT_D, SLOT_C, SLOT_ACC,
    W_SET, W_G, W_N0, W_NT, W_K0, W_KT,
    ACC_SET, ACC_BASE, ACC_ROW, ACC_G, ACC_M0, ACC_MT, ACC_N0, ACC_NT, ACC_NEXT,
    C_SET, C_BASE, C_ROW, C_G, C_M0, C_MT, C_N0, C_NT, IDLE, ACC_K,
) = range(37)  # fmt: skip
OPEN, VALUE = 37, 41  # of the four counters: whether a loop runs it, and its value
LOOPS, LOOP_SIZE = 45, 5
L_COUNTER, L_START, L_STOP, L_COUNT, L_STRIDE = range(5)
STATE_SIZE = LOOPS + 4 * LOOP_SIZE

#: Places in a port's box: what LD left in the scratchpad. A matrix box holds groups × blocks × rows ×
#: columns of the stored tensor, an image box lines × pixels × channels.
(
    KIND, TRANSPOSED, TURNED, ESIZE, BASE, ROW, BOX_G0, BOX_GT, BOX_B0, BOX_BT, BOX_R0, BOX_RT,
    BOX_C0, BOX_CT,
) = range(14)  # fmt: skip
BOX_SIZE = 14
EMPTY, MATRIX, IMAGE = range(3)

# -- errors ------------------------------------------------------------------------------------------

#: What can be wrong with an instruction where it stands; `step` returns the place in this list.
ERRORS = (
    "",
    "the tile lies outside the matrix: the loop runs too often for it",
    "the port's format is not set",
    "no operand a has been loaded",
    "no weights have been selected by ldw",
    "no accumulators have been cleared",
    "no result of post is waiting",
    "reads s[...] at another row than operand a was loaded to",
    "reads s[...] at another row than operand b was loaded to",
    "uses c[...] at another row than the accumulators that were cleared",
    "reads s[...] at another row than post wrote",
    "the tile is not within what was loaded of operand a",
    "the tile is not within what was loaded of operand b",
    "the tile is not within what was loaded of the bias vector",
    "the weights that ldw selected are those of another tile",
    "the accumulators are those of another tile",
    "the result of post is that of another tile",
    "tiles of k must follow one another from 0 without a gap",
    "the tile of k does not start where a step may start (chunk and step decide)",
    "the sums are not finished: tiles of k up to the last are missing",
    "operand a was loaded as an image: cv reads images, mm matrices",
    "operand a was loaded as a matrix: cv reads images, mm matrices",
    "needs one group: a loop over g must be open",
    "moves bytes beyond the end of DRAM",
    "an operand was loaded in a format of another size than its port has now",
    "register k has been written since the accumulators were cleared",
)
(
    OK, TILE_OUTSIDE, FORMAT_UNSET, NO_A, NO_WEIGHTS, NO_ACCUMULATORS, NO_RESULT, WRONG_ROW_A,
    WRONG_ROW_B, WRONG_ROW_ACC, WRONG_ROW_C, OUTSIDE_A, OUTSIDE_B, OUTSIDE_D, OTHER_WEIGHTS,
    OTHER_ACCUMULATORS, OTHER_RESULT, K_GAP, K_STEP, UNFINISHED, NOT_MATRIX, NOT_IMAGE, MANY_GROUPS,
    BEYOND_DRAM, OTHER_SIZE, OTHER_DEPTH,
) = range(26)  # fmt: skip

_PORT_CSRS = 16  # from one port's registers to the next one's: a at 0x10, b at 0x20, d at 0x30
_BASE, _PITCH, _GROUP, _FORMAT, _SLOTS, _SLOT_ROWS = range(6)
_RESET = np.array(
    [next((c.reset for c in CSRS if c.address == n), 0) for n in range(CSR_COUNT)], np.int64
)
_SIGNED = np.array(
    [any(c.address == n and c.kind == "int" for c in CSRS) for n in range(CSR_COUNT)], np.bool_
)


def _port_register(port: str, place: int) -> int:
    names = ("base", "pitch", "group", "format", "slots", "slot_rows")
    return int(getattr(CSR, f"{port}_{names[place]}"))


# Kernels find a port's registers by arithmetic, so the table must place all ports alike.
_A0 = _port_register("a", 0)
assert _port_register("b", 0) == _A0 + _PORT_CSRS and CSR.c_base == _A0 + 3 * _PORT_CSRS
# The bias vector has no pitch, so the rest of its registers come one earlier.
assert CSR.d_base == _A0 + 2 * _PORT_CSRS and CSR.d_format == CSR.d_base + _FORMAT - 1


def start(words, core: int, cores: int, row_bytes: int, dram_bytes: int):
    """(state, registers, boxes) after reset, int64 arrays, for one core of several."""
    state = np.zeros(STATE_SIZE, np.int64)
    state[CORE], state[CORES], state[ROW_BYTES], state[DRAM_BYTES] = (
        core,
        cores,
        row_bytes,
        dram_bytes,
    )
    state[SLOT_A : SLOT_ACC + 1] = -1
    state[IDLE] = idles(words, state)
    return state, _RESET.copy(), np.zeros((4, BOX_SIZE), np.int64)


# -- small arithmetic --------------------------------------------------------------------------------


@jit
def ceil_div(a, b):
    """⌈a/b⌉ for b > 0."""
    return -(-a // b)


@jit
def format_bits(word):
    """Bits of a code of the format with this word, 0 if it is no format (docs/isa.md)."""
    if word & 31 == 0:
        return 0
    return (word >> 10 & 1) + (word >> 5 & 31) + (word & 31)


@jit
def element_bytes(word):
    """Bytes a code occupies in memory: 1, 2 or 4."""
    bits = format_bits(word)
    return 1 if bits <= 8 else 2 if bits <= 16 else 4


@jit
def dimension(state, counter, tile, extent):
    """(first, count) of the tile along one dimension: all of it while no loop runs the counter."""
    if state[OPEN + counter] == 0:
        return 0, extent
    first = state[VALUE + counter] * tile
    return first, min(tile, extent - first)


@jit
def tile(state, regs, op):
    """Resolve the current tile into `op`; False if it lies outside the matrix."""
    op[G0], op[GT] = dimension(state, 0, 1, regs[CSR.groups])
    op[M0], op[MT] = dimension(state, 1, regs[CSR.tile_m], regs[CSR.m])
    op[N0], op[NT] = dimension(state, 2, regs[CSR.tile_n], regs[CSR.n])
    op[K0], op[KT] = dimension(state, 3, regs[CSR.tile_k], regs[CSR.k])
    return op[GT] > 0 and op[MT] > 0 and op[NT] > 0 and (op[KT] > 0 or regs[CSR.k] == 0)


@jit
def turn(state, slot, slots):
    """The next slot of a buffer."""
    state[slot] = (state[slot] + 1) % slots
    return state[slot]


# -- images ------------------------------------------------------------------------------------------


@jit
def image_lines(regs, row, rows, column, columns):
    """What rows × columns of the unfolded matrix touch: first line, lines, first channel, channels.

    Lines count through all images; channels within the group. Between two images everything is taken.
    """
    if rows <= 0 or columns <= 0:
        return 0, 0, 0, 0
    height, depth = regs[CSR.image_height], regs[CSR.image_channels]
    p, q, s = regs[CSR.grid_height], regs[CSR.grid_width], regs[CSR.kernel_width]
    first, last = row // q, (row + rows - 1) // q
    tap0, tap1 = column // depth, (column + columns - 1) // depth
    low = (first % p) * regs[CSR.stride_height] + tap0 // s * regs[CSR.dilation_height]
    high = (last % p) * regs[CSR.stride_height] + tap1 // s * regs[CSR.dilation_height]
    low = ceil_div(low - regs[CSR.pad_height], regs[CSR.divide_height])
    high = (high - regs[CSR.pad_height]) // regs[CSR.divide_height]
    line0 = first // p * height + min(max(low, 0), height)
    line1 = last // p * height + min(max(high, -1), height - 1)
    channel, channels = 0, depth
    if tap0 == tap1:
        channel, channels = column % depth, columns
    return line0, max(line1 - line0 + 1, 0), channel, channels


@jit
def image_span(regs, line, lines, channel, channels):
    """The first element after the farthest one of some lines of the image tensor."""
    if lines == 0 or channels == 0:
        return 0
    height = regs[CSR.image_height]
    n, y = (line + lines - 1) // height, (line + lines - 1) % height
    end = n * regs[CSR.image_pitch] + y * regs[CSR.image_line_pitch]
    if line // height < n:
        before = (n - 1) * regs[CSR.image_pitch] + (height - 1) * regs[CSR.image_line_pitch]
        end = max(end, before)
    return end + (regs[CSR.image_width] - 1) * regs[CSR.image_pixel_pitch] + channel + channels


# -- instructions ------------------------------------------------------------------------------------


@jit
def load(word, state, regs, box, op):
    """LD: fill the port's box and resolve what moves."""
    port = word >> LOW.operand & MASK.operand
    image, t = (word & FLAG.image) != 0, (word & FLAG.t) != 0
    first = _A0 + _PORT_CSRS * port
    short = 1 if port == PORT.d else 0
    fmt, slots = regs[first + _FORMAT - short], regs[first + _SLOTS - short]
    if format_bits(fmt) == 0:
        return FORMAT_UNSET
    esize = element_bytes(fmt)
    b = box[port]
    b[KIND], b[TRANSPOSED], b[TURNED], b[ESIZE] = MATRIX, t, (word & FLAG.turned) != 0, esize
    b[BASE] = word >> LOW.dst & MASK.dst
    b[ROW] = b[BASE] + turn(state, SLOT_A + port, slots) * regs[first + _SLOT_ROWS - short]
    b[BOX_G0], b[BOX_GT], b[BOX_B0], b[BOX_BT] = op[G0], op[GT], 0, 1
    base, pitch, group, step = regs[first + _BASE], 0, regs[first + _GROUP - short], 0
    if port == PORT.d:
        b[BOX_R0], b[BOX_RT], b[BOX_C0], b[BOX_CT] = 0, 1, op[N0], op[NT]
    elif port == PORT.a and image:
        b[KIND] = IMAGE
        if t:
            line, lines, channel, channels = image_lines(regs, op[K0], op[KT], op[M0], op[MT])
        else:
            line, lines, channel, channels = image_lines(regs, op[M0], op[MT], op[K0], op[KT])
        depth = regs[CSR.image_channels]
        if op[GT] > 1:
            channel, channels = 0, op[GT] * depth
        b[BOX_R0], b[BOX_RT], b[BOX_C0], b[BOX_CT] = line, lines, op[G0] * depth + channel, channels
    elif port == PORT.a:
        pitch = regs[first + _PITCH]
        b[BOX_R0], b[BOX_RT] = (op[K0], op[KT]) if t else (op[M0], op[MT])
        b[BOX_C0], b[BOX_CT] = (op[M0], op[MT]) if t else (op[K0], op[KT])
    else:
        pitch = regs[first + _PITCH]
        if t:
            step = regs[CSR.b_block_step]
            block = regs[CSR.b_block] if regs[CSR.b_block] > 0 else max(regs[CSR.k], 1)
            b[BOX_B0] = op[K0] // block
            b[BOX_BT] = max(op[K0] + op[KT] - 1, op[K0]) // block - b[BOX_B0] + 1
            b[BOX_R0], b[BOX_RT] = op[N0], op[NT]
            inside = b[BOX_BT] == 1
            b[BOX_C0], b[BOX_CT] = (op[K0] % block, op[KT]) if inside else (0, block)
        else:
            b[BOX_R0], b[BOX_RT], b[BOX_C0], b[BOX_CT] = op[K0], op[KT], op[N0], op[NT]
    if b[KIND] == IMAGE:
        elements = b[BOX_RT] * regs[CSR.image_width] * b[BOX_CT]
        end = image_span(regs, b[BOX_R0], b[BOX_RT], b[BOX_C0], b[BOX_CT])
    else:
        elements = b[BOX_GT] * b[BOX_BT] * b[BOX_RT] * b[BOX_CT]
        end = (b[BOX_G0] + b[BOX_GT] - 1) * group + (b[BOX_R0] + b[BOX_RT] - 1) * pitch
        far = b[BOX_B0] + b[BOX_BT] - 1
        if b[TURNED]:
            far = blocks_of_b(regs) - 1 - b[BOX_B0]
        end += far * step + b[BOX_C0] + b[BOX_CT]
    op[OPERAND], op[BYTES] = port, elements * esize
    op[WRITE] = b[ROW]
    op[WRITE_STOP] = b[ROW] + ceil_div(op[BYTES], state[ROW_BYTES])
    if elements > 0 and base * _LINE + end * esize > state[DRAM_BYTES]:
        return BEYOND_DRAM
    return OK


@jit
def blocks_of_b(regs):
    """How many blocks k of a transposed operand b comes in."""
    return ceil_div(regs[CSR.k], regs[CSR.b_block]) if regs[CSR.b_block] > 0 else 1


@jit
def box_rows(box, state, regs):
    """(start, stop) of the scratchpad rows of a box."""
    if box[KIND] == IMAGE:
        elements = box[BOX_RT] * regs[CSR.image_width] * box[BOX_CT]
    else:
        elements = box[BOX_GT] * box[BOX_BT] * box[BOX_RT] * box[BOX_CT]
    return box[ROW], box[ROW] + ceil_div(elements * box[ESIZE], state[ROW_BYTES])


@jit
def within(first, count, box_first, box_count):
    """Whether a range lies within another."""
    return first >= box_first and first + count <= box_first + box_count


@jit
def holds_a(box, regs, op):
    """Whether the port's box has all of operand a that the tile needs."""
    row, rows, column, columns = op[M0], op[MT], op[K0], op[KT]
    if box[TRANSPOSED]:
        row, rows, column, columns = column, columns, row, rows
    if box[KIND] == IMAGE:
        line, lines, channel, channels = image_lines(regs, row, rows, column, columns)
        channel += op[G0] * regs[CSR.image_channels]
        return lines == 0 or (
            within(line, lines, box[BOX_R0], box[BOX_RT])
            and within(channel, channels, box[BOX_C0], box[BOX_CT])
        )
    return (
        within(op[G0], op[GT], box[BOX_G0], box[BOX_GT])
        and within(row, rows, box[BOX_R0], box[BOX_RT])
        and within(column, columns, box[BOX_C0], box[BOX_CT])
    )


@jit
def holds_b(box, regs, op):
    """Whether the port's box has all of operand b that the tile needs."""
    if not within(op[G0], op[GT], box[BOX_G0], box[BOX_GT]):
        return False
    if not box[TRANSPOSED]:
        return within(op[K0], op[KT], box[BOX_R0], box[BOX_RT]) and within(
            op[N0], op[NT], box[BOX_C0], box[BOX_CT]
        )
    block = regs[CSR.b_block] if regs[CSR.b_block] > 0 else max(regs[CSR.k], 1)
    block0 = op[K0] // block
    blocks = max(op[K0] + op[KT] - 1, op[K0]) // block - block0 + 1
    column, columns = (op[K0] % block, op[KT]) if blocks == 1 else (0, block)
    return (
        within(block0, blocks, box[BOX_B0], box[BOX_BT])
        and within(op[N0], op[NT], box[BOX_R0], box[BOX_RT])
        and within(column, columns, box[BOX_C0], box[BOX_CT])
    )


@jit
def step_may_start(k, regs):
    """Whether a rounding step of the accumulator begins at this k."""
    chunk, products = regs[CSR.chunk], regs[CSR.step]
    inside = k % chunk if chunk > 0 else k
    return inside == 0 if products == 0 else inside % products == 0


@jit
def same_accumulators(state, regs, op, base):
    """Whether the cleared accumulators are these, at the same row, of the same tile and of as many k."""
    if state[ACC_SET] == 0:
        return NO_ACCUMULATORS
    if base != state[ACC_BASE]:
        return WRONG_ROW_ACC
    tiles = op[G0] == state[ACC_G] and op[M0] == state[ACC_M0] and op[MT] == state[ACC_MT]
    if not (tiles and op[N0] == state[ACC_N0] and op[NT] == state[ACC_NT]):
        return OTHER_ACCUMULATORS
    return OK if state[ACC_K] == regs[CSR.k] else OTHER_DEPTH


@jit
def accumulator_range(state, op):
    """Put the current accumulators' rows into `op`."""
    op[ACC] = state[ACC_ROW]
    op[ACC_STOP] = state[ACC_ROW] + ceil_div(op[MT] * op[NT], state[ROW_BYTES])


@jit
def multiply(word, image, state, regs, box, op):
    """MM and CV."""
    a, b = box[PORT.a], box[PORT.b]
    if a[KIND] == EMPTY:
        return NO_A
    if image and a[KIND] != IMAGE:
        return NOT_IMAGE
    if not image and a[KIND] != MATRIX:
        return NOT_MATRIX
    if word >> LOW.src & MASK.src != a[BASE]:
        return WRONG_ROW_A
    if state[W_SET] == 0:
        return NO_WEIGHTS
    if not (
        op[G0] == state[W_G] and op[N0] == state[W_N0] and op[NT] == state[W_NT]
        and op[K0] == state[W_K0] and op[KT] == state[W_KT]
    ):  # fmt: skip
        return OTHER_WEIGHTS
    error = same_accumulators(state, regs, op, word >> LOW.acc & MASK.acc)
    if error != OK:
        return error
    sizes = element_bytes(regs[CSR.a_format]), element_bytes(regs[CSR.b_format])
    if a[ESIZE] != sizes[0] or b[ESIZE] != sizes[1]:
        return OTHER_SIZE
    if not holds_a(a, regs, op):
        return OUTSIDE_A
    if not holds_b(b, regs, op):
        return OUTSIDE_B
    if op[K0] != state[ACC_NEXT]:
        return K_GAP
    if not step_may_start(op[K0], regs):
        return K_STEP
    state[ACC_NEXT] = op[K0] + op[KT]
    op[READ], op[READ_STOP] = box_rows(a, state, regs)
    op[READ2], op[READ2_STOP] = box_rows(b, state, regs)
    accumulator_range(state, op)
    return OK


@jit
def finish(word, state, regs, box, op):
    """POST."""
    error = same_accumulators(state, regs, op, word >> LOW.total & MASK.total)
    if error != OK:
        return error
    if state[ACC_NEXT] != regs[CSR.k]:
        return UNFINISHED
    if format_bits(regs[CSR.c_format]) == 0:
        return FORMAT_UNSET
    if word & FLAG.bias:
        d = box[PORT.d]
        if d[KIND] == MATRIX and d[ESIZE] != element_bytes(regs[CSR.d_format]):
            return OTHER_SIZE
        if not (
            d[KIND] == MATRIX
            and within(op[G0], op[GT], d[BOX_G0], d[BOX_GT])
            and within(op[N0], op[NT], d[BOX_C0], d[BOX_CT])
        ):
            return OUTSIDE_D
        op[READ2], op[READ2_STOP] = box_rows(d, state, regs)
    accumulator_range(state, op)
    state[C_SET], state[C_G] = 1, op[G0]
    state[C_M0], state[C_MT], state[C_N0], state[C_NT] = op[M0], op[MT], op[N0], op[NT]
    state[C_BASE] = word >> LOW.dst & MASK.dst
    slot = turn(state, SLOT_C, regs[CSR.c_slots])
    state[C_ROW] = state[C_BASE] + slot * regs[CSR.c_slot_rows]
    op[BYTES] = op[MT] * op[NT] * element_bytes(regs[CSR.c_format])
    op[WRITE], op[WRITE_STOP] = state[C_ROW], state[C_ROW] + ceil_div(op[BYTES], state[ROW_BYTES])
    return OK


@jit
def store(word, state, regs, op):
    """ST."""
    if state[C_SET] == 0:
        return NO_RESULT
    if word >> LOW.src & MASK.src != state[C_BASE]:
        return WRONG_ROW_C
    tiles = op[G0] == state[C_G] and op[M0] == state[C_M0] and op[MT] == state[C_MT]
    if not (tiles and op[N0] == state[C_N0] and op[NT] == state[C_NT]):
        return OTHER_RESULT
    esize = element_bytes(regs[CSR.c_format])
    op[BYTES] = op[MT] * op[NT] * esize
    op[READ], op[READ_STOP] = state[C_ROW], state[C_ROW] + ceil_div(op[BYTES], state[ROW_BYTES])
    end = op[G0] * regs[CSR.c_group] + (op[M0] + op[MT] - 1) * regs[CSR.c_pitch] + op[N0] + op[NT]
    if regs[CSR.c_base] * _LINE + end * esize > state[DRAM_BYTES]:
        return BEYOND_DRAM
    return OK


@jit
def select_weights(word, state, regs, box, op):
    """LDW."""
    b = box[PORT.b]
    if b[KIND] != MATRIX or not holds_b(b, regs, op):
        return OUTSIDE_B
    if word >> LOW.weights & MASK.weights != b[BASE]:
        return WRONG_ROW_B
    state[W_SET], state[W_G], state[W_N0], state[W_NT] = 1, op[G0], op[N0], op[NT]
    state[W_K0], state[W_KT] = op[K0], op[KT]
    op[READ], op[READ_STOP] = box_rows(b, state, regs)
    return OK


@jit
def clear(word, state, regs, op):
    """CLR."""
    state[ACC_SET], state[ACC_NEXT], state[ACC_G], state[ACC_K] = 1, 0, op[G0], regs[CSR.k]
    state[ACC_M0], state[ACC_MT], state[ACC_N0], state[ACC_NT] = op[M0], op[MT], op[N0], op[NT]
    state[ACC_BASE] = word >> LOW.acc & MASK.acc
    slot = turn(state, SLOT_ACC, regs[CSR.acc_slots])
    state[ACC_ROW] = state[ACC_BASE] + slot * regs[CSR.acc_slot_rows]
    accumulator_range(state, op)
    return OK


@jit
def idles(words, state):
    """Whether the core has nothing to do up to the next fence: core 0 does alone what is not spread."""
    if state[CORE] == 0:
        return 0
    for i in range(state[PC], words.size):
        code = words[i] >> _OPCODE_LOW
        if code == OP.loop and words[i] & FLAG.spread:
            return 0
        if code == OP.fence or code == OP.halt:
            return 1
    return 1


@jit
def enter_loop(word, state):
    """LOOP: open it, or go past its body if there is nothing to do."""
    body, count = word >> LOW.body & MASK.body, word & MASK.count
    first, stride = 0, 1
    if word & FLAG.spread:
        first, stride = state[CORE], state[CORES]
    state[PC] += 1
    if body == 0 or first >= count or state[IDLE]:
        state[PC] += body
        return
    level = LOOPS + LOOP_SIZE * state[DEPTH]
    counter = word >> LOW.counter & MASK.counter
    state[level + L_COUNTER], state[level + L_START] = counter, state[PC]
    state[level + L_STOP], state[level + L_COUNT] = state[PC] + body, count
    state[level + L_STRIDE] = stride
    state[OPEN + counter], state[VALUE + counter] = 1, first
    state[DEPTH] += 1


@jit
def close_loops(state):
    """At the end of a loop's body, go back to its start or leave it, and so on outward."""
    while state[DEPTH] > 0:
        level = LOOPS + LOOP_SIZE * (state[DEPTH] - 1)
        if state[PC] != state[level + L_STOP]:
            return
        counter = state[level + L_COUNTER]
        state[VALUE + counter] += state[level + L_STRIDE]
        if state[VALUE + counter] < state[level + L_COUNT]:
            state[PC] = state[level + L_START]
            return
        state[OPEN + counter] = 0
        state[DEPTH] -= 1


@jit
def step(words, state, regs, box, op):
    """Resolve the next instruction into `op` and move on. Returns a place in `ERRORS`.

    `words` is the program as int64; it has passed `check.check_words`, so opcodes, registers and loops are
    sound. After HALT, `state[HALTED]` is set and nothing more may be asked for.
    """
    pc = state[PC]
    word = words[pc]
    code = word >> _OPCODE_LOW
    op[:] = 0
    op[INDEX], op[CODE] = pc, code
    error = OK
    if code >= OP.ld and state[IDLE]:
        op[CODE] = OP.nop
    elif code >= OP.ld:
        if not tile(state, regs, op):
            return TILE_OUTSIDE
        if code == OP.ld:
            error = load(word, state, regs, box, op)
        elif op[GT] != 1:
            error = MANY_GROUPS
        elif code == OP.mm or code == OP.cv:
            error = multiply(word, code == OP.cv, state, regs, box, op)
        elif code == OP.ldw:
            error = select_weights(word, state, regs, box, op)
        elif code == OP.clr:
            error = clear(word, state, regs, op)
        elif code == OP.post:
            error = finish(word, state, regs, box, op)
        else:
            error = store(word, state, regs, op)
    elif code == OP.csrw:
        value = word & MASK.value
        address = word >> LOW.csr & MASK.csr
        if _SIGNED[address] and value >> 31:
            value -= 1 << 32
        regs[address] = value
    elif code == OP.halt:
        state[HALTED] = 1
        return OK
    if code == OP.loop:
        enter_loop(word, state)
    else:
        state[PC] = pc + 1
    if code == OP.fence:
        state[IDLE] = idles(words, state)
    close_loops(state)
    return error
