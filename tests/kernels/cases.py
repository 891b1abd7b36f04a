"""Problems for kernels, and comparisons with the plain integer loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hfp8sim import kernels
from hfp8sim.formats import get_format
from hfp8sim.kernels import (
    TARGETS,
    Plan,
)
from hfp8sim.ops import gemm
from hfp8sim.units import accumulator as acc
from hfp8sim.units import get_profile
from tests.units.problems import operand, plain

ROOT = Path(__file__).parents[2]


MODES = ("nearest-away", "nearest-even", "toward-zero", "stochastic-a")


#: A processor without anything, one with AVX2, and one whose rounding direction cannot be set.
PROCESSORS = {
    "baseline": TARGETS["sse2"],
    "avx2": TARGETS["avx2fma"],
    "foreign": TARGETS["genericfma"],
}


HFP8 = get_profile("hfp8")


def run(profile, fmt_a, fmt_b, a, b, *, seed=0, events=False, on=None, threads=1):
    """A kernel's codes and counts, or None where there is no kernel; and the plan."""
    profile, fmt_a, fmt_b = get_profile(profile), get_format(fmt_a), get_format(fmt_b)
    scans = kernels.scan(a, fmt_a), kernels.scan(b, fmt_b)
    plan = kernels.plan(profile, fmt_a, fmt_b, *scans, a.shape[1], events, on=on)
    if plan.kernel is None:
        return None, None, plan
    result = np.zeros((a.shape[0], b.shape[1]), profile.result_format.dtype)
    keys = acc.stream_keys(seed, 0, 1)
    formats = fmt_a, fmt_b, profile.result_format
    counts = kernels.multiply(plan, a, b, formats, keys, result, threads).counts
    return result, counts, plan


def same(profile, fmt_a, fmt_b, a, b, **how) -> Plan:
    """The kernel's codes and counts are the plain loop's; the plan."""
    codes, counts, plan = run(profile, fmt_a, fmt_b, a, b, **how)
    assert plan.kernel is not None, plan
    expected, events = plain(profile, fmt_a, fmt_b, a, b, seed=how.get("seed", 0))
    np.testing.assert_array_equal(codes, expected, err_msg=f"{plan}\n{profile}")
    if how.get("events"):
        event_counts = tuple(counts)
        assert event_counts == (events.swamped, events.overflowed, events.underflowed), (
            f"{plan}\n{profile}"
        )
    return plan


def numbers(rng, fmt, shape, kind):
    fmt = get_format(fmt)
    if kind == "half wide":  # ordinary rows among rows of anything
        codes = operand(rng, fmt, shape, "normal")
        codes[::3] = operand(rng, fmt, codes[::3].shape, "numbers")
        return codes
    return operand(rng, fmt, shape, kind)


PAIRS = (
    ("hfp8-143", "hfp8-143"), ("hfp8-152", "hfp8-143"), ("hfp8-152", "hfp8-152"),
    ("e4m3fn", "e5m2"), ("dlfloat16", "dlfloat16"),
)  # fmt: skip


def compared(profile, fmt_a, fmt_b, a, b, seed=0) -> None:
    """`gemm` is the plain loop, codes and events, by whatever path."""
    fmt_a, fmt_b = get_format(fmt_a), get_format(fmt_b)
    expected, events = plain(profile, fmt_a, fmt_b, a, b, seed=seed)
    how = {"a_format": fmt_a, "b_format": fmt_b, "seed": seed, "threads": 1}
    np.testing.assert_array_equal(gemm(a, b, profile, **how), expected)
    codes_with_events, counted = gemm(a, b, profile, **how, events=True)
    np.testing.assert_array_equal(codes_with_events, expected)
    assert counted == events
