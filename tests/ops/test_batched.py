"""`hs.batched`, and values out of `hs.gemm` and of it, against `hs.gemm` on the same codes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels import gemm as driver
from hfp8sim.ops import Events, Operand, Status, batched, gemm
from hfp8sim.units import Profile, get_profile, profiles
from tests.units.problems import operand

FORMAT = get_format("hfp8-143")


def stack(fmt: FloatFormat, *shape: int, kind: str = "normal", seed: int = 0) -> np.ndarray:
    """Codes of a stack of matrices."""
    rng = np.random.default_rng([seed, *shape])
    codes = operand(rng, fmt, (int(np.prod(shape[:-1])), shape[-1]), kind)
    return codes.reshape(shape)


def values(codes: np.ndarray, fmt: FloatFormat, exponent: int, dtype: str) -> np.ndarray:
    """What codes of a result mean, with a scale."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(fmt.decode(codes), exponent).astype(dtype)


def check(
    profile: Profile, a: Operand, b: Operand, *, seed: int = 3, stream: int = 7, threads: int = 1
) -> None:
    """A stack's products, codes, values and events, are those of `gemm` one by one."""
    fmt, plain_a, plain_b = (
        profile.result_format,
        Operand(a.codes, a.format),
        Operand(b.codes, b.format),
    )
    how = {"seed": seed, "threads": threads}
    one = [
        gemm(plain_a[g], plain_b[g], profile, stream=stream + g, events=True, **how)
        for g in range(a.shape[0])
    ]
    expected, events = np.stack([codes for codes, _ in one]), sum((e for _, e in one), Events())
    result = batched(plain_a, plain_b, profile, stream=stream, events=True, **how)
    np.testing.assert_array_equal(result[0], expected)
    assert result[1] == events
    np.testing.assert_array_equal(
        batched(plain_a, plain_b, profile, stream=stream, **how), expected
    )
    for dtype in ("float32", "float64"):
        status = Status()
        result = batched(a, b, profile, stream=stream, out_dtype=dtype, status=status, **how)
        assert result.dtype == dtype
        wanted = values(expected, fmt, a.exponent + b.exponent, dtype)
        np.testing.assert_array_equal(result, wanted)
        assert not np.signbit(result[result == 0]).any() or np.signbit(wanted[wanted == 0]).any()
        assert status.nonfinite == (not np.isfinite(wanted).all())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", profiles())
def test_every_profile(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MACS_WORTH_THREADS", 1)
    profile = get_profile(name)
    for phase, kind in (("fwd", "normal"), ("wgrad", "numbers")):
        formats = profile.operand_formats(phase)
        a = Operand(stack(formats[0], 3, 5, 70, kind=kind), formats[0], 3)
        b = Operand(stack(formats[1], 3, 70, 18, kind=kind), formats[1], -5)
        check(profile, a, b, threads=threads)


@pytest.mark.parametrize("rounding", ["nearest-away", "stochastic"])
def test_every_small_shape(rounding: str) -> None:
    """All shapes of a grid around a panel's and a chunk's edges."""
    profile = get_profile("hfp8").replace(rounding=rounding, chunk_length=8)
    sizes = (1, 2, 15, 16, 17, 33)
    for groups, m, n, k in itertools.product((1, 3), sizes, sizes, (0, 1, 8, 17)):
        a, b = (Operand(stack(FORMAT, groups, *shape), FORMAT) for shape in ((m, k), (k, n)))
        expected = np.stack([
            gemm(a[g], b[g], profile, seed=1, stream=g, threads=1) for g in range(groups)
        ])  # fmt: skip
        how = {"seed": 1, "threads": 1}
        np.testing.assert_array_equal(batched(a, b, profile, **how), expected)
        result = batched(a, b, profile, out_dtype="float32", **how)
        np.testing.assert_array_equal(result, profile.result_format.decode(expected))


@pytest.mark.parametrize("rounding", ["nearest-away", "stochastic"])
def test_strides_and_broadcasts(rounding: str) -> None:
    """Leading axes broadcast, and no stride matters: of the operands, nor of the result."""
    profile = get_profile("hfp8").replace(rounding=rounding)
    a, b = stack(FORMAT, 2, 1, 5, 20), stack(FORMAT, 3, 20, 18)
    expected = np.empty((2, 3, 5, 18), profile.result_format.dtype)
    for i, j in np.ndindex(2, 3):
        expected[i, j] = gemm(a[i, 0], b[j], profile, stream=3 * i + j)
    numbers = profile.result_format.decode(expected)
    padded = np.zeros((2, 1, 8, 41), a.dtype)
    padded[:, :, :5, :40:2] = a
    memory = np.zeros((18, 6, 2, 3), np.float32)
    for left in (
        a,
        np.asfortranarray(a),
        padded[:, :, :5, :40:2],
        np.broadcast_to(a, (2, 3, 5, 20)),
    ):
        for right in (
            b,
            b.transpose(0, 2, 1).copy().transpose(0, 2, 1),
            np.broadcast_to(b, (2, 3, 20, 18)),
        ):
            np.testing.assert_array_equal(batched(left, right, profile), expected)
            out = memory.transpose(2, 3, 1, 0)[:, :, :5]
            assert batched(left, right, profile, out_dtype="float32", out=out) is out
            np.testing.assert_array_equal(out, numbers)
    assert not memory[:, 5].any()
    one = batched(a[0, 0], b[0], profile)
    np.testing.assert_array_equal(one, expected[0, 0])
    same = batched(np.broadcast_to(a[0], (4, 5, 20)), b[0], profile)
    for g in range(4):
        np.testing.assert_array_equal(same[g], gemm(a[0, 0], b[0], profile, stream=g))


@pytest.mark.parametrize("change", [{"MACS_PER_CALL": 1 << 14}, {"_PANEL_BYTES": 9_000}, {}])
@pytest.mark.parametrize("rounding", ["nearest-away", "stochastic"])
def test_cuts_of_the_work_change_no_bit(
    rounding: str, change: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small products, few large ones, and products in pieces of rows and columns."""
    monkeypatch.setattr(driver, "MACS_WORTH_THREADS", 1)
    profile = get_profile("hfp8").replace(rounding=rounding)
    for shape in ((9, 4, 20, 17), (2, 70, 66, 75)):
        groups, m, k, n = shape
        a, b = (Operand(stack(FORMAT, groups, *s), FORMAT, 1) for s in ((m, k), (k, n)))
        expected = batched(a, b, profile, out_dtype="float32", threads=1)
        with monkeypatch.context() as patch:
            for name, value in change.items():
                patch.setattr(driver, name, value)
            for threads in (1, 2, 3):
                result = batched(a, b, profile, out_dtype="float32", threads=threads)
                np.testing.assert_array_equal(result, expected)


def test_infinite_sums_keep_the_meaning_of_their_codes() -> None:
    """Infinities of a format that has them; NaN of one that has none; both raise the flag."""
    big = Operand(stack(get_format("hfp8-152"), 2, 20, 200, kind="numbers"), "hfp8-152")
    for name in ("binary16", "dlfloat16", "e5m2", "e4m3fn"):
        profile = get_profile("hfp8").replace(
            accumulator=name, between_chunks=name, overflow="special", chunk_length=64
        )
        status = Status()
        codes = gemm(big[0], big[1].T, profile, status=status)
        expected = profile.result_format.decode(codes)
        assert status.nonfinite and not np.isfinite(expected).all()
        status.clear()
        result = gemm(big[0], big[1].T, profile, out_dtype="float32", status=status)
        np.testing.assert_array_equal(result, expected)
        assert status.nonfinite
        result, events = gemm(big[0], big[1].T, profile, out_dtype="float32", events=True)
        assert events.nan == np.count_nonzero(np.isnan(expected))


def test_flags_are_sticky() -> None:
    status = Status(nonfinite=True)
    gemm(stack(FORMAT, 4, 4), stack(FORMAT, 4, 4), status=status)
    assert status.nonfinite
    status.clear()
    gemm(stack(FORMAT, 4, 4), stack(FORMAT, 4, 4), status=status)
    assert not status.nonfinite


@pytest.mark.parametrize("exponent", [-400, -150, -80, 60, 90, 400])
def test_values_beyond_float32_are_rounded_once(exponent: int) -> None:
    a, b = (Operand(stack(FORMAT, 2, 20, 20, seed=i), FORMAT, exponent) for i in (1, 2))
    check(get_profile("hfp8"), a, b)
    status = Status()
    result = batched(a, b, out_dtype="float32", status=status)
    assert status.nonfinite == (not np.isfinite(result).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_dtype": "float16"}, "out_dtype is float16; it must be float32, float64, or None for codes"),
        ({"a": Operand([[[1, 2]]], FORMAT, 3)}, r"codes cannot carry the operands' scale of 2\^3"),
        ({"out": np.zeros((1, 1, 1))}, r"out is float64 \(1, 1, 1\); it must be an array uint16 \(1, 1, 1\)"),
        ({"out": [[[1]]]}, "out is list; it must be an array uint16"),
        ({"out": np.zeros(1, np.uint16).reshape(1, 1, 1)[::-1], "out_dtype": "float32"}, "out is uint16"),
        ({"a": np.zeros((2, 1, 2), np.uint8), "b": np.zeros((3, 2, 1), np.uint8)}, r"a is a stack of \(2,\)"),
        ({"a": np.zeros(2, np.uint8)}, r"a must be a matrix or a stack of matrices, not an array of shape \(2,\)"),
        ({"b": np.zeros((1, 3, 1), np.uint8)}, "a is 1×2, so b must have 2 rows, not 3"),
        ({"stream": -1}, "stream is -1"),
        ({"out_dtype": "int3"}, "out_dtype is 'int3', which names no dtype"),
    ],
)  # fmt: skip
def test_bad_input(arguments: dict, message: str) -> None:
    good = {"a": np.zeros((1, 1, 2), np.uint8), "b": np.zeros((1, 2, 1), np.uint8)}
    with pytest.raises(InputError, match=message):
        batched(**good | arguments)


def test_read_only_out_is_refused() -> None:
    out = np.zeros((1, 1), np.uint16)
    out.flags.writeable = False
    with pytest.raises(InputError, match="out is read-only"):
        gemm(np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8), out=out)


@pytest.mark.parametrize("profile", ["fp16", "plain"])
@pytest.mark.parametrize("events", [False, True])
def test_out_may_overlap_operands(profile: str, events: bool) -> None:
    """Operands of 16 bits are read where they lie, and so are results written."""
    record = get_profile("fp16")
    if profile == "plain":
        record = record.replace(products_per_step=2, sum_order="chain")
    rng, fmt = np.random.default_rng(0), get_format("dlfloat16")
    numbers = rng.standard_normal((4, 40, 40))
    numbers[rng.random(numbers.shape) < 0.2] = 0
    memory = fmt.encode(numbers)
    wanted = batched(memory[:3].copy(), memory[0].copy(), record, events=events)
    out = memory[1:]
    answer = batched(memory[:3], memory[0], record, events=events, out=out)
    if events:
        assert answer[1] == wanted[1]
        answer, wanted = answer[0], wanted[0]
    assert answer is out
    np.testing.assert_array_equal(out, wanted)


def test_out_that_is_not_aligned_is_refused() -> None:
    out = np.zeros(5, np.uint8)[1:].view(np.uint16).reshape(1, 2)
    with pytest.raises(InputError, match="out is not aligned"):
        gemm(np.zeros((1, 2), np.uint8), np.zeros((2, 2), np.uint8), out=out)


def test_out_whose_rows_share_memory_is_refused() -> None:
    out = np.lib.stride_tricks.as_strided(np.zeros(3, np.uint16), (2, 3), (0, 2))
    with pytest.raises(InputError, match="out has elements that share memory"):
        gemm(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), out=out)


def test_empty_stacks() -> None:
    for shape in ((0, 3, 4), (2, 0, 4)):
        result, events = batched(
            np.zeros(shape, np.uint8), np.zeros((shape[0], 4, 5), np.uint8), events=True
        )
        assert result.shape == (*shape[:2], 5) and events == Events()
