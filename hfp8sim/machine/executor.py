"""The executor: runs a program in order and computes every bit of it.

A core is a compiled loop over the program. It moves boxes between DRAM and scratchpad, unfolds images
and runs POST; at a matrix tile it pauses, and the tile goes, as large panels, to the arithmetic units
(`multiplier`). Values do not depend on how many cores there are, so as many are emulated as there are
threads, whatever the machine has: a spread loop's iterations are shared out among them.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import dataclasses
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim._jit import jit
from hfp8sim.isa import LINE, Program, image, instruction_text, outputs
from hfp8sim.isa.table import CSR, FLAG, OP, OPERANDS, PORT
from hfp8sim.machine import arithmetic
from hfp8sim.machine import sequencer as q
from hfp8sim.machine.check import MAX_STEPS, check, refuse, spreads
from hfp8sim.machine.config import Machine, get_machine
from hfp8sim.machine.multiplier import PanelCache, Plans, Product, Sum, Tile, no_events, start
from hfp8sim.machine.post import PostFacts, post_facts, post_table, post_tile
from hfp8sim.units import Events
from hfp8sim.units.accumulator import DRAWS, OVERFLOWS, SWAMPED, UNDERFLOWS
from hfp8sim.units.gemm import count_nan, thread_count

#: Why the compiled loop came back.
_HALT, _ERROR, _LIMIT, _MULTIPLY, _POST, _FENCE = range(6)
_LINE = LINE

#: Counts of a core: instructions, the last error, fences, and loads of each port.
_DONE, _WHY, _FENCES, _LOADS = range(4)
_DONE_SIZE = _LOADS + len(OPERANDS)


@dataclasses.dataclass(frozen=True)
class Execution:
    """What a program did.

    `outputs` holds codes by symbol name. `macs` counts multiply-accumulates, `gated` those of them with
    a zero operand, whose multiplier stands still; `gated` and `events` are counted on request only.
    """

    outputs: dict[str, NDArray[Any]]
    dram: NDArray[np.uint8]
    instructions: int
    macs: int
    gated: int | None
    events: Events | None


# -- moving data -------------------------------------------------------------------------------------


@jit
def copy_bytes(source, at, target, to, count):
    """Copy bytes between two arrays."""
    if count < 16:
        for i in range(count):
            target[to + i] = source[at + i]
    else:
        target[to : to + count] = source[at : at + count]


@jit
def load_box(box, port, regs, dram, scratchpad, row_bytes):
    """LD: copy a port's box from DRAM, densely, to its scratchpad row."""
    esize, to = box[q.ESIZE], box[q.ROW] * row_bytes
    columns = box[q.BOX_CT] * esize
    if box[q.KIND] == q.IMAGE:
        base = regs[CSR.a_base] * _LINE
        height, width = regs[CSR.image_height], regs[CSR.image_width]
        step = regs[CSR.image_pixel_pitch]
        for line in range(box[q.BOX_R0], box[q.BOX_R0] + box[q.BOX_RT]):
            at = line // height * regs[CSR.image_pitch] + line % height * regs[CSR.image_line_pitch]
            at = base + (at + box[q.BOX_C0]) * esize
            if step == box[q.BOX_CT]:
                copy_bytes(dram, at, scratchpad, to, width * columns)
                to += width * columns
            else:
                for x in range(width):
                    copy_bytes(dram, at + x * step * esize, scratchpad, to, columns)
                    to += columns
        return
    pitch, block, blocks = 0, 0, 0
    if port == PORT.a:
        base, group, pitch = regs[CSR.a_base], regs[CSR.a_group], regs[CSR.a_pitch]
    elif port == PORT.b:
        base, group, pitch = regs[CSR.b_base], regs[CSR.b_group], regs[CSR.b_pitch]
        if box[q.TRANSPOSED]:
            block, blocks = regs[CSR.b_block_step], q.blocks_of_b(regs)
    else:
        base, group = regs[CSR.d_base], regs[CSR.d_group]
    for g in range(box[q.BOX_G0], box[q.BOX_G0] + box[q.BOX_GT]):
        for t in range(box[q.BOX_B0], box[q.BOX_B0] + box[q.BOX_BT]):
            place = blocks - 1 - t if box[q.TURNED] else t
            first = g * group + place * block + box[q.BOX_R0] * pitch + box[q.BOX_C0]
            at = base * _LINE + first * esize
            for r in range(box[q.BOX_RT]):
                copy_bytes(dram, at + r * pitch * esize, scratchpad, to, columns)
                to += columns


@jit
def tensor_spans(regs, box, spans):
    """DRAM bytes [first, stop) within which operands a and b and the result of a GEMM lie: (3, 2)."""
    m, n, k, last = regs[CSR.m], regs[CSR.n], regs[CSR.k], regs[CSR.groups] - 1
    a, b = box[PORT.a], box[PORT.b]
    if a[q.KIND] == q.IMAGE:
        rows = k if a[q.TRANSPOSED] else m
        images = q.ceil_div(rows, regs[CSR.grid_height] * regs[CSR.grid_width])
        lines, channels = images * regs[CSR.image_height], regs[CSR.image_channels]
        end = q.image_span(regs, 0, lines, 0, (last + 1) * channels)
    else:
        rows, columns = (k, m) if a[q.TRANSPOSED] else (m, k)
        end = last * regs[CSR.a_group] + (rows - 1) * regs[CSR.a_pitch] + columns
    spans[0, 0] = regs[CSR.a_base] * _LINE
    spans[0, 1] = spans[0, 0] + end * a[q.ESIZE]
    rows, columns, blocks = (n, k, 1) if b[q.TRANSPOSED] else (k, n, 1)
    if b[q.TRANSPOSED] and regs[CSR.b_block] > 0:
        columns, blocks = regs[CSR.b_block], q.blocks_of_b(regs)
    end = last * regs[CSR.b_group] + (rows - 1) * regs[CSR.b_pitch] + columns
    spans[1, 0] = regs[CSR.b_base] * _LINE
    spans[1, 1] = spans[1, 0] + (end + (blocks - 1) * regs[CSR.b_block_step]) * b[q.ESIZE]
    spans[2, 0] = regs[CSR.c_base] * _LINE
    end = last * regs[CSR.c_group] + (m - 1) * regs[CSR.c_pitch] + n
    spans[2, 1] = spans[2, 0] + end * q.element_bytes(regs[CSR.c_format])


@jit
def store_tile(op, regs, scratchpad, dram, row_bytes):
    """ST: copy the result tile to DRAM."""
    esize = q.element_bytes(regs[CSR.c_format])
    columns, at = op[q.NT] * esize, op[q.READ] * row_bytes
    first = op[q.G0] * regs[CSR.c_group] + op[q.M0] * regs[CSR.c_pitch] + op[q.N0]
    to = regs[CSR.c_base] * _LINE + first * esize
    for m in range(op[q.MT]):
        copy_bytes(scratchpad, at + m * columns, dram, to + m * regs[CSR.c_pitch] * esize, columns)


@jit
def unfold(elements, box, regs, group, row, rows, column, columns, unfolded):
    """CV: rows × columns of the unfolded matrix of one group, from the lines in the scratchpad.

    Args:
        elements: the port's box in the scratchpad, 1-D, of the operand's dtype.
        unfolded: (rows, columns) of the same dtype, filled.
    """
    height, width, depth = (
        regs[CSR.image_height], regs[CSR.image_width], regs[CSR.image_channels],
    )  # fmt: skip
    p, q_, s = regs[CSR.grid_height], regs[CSR.grid_width], regs[CSR.kernel_width]
    gap_y, gap_x = regs[CSR.divide_height], regs[CSR.divide_width]
    pixel = box[q.BOX_CT]
    for i in range(rows):
        place = (row + i) // q_
        image, y0 = place // p, place % p * regs[CSR.stride_height] - regs[CSR.pad_height]
        x0 = (row + i) % q_ * regs[CSR.stride_width] - regs[CSR.pad_width]
        j = 0
        while j < columns:
            tap, channel = (column + j) // depth, (column + j) % depth
            run = min(depth - channel, columns - j)
            y = y0 + tap // s * regs[CSR.dilation_height]
            x = x0 + tap % s * regs[CSR.dilation_width]
            inside = y >= 0 and x >= 0 and y % gap_y == 0 and x % gap_x == 0
            y, x = y // gap_y, x // gap_x
            if inside and y < height and x < width:
                line = image * height + y - box[q.BOX_R0]
                at = (line * width + x) * pixel + group * depth + channel - box[q.BOX_C0]
                unfolded[i, j : j + run] = elements[at : at + run]
            else:
                unfolded[i, j : j + run] = 0
            j += run


@jit
def count_gated(a, b, mask_a, mask_b):
    """Multiply-accumulates of a tile with a zero operand; the masks drop the sign."""
    gated = 0
    for k in range(a.shape[1]):
        zero_a = zero_b = 0
        for m in range(a.shape[0]):
            zero_a += a[m, k] & mask_a == 0
        for n in range(b.shape[1]):
            zero_b += b[k, n] & mask_b == 0
        gated += zero_a * b.shape[1] + zero_b * a.shape[0] - zero_a * zero_b
    return gated


# -- the compiled loop -------------------------------------------------------------------------------


@jit
def _run(words, state, regs, box, op, dram, scratchpad, limit, done):
    """Execute until HALT, a tile for the units, POST, FENCE or an error, or `limit` instructions.

    `done` counts them, fences and loads. The instruction that stopped the loop is in `op`.
    """
    for _ in range(limit):
        error = q.step(words, state, regs, box, op)
        if error != q.OK:
            done[_WHY] = error
            return _ERROR
        done[_DONE] += 1
        code = op[q.CODE]
        if code == OP.mm or code == OP.cv:
            return _MULTIPLY
        if code == OP.post:
            return _POST
        if code == OP.ld:
            port = op[q.OPERAND]
            done[_LOADS + port] += 1
            load_box(box[port], port, regs, dram, scratchpad, state[q.ROW_BYTES])
        elif code == OP.st:
            store_tile(op, regs, scratchpad, dram, state[q.ROW_BYTES])
        elif code == OP.fence:
            done[_FENCES] += 1
            return _FENCE
        elif state[q.HALTED]:
            return _HALT
    return _LIMIT


class _Core:
    """One emulated core: its memories, and what stands between the compiled loop and the units."""

    def __init__(
        self, program: Program, machine: Machine, dram: NDArray[np.uint8], core: int, cores: int,
        plans: Plans, count: bool,
    ) -> None:  # fmt: skip
        self.program, self.dram, self.count = program, dram, count
        self.words = program.words.astype(np.int64)
        self.width = machine.array.columns
        self.state, self.regs, self.box = q.start(self.words, core, cores, self.width, dram.size)
        self.op = np.zeros(q.OP_SIZE, np.int64)
        self.scratchpad = np.zeros(machine.scratchpad_rows * self.width, np.uint8)
        self.done = np.zeros(_DONE_SIZE, np.int64)
        self.events = no_events()
        self.nan = self.gated = self.macs = 0
        self.plans, self.caches = plans, (PanelCache(), PanelCache())
        self._configured: tuple[object, ...] = ()
        self._product: Product | None = None
        self._sum: Sum | None = None

    def run(self, limit: int, fence: Callable[[], object]) -> bool:
        """Execute at most `limit` instructions; False when the program has ended."""
        while True:
            before = int(self.done[_DONE])
            why = _run(
                self.words, self.state, self.regs, self.box, self.op, self.dram, self.scratchpad,
                limit, self.done,
            )  # fmt: skip
            limit -= int(self.done[_DONE]) - before
            if why == _MULTIPLY:
                self._multiply()
            elif why == _POST:
                self._post()
            elif why == _FENCE:
                fence()
            elif why == _ERROR:
                raise refuse(self.program, int(self.op[q.INDEX]), q.ERRORS[int(self.done[_WHY])])
            if why == _HALT:
                return False
            if limit == 0:
                return True

    def _elements(self, port: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """A port's box in the scratchpad as an array of its operand's dtype."""
        box = self.box[port]
        dtype = np.dtype(f"u{int(box[q.ESIZE])}")
        start = int(box[q.ROW]) * self.width
        held = self.scratchpad[start : start + int(np.prod(shape)) * dtype.itemsize]
        if start % dtype.itemsize:  # rows of an odd width
            held = held.copy()
        return held.view(dtype).reshape(shape)

    def _matrix(self, port: int) -> NDArray[Any]:
        """A port's matrix as (groups, blocks, rows, columns)."""
        box = self.box[port]
        places = (q.BOX_GT, q.BOX_BT, q.BOX_RT, q.BOX_CT)
        return self._elements(port, tuple(int(box[place]) for place in places))

    def _operand_a(self) -> Any:
        """A of the tile, (mt, kt)."""
        box, op = self.box[PORT.a], self.op
        group, m0, mt, k0, kt = (int(op[place]) for place in (q.G0, q.M0, q.MT, q.K0, q.KT))
        row, rows, column, columns = (k0, kt, m0, mt) if box[q.TRANSPOSED] else (m0, mt, k0, kt)
        if box[q.KIND] == q.IMAGE:
            pixels = int(box[q.BOX_RT] * self.regs[CSR.image_width])
            elements = self._elements(PORT.a, (pixels * int(box[q.BOX_CT]),))
            a = np.empty((rows, columns), elements.dtype)
            unfold(elements, box, self.regs, group, row, rows, column, columns, a)
        else:
            row, column = row - int(box[q.BOX_R0]), column - int(box[q.BOX_C0])
            stored = self._matrix(PORT.a)[group - int(box[q.BOX_G0]), 0]
            a = stored[row : row + rows, column : column + columns]
        return a.T if box[q.TRANSPOSED] else a

    def _operand_b(self) -> Any:
        """B of the tile, (kt, nt)."""
        box, op = self.box[PORT.b], self.op
        group, n0, nt, k0, kt = (int(op[place]) for place in (q.G0, q.N0, q.NT, q.K0, q.KT))
        stored = self._matrix(PORT.b)[group - int(box[q.BOX_G0])]
        if not box[q.TRANSPOSED]:
            k, n = k0 - int(box[q.BOX_R0]), n0 - int(box[q.BOX_C0])
            return stored[0, k : k + kt, n : n + nt]
        block = int(self.regs[CSR.b_block]) or max(int(self.regs[CSR.k]), 1)
        # Rows (n) × the blocks from the tile's first on, end to end, then cut to the tile's k.
        first = k0 // block - int(box[q.BOX_B0])
        count = max(k0 + kt - 1, k0) // block - k0 // block + 1
        n = n0 - int(box[q.BOX_R0])
        turned = stored[first : first + count, n : n + nt]
        k = k0 % block - int(box[q.BOX_C0])
        if count == 1:
            return turned[0, :, k : k + kt].T
        return turned.swapaxes(0, 1).reshape(nt, -1)[:, k : k + kt].T

    def _group_product(self) -> Product:
        """The product of the current registers and group, kept while they stay."""
        regs, group = self.regs, int(self.op[q.G0])
        key = (int(self.done[_FENCES]), regs.tobytes(), group)
        if key != self._configured or self._product is None:
            profile, a, b = arithmetic.multiply_profile(regs)
            depth = int(regs[CSR.k])
            plan = self.plans.get(key[:-1], profile, a, b, depth, self._operand_tensors)
            seed, stream = arithmetic.seed_and_stream(regs, group)
            self._product = Product.make(profile, a, b, depth, seed, stream, plan)
            self._configured = key
        return self._product

    def _operand_tensors(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """All of DRAM that operands A and B of the current GEMM can come from; None if the results of
        the same GEMM may go there."""
        spans = np.zeros((3, 2), np.int64)
        tensor_spans(self.regs, self.box, spans)
        a, b, c = ((int(first), min(int(stop), self.dram.size)) for first, stop in spans)
        if any(c[0] < stop and first < c[1] for first, stop in (a, b)):
            return None
        sizes = (int(self.box[port][q.ESIZE]) for port in (PORT.a, PORT.b))
        parts = (
            self.dram[first:stop].view(f"u{size}") for (first, stop), size in zip((a, b), sizes)
        )
        return next(parts), next(parts)

    def _multiply(self) -> None:
        """MM and CV."""
        op, product = self.op, self._group_product()
        m0, mt, n0, nt, k0, kt = (int(op[i]) for i in (q.M0, q.MT, q.N0, q.NT, q.K0, q.KT))
        if k0 == 0:
            self._sum = start(product, (mt, nt), (m0, n0), self.events)
        if kt == 0 or self._sum is None:
            return
        self.macs += mt * nt * kt
        if self.count:
            facts = product.facts
            masks = [(1 << (f.exponent_bits + f.fraction_bits)) - 1 for f in (facts.a, facts.b)]
            self.gated += count_gated(self._operand_a(), self._operand_b(), *masks)
        loads, of_a, of_b = self.done[_LOADS:], self.caches[0], self.caches[1]
        own = (self._configured, k0, kt)
        self._sum.add(
            Tile(
                m0, n0, k0, self._operand_a, self._operand_b,
                lambda make: of_a.get(int(loads[PORT.a]), (own, m0, mt), make),
                lambda make: of_b.get(int(loads[PORT.b]), (own, n0, nt), make),
                k0 + kt == product.depth,
            )
        )  # fmt: skip

    def _sums(self) -> NDArray[Any]:
        """The finished sums of the tile; +0 if K is 0."""
        if self.regs[CSR.k] == 0 or self._sum is None:
            return np.zeros((int(self.op[q.MT]), int(self.op[q.NT])), np.uint32)
        return self._sum.codes()

    def _post(self) -> None:
        """POST."""
        op, regs = self.op, self.regs
        flags = int(self.words[op[q.INDEX]])
        conversion = arithmetic.post_conversion(regs)
        facts: PostFacts = post_facts(conversion)
        active = flags & (FLAG.bias | FLAG.relu | FLAG.clamp)
        sums = self._sums()
        biases = np.zeros(0, np.uint8)
        if active & FLAG.bias:
            box = self.box[PORT.d]
            n = int(op[q.N0] - box[q.BOX_C0])
            biases = self._matrix(PORT.d)[
                int(op[q.G0] - box[q.BOX_G0]), 0, 0, n : n + int(op[q.NT])
            ]
        dtype = conversion.result.dtype
        results = np.empty(sums.shape, dtype)
        seed, stream = arithmetic.seed_and_stream(regs, int(op[q.G0]))
        pitch = int(regs[CSR.c_pitch])
        first = int(op[q.G0] * regs[CSR.c_group] + op[q.M0] * pitch + op[q.N0])
        post_tile(
            sums, biases.astype(np.uint32), active, facts, post_table(conversion, active),
            np.uint64(seed), np.uint64(stream), first, pitch, results,
        )  # fmt: skip
        start = int(op[q.WRITE]) * self.width
        self.scratchpad[start : start + results.nbytes] = results.reshape(-1).view(np.uint8)
        if self.count:
            self.nan += count_nan(sums, conversion.sums)

    def effect(self) -> str:
        """What the last instruction changed, for the log: rows, and a checksum of what they hold now."""
        op = self.op
        if op[q.WRITE_STOP] > op[q.WRITE]:
            first, stop = int(op[q.WRITE]), int(op[q.WRITE_STOP])
            held = self.scratchpad[first * self.width : first * self.width + int(op[q.BYTES])]
            what = f"s[{first}..{stop - 1}] = {int(op[q.BYTES])} bytes"
            if op[q.CODE] == OP.ld:
                what = f"{OPERANDS[int(op[q.OPERAND])]} → " + what
            return f"{what}, crc {zlib.crc32(held.tobytes()):08x}"
        if op[q.CODE] in (OP.mm, OP.cv):
            tile = f"m {op[q.M0]}+{op[q.MT]} n {op[q.N0]}+{op[q.NT]} k {op[q.K0]}+{op[q.KT]}"
            what = f"c[{op[q.ACC]}..{op[q.ACC_STOP] - 1}] {tile}"
            if op[q.K0] + op[q.KT] < self.regs[CSR.k]:
                return what
            return f"{what}, crc {zlib.crc32(self._sums().astype(np.uint32).tobytes()):08x}"
        if op[q.CODE] == OP.st:
            return f"DRAM = {int(op[q.BYTES])} bytes of s[{op[q.READ]}..{op[q.READ_STOP] - 1}]"
        return ""


# -- programs ----------------------------------------------------------------------------------------


def execute(
    program: Program,
    inputs: dict[str, ArrayLike],
    machine: str | Machine = "rapid-core",
    *,
    threads: int | None = None,
    count: bool = False,
    log: Callable[[str], object] | None = None,
) -> Execution:
    """Run a program.

    Args:
        inputs: codes of every input symbol.
        machine: its memories bound the program; nothing else of it matters for values.
        threads: emulated cores; as many as this process may use by default. No value depends on it.
        count: also count events of the arithmetic and gated multiply-accumulates.
        log: called with one line per executed instruction, in order: number, index, text, effect.

    Raises:
        InputError: a program that `check` refuses, or inputs that are not those of its symbols.
    """
    machine = get_machine(machine)
    dram = image(program, inputs)
    check(program, machine, dram.size)
    cores = 1 if log is not None or not spreads(program) else thread_count(threads)
    plans = Plans(count)
    team = [_Core(program, machine, dram, core, cores, plans, count) for core in range(cores)]
    if cores == 1:
        _run_alone(team[0], log)
    else:
        barrier = threading.Barrier(cores)
        with ThreadPoolExecutor(cores) as pool:
            ends = [pool.submit(_run_together, core, barrier) for core in team]
        failures = [error for end in ends if (error := end.exception()) is not None]
        for error in sorted(failures, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error  # the cause, not those who waited for it
    counts = sum((core.events for core in team), no_events())
    events = Events(
        int(counts[SWAMPED]), int(counts[OVERFLOWS]), int(counts[UNDERFLOWS]),
        sum(core.nan for core in team), int(counts[DRAWS]),
    )  # fmt: skip
    return Execution(
        outputs(program, dram),
        dram,
        sum(int(core.done[_DONE]) for core in team),
        sum(core.macs for core in team),
        sum(core.gated for core in team) if count else None,
        events if count else None,
    )


def _run_alone(core: _Core, log: Callable[[str], object] | None) -> None:
    if log is None:
        core.run(MAX_STEPS, lambda: None)
        return
    number, running = 0, True
    while running:
        running = core.run(1, lambda: None)
        index = int(core.op[q.INDEX])
        text = " ".join(instruction_text(int(core.program.words[index])).split())
        log(f"{number:>8} {index:>5}  {text:<40} {core.effect()}".rstrip())
        number += 1


def _run_together(core: _Core, barrier: threading.Barrier) -> None:
    try:
        core.run(MAX_STEPS, barrier.wait)
    except BaseException:
        barrier.abort()
        raise
