"""Multiply-accumulate and addition, exhaustively."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim import kernels
from hfp8sim.formats import MODES, FloatFormat
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.kernels.form import Overflow
from hfp8sim.units import Profile
from hfp8sim.verify import c_reference as reference
from hfp8sim.verify import sweeps
from hfp8sim.verify.check import Check, Result, differences

#: K of the GEMM for which kernels are selected: so long that no sum is proved exact.
_ENDLESS = 1 << 30
#: Codes b whose rows of results are in memory at once.
_BLOCK = 32
#: Random words that the pairs of one product take in turn.
_WORDS_PER_PRODUCT = 8
_ZERO_KEYS = np.uint64(0), np.uint64(0)
_MEMORY = kernels.Workspace()


def _same(one: kernels.Plan, other: kernels.Plan) -> bool:
    """Whether two plans run the same instructions on the same numbers."""
    return (
        one.kernel == other.kernel
        and one.scale == other.scale
        and np.array_equal(one.numbers, other.numbers)
    )


def _ranks(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each element, the number of equal elements before it in row-major order."""
    flat = groups.ravel()
    order = np.argsort(flat, kind="stable")
    first = np.searchsorted(flat[order], flat[order])
    ranks = np.empty(flat.size, np.int64)
    ranks[order] = np.arange(flat.size) - first
    return ranks.reshape(groups.shape)


class TestedKernel(NamedTuple):
    """A float kernel, and the accumulators that it can reach."""

    plan: kernels.Plan
    codes: NDArray[np.uint16]
    lanes: NDArray[
        np.floating[Any]
    ]  #: their values in the kernel's lanes, scaled as the plan requires


@dataclasses.dataclass
class MacSweep:
    """All (a, b, acc) of one pair of 8-bit formats, a 16-bit accumulator and a mode.

    Part a is every (b, acc) of that a. The C reference and the float kernels compute all of it. The plain
    loop's `fma` depends on a pair only through its exact product, so it runs once for each product and random
    word. The pairs of a product take a few random words in turn. Successive products take successive words,
    so that all 2^bits words occur.
    """

    a: FloatFormat
    b: FloatFormat
    acc: FloatFormat
    rounding: str
    bits: int = 13
    constant: bool = True  #: compile the plain loop with this format and mode as constants

    def __post_init__(self) -> None:
        self.mode, self.policy = mode_number(self.rounding), overflow_number("special")
        shape = (1 << self.a.bits, 1 << self.b.bits)
        self.sigs, self.exps = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._lock = threading.Lock()
        self._rows: dict[tuple[int, int], bytes] = {}
        self._ready = False

    def _prepare(self) -> None:
        with self._lock:
            if self._ready:
                return
            sweeps.product_table(self.a.facts, self.b.facts, self.sigs, self.exps)
            keys = self.sigs * (1 << 32) + self.exps
            _distinct, self.product = np.unique(keys, return_inverse=True)
            self.product = self.product.reshape(keys.shape)
            self.words = np.zeros(keys.shape, np.int64)
            if self.rounding.startswith("stochastic"):
                groups = (
                    self.product * _WORDS_PER_PRODUCT + _ranks(self.product) % _WORDS_PER_PRODUCT
                )
                numbers = np.unique(groups, return_inverse=True)[1].reshape(keys.shape)
                self.words = numbers * 2731 % (1 << self.bits)  # an odd factor: every word occurs
            self.kernels = self._kernels()
            self._ready = True

    def _plain_row(self, a: int, b: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        size = 1 << self.acc.bits
        codes, flags = np.empty(size, np.uint16), np.empty(size, np.uint8)
        sig, exp, word = self.sigs[a, b], self.exps[a, b], self.words[a, b]
        rounding = self.acc.facts, self.mode, self.policy, self.bits
        if self.constant:
            sweeps.product_row(*rounding)(sig, exp, word, codes, flags)
        else:
            sweeps.product_row_any(sig, exp, word, *rounding, codes, flags)
        return codes, flags

    def _digest(self, a: int, b: int) -> bytes:
        """The hash of the plain loop's row of (a, b), computed once for each product and word."""
        key = int(self.product[a, b]), int(self.words[a, b])
        if key not in self._rows:
            self._rows[key] = _digest(*self._plain_row(a, b))
        return self._rows[key]

    def part(self, a: int, columns: NDArray[np.int64] | None = None) -> Result:
        """Every accumulator code with every b, or with those of `columns`."""
        self._prepare()
        b_codes = np.arange(1 << self.b.bits) if columns is None else columns
        result = Result()
        for start in range(0, b_codes.size, _BLOCK):
            result += self._block(a, b_codes[start : start + _BLOCK])
        return result

    def _block(self, a: int, b_codes: NDArray[np.int64]) -> Result:
        size = 1 << self.acc.bits
        rows = np.empty((b_codes.size, size), np.uint16)
        flags = np.empty(size, np.uint8)
        records = [reference.c_format(fmt) for fmt in (self.a, self.b, self.acc)]
        ffi, lib = reference.library()
        result = Result()
        for i, b in enumerate(map(int, b_codes)):
            lib.ref_fma_sweep(
                records[0], a, records[1], b, records[2], self.mode, self.policy, self.bits,
                int(self.words[a, b]), ffi.cast("uint16_t *", rows[i].ctypes.data),
                ffi.cast("uint8_t *", flags.ctypes.data),
            )  # fmt: skip
            if _digest(rows[i], flags) == self._digest(a, b):
                result += Result(size)
            else:
                codes, plain_flags = self._plain_row(a, b)
                result += differences(
                    lambda acc, b=b: self._name(a, b, acc),  # type: ignore[misc]
                    (codes, rows[i]),
                    (plain_flags, flags),
                )
        for tested in self.kernels:
            result += self._run_kernel(a, b_codes, rows, tested)
        return result

    def _name(self, a: int, b: int, acc: int) -> str:
        word = f", R = {self.words[a, b]}" if self.rounding.startswith("stochastic") else ""
        return f"a = {a:#04x}, b = {b:#04x}, acc = {acc:#06x}{word}"

    def _kernels(self) -> list[TestedKernel]:
        """The kernels of a GEMM of unlimited K.

        The first is selected as if products reached down to the accumulator's lowest bit; it can reach every
        accumulator. The second is selected for these operands; it can reach multiples of their products'
        lowest bit. If both are the same, the first is enough. Each is followed by its narrow variant, which
        computes the columns that wide tiles leave over.
        """
        profile = Profile(
            "verify", accumulator=self.acc, between_chunks=self.acc, chunk_length=0,
            rounding=self.rounding, random_bits=self.bits,
        )  # fmt: skip
        scans = [
            kernels.scan(np.arange(1 << fmt.bits, dtype=fmt.dtype)[None, :], fmt)
            for fmt in (self.a, self.b)
        ]
        quantum, low = scans[0].quantum + scans[1].quantum, self.acc.facts.min_exp
        lowest = [
            scans[0]._replace(quantum=low // 2), scans[1]._replace(quantum=low - low // 2)
        ]  # fmt: skip
        codes = np.arange(1 << self.acc.bits, dtype=np.uint16)
        values = self.acc.decode(codes)
        with np.errstate(invalid="ignore"):
            multiple = np.fmod(values, 2.0**quantum) == 0  # False for NaN
        tested: list[TestedKernel] = []
        for operands, reachable in ((lowest, np.ones_like(multiple)), (scans, multiple)):
            plan = kernels.plan(profile, self.a, self.b, *operands, _ENDLESS)
            if plan.kernel is None or any(_same(plan, other.plan) for other in tested):
                continue
            if plan.kernel.form.overflow is not Overflow.NAN:  # then no sum is NaN
                reachable = reachable & ~np.isnan(values)
            lanes = np.ldexp(values[reachable], plan.scale).astype(plan.lane_float)
            for kernel in dict.fromkeys((plan.kernel, plan.kernel.narrow)):
                one = dataclasses.replace(plan, kernel=kernel)
                tested.append(TestedKernel(one, codes[reachable], lanes))
        return tested

    def _run_kernel(
        self, a: int, b_codes: NDArray[np.int64], rows: NDArray[np.uint16], tested: TestedKernel
    ) -> Result:
        """Compare a float kernel with the C reference's rows, for every b and every reachable accumulator.

        The result's `tried` is 0: these inputs are counted with the plain loop.
        """
        plan, codes = tested.plan, tested.codes
        # The accumulators are the columns, so that rows of results are the C reference's rows.
        b_rows = b_codes.astype(self.b.dtype)[:, None]
        a_rows = np.full((codes.size, 1), a, self.a.dtype)
        left = kernels.pack_operand(plan, b_rows, self.b, _ZERO_KEYS, of_a=True)
        right = kernels.pack_operand(plan, a_rows, self.a, _ZERO_KEYS, of_a=False, memory=_MEMORY)
        state = kernels.allocate_accumulators(plan, b_codes.size, codes.size, memory=_MEMORY)
        filled = np.zeros(state.chunk.shape[1] * kernels.PANEL, plan.lane_float)
        filled[: codes.size] = tested.lanes
        state.chunk[:] = filled.reshape(1, -1, 1, kernels.PANEL)
        if (shifts := plan.words(True).of_steps) is not None:
            words = np.zeros((left.values.shape[0], 1, kernels.PANEL), np.int64)
            words.reshape(-1)[: b_codes.size] = self.words[a, b_codes]
            left = left._replace(words=(words << shifts.up | shifts.low).astype(plan.lane_word))
            right = right._replace(words=np.zeros(right.words.shape, plan.lane_word))
        kernels.accumulate(plan, left, right, state, last=True)
        result = _MEMORY.array("result", (b_codes.size, codes.size), np.uint16)
        kernels.encode(state.total, self.acc.facts, plan.scale, result)
        expected = rows if codes.size == rows.shape[1] else rows[:, codes]
        if np.array_equal(result, expected):
            return Result()
        wrong = result != expected
        i, j = (int(n) for n in np.argwhere(wrong)[0])
        name = self._name(a, int(b_codes[i]), int(codes[j]))
        return Result(
            0, int(wrong.sum()), f"kernel, {name}: {result[i, j]:#x} ≠ {expected[i, j]:#x}"
        )

    def free(self) -> None:
        """Free the stored rows."""
        self._rows.clear()


def _digest(codes: NDArray[np.uint16], flags: NDArray[np.uint8]) -> bytes:
    """Hash of a row of results. Rows are compared by it, since storing them all would take gigabytes."""
    digest = hashlib.sha256(codes.data)
    digest.update(flags.data)
    return digest.digest()


@dataclasses.dataclass
class AddSweep:
    """All 2^32 sums of two codes of a 16-bit format: the running total of chunks. Part: 256 totals."""

    fmt: FloatFormat
    rounding: str
    bits: int = 13
    constant: bool = True

    def part(self, number: int, totals: NDArray[np.int64] | None = None) -> Result:
        """Totals 256·number … 256·number + 255 (or the given ones) with every addend."""
        mode, policy = mode_number(self.rounding), overflow_number("special")
        size = 1 << self.fmt.bits
        codes, flags = np.empty(size, np.uint16), np.empty(size, np.uint8)
        facts = self.fmt.facts
        result = Result()
        for total in range(number * 256, number * 256 + 256) if totals is None else totals:
            word = (
                int(total) * 2731 % (1 << self.bits) if MODES[mode].startswith("stochastic") else 0
            )
            rounding = facts, mode, policy, self.bits
            if self.constant:
                row = sweeps.add_row(facts, *rounding)
                row(np.int64(total), np.int64(word), codes, flags)
            else:
                sweeps.add_row_any(np.int64(total), facts, np.int64(word), *rounding, codes, flags)
            expected = reference.add_sweep(
                int(total), self.fmt, self.fmt, mode, policy, self.bits, word
            )
            result += differences(
                lambda code, total=total: f"total = {total:#06x}, addend = {code:#06x}",  # type: ignore[misc]
                (codes, expected[0]),
                (flags, expected[1]),
            )
        return result


def mac_check(sweep: MacSweep) -> Check:
    """All 2^32 triples of a sweep."""
    return Check(
        name=f"multiply-accumulate {sweep.a.name} × {sweep.b.name} + {sweep.acc.name}, {sweep.rounding}",
        inputs="all 2^32 (a, b, acc)",
        against="plain loop and float kernels = C",
        parts=1 << sweep.a.bits,
        part=sweep.part,
        done=sweep.free,
        exhaustive=True,
    )


def add_check(sweep: AddSweep) -> Check:
    """All 2^32 pairs of a sweep."""
    return Check(
        name=f"addition {sweep.fmt.name}, {sweep.rounding}",
        inputs="all 2^32 (total, addend)",
        against="plain loop = C",
        parts=1 << (sweep.fmt.bits - 8),
        part=sweep.part,
        exhaustive=True,
    )
