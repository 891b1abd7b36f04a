"""Sums of outputs to which ranges of k are added: the one driver of the kernels.

A `Stream` holds packed panels of A and of B and the accumulators of a block of outputs. A range of k is
packed (`jobs.pack_codes`), multiplied (`multiply_panels`), and, when K has ended, the accumulators become
results (`jobs.write_results`). Ranges of k wait in the panels until K ends or the panels are full: a kernel
then need not carry open chunks from one call to the next.

`gemm` runs whole products through streams, the machine runs its tiles through them. Loops that are compiled
use the functions on the record `STREAM`, which takes them anywhere without leaving compiled code.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.calls import address, address_of, call, record_at
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import pack, zero_products
from hfp8sim.kernels.form import EVENTS, PANEL
from hfp8sim.kernels.half import Share, count_pairs
from hfp8sim.kernels.jobs import (
    PACKING,
    WRITING,
    Writer,
    code_writer,
    pack_codes,
    write_results,
)
from hfp8sim.kernels.macrokernel import JOB
from hfp8sim.kernels.memory import Fresh, Workspace
from hfp8sim.kernels.panels import (
    Accumulators,
    Codes,
    Halves,
    Keys,
    Panels,
    allocate_accumulators,
    allocate_halves,
    allocate_nonzeros,
    allocate_panels,
    count_panels,
    packing_parameters,
)
from hfp8sim.kernels.select import Plan

Counts = NDArray[np.int64]
#: Of A, of B, and of the results.
Formats = tuple[FloatFormat, FloatFormat, FloatFormat]
#: A matrix of codes in memory: address, bytes from row to row, bytes from k to k, number of its first row in
#: the whole operand, rows. The columns of B count as rows, those of its transpose.
View = tuple[int, int, int, int, int]

_FRESH = Fresh()
_NO_KEYS = (np.uint64(0), np.uint64(0))

#: What the panels of one operand hold, so that packing it again can be left out.
PACKED = layout(
    group=np.int64,  # of the GEMM's groups; −1: the panels hold nothing
    first=np.int64,  # number of the first row in the whole operand
    rows=np.int64,
    start=np.int64,  # first k
    stop=np.int64,  # the k after the last
)

STREAM = layout(
    a=PACKING,
    b=PACKING,
    kernel=JOB,
    out=WRITING,
    products=np.int64,  # of a step
    chunk_length=np.int64,  # products of a chunk
    depth=np.int64,  # K of the GEMM
    # What there is memory for.
    max_rows=np.int64,
    max_columns=np.int64,
    max_k=np.int64,
    start=np.int64,  # first k of the panels: all before it is in the accumulators
    packed_a=PACKED,
    packed_b=PACKED,
)


# -- compiled ----------------------------------------------------------------------------------------


@jit
def stream_at(address):
    """The `STREAM` at an address."""
    return record_at(address, STREAM)


@jit
def multiply_panels(stream, rows, columns, stop):
    """Multiply what the panels hold, k up to `stop`, and add it to the accumulators."""
    job, start, last = stream.kernel, stream.start, stop == stream.depth
    step0 = pack.step_number(start, stream.products, stream.chunk_length)
    step1 = pack.step_number(stop, stream.products, stream.chunk_length)
    per_chunk = -(-stream.chunk_length // stream.products)
    job.row_panels, job.column_panels = -(-rows // PANEL), -(-columns // PANEL)
    job.steps, job.steps_left = step1 - step0, per_chunk - step0 % per_chunk
    job.steps_per_chunk, job.closes = per_chunk, last
    job.from_zero, job.keeps_chunks = start == 0, not (start == 0 and last)
    call(job.function, address_of(job))


@jit
def begin_range(stream, rows, columns, k0, k_count):
    """Make room in the panels for k0 … k0 + k_count. Ranges come in order; one at 0 begins new sums."""
    if k0 == 0:
        stream.start = 0
    elif k0 + k_count > stream.start + stream.max_k:
        multiply_panels(stream, rows, columns, k0)
        stream.start = k0


@jit
def is_packed(packed, group, first, rows, start, stop):
    """Whether panels hold these rows from k = start up to k = stop. After this they count as if they did: the
    caller packs what is missing."""
    same = packed.group == group and packed.first == first
    if not (same and packed.rows == rows and packed.start == start):
        packed.group, packed.first, packed.rows = group, first, rows
        packed.start = packed.stop = start
    done = packed.stop >= stop
    packed.stop = max(packed.stop, stop)
    return done


@jit
def end_range(stream, rows, columns, stop):
    """The panels hold all k up to `stop`: multiply them if K ends there."""
    if stop == stream.depth:
        multiply_panels(stream, rows, columns, stop)


@jit
def add_range(stream, a, b, k0, k_count):
    """Add the products of a range of k of two views."""
    rows, columns = a[4], b[4]
    begin_range(stream, rows, columns, k0, k_count)
    stream.packed_a.group = stream.packed_b.group = -1
    pack_codes(stream.a, a, k0, k_count, stream.start, 0)
    pack_codes(stream.b, b, k0, k_count, stream.start, 0)
    end_range(stream, rows, columns, k0 + k_count)


@jit
def copy_panels(record, panels):
    """Let a `macrokernel.PANELS` be another one."""
    record.values, record.exponents = panels.values, panels.exponents
    record.words, record.chunk_words = panels.words, panels.chunk_words
    record.depth, record.steps, record.chunks = panels.depth, panels.steps, panels.chunks
    record.halves, record.bounds = panels.halves, panels.bounds


@jit
def _add(address, a, b, k0, k_count):
    add_range(stream_at(address), a, b, k0, k_count)


@jit
def _write(address, results, row_step, column_step, rows, columns):
    out = stream_at(address).out
    out.column_step = column_step
    write_results(out, results, row_step, rows, columns)


@jit
def _pack(address, view, k0, k_count):
    pack_codes(record_at(address, PACKING), view, k0, k_count, k0, 0)


# -- records that compiled code reads ------------------------------------------------------------------

# Plain Python: these run once for a shape, and would take a quarter of a second to compile.


def _place(x: NDArray[Any]) -> int:
    """The address of an array; 0 if it has no elements."""
    return x.ctypes.data if x.size else 0


def _describe_panels(panels: Panels, *records: NDArray[np.void]) -> None:
    """Fill in `macrokernel.PANELS` of zeros, but for binary16 numbers."""
    fields = {
        "values": _place(panels.values), "exponents": _place(panels.exponents),
        "words": _place(panels.words), "chunk_words": _place(panels.chunk_words),
        "depth": panels.values.shape[1],
        "steps": panels.words.shape[1], "chunks": panels.chunk_words.shape[1],
    }  # fmt: skip
    for name, number in fields.items():
        if number:
            for record in records:
                record[name] = number


def _describe_job(job: NDArray[np.void], plan: Plan, sums: Accumulators, counts: Counts) -> None:
    """Fill in what of a `JOB` depends neither on the range of k nor on the panels."""
    job["function"], job["kernel"] = plan.function, plan.kernel_table.ctypes.data
    job["chunk"], job["total"] = _place(sums.chunk), _place(sums.total)
    job["numbers"], job["counts"] = plan.numbers.ctypes.data, counts.ctypes.data
    if plan.window:
        job["half_kernel"] = plan.half_table.ctypes.data


# -- the stream --------------------------------------------------------------------------------------


class Stream:
    """Panels and accumulators of a block of outputs, and the record through which compiled code accesses them.

    Args:
        plan: its kernel is not None.
        formats: of A, of B, and of the results.
        keys: of the random words of A's rows, and of B's columns.
        rows, columns: the largest block.
        depth: K of the GEMM.
        max_k: k that the panels hold at most; all by default.
        memory: where panels and accumulators are taken from.
        b: panels of B that are shared with other streams; own ones by default.
        table: a `STREAM` array (1,) to be filled in, part of another record say.
        writer: of the results; of codes of their format by default.
    """

    def __init__(
        self, plan: Plan, formats: Formats, keys: tuple[Keys, Keys], rows: int, columns: int, depth: int,
        *, max_k: int | None = None, memory: Fresh | None = None, b: Panels | None = None,
        table: NDArray[np.void] | None = None, writer: Writer | None = None,
    ) -> None:  # fmt: skip
        max_k, memory = depth if max_k is None else max_k, memory or Fresh()
        k0 = 0 if max_k == depth else None
        self.plan, self.formats = plan, formats
        self.a = allocate_panels(plan, rows, max_k, of_a=True, k0=k0, memory=memory)
        self.b = b or allocate_panels(plan, columns, max_k, of_a=False, k0=k0, memory=memory)
        whole = max_k == depth
        self.accumulators = allocate_accumulators(plan, rows, columns, whole, memory)
        #: Counts of events, which are added to.
        self.counts = np.zeros(EVENTS, np.int64)
        self.writer = writer or code_writer(formats[2], plan.scale)
        self.table = np.zeros(1, STREAM) if table is None else table
        #: Of the record.
        self.address: int = self.table.ctypes.data
        self._fill_table(depth, (rows, columns, max_k))
        if plan.window and whole:
            self._add_halves(rows, 1 if b else columns, depth, memory)
        if plan.sparse:
            self.table["kernel"]["sparse_kernel"] = plan.sparse_table.ctypes.data
            self.nonzeros = allocate_nonzeros(plan, rows, max_k, memory)
            self.table["kernel"]["nonzeros"] = self.nonzeros.ctypes.data
        self.set_keys(keys)

    def _fill_table(self, depth: int, most: tuple[int, int, int]) -> None:
        """Fill in the record, but for the packing parameters and for binary16 numbers.

        Args:
            most: rows, columns and k that there is memory for.
        """
        plan, table = self.plan, self.table
        job, out = table["kernel"], table["out"]
        for side, fmt, panels in zip("ab", self.formats, (self.a, self.b)):
            packing = table[side]
            packing["function"] = plan.packer(fmt.dtype.itemsize)
            _describe_panels(panels, packing["panels"], job[side])
        _describe_job(job, plan, self.accumulators, self.counts)
        out["function"] = address(self.writer.function)
        out["params"] = self.writer.params.ctypes.data
        out["total"] = job["total"]
        out["column_step"] = self.writer.result_bytes
        table["products"], table["chunk_length"] = plan.products, plan.chunk_length
        table["depth"] = depth
        table["max_rows"], table["max_columns"], table["max_k"] = most
        self.forget_packed()

    def _add_halves(self, rows: int, columns: int, depth: int, memory: Fresh) -> None:
        """Add panels of binary16 numbers."""
        self.halves = [
            allocate_halves(count, depth, of_a=of_a, memory=memory)
            for count, of_a in ((rows, True), (columns, False))
        ]
        for side, halves in zip("ab", self.halves):
            for record in (self.table[side]["panels"], self.table["kernel"][side]):
                _point_to_halves(record, halves)

    def set_keys(self, keys: tuple[Keys, Keys]) -> None:
        """Pack with the random words of these keys from here on."""
        self._parameters = [
            packing_parameters(self.plan, fmt, key, of_a)
            for fmt, key, of_a in zip(self.formats, keys, (True, False))
        ]
        self._point_to_parameters()

    def own_parameters(self) -> None:
        """Copy the packing parameters: compiled code may then change their keys."""
        self._parameters = [parameters.copy() for parameters in self._parameters]
        self._point_to_parameters()

    def _point_to_parameters(self) -> None:
        for side, parameters in zip("ab", self._parameters):
            self.table[side]["params"] = parameters.ctypes.data

    def forget_packed(self) -> None:
        """The panels hold nothing that is used again."""
        self.table["packed_a"]["group"] = self.table["packed_b"]["group"] = -1

    def add(self, a: View, b: View, k0: int, k_count: int) -> None:
        """Add the products of a range of k. Ranges come in order; one at k0 = 0 begins new sums.

        Args:
            a, b: codes (rows, k) of A, and (columns, k) of B's transpose. They are read before this returns.
        """
        _add(self.address, a, b, k0, k_count)

    def codes(self, results: Codes) -> None:
        """Encode the sums of a block into a matrix (rows, columns) of an unsigned dtype. K has ended."""
        shape = (*map(count_panels, results.shape), PANEL, PANEL)
        total = self.accumulators.total.reshape(-1)[: math.prod(shape)].reshape(shape)
        pack.encode_panels(total, pack.encoder(self.formats[2].facts, self.plan.scale), results)

    def write(self, results: NDArray[Any]) -> None:
        """Write the sums of a block into a matrix (rows, columns) of the writer's dtype. K has ended."""
        _write(self.address, results.ctypes.data, *results.strides, *results.shape)


def view(codes: Codes, first: int = 0) -> View:
    """The view of a matrix of codes (rows, k) whose first row is number `first` of the operand."""
    return codes.ctypes.data, *codes.strides, first, codes.shape[0]


# -- packed panels -----------------------------------------------------------------------------------


def pack_operand(
    plan: Plan, codes: Codes, fmt: FloatFormat, keys: Keys, *,
    of_a: bool, first: int = 0, k0: int = 0, memory: Fresh = _FRESH, halves: Halves | None = None,
) -> Panels:  # fmt: skip
    """Pack a matrix of codes (rows, k), which is a part of A or of B's transpose.

    Args:
        first: number of its first row in the whole operand.
        k0: its first k in the whole operand; a step begins there.
        halves: filled in with the same numbers in binary16, if the plan has a window and the codes have all k.
    """
    panels = allocate_panels(plan, *codes.shape, of_a=of_a, k0=k0, memory=memory)
    parameters, function = packing_parameters(plan, fmt, keys, of_a), plan.packer(codes.itemsize)
    job = np.zeros(1, PACKING)
    if halves is not None:
        _point_to_halves(job["panels"], halves)
    job["function"], job["params"] = function, parameters.ctypes.data
    _describe_panels(panels, job["panels"])
    _pack(job.ctypes.data, view(codes, first), k0, codes.shape[1])
    return panels


def half_panels(plan: Plan, codes: Codes, *, of_a: bool) -> Halves:
    """A matrix of codes (rows, k), all of A or of B's transpose, in binary16; the plan has a window."""
    halves = allocate_halves(*codes.shape, of_a=of_a)
    pack_operand(plan, codes, plan.formats[0 if of_a else 1], _NO_KEYS, of_a=of_a, halves=halves)
    return halves


def share_of_halves(plan: Plan, a: Codes, b: Codes) -> Share | None:
    """How much of a product (M, K) × (K, N) is computed in lanes of binary16; None: its plan has no window."""
    if plan.window is None or plan.kernel is None:
        return None
    rows, columns = half_panels(plan, a, of_a=True), half_panels(plan, b.T, of_a=False)
    halves = plan.kernel.of_halves
    return count_pairs(
        rows.bounds, columns.bounds, plan.numbers, halves.panels, halves.narrow.panels
    )


def _point_to_halves(panels: NDArray[np.void], halves: Halves) -> None:
    """Let a `macrokernel.PANELS` have panels in binary16."""
    panels["halves"] = halves.values.ctypes.data
    panels["bounds"] = halves.bounds.ctypes.data


def accumulate(
    plan: Plan, a: Panels, b: Panels, sums: Accumulators, *, k0: int = 0, last: bool,
    halves: tuple[Halves, Halves] | None = None,
) -> Counts:  # fmt: skip
    """Add the products of packed panels to accumulators.

    Args:
        k0: the first k of the panels in the whole GEMM.
        halves: the same panels in binary16, of all k; the accumulators are `whole`.
        last: K ends with them, and so does the open chunk.

    Returns:
        Counts of swamped steps, overflows and underflows, if the plan counts them. `zero_steps` are to be
        subtracted from the first.
    """
    per_chunk, step0 = plan.steps_per_chunk, plan.step_number(k0)
    counts, job = np.zeros(EVENTS, np.int64), np.zeros(1, JOB)
    _describe_job(job, plan, sums, counts)
    for side, packed in zip("ab", (a, b)):
        _describe_panels(packed, job[side])
    for side, panels in zip("ab", halves or ()):
        _point_to_halves(job[side], panels)
    job["row_panels"], job["column_panels"] = sums.total.shape[:2]
    job["steps"], job["steps_per_chunk"] = a.values.shape[1] // plan.products, per_chunk
    job["steps_left"] = per_chunk - step0 % per_chunk
    job["closes"], job["from_zero"], job["keeps_chunks"] = last, sums.whole, not sums.whole
    call(plan.function, job.ctypes.data)
    return counts


_WORKSPACE = Workspace()


def zero_steps(plan: Plan, a: Codes, b: Codes, k0: int = 0) -> int:
    """Steps that add zero, which a kernel has counted as swamped; see `zero_products`.

    Args:
        a, b: the codes (rows, k) and (columns, k) that panels were packed from; k0 is their first k.

    Returns:
        The number over all outputs of the panels, those beyond the matrix' edge included.
    """
    if not plan.counts_zero_sums:
        return 0
    steps = plan.step_number(k0 + a.shape[1]) - plan.step_number(k0)
    down, across = count_panels(a.shape[0]), count_panels(b.shape[0])
    if plan.slope_ids is None:
        both = [zero_products.nonzero(codes, fmt) for codes, fmt in zip((a, b), plan.formats)]
        return down * across * PANEL * PANEL * steps - int(np.dot(*both))
    rows, columns = (
        _WORKSPACE.array(name, (panels, steps, PANEL), np.uint16)
        for name, panels in (("a slope ids", down), ("b slope ids", across))
    )
    a, b = map(zero_products.writable, (a, b))
    zero_products.pack_slope_ids(a, plan.slope_ids.rows, plan.chunk_length, k0, rows)
    zero_products.pack_slope_ids(b, plan.slope_ids.columns, plan.chunk_length, k0, columns)
    return int(zero_products.count_orthogonal(rows, columns, plan.slope_ids.size))
