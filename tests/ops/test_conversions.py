"""`hs.convert` and `hs.round_values`: dtypes, strides, threads and results given, against the integer path."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.formats.codec import encode
from hfp8sim.formats.rounding import OVERFLOWED, UNDERFLOWED
from hfp8sim.ops import Operand, conversions, convert, round_values
from hfp8sim.ops.conversions import conversion_bits

MODES = ("nearest-even", "nearest-away", "toward-zero", "stochastic")


def expected(x: np.ndarray, fmt: str, mode: str, overflow: str = "saturate", bits: int = 13):
    """Codes and counts by the integer path; seed 3, stream 4."""
    random = conversion_bits(x.shape, bits, 3, 4) if mode == "stochastic" else None
    codes, flags = encode(x, get_format(fmt), mode, overflow, random, bits)
    counts = {
        "saturated": int(np.count_nonzero(flags & OVERFLOWED)),
        "underflowed": int(np.count_nonzero(flags & UNDERFLOWED)),
    }
    return codes, counts


def same(
    x: np.ndarray, fmt: str, mode: str, *, reals: np.ndarray | None = None, **how: object
) -> None:
    codes, counts = expected(x if reals is None else reals, fmt, mode)
    result = convert(x, fmt, mode, seed=3, stream=4, **how)  # type: ignore[arg-type]
    np.testing.assert_array_equal(result[0], codes)
    assert result[1] == counts


def doubles(fmt: str) -> np.ndarray:
    """float64 at the boundaries between a format's numbers, and one unit in the last place and 2^−40 beside them."""
    record = get_format(fmt)
    table = record.decode(np.arange(1 << min(record.bits, 12), dtype=record.dtype))
    values = np.unique(np.abs(table[np.isfinite(table)]))
    values = np.concatenate(
        [values, (values[1:] + values[:-1]) / 2, record.max * np.linspace(0.9, 2, 50)]
    )
    values = np.concatenate(
        [values, record.min_positive * np.linspace(0, 1.5, 64), [1e-300, 5e-324, 1e300, np.inf]]
    )
    beside = [values, np.nextafter(values, 0), np.nextafter(values, np.inf)]
    beside += [values * (1 + sign * 2.0**-40) for sign in (-1, 1)]
    x = np.concatenate(beside)
    return np.concatenate([x, -x])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [n for n in formats() if get_format(n).bits <= 16])
def test_float64_is_rounded_once(name: str, mode: str) -> None:
    x = doubles(name)
    with np.errstate(over="ignore"):
        same(x, name, mode)


@pytest.mark.parametrize("mode", ["nearest-away", "stochastic"])
def test_dtypes(mode: str) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(5000) * 2.0 ** rng.integers(-20, 12, 5000)).astype(np.float32)
    brain = x.astype(ml_dtypes.bfloat16)
    same(brain, "hfp8-143", mode, reals=brain.astype(np.float32))
    same(brain.view(np.uint16), "hfp8-143", mode, reals=brain.astype(np.float32), source="bfloat16")
    same(x.clip(-60000, 60000).astype(np.float16), "hfp8-143", mode)
    same(rng.integers(-300, 300, 50), "hfp8-143", mode)
    same(x.astype(">f4"), "hfp8-143", mode)
    operand = Operand.encode(
        brain.view(np.uint16), "hfp8-143", rounding=mode, seed=3, stream=4, source="bfloat16"
    )
    np.testing.assert_array_equal(
        operand.codes, expected(brain.astype(np.float32), "hfp8-143", mode)[0]
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("mode", ["nearest-away", "stochastic"])
def test_layouts_pieces_and_threads(
    mode: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random words go by the number of an element, wherever it lies and whoever converts it."""
    monkeypatch.setattr(conversions, "_ELEMENTS_WORTH_THREADS", 1)
    monkeypatch.setattr(conversions, "_PIECE", 100)
    x = np.random.default_rng(2).standard_normal((3, 7, 11, 5)).astype(np.float32)
    for each in (
        x, np.asfortranarray(x), x.transpose(0, 3, 1, 2), x[:, ::-1, ::2], x[..., 1:4], x[0, 0, 0, 0],
        np.broadcast_to(x[:1], (4, 7, 11, 5)), x[:0], x.reshape(-1), x.astype(np.float64)[:, :, ::3],
    ):  # fmt: skip
        same(each, "hfp8-143", mode, threads=threads)
        codes = expected(each, "hfp8-143", mode)[0]
        out = np.zeros((*each.shape, 2), np.uint8)[..., 0]
        assert convert(each, "hfp8-143", mode, seed=3, stream=4, threads=threads, out=out)[0] is out
        np.testing.assert_array_equal(out, codes)


def test_codes_lie_in_memory_as_the_numbers_do() -> None:
    """Channels-last stays channels-last."""
    x = np.zeros((2, 8, 8, 3), np.float32).transpose(0, 3, 1, 2)
    assert convert(x, "hfp8-143")[0].transpose(0, 2, 3, 1).flags.c_contiguous
    assert convert(x, "hfp8-143", "stochastic")[0].flags.c_contiguous


@pytest.mark.parametrize("mode", ["nearest-away", "stochastic"])
@pytest.mark.parametrize("name", ["hfp8-143", "dlfloat16", "binary32", "bfloat16"])
def test_rounding_in_place_gives_the_values_of_the_codes(name: str, mode: str) -> None:
    """With the same random words."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((90, 400)) * 2.0 ** rng.integers(-30, 20, (90, 400))).astype(
        np.float32
    )
    codes, counts = convert(x, name, mode, seed=3, stream=4)
    values = get_format(name).decode(codes)
    result = round_values(x, name, mode, seed=3, stream=4)
    np.testing.assert_array_equal(result[0], values)
    assert result[1] == counts and result[0].dtype == np.float32
    for out in (x.T.copy().T, x):
        out[...] = x
        assert round_values(out, name, mode, seed=3, stream=4, out=out)[0] is out
        np.testing.assert_array_equal(out, values)


def test_rounding_in_place_refuses_nan_before_it_writes() -> None:
    x = np.array([1.1, np.nan], np.float32)
    with pytest.raises(InputError, match=r"NaN at \[1\]: format e2m1 has no code"):
        round_values(x, "e2m1", out=x)
    assert x[0] == np.float32(1.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*formats()])
def test_decode_by_tables_and_without(name: str, dtype: str) -> None:
    fmt = get_format(name)
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 1 << fmt.bits, 70_000).astype(fmt.dtype)
    few = fmt.decode(codes[:3])
    with np.errstate(over="ignore", under="ignore"):
        exact = np.concatenate([fmt.decode(codes[i : i + 1]) for i in range(3000)])
        wanted = exact.astype(dtype)
    result = fmt.decode(codes, dtype=dtype)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result[:3000], wanted)
    np.testing.assert_array_equal(few, exact[:3])
    out = np.zeros((2, 35_000, 2), dtype)[..., 1]
    assert fmt.decode(codes.reshape(2, -1), dtype=dtype, out=out) is out
    np.testing.assert_array_equal(out, result.reshape(2, -1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: convert(x, "hfp8-143", out=np.zeros(3, np.uint16)), r"out is uint16 \(3,\); it must be an array uint8 \(3,\)"),
        (lambda x: round_values(x, "hfp8-143", out=np.zeros(3)), "out is float64"),
        (lambda x: round_values(x, FloatFormat("wide", 11, 4, 1023)), "some numbers of wide are no float32"),
        (lambda x: convert(x, "hfp8-143", threads=0), "threads is 0"),
        (lambda x: convert(x, "hfp8-143", source="float8"), "source is 'float8'; it must be None or 'bfloat16'"),
        (lambda x: convert(x, "hfp8-143", source="bfloat16"), "bit patterns of bfloat16 are uint16, not float32"),
        (lambda x: get_format("e5m2").decode([0], dtype="float16"), "dtype is float16; values are float32 or"),
        (lambda x: get_format("e5m2").decode([0], out=np.zeros(2)), r"out is float64 \(2,\); it must be an array float64 \(1,\)"),
        (lambda x: get_format("e5m2").decode([0], dtype="int3"), "dtype is 'int3', which names no dtype"),
        (lambda x: convert(x, "hfp8-143", out=[0, 0, 0]), "out is list; it must be an array uint8"),
    ],
)  # fmt: skip
def test_bad_input(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(np.zeros(3, np.float32))


@pytest.mark.parametrize("size", [3, 70_000])  # of one piece, and of several
def test_read_only_out_is_refused(size: int) -> None:
    x, fmt = np.ones(size, np.float32), get_format("hfp8-143")
    codes, values, exact = (np.zeros(size, dtype) for dtype in (np.uint8, np.float32, np.float64))
    for array in (codes, values, exact):
        array.flags.writeable = False
    for call in (
        lambda: convert(x, fmt, out=codes),
        lambda: round_values(x, fmt, out=values),
        lambda: fmt.decode(np.zeros(size, np.uint8), out=exact),
    ):
        with pytest.raises(InputError, match="out is read-only"):
            call()


def test_codes_over_their_numbers() -> None:
    x = np.random.default_rng(0).standard_normal(70_000, np.float32)
    wanted, counts = convert(x, "hfp8-143")
    memory = x.copy()
    out = memory.view(np.uint8)[-x.size :]
    assert convert(memory, "hfp8-143", out=out)[1] == counts
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("step", [1, -1])
def test_values_over_shifted_numbers(step: int) -> None:
    memory = np.random.default_rng(0).standard_normal(100_001, np.float32)[::step]
    x, out = memory[:-1], memory[1:]
    wanted, counts = round_values(x.copy(), "hfp8-143")
    assert round_values(x, "hfp8-143", out=out)[1] == counts
    np.testing.assert_array_equal(out, wanted)


def test_values_over_their_codes() -> None:
    fmt, memory = get_format("hfp8-143"), np.zeros(4096, np.float64)
    codes = memory.view(np.uint8)[4096:8192]
    codes[:] = np.arange(4096) % 256
    wanted = fmt.decode(codes)
    np.testing.assert_array_equal(fmt.decode(codes, out=memory), wanted)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"rounding": ["nearest-even"]}, "unknown rounding mode"),
        ({"overflow": {}}, "unknown overflow policy"),
        ({"rounding": "stochastic", "bits": "13"}, "random bits per rounding is '13'; it must be a whole number"),
        ({"rounding": "stochastic", "bits": [13]}, "it must be a whole number"),
    ],
)  # fmt: skip
def test_arguments_of_a_wrong_kind_are_named(how, message):
    with pytest.raises(InputError, match=message):
        convert(np.ones(3, np.float32), "hfp8-143", **how)
