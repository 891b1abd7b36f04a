"""`hs.gemm` against the plain loop, the C reference and the exact oracle, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import MODES, FloatFormat, formats, get_format, p3109
from hfp8sim.network import PHASES
from hfp8sim.ops import gemm
from hfp8sim.ops import plain as plain_path
from hfp8sim.ops.threads import MAX_THREADS, thread_count
from hfp8sim.units import Profile, get_profile, profiles
from hfp8sim.units.random import SOURCES
from tests.units.problems import KINDS, compare, operand, plain

#: Fields of a profile for each order of summing a step.
ORDERS = {
    "fma": {"products_per_step": 1},
    "fmma": {"products_per_step": 2},
    "whole chunk": {"products_per_step": 0},
    "pair-first": {"products_per_step": 2, "sum_order": "pair-first"},
    "chain": {"products_per_step": 2, "sum_order": "chain"},
    "aligned 4": {"products_per_step": 4, "sum_order": "aligned", "guard_bits": 3},
    "aligned 32": {"products_per_step": 32, "sum_order": "aligned", "guard_bits": 13},
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", profiles("exact"))
def test_every_profile_on_every_kind_of_operand(name: str, phase: str) -> None:
    profile = get_profile(name)
    fmt_a, fmt_b = profile.operand_formats(phase)
    rng = np.random.default_rng(list(f"{name} {phase}".encode()))
    for kind in KINDS:
        for k in (1, 70, 131):
            a, b = operand(rng, fmt_a, (2, k), kind), operand(rng, fmt_b, (k, 3), kind)
            compare(profile, fmt_a, fmt_b, a, b)


@pytest.mark.parametrize("k", [0, 1, 2, 63, 64, 65, 128, 130])
@pytest.mark.parametrize("name", profiles("exact"))
def test_k_around_chunk_boundaries(name: str, k: int) -> None:
    profile = get_profile(name)
    fmt_a, fmt_b = profile.operand_formats("wgrad")
    rng = np.random.default_rng(k)
    a, b = operand(rng, fmt_a, (2, k), "normal"), operand(rng, fmt_b, (k, 2), "normal")
    compare(profile, fmt_a, fmt_b, a, b)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_every_order_in_every_mode(order: str, mode: str) -> None:
    rng = np.random.default_rng(MODES.index(mode))
    sources = SOURCES if mode.startswith("stochastic") else SOURCES[:1]
    for source in sources:
        for r in (1, 13, 24) if len(sources) > 1 else (13,):
            profile = get_profile("hfp8").replace(
                rounding=mode, random_source=source, random_bits=r, chunk_length=8, **ORDERS[order]
            )
            for kind in ("numbers", "wide"):
                a = operand(rng, get_format("hfp8-143-hw"), (3, 37), kind)
                b = operand(rng, get_format("hfp8-152-hw"), (37, 2), kind)
                compare(profile, "hfp8-143-hw", "hfp8-152-hw", a, b, seed=r, stream=3)


@pytest.mark.parametrize("mode", MODES)
def test_tiny_and_huge_addends(mode: str) -> None:
    """Addends up to 2^250 apart: no wider storage format rounds in between."""
    rng = np.random.default_rng(5)
    for acc in ("dlfloat16", "ieee-169", "binary32", "bfloat16"):
        profile = Profile(
            "p", accumulator=acc, between_chunks=acc, chunk_length=5, rounding=mode, random_bits=24
        )
        for name in ("binary32", "bfloat16", "dlfloat16"):
            fmt = get_format(name)
            a, b = operand(rng, fmt, (3, 13), "wide"), operand(rng, fmt, (13, 3), "wide")
            compare(profile, fmt, fmt, a, b, seed=9)


@pytest.mark.parametrize("mode", MODES)
def test_addends_at_every_distance(mode: str) -> None:
    """Full significands of 24 and 48 bits, 0 to 89 binades apart: no bit is lost at any distance."""
    wide = get_format("binary32")
    distance, full = np.arange(90), 2 - 2.0**-23
    b = wide.encode([[1.0], [full]])
    for acc, sign in itertools.product(("binary32", "dlfloat16"), (1.0, -1.0)):
        profile = Profile(
            "p", accumulator=acc, between_chunks=acc, chunk_length=0, rounding=mode, random_bits=24
        )
        a = wide.encode(np.stack([np.full(90, full), sign * full * 2.0**-distance], axis=1))
        for seed in range(3 if mode.startswith("stochastic") else 1):
            compare(profile, wide, wide, a, b, seed=seed)


def test_lfsr_steps_at_every_rounding() -> None:
    """The register steps at every rounding, those included that use no random bits."""
    rng = np.random.default_rng(6)
    for inside, between in (("stochastic-a", "nearest-away"), ("nearest-even", "stochastic-b")):
        for order in ORDERS:
            profile = get_profile("hfp8").replace(
                rounding=inside, between_rounding=between, random_source="lfsr", chunk_length=6,
                **ORDERS[order],
            )  # fmt: skip
            a = operand(rng, get_format("hfp8-143"), (9, 20), "normal")
            b = operand(rng, get_format("hfp8-143"), (20, 3), "normal")
            compare(profile, "hfp8-143", "hfp8-143", a, b, seed=4)


def random_problem(rng: np.random.Generator):
    """A profile, two formats and their operands, each drawn from all kinds."""
    operands = [get_format(name) for name in formats()]
    operands += [p3109(6, 3), p3109(8, 8, False, False), p3109(5, 2, False, True)]
    operands.append(FloatFormat("flush-152", 5, 2, 15, lowest="flush"))
    sums = [
        get_format(n) for n in ("dlfloat16", "ieee-169", "binary32", "e8m13", "e4m3fnuz", "e5m2")
    ]
    sums += [
        get_format(n) for n in ("fp9-153", "binary16", "bfloat16", "hfp8-143-hw", "binary8p3se")
    ]
    sums += [
        FloatFormat("flush-169", 6, 9, 31, lowest="flush", special="fn"),
        p3109(8, 1, True, False),
    ]
    fmt_a, fmt_b, acc, between = (
        pool[rng.integers(len(pool))] for pool in (operands, operands, sums, sums)
    )
    order = dict(list(ORDERS.values())[rng.integers(len(ORDERS))])
    if order.get("sum_order") == "aligned":
        order["products_per_step"] = int(rng.choice([1, 2, 5, 32, 64]))
        order["guard_bits"] = int(rng.choice([1, 7, 25, 48]))
    profile = Profile(
        "any", accumulator=acc, between_chunks=between,
        chunk_length=int(rng.choice([0, 1, 2, 5, 64])),
        rounding=str(rng.choice(MODES)), between_rounding=str(rng.choice(MODES)),
        random_bits=int(rng.integers(1, 25)), random_source=str(rng.choice(SOURCES)),
        overflow=str(rng.choice(["saturate", "special"])), **order,
    )  # fmt: skip
    m, n, k = (
        int(rng.integers(1, 4)),
        int(rng.integers(1, 4)),
        int(rng.choice([0, 1, 2, 7, 16, 65])),
    )
    a = operand(rng, fmt_a, (m, k), str(rng.choice(KINDS)))
    b = operand(rng, fmt_b, (k, n), str(rng.choice(KINDS)))
    return profile, fmt_a, fmt_b, a, b


@pytest.mark.parametrize("block", range(8))
def test_random_problems(block: int) -> None:
    rng = np.random.default_rng([20, block])
    for _ in range(150):
        seed, stream = int(rng.integers(1 << 62)) * 4, int(rng.integers(1 << 62))
        compare(*random_problem(rng), seed=seed, stream=stream, fast=block == 0)


def test_number_of_threads_is_bounded() -> None:
    assert thread_count(7) == 7 and thread_count(10**9) == MAX_THREADS


@pytest.mark.parametrize("source", SOURCES)
def test_tiles_and_threads_change_no_bit(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = get_profile("hfp8").replace(rounding="stochastic-a", random_source=source)
    rng = np.random.default_rng(8)
    fmt = get_format("hfp8-143")
    a, b = operand(rng, fmt, (45, 300), "normal"), operand(rng, fmt, (300, 70), "normal")
    expected, events = plain(profile, fmt, fmt, a, b, seed=1)
    for m, n, k in ((1, 70, 64), (7, 3, 128), (45, 64, 1)):
        monkeypatch.setattr(plain_path, "_TILE_M", m)
        monkeypatch.setattr(plain_path, "_TILE_N", n)
        monkeypatch.setattr(plain_path, "_TILE_K", k)
        for threads in (1, 2, 5):
            result, counts = plain(profile, fmt, fmt, a, b, seed=1, threads=threads)
            np.testing.assert_array_equal(result, expected)
            assert counts == events
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(gemm(a, b, profile, seed=1, threads=threads), expected)


@pytest.mark.parametrize("products", [0, 2])
def test_pieces_of_k_keep_steps_whole(products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's products stay together, however short the range of k that is unpacked at once."""
    fmt = get_format("hfp8-143")
    profile = get_profile("hfp8").replace(products_per_step=products, chunk_length=7)
    rng = np.random.default_rng(4)
    a, b = operand(rng, fmt, (5, 40), "numbers"), operand(rng, fmt, (40, 6), "numbers")
    expected = plain(profile, fmt, fmt, a, b)
    for k in (1, 7, 16):
        monkeypatch.setattr(plain_path, "_TILE_K", k)
        result = plain(profile, fmt, fmt, a, b)
        np.testing.assert_array_equal(result[0], expected[0])
        assert result[1] == expected[1]


def test_seed_and_stream_change_the_codes() -> None:
    profile = get_profile("hfp8").replace(rounding="stochastic-a")
    rng = np.random.default_rng(8)
    fmt = get_format("hfp8-143")
    a, b = operand(rng, fmt, (8, 100), "normal"), operand(rng, fmt, (100, 8), "normal")
    base = gemm(a, b, profile, seed=1)
    assert np.array_equal(base, gemm(a, b, profile, seed=1))
    assert not np.array_equal(base, gemm(a, b, profile, seed=2))
    assert not np.array_equal(base, gemm(a, b, profile, seed=1, stream=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": np.zeros((2, 3))}, "a must hold hfp8-143 codes"),
        ({"a": np.zeros(3, np.uint8)}, "a must be a matrix"),
        ({"b": np.zeros((4, 2), np.uint8)}, "b must have 3 rows, not 4"),
        ({"b": np.full((3, 2), 256, np.int64)}, r"b holds codes outside 0\.\.255"),
        ({"b": np.full((3, 2), -1, np.int64)}, r"b holds codes outside 0\.\.255"),
        (
            {"a_format": "e2m1", "a": np.full((2, 3), 16, np.uint8)},
            r"a holds codes outside 0\.\.15",
        ),
        ({"profile": "hpf8"}, "unknown profile 'hpf8'; did you mean hfp8"),
        ({"a_format": "e9m9"}, "unknown format 'e9m9'"),
        ({"threads": 0}, "threads is 0, must be at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"stream": 1 << 64}, "stream is"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    good = {"a": np.zeros((2, 3), np.uint8), "b": np.zeros((3, 2), np.uint8)}
    with pytest.raises(InputError, match=message):
        gemm(**good | arguments)
