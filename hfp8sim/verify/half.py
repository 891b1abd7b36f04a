"""Lanes of binary16, exhaustively: every distinct product of two formats with every accumulator of the window."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim import kernels
from hfp8sim.formats import FloatFormat
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.kernels.half import BOUNDS
from hfp8sim.kernels.panels import Halves, allocate_accumulators
from hfp8sim.kernels.stream import pack_operand
from hfp8sim.kernels.target import PROMOTED, Target, host_target, runs
from hfp8sim.units import Profile
from hfp8sim.verify import c_reference as reference
from hfp8sim.verify.check import Check, Result

#: Products whose rows of results are in memory at once: a part of the check.
_PART = 128
#: Columns for which a loop nest takes its narrow tiles alone.
_NARROW = 4 * kernels.PANEL
#: Rows and columns of the panels of a proof: two steps, of which the first loads the accumulator.
_DEPTH = 2
_KEYS = np.uint64(0), np.uint64(0)


def half_target() -> Target | None:
    """The processor's own target if that has lanes of binary16; else the one that replaces their instructions."""
    host = host_target()
    if host.half is not None:
        return host
    return PROMOTED if runs(PROMOTED) else None


class _Pairs(NamedTuple):
    """Pairs of codes, one for each distinct product of the window."""

    a: NDArray[np.int64]  #: codes
    b: NDArray[np.int64]
    products: NDArray[np.float64]


@dataclasses.dataclass(eq=False)
class HalfSweep:
    """All distinct products and all accumulators that binary16 holds, for one pair of formats and a mode.

    A panel's quantum lies at a fixed place, and a sum depends on multiples of it alone. So the smallest quantum
    of either format stands for all. The accumulator is a step's own result: 1 times its value.
    """

    a: FloatFormat
    b: FloatFormat
    acc: FloatFormat
    rounding: str
    target: Target

    @functools.cached_property
    def plan(self) -> kernels.Plan:
        """A plan whose tiles are all in the window: that is for the bounds that a proof gives."""
        profile = Profile(
            "verify", accumulator=self.acc, between_chunks=self.acc, chunk_length=0,
            rounding=self.rounding,
        )  # fmt: skip
        scan = kernels.Scan(1.0, -4, False)
        plan = kernels.plan(profile, self.a, self.b, scan, scan, _DEPTH, on=self.target)
        assert plan.window is not None, plan
        return plan

    @functools.cached_property
    def scales(self) -> tuple[float, float]:
        """What brings the quanta of the formats to their places."""
        assert self.plan.window is not None
        a, b = (
            2.0 ** (place + fmt.bias + fmt.fraction_bits - (fmt.lowest == "subnormal"))
            for fmt, place in zip((self.a, self.b), self.plan.window.places)
        )
        return a, b

    @property
    def top(self) -> float:
        """What sums in the window are less than."""
        return 2.0**16 / (self.scales[0] * self.scales[1])

    @functools.cached_property
    def pairs(self) -> _Pairs:
        """One pair of codes for each distinct product, ordered by b."""
        left, right = self.a.table(), self.b.table()
        products = np.multiply.outer(left, right)
        held = np.logical_and.outer(
            np.abs(left) * self.scales[0] < 2.0**16, np.abs(right) * self.scales[1] < 2.0**16
        )
        held &= np.abs(products) < self.top
        where = np.flatnonzero(held.T)
        values, first = np.unique(products.T.ravel()[where], return_index=True)
        b, a = np.divmod(where[np.sort(first)], left.size)
        assert values.size == a.size
        return _Pairs(a, b, products[a, b])

    @functools.cached_property
    def sums(self) -> NDArray[np.float64]:
        """The accumulators: all numbers of the format that binary16 holds."""
        dropped = 11 - self.acc.precision
        half = np.arange(0, 0x7C00, 1 << dropped, dtype=np.uint16).view(np.float16)
        values = half.astype(np.float64) / (self.scales[0] * self.scales[1])
        values = np.concatenate([values, -values[1:]])
        with np.errstate(invalid="ignore"):
            exact = self.acc.decode(self.acc.encode(values)) == values
        held: NDArray[np.float64] = values[exact]
        return held

    @property
    def parts(self) -> int:
        """Parts of the check."""
        return -(-self.pairs.a.size // _PART)

    def part(self, number: int) -> Result:
        """Some products with every accumulator, by wide and by narrow tiles."""
        places = slice(number * _PART, (number + 1) * _PART)
        a, b, products = self.pairs
        pairs = _Pairs(a[places], b[places], products[places])
        expected, valid = self._expected(pairs)
        result = Result(int(valid.sum()))
        for totals in (self._wide(pairs), self._narrow(pairs)):
            wrong = valid & (totals != expected)
            if wrong.any():
                i, j = (int(n) for n in np.argwhere(wrong)[0])
                result += Result(
                    0, int(wrong.sum()),
                    f"a = {pairs.a[i]:#04x}, b = {pairs.b[i]:#04x}, acc = {self.sums[j].hex()}: "
                    f"{totals[i, j].hex()} ≠ {expected[i, j].hex()}",
                )  # fmt: skip
        return result

    def _expected(self, pairs: _Pairs) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The C reference's sums, and whether lanes of binary16 are used for them."""
        ffi, lib = reference.library()
        records = [reference.c_format(fmt) for fmt in (self.a, self.b, self.acc)]
        mode, policy = mode_number(self.rounding), overflow_number("special")
        size, codes = 1 << self.acc.bits, self.acc.encode(self.sums)
        table, flags = self.acc.table(), np.empty(size, np.uint8)
        row = np.empty(size, np.uint16)
        expected = np.empty((pairs.a.size, self.sums.size))
        for i, (a, b) in enumerate(zip(pairs.a, pairs.b)):
            lib.ref_fma_sweep(
                records[0], int(a), records[1], int(b), records[2], mode, policy, 0, 0,
                ffi.cast("uint16_t *", row.ctypes.data), ffi.cast("uint8_t *", flags.ctypes.data),
            )  # fmt: skip
            expected[i] = table[row[codes]]
        exact = np.abs(pairs.products[:, None] + self.sums)
        normal = (exact == 0) | (exact >= self.acc.min_positive)
        with np.errstate(invalid="ignore"):
            return expected, normal & (np.abs(expected) < self.top)

    def _wide(self, pairs: _Pairs) -> NDArray[np.float64]:
        """The kernel's sums, a column for each accumulator, by its wide tiles."""
        results = []
        for b in np.unique(pairs.b):
            rows = self.a.table()[pairs.a[pairs.b == b]] * self.scales[0]
            results.append(
                self._multiply(rows, float(self.b.table()[b]) * self.scales[1], self.sums)
            )
        return np.concatenate(results)

    def _narrow(self, pairs: _Pairs) -> NDArray[np.float64]:
        """The same by narrow tiles, with other factors of the products."""
        rows = pairs.products * self.scales[0] * self.scales[1]
        starts = range(0, self.sums.size, _NARROW)
        parts = (self.sums[start : start + _NARROW] for start in starts)
        return np.concatenate([self._multiply(rows, 1.0, part) for part in parts], axis=1)

    def _multiply(
        self, rows: NDArray[np.float64], column: float, sums: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """1 · sums[j] + rows[i] · column by the kernel; rows and column are scaled."""
        width = -(-sums.size // (2 * kernels.PANEL)) * 2 * kernels.PANEL
        left, right = np.zeros((rows.size, _DEPTH)), np.zeros((width, _DEPTH))
        left[:, 0], left[:, 1] = 1.0, rows
        right[: sums.size, 0], right[:, 1] = sums * self.scales[0] * self.scales[1], column
        plan, codes = self.plan, (self.a.dtype, self.b.dtype)
        # Their float32 panels are not read.
        panels = [
            pack_operand(plan, np.zeros(x.shape, kind), fmt, _KEYS, of_a=of_a)
            for x, kind, fmt, of_a in zip((left, right), codes, (self.a, self.b), (True, False))
        ]
        state = allocate_accumulators(plan, rows.size, width, whole=True)
        kernels.accumulate(
            plan, panels[0], panels[1], state, last=True,
            halves=(self._halves(left, 0), self._halves(right, 1)),
        )  # fmt: skip
        totals = state.total.transpose(0, 2, 1, 3).reshape(-1, width)
        return totals[: rows.size, : sums.size].astype(np.float64)

    def _halves(self, values: NDArray[np.float64], side: int) -> Halves:
        """Panels of binary16 numbers (rows, k), whose bounds are those of zeros."""
        per = kernels.PANEL * (1 + side)
        padded = np.zeros((-(-values.shape[0] // per) * per, _DEPTH))
        padded[: values.shape[0]] = values
        halves = padded.reshape(-1, per, _DEPTH).transpose(0, 2, 1).astype(np.float16)
        bounds = np.zeros(padded.shape[0] // kernels.PANEL, BOUNDS)
        bounds["unit"] = 1.0
        bounds["factor"] = np.float32(1 / self.scales[side]).view(np.uint32)
        return Halves(np.ascontiguousarray(halves).view(np.uint16), bounds)


def half_check(
    a: FloatFormat, b: FloatFormat, acc: FloatFormat, rounding: str, on: Target
) -> Check:
    """All distinct products and all accumulators of the window."""
    sweep = HalfSweep(a, b, acc, rounding, on)
    return Check(
        name=f"binary16 lanes ({on.name}) {a.name} × {b.name} + {acc.name}, {rounding}",
        inputs="all distinct products × all accumulators of the window",
        against="float kernels, wide and narrow = C",
        parts=sweep.parts,
        part=sweep.part,
        exhaustive=True,
    )
