"""Steps that add zero, counted from rows and columns alone: against exact products, and the plain loop."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.kernels import PANEL
from hfp8sim.kernels import form as at
from hfp8sim.kernels import zero_products as zeros
from hfp8sim.kernels.form import Counting
from tests.kernels.cases import HFP8, MODES, run, same
from tests.units.problems import finite_codes, operand, plain

#: Of few bits, so that all pairs of pairs can be tried: with and without a sign, of every kind of lowest binade.
TINY = {
    "e2m1": get_format("e2m1"),
    "unsigned": FloatFormat("unsigned", 2, 2, 1, signed=False, zero="unsigned", special="none"),
    "flushed": FloatFormat("flushed", 3, 1, 3, special="nan-inf", lowest="flush"),
    "normal": FloatFormat("normal", 2, 2, 2, special="ieee", lowest="normal"),
}
#: As many different slopes, and as close to each other, as 8 bits give: integers.
WIDE = {
    "integers": FloatFormat("integers", 1, 7, 0, signed=False, zero="unsigned", special="none"),
    "signed": FloatFormat("signed", 1, 6, 0, special="none"),
}
FORMATS = TINY | WIDE


def fmt_of(name: str) -> FloatFormat:
    return FORMATS[name] if name in FORMATS else get_format(name)


def integers(fmt: FloatFormat) -> list[int]:
    """The values of the codes of numbers, in units of the smallest power of two among them."""
    values = [Fraction(float(x)) for x in fmt.decode(finite_codes(fmt))]
    unit = max(x.denominator for x in values)
    return [int(x * unit) for x in values]


def pairs(fmt: FloatFormat, ids: np.ndarray) -> tuple[list[tuple[int, int]], list[int]]:
    """All pairs of a format's numbers, and their slope ids."""
    codes, values = finite_codes(fmt), integers(fmt)
    of_pairs = ids[codes[None, :], codes[:, None]]  # by the second code, then the first
    return list(itertools.product(values, values)), of_pairs.ravel().tolist()


# -- the tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", list(itertools.product(TINY, TINY)), ids="-".join)
def test_all_pairs_of_pairs_of_tiny_formats(pair: tuple[str, str]) -> None:
    """Pairs are orthogonal exactly if their slope ids say so."""
    a, b = map(fmt_of, pair)
    ids = zeros.slope_ids(a, b)
    (of_a, rows), (of_b, columns) = pairs(a, ids.rows), pairs(b, ids.columns)
    x, y = np.array(of_a), np.array(of_b)
    expected = x @ y.T == 0
    p, q = np.array(rows)[:, None], np.array(columns)[None, :]
    result = (p == q) | (p == zeros.ANY_SLOPE) | (q == zeros.ANY_SLOPE)
    np.testing.assert_array_equal(result, expected)
    assert max(rows + columns) < ids.size


def direction(pair: tuple[int, int]) -> tuple[int, int]:
    """The shortest vector of integers along a vector or against it: exact."""
    x, y = pair
    divisor = int(np.gcd(x, y)) * (-1 if x < 0 or (x == 0 and y < 0) else 1)
    return (x // divisor, y // divisor) if divisor else (0, 0)


@pytest.mark.parametrize(
    "pair",
    [
        ("hfp8-143", "hfp8-143"), ("hfp8-143", "hfp8-152"), ("hfp8-152-hw", "hfp8-143-hw"), ("e4m3fn", "e5m2"),
        ("e4m3fnuz", "hfp8-143@15"), ("e2m1", "e4m3"), ("integers", "integers"), ("integers", "signed"), ("signed", "signed"),
    ],
    ids="-".join,
)  # fmt: skip
def test_slope_ids_of_all_pairs_of_codes(pair: tuple[str, str]) -> None:
    """Two vectors of the plane are orthogonal if one is 0, or one's direction is the other's turned by a right
    angle. So ids must correspond to directions one to one: for all 2^16 pairs of a row's codes and all of a
    column's, in exact integers."""
    a, b = map(fmt_of, pair)
    ids = zeros.slope_ids(a, b)
    of_rows = {(direction(x), n) for x, n in zip(*pairs(a, ids.rows))}
    of_columns = {(direction((-y, x)), n) for (x, y), n in zip(*pairs(b, ids.columns))}
    nothing = {((0, 0), zeros.ANY_SLOPE)}
    assert (
        of_rows & of_columns >= nothing
        and ((0, 0), zeros.ANY_SLOPE) not in (of_rows | of_columns) - nothing
    )
    rows, columns = dict(of_rows), dict(of_columns)
    assert len(rows) == len(of_rows) and len(columns) == len(
        of_columns
    )  # a direction has one number
    shared = rows.keys() & columns.keys()
    assert all(rows[x] == columns[x] for x in shared)
    assert len({rows[x] for x in shared}) == len(
        shared
    )  # and a shared number is that of one direction
    others = {rows[x] for x in rows.keys() - shared}
    assert others <= {zeros.ROWS_ONLY}
    others = {columns[x] for x in columns.keys() - shared}
    assert others <= {zeros.COLUMNS_ONLY}
    assert {rows[x] for x in shared} - {zeros.ANY_SLOPE} <= set(range(zeros.FIRST_SHARED, ids.size))


# -- counts ------------------------------------------------------------------------------------------


def cancelling(rng: np.random.Generator, fmt: FloatFormat, shape: tuple[int, int]) -> np.ndarray:
    """Codes of few numbers, both zeros among them, and anything here and there."""
    some = np.array([0, *fmt.encode(np.array([1.0, 1.5, 2.0]))], fmt.dtype)
    if fmt.signed:
        some = np.concatenate([some, some | fmt.dtype.type(1 << (fmt.bits - 1))])
    codes = rng.choice(np.intersect1d(some, finite_codes(fmt)), shape)
    return np.where(rng.random(shape) < 0.8, codes, operand(rng, fmt, shape, "normal"))


def zero_steps(fmt_a: FloatFormat, fmt_b: FloatFormat, a, b, chunk: int) -> tuple[int, int]:
    """How many steps of two products have only zeros, and how many more add up to zero, exactly."""
    x, y = fmt_a.decode(a), fmt_b.decode(b)
    only, sums = 0, 0
    for start in range(0, x.shape[1], chunk or x.shape[1]):
        stop = min(start + (chunk or x.shape[1]), x.shape[1])
        for k in range(start, stop, 2):
            terms = np.einsum("mk,kn->kmn", x[:, k : min(k + 2, stop)], y[k : min(k + 2, stop)])
            zero = (terms == 0).all(axis=0)
            only += int(zero.sum())
            sums += int(((terms.sum(axis=0) == 0) & ~zero).sum())
    return only, sums


PAIRS = (
    ("hfp8-143", "hfp8-143"), ("hfp8-143", "hfp8-152"), ("hfp8-152", "hfp8-143"), ("e4m3fn", "e5m2"),
    ("e4m3fnuz", "e4m3fn"), ("e2m1", "e2m1"), ("e2m1", "hfp8-143"), ("unsigned", "flushed"),
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_steps_that_add_zero_swamp_nothing(pair: tuple[str, str], mode: str) -> None:
    """Pairs that cancel; zeros of either sign in one place or both; odd K and odd chunks; partial panels."""
    rng = np.random.default_rng(40)
    fmt_a, fmt_b = map(fmt_of, pair)
    cancelled = 0
    for chunk in (64, 7, 0):
        profile = HFP8.replace(rounding=mode, products_per_step=2, chunk_length=chunk)
        for m, k, n in ((1, 1, 1), (16, 64, 32), (19, 131, 52), (33, 22, 5)):
            a, b = cancelling(rng, fmt_a, (m, k)), cancelling(rng, fmt_b, (k, n))
            plan = same(profile, fmt_a, fmt_b, a, b, events=True, seed=3)
            assert plan.kernel.counting is Counting.UNCHANGED
            zero, sums = zero_steps(fmt_a, fmt_b, a, b, chunk)
            cancelled += sums
            if n > 1:
                assert zero > 0
    assert cancelled > 0


@pytest.mark.parametrize("products", [1, 2])
def test_pieces_count_their_own_zeros(products: int) -> None:
    """Ranges of rows, columns and k, in chunks that end with an odd product: their counts add up."""
    rng = np.random.default_rng(41)
    fmt_a, fmt_b = map(get_format, ("hfp8-143", "hfp8-152"))
    profile = HFP8.replace(products_per_step=products, chunk_length=7)
    m, k, n = 37, 150, 41
    a, b = cancelling(rng, fmt_a, (m, k)), cancelling(rng, fmt_b, (k, n))
    events = plain(profile, fmt_a, fmt_b, a, b)[1]
    scans = kernels.scan(a, fmt_a), kernels.scan(b, fmt_b)
    plan = kernels.plan(profile, fmt_a, fmt_b, *scans, k, True)
    keys, memory, swamped = (np.uint64(0), np.uint64(0)), kernels.Reused(), 0
    for rows in (slice(0, 16), slice(16, 37)):
        for columns in (slice(0, 7), slice(7, 41)):
            sums = kernels.allocate_accumulators(
                plan, rows.stop - rows.start, columns.stop - columns.start
            )
            for k0, k1 in itertools.pairwise((0, 2, 7, 13, 14, 21, 51, 102, k)):
                options = {"k0": k0, "memory": memory}
                left = kernels.pack_operand(plan, a[rows, k0:k1], fmt_a, keys, of_a=True, **options)
                right = kernels.pack_operand(
                    plan, b[k0:k1, columns].T, fmt_b, keys, of_a=False, **options
                )
                counts = kernels.accumulate(plan, left, right, sums, k0=k0, last=k1 == k)
                swamped += counts[at.SWAMPED]
                swamped -= kernels.zero_steps(plan, a[rows, k0:k1], b[k0:k1, columns].T, k0)
    assert swamped == events.swamped > 0


@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
def test_layouts_and_threads_count_the_same(layout: str) -> None:
    rng = np.random.default_rng(42)
    fmt = get_format("hfp8-143")
    profile = HFP8.replace(products_per_step=2)
    a, b = cancelling(rng, fmt, (300, 255)), cancelling(rng, fmt, (255, 130))
    expected = plain(profile, fmt, fmt, a, b, threads=2)[1]
    laid = {
        "rows": lambda x: x,
        "columns": np.asfortranarray,
        "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    }[layout]
    for threads in (1, 2, 3):
        counts = run(profile, fmt, fmt, laid(a), laid(b), events=True, threads=threads)[1]
        assert counts[at.SWAMPED] == expected.swamped > 0


def test_rows_and_columns_of_zeros() -> None:
    """A zero row is orthogonal to all columns, a zero column to all rows, and each pair is counted once."""
    rng = np.random.default_rng(43)
    for row_zeros, column_zeros in itertools.product((0.0, 0.5, 1.0), repeat=2):
        rows, columns = (
            np.where(rng.random((p, 5, PANEL)) < share, zeros.ANY_SLOPE, rng.integers(1, 6, (p, 5, PANEL)))
            for p, share in ((3, row_zeros), (2, column_zeros))
        )  # fmt: skip
        x, y = (z.transpose(1, 0, 2).reshape(5, -1) for z in (rows, columns))
        x, y = x[:, :, None], y[:, None, :]
        expected = int(((x == y) | (x == zeros.ANY_SLOPE) | (y == zeros.ANY_SLOPE)).sum())
        result = zeros.count_orthogonal(rows.astype(np.uint16), columns.astype(np.uint16), 6)
        assert result == expected


@pytest.mark.parametrize(
    "pair, change, why",
    [
        (("dlfloat16", "hfp8-143"), {}, "no table of 16 bits"),
        (("hfp8-143", "dlfloat16"), {}, "no table of 16 bits"),
        (("e4m3fn", "e4m3fn"), {"accumulator": "narrow", "between_chunks": "narrow"}, "no numbers any more"),
    ],
)  # fmt: skip
def test_kernels_that_count_each_step(pair: tuple[str, str], change: dict, why: str) -> None:
    """Operands without tables, and sums that overflow: the kernel looks at what each step adds."""
    rng = np.random.default_rng(44)
    narrow = FloatFormat("narrow", 4, 6, 7, special="ieee", lowest="normal")
    change = dict.fromkeys(change, narrow)
    fmt_a, fmt_b = map(get_format, pair)
    profile = HFP8.replace(products_per_step=2, **change)
    a, b = cancelling(rng, fmt_a, (19, 131)), cancelling(rng, fmt_b, (131, 20))
    if change:  # sums run over the largest number and stay there
        a[::2, 50:90] = b[50:90, ::2] = fmt_a.encode(np.array(200.0))
    plan = same(profile, fmt_a, fmt_b, a, b, events=True)
    assert plan.kernel.counting is Counting.EVENTS, why


def test_code_zero_pads_steps_and_panels() -> None:
    """Code 0 is the number zero in every format that a kernel takes."""
    taken = 0
    for name in formats():
        fmt = get_format(name)
        if fmt.bits <= zeros.TABLE_BITS and fmt.zero != "none":
            assert fmt.decode(np.zeros(1, fmt.dtype))[0] == 0.0
            assert zeros.slope_ids(fmt, fmt).rows[0, 0] == zeros.ANY_SLOPE
            taken += 1
    assert taken > 10
