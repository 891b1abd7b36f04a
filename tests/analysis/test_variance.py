"""Variance retention: reference values, the theorem written out term by term, and emulated sums."""

import math

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.analysis.variance import (
    LOST_VARIANCE_LIMIT,
    chunked_retention,
    lost_variance,
    needed_bits,
    retention,
)

#: (m_acc, m_p, n) and VRR, from an independent program for the same theorem.
REFERENCE = {
    (5, 5, 64): 0.992193,
    (6, 5, 576): 0.991167,
    (7, 5, 576): 0.998568,
    (8, 5, 2304): 0.999281,
    (9, 5, 4608): 0.999748,
    (9, 9, 65536): 0.865059,
    (12, 5, 200704): 0.999973,
}

#: With products of 5 fraction bits: accumulator bits, and the longest sum they do for (± 0.5 %).
LONGEST = {5: 196, 6: 534, 7: 1484, 8: 3904, 9: 10144, 10: 26496, 11: 64768, 12: 163840}


@pytest.mark.parametrize(("arguments", "expected"), REFERENCE.items())
def test_reference_values(arguments: tuple[int, int, int], expected: float) -> None:
    assert round(retention(*arguments), 6) == expected


def theorem(m_acc: int, m_p: int, n: int) -> float:
    """The theorem as it is printed, term by term."""

    def two_q(x: float) -> float:
        return math.erfc(x / math.sqrt(2))

    def alpha(j: int) -> float:
        terms = (2**t * (2**t - 1) * (2 ** (t + 1) - 1) for t in range(1, j))
        return 2.0 ** (m_acc - 3 * m_p) / 3 * sum(terms)

    whole = alpha(m_p + 1)
    numerator = k1 = k2 = 0.0
    for i in range(2, n):
        q = two_q(2**m_acc / math.sqrt(i)) * (1 - two_q(2**m_acc / math.sqrt(i - 1)))
        if i > whole:
            k1 += q
            numerator += (i - whole) * q
    for j in range(2, m_p + 1):
        stage = 2.0 ** (m_acc - m_p + j)
        q = stage * two_q(stage / 2 / math.sqrt(n)) * (1 - two_q(stage / math.sqrt(n)))
        if n > alpha(j):
            k2 += q
            numerator += (n - alpha(j)) * q
    k3 = 1 - two_q(2.0 ** (m_acc - m_p + 1) / math.sqrt(n))
    return (numerator + n * k3) / (n * (k1 + k2 + k3))


@pytest.mark.parametrize("m_acc", [3, 5, 6, 9, 12])
@pytest.mark.parametrize("m_p", [2, 3, 5])
@pytest.mark.parametrize("n", [3, 64, 577, 5000])
def test_retention_equals_the_theorem(m_acc: int, m_p: int, n: int) -> None:
    if m_p <= m_acc:
        assert retention(m_acc, m_p, n) == pytest.approx(theorem(m_acc, m_p, n), rel=1e-12)


@pytest.mark.parametrize(("bits", "longest"), LONGEST.items())
def test_longest_sums(bits: int, longest: int) -> None:
    assert needed_bits(5, int(longest * 0.99)) == bits
    assert needed_bits(5, int(longest * 1.01)) == bits + 1


def test_resnet18_forward_is_within_a_bit_of_the_paper() -> None:
    paper = {576: (7, 5), 1152: (8, 5), 2304: (8, 5), 4608: (9, 6)}
    for n, (normal, chunked) in paper.items():
        assert abs(needed_bits(5, n) - normal) <= 1
        assert abs(needed_bits(5, n, 64) - chunked) <= 1


def test_short_sums_and_single_chunks() -> None:
    assert retention(5, 5, 1) == retention(5, 5, 2) == 1.0
    assert chunked_retention(9, 5, 4608, 0) == retention(9, 5, 4608)
    assert chunked_retention(9, 5, 60, 64) == retention(9, 5, 60)
    assert needed_bits(5, 60, 64) == needed_bits(5, 60)
    assert needed_bits(5, 10**6, most=9) is None


def test_chunks_retain_more_than_one_long_sum() -> None:
    assert retention(9, 9, 65536) < 0.9 < 0.999 < chunked_retention(9, 5, 65536, 64)
    assert lost_variance(9, 5, 65536) > LOST_VARIANCE_LIMIT > lost_variance(9, 5, 64)
    assert lost_variance(5, 5, 10**6) == math.inf


def emulated(m_acc: int, n: int, rounding: str) -> float:
    """Var(result)/Var(exact) of 4096 sums of n zero-mean products of 1-5-2 operands."""
    accumulator = hs.FloatFormat(f"narrow{m_acc}", 8, m_acc, 127)
    profile = hs.get_profile("fp8-2018").replace(
        accumulator=accumulator, between_chunks=accumulator, chunk_length=0, rounding=rounding
    )
    rng = np.random.default_rng(7)
    operand = hs.get_format("hfp8-152")
    a, b = (operand.encode(rng.normal(size=shape)) for shape in ((64, n), (n, 64)))
    sums = accumulator.decode(hs.gemm(a, b, profile))
    return float(np.var(sums) / np.var(operand.decode(a) @ operand.decode(b)))


def test_theory_against_emulated_sums() -> None:
    """What docs/accuracy.md says: with rounding to nearest the theory is the careful side, by about two
    bits; truncation, whose error always points toward zero, loses far more than it says."""
    for m_acc in (4, 5, 6, 7):
        predicted = retention(m_acc, min(m_acc, 5), 2048)
        assert predicted - 0.01 < emulated(m_acc, 2048, "nearest-even") < 1.01
        assert emulated(m_acc, 2048, "toward-zero") < 0.25 * predicted
    measured = [emulated(m_acc, 2048, "nearest-even") for m_acc in (3, 4, 5, 6, 7)]
    assert measured == sorted(measured)
    assert emulated(5, 8192, "nearest-even") < emulated(5, 2048, "nearest-even")
