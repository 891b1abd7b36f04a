"""The strategies draw what they document, and the package equals the oracle on what they draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from hfp8sim.formats import MODES, FloatFormat, get_format
from hfp8sim.formats.codec import encode
from hfp8sim.isa import assemble, decode, disassemble
from hfp8sim.testing import laws
from hfp8sim.testing import strategies as hst
from hfp8sim.units.profile import Profile
from tests import oracle
from tests.units.problems import compare, plain

QUICK = settings(max_examples=60, deadline=None, derandomize=True)


@QUICK
@given(hst.formats())
def test_formats_obey_the_laws(fmt: FloatFormat) -> None:
    laws.check_format(fmt)


@settings(QUICK, max_examples=200)
@given(st.data())
def test_encode_equals_oracle(data: st.DataObject) -> None:
    fmt = data.draw(hst.formats())
    x = data.draw(hst.values(fmt))
    R = data.draw(st.integers(0, 255))
    for mode in MODES:
        bits = np.array([R]) if mode.startswith("stochastic") else None
        code, flags = encode(np.array([x]), fmt, mode, "saturate", bits, 8)
        expected = oracle.round_code(fmt, oracle.from_float(x), mode, "saturate", 8, R)
        assert (int(code[0]), int(flags[0])) == expected, mode


@settings(QUICK, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(hst.gemm_problems())
def test_gemm_equals_oracle(p: hst.GemmProblem) -> None:
    compare(p.profile, p.a_format, p.b_format, p.a, p.b, seed=p.seed, fast=False)


@QUICK
@given(hst.programs())
def test_programs_round_trip(program) -> None:
    assert assemble(disassemble(program)) == program
    assert all(decode(int(word)) is not None for word in program.words)


def find_example(strategy: st.SearchStrategy, condition):
    """A drawn value that satisfies the condition; a failure if none of 1000 does."""
    options = settings(QUICK, max_examples=1000, phases=[Phase.generate])
    return find(strategy, condition, settings=options)


def test_special_cases_are_drawn() -> None:
    """1000 draws contain NaN, infinities, subnormals, ties and K = 0."""
    e5m2 = get_format("e5m2")
    for code in (0x00, 0x80, 0x01, 0x7B, 0x7C, 0x7E):
        assert find_example(hst.codes("e5m2"), lambda c, code=code: c == code) == code
    find_example(hst.values(e5m2), lambda x: 0 < abs(x) < e5m2.min_positive)
    find_example(hst.values(e5m2), lambda x: x != x)
    find_example(hst.values(e5m2), lambda x: abs(x) > e5m2.max)
    find_example(
        hst.values(e5m2), lambda x: x == x and e5m2.encode(x) != e5m2.encode(x, "nearest-away")
    )
    find_example(hst.gemm_problems(), lambda p: p.a.shape[1] == 0)
    find_example(hst.profiles(), lambda p: isinstance(p, Profile) and p.sum_order == "aligned")


@QUICK
@given(
    hst.codes("e5m2", numbers_only=True), hst.values("hfp8-143"), hst.formats(8, accumulator=True)
)
def test_arguments_restrict_the_draws(code: int, x: float, fmt: FloatFormat) -> None:
    assert np.isfinite(get_format("e5m2").decode(np.uint8(code)))
    assert not np.isnan(x)  # hfp8-143 has no NaN
    assert fmt.bits <= 8 and fmt.signed and fmt.has_nan and fmt.zero != "none"


def test_problem_run_equals_the_plain_loop() -> None:
    def has_distinct_formats(p: hst.GemmProblem) -> bool:
        return p.a.shape[1] > 3 and p.a_format != p.b_format and bool(p.run().any())

    problem = find_example(hst.gemm_problems("hfp8", numbers_only=True), has_distinct_formats)
    assert problem.profile.name == "hfp8"
    expected, _ = plain(
        "hfp8", problem.a_format, problem.b_format, problem.a, problem.b, seed=problem.seed
    )
    np.testing.assert_array_equal(problem.run(), expected)


@pytest.mark.parametrize("max_k", [0, 3])
def test_sizes_of_gemm_problems_are_bounded(max_k: int) -> None:
    @QUICK
    @given(hst.gemm_problems(max_k=max_k, max_side=2))
    def check(p: hst.GemmProblem) -> None:
        assert p.a.shape[0] <= 2 and p.b.shape[1] <= 2 and p.a.shape[1] == p.b.shape[0] <= max_k

    check()
