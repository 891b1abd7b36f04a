"""Updates of weights: plain loop, fast kernel, C reference and exact oracle give the same bits."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import get_format
from hfp8sim.ops import updates
from hfp8sim.ops.updates import reduce, round_result, softmax_input, start
from hfp8sim.units.sites import BINARY32, STOCHASTIC, Draw, Op, Place, Site, round_site
from hfp8sim.units.update import RULES, Constants, Slot, Update, plain_update
from hfp8sim.verify import c_reference as reference
from tests import oracle
from tests.units.updates import (
    by_c,
    by_kernel,
    by_oracle,
    by_plain,
    differences,
    numbers,
    problem,
    to_float,
)

#: Optimisers with their options and constants.
OPTIMISERS = {
    "sgd": ({}, Constants.for_sgd(0.01, momentum=0.9, decay=1e-4, scale=1024)),
    "plain sgd": ({}, Constants.for_sgd(0.03)),
    "damped": ({}, Constants.for_sgd(0.01, momentum=0.9, dampening=0.1, scale=1000)),
    "nesterov": ({"nesterov": True}, Constants.for_sgd(0.01, momentum=0.9, decay=0.01)),
    "two roundings": ({"momentum_roundings": 2}, Constants.for_sgd(0.01, momentum=0.9)),
    "adam": ({"optimiser": "adam"}, Constants.for_adam(1e-3, 3, decay=0.01, scale=3)),
    "adamw": (
        {"optimiser": "adam"},
        Constants.for_adam(1e-3, 1, epsilon=0, decay=0.5, decoupled=True),
    ),
}
CASES = [(rule, name) for rule in RULES for name in OPTIMISERS]


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("rule, name", CASES)
def test_all_implementations_agree(rule: str, name: str, wild: bool) -> None:
    options, constants = OPTIMISERS[name]
    update = Update(rule, **options)
    rng, draw = np.random.default_rng([len(rule), len(name), wild]), Draw(7, 3, 2**63 + 5)
    tensors = problem(update, rng, 3000, wild)
    plain, counts = by_plain(update, constants, tensors, draw)
    c, c_counts = by_c(update, constants, tensors, draw)
    assert differences(update, constants, plain, c) == []
    assert counts == c_counts
    fast, fast_counts = by_kernel(update, constants, tensors, draw, threads=1)
    assert differences(update, constants, plain, fast) == []
    assert fast_counts == (counts if counts.invalid < 0 else None)
    few = {slot: x[:150].copy() for slot, x in tensors.items()}
    exact, exact_counts = by_oracle(update, constants, few, draw)
    plain, counts = by_plain(update, constants, few, draw)
    assert differences(update, constants, plain, exact) == []
    assert counts.invalid == exact_counts.invalid
    if counts.invalid < 0:  # the oracle does not count the later sites of an element without a code
        assert counts == exact_counts


MODES = (
    "nearest-even", "nearest-away", "toward-zero", "toward-positive", "toward-negative", "to-odd",
    "stochastic-a", "stochastic-b", "stochastic-c",
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "fmt", ["dlfloat16", "ieee-169", "hfp8-143", "e5m2", "bfloat16", "binary32"]
)
def test_formats_and_modes_agree(fmt: str, mode: str) -> None:
    """Every format and mode at the sites of `residual-small`, which has a sum of each length."""
    record = get_format(fmt)
    policies = ["saturate"] + (["special"] if record.has_nan or record.has_inf else [])
    for r in (24, 1, 16) if mode.startswith("stochastic") else (24,):
        for policy in policies:
            site = Site(fmt, mode, policy, r)
            names = ("unscale", "decay", "momentum", "update", "residual")
            update = Update("residual-small", sites=dict.fromkeys(names, site))
            constants = Constants.for_sgd(0.1, momentum=0.9, decay=0.01, scale=3)
            rng, draw = np.random.default_rng(5), Draw(1, 2, 3)
            for wild in (False, True):
                tensors = problem(update, rng, 1500, wild)
                c, counts = by_c(update, constants, tensors, draw)
                fast, fast_counts = by_kernel(update, constants, tensors, draw, threads=1)
                assert differences(update, constants, fast, c) == [], (r, policy)
                assert fast_counts == (counts if counts.invalid < 0 else None)
                few = {slot: x[-40:].copy() for slot, x in tensors.items()}
                exact, _ = by_oracle(update, constants, few, draw)
                c, _ = by_c(update, constants, few, draw)
                assert differences(update, constants, exact, c) == [], (r, policy)


#: Steps of the sweep over all weights: from a rounding unit of the smallest number to one of 1, ties among them.
STEPS = (2.0**-41, 2.0**-11, -(2.0**-10), 0.71875)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", ["nearest-even", "nearest-away", "stochastic-a"])
def test_every_weight_agrees_with_exact_fractions(mode: str) -> None:
    """All 1-6-9 weights with each step of a grid: plain loop, kernel, C and the exact oracle."""
    site = Site("dlfloat16", mode)
    update = Update("axpy", sites={"unscale": BINARY32, "update": site})
    weights = site.record.decode(np.arange(1 << 16, dtype=np.uint16)).astype(np.float32)
    constants = Constants.for_sgd(1.0)
    for number, step in enumerate(STEPS, start=1):
        tensors = dict.fromkeys(list(Slot)[:5], np.zeros_like(weights))
        tensors |= {Slot.WEIGHT: weights, Slot.GRADIENT: np.full_like(weights, step)}
        draw = Draw(3, number, 1)
        exact, counts = by_oracle(update, constants, tensors, draw)
        for way in (by_plain, by_c, functools.partial(by_kernel, threads=1)):
            found, found_counts = way(update, constants, tensors, draw)
            assert differences(update, constants, found, exact) == [], (way, step)
            assert found_counts == counts, (way, step)


def test_sums_at_every_distance_agree() -> None:
    """Three terms, one of which lies far below the others, or cancels them, or decides a tie of them: C and kernel."""
    rng = np.random.default_rng(8)
    size = 40_000
    a = numbers(rng, size, -3, 3)
    b = np.where(rng.random(size) < 0.5, -a, numbers(rng, size, -60, 3)).astype(np.float32)
    b = (b * (1 + 2.0 ** -rng.integers(1, 24, size))).astype(np.float32)
    b[::4] = np.copysign(np.spacing(np.abs(a[::4])) / 2, b[::4])
    c = numbers(rng, size, -120, 3)
    for site in (BINARY32, STOCHASTIC, Site("binary32", "stochastic", "special", 24)):
        update = Update(
            "residual-wide", sites={"unscale": BINARY32, "residual": site, "update": site}
        )
        tensors = {Slot.WEIGHT: a, Slot.RESIDUAL: b, Slot.GRADIENT: c, Slot.MOMENTUM: c}
        constants = Constants.for_sgd(0.7)
        exact, counts = by_c(update, constants, tensors, Draw(0, 1, 0))
        fast, fast_counts = by_kernel(update, constants, tensors, Draw(0, 1, 0))
        assert differences(update, constants, exact, fast) == []
        assert counts == fast_counts


# -- golden values ------------------------------------------------------------------------------------------


def stepped(update: Update, weight: float, step: float, count: int, **state: float):
    """W and r after so many steps of α·d = `step`."""
    w, r = (np.array([x], np.float32) for x in (weight, state.get("residual", 0.0)))
    g = np.array([step], np.float32)
    residual = {"residual": r} if update.residual else {}
    for number in range(1, count + 1):
        updates.update(update, Constants(1.0), w, g, step=number, **residual)
    return float(w[0]), float(r[0])


@pytest.mark.parametrize("rule", ["residual-wide", "residual-small", "residual-naive"])
def test_residual_collects_steps(rule: str) -> None:
    """Steps of 2^−10 from 0.5: after 16 there is a tie, after 17 the weight moves."""
    assert stepped(Update(rule), 0.5, 2**-10, 16) == (0.5, 0.015625)
    assert stepped(Update(rule), 0.5, 2**-10, 17) == (0.46875, -0.0146484375)


@pytest.mark.parametrize("rule", ["residual-wide", "residual-small", "residual-naive"])
def test_four_steps_wait_in_the_residual(rule: str) -> None:
    """Steps of 2^−7 from 1: the fourth is a tie, the fifth moves the weight. W − r = 1 − t/128 is exact."""
    expected = [(1, 1 / 128), (1, 2 / 128), (1, 3 / 128), (1, 4 / 128), (0.9375, -3 / 128)]
    for t, state in enumerate(expected, start=1):
        assert stepped(Update(rule), 1.0, 2**-7, t) == state
        assert state[0] - state[1] == 1 - t / 128


def test_sum_of_two_learners_steps_as_one() -> None:
    """A step of 2^−7 at one of two learners, and none at the other."""
    gradients = [np.array([g], np.float32) for g in (2**-7, 0)]
    assert updates.reduce(gradients, Site(), step=1, encoded=True).tolist() == [2**-7]


@pytest.mark.parametrize("rule, moves", [("wide", True), ("small", True), ("naive", False)])
def test_small_steps_survive(rule: str, moves: bool) -> None:
    """Steps of 2^−13 from 0.5: 128 of them are a tie."""
    update = Update(f"residual-{rule}")
    assert stepped(update, 0.5, 2**-13, 128)[0] == 0.5
    weight, residual = stepped(update, 0.5, 2**-13, 129)
    assert (weight == 0.46875) == moves
    assert stepped(update, 0.5, 2**-13, 4000)[0] < 0.1 if moves else residual == 0.0


@pytest.mark.parametrize(
    "rounding, change, result",
    [
        ("nearest-even", -(2**-11), 1.0), ("nearest-away", -(2**-11), 1.0),
        ("nearest-even", 2**-10, 1.0), ("nearest-away", 2**-10, 1 + 2**-9),
        ("nearest-even", 2**-11, 1.0), ("nearest-away", -(2**-12), 1.0),
    ],
)  # fmt: skip
def test_nearest_updates_of_one(rounding: str, change: float, result: float) -> None:
    update = Update("axpy", sites={"update": Site("dlfloat16", rounding)})
    assert stepped(update, 1.0, -change, 1)[0] == result


def moves_of_one(variant: str, r: int, change: float) -> int:
    """How many of the 2^r random integers move a 1-6-9 weight of 1 at a step of `change`."""
    site = Site("dlfloat16", f"stochastic-{variant}", "special", r)
    size = 1 << r
    one, g = np.ones(size, np.float32), np.full(size, change, np.float32)
    out, _ = round_site(Op.SUM, [(1.0, one), (1.0, g)], site, np.arange(size))
    return int(np.count_nonzero(out != 1))


@pytest.mark.parametrize(
    "r, variant, down, up",
    [
        (8, "a", 1 / 256, 0), (8, "b", 0, 0), (8, "c", 0, 0),
        (10, "a", 1 / 1024, 0), (10, "b", 1 / 1024, 1 / 1024), (10, "c", 1 / 1024, 0),
        (13, "a", 1 / 1024, 1 / 2048), (13, "b", 1 / 1024, 1 / 2048), (13, "c", 1 / 1024, 1 / 2048),
    ],
)  # fmt: skip
def test_few_random_bits_shrink_weights(r: int, variant: str, down: float, up: float) -> None:
    """Steps of 2^−20 at 1. With 8 bits variant A moves down four times too often, and never up."""
    assert moves_of_one(variant, r, -(2**-20)) == down * 2**r
    assert moves_of_one(variant, r, 2**-20) == up * 2**r


def test_default_update_is_unbiased_for_every_residue() -> None:
    """Of the 2^24 random integers exactly the residue's share goes up. Counted without trying all: R counts up,
    so the share is where the result changes."""
    site = Update("axpy").sites["update"]
    assert (site.record.name, site.random_bits) == ("dlfloat16", 24)
    for j in range(256):  # a residue of j/256 of the step of 2^−9 above 1
        x = np.full(4, 1 + j * 2.0**-17, np.float32)
        first = 2**24 - j * 2**16  # the first R that carries
        random = np.array([0, max(first - 1, 0), min(first, 2**24 - 1), 2**24 - 1])
        out, _ = round_site(Op.SUM, [(1.0, x)], site, random)
        expected = [1, 1, 1 if j == 0 else 1 + 2**-9, 1 if j == 0 else 1 + 2**-9]
        np.testing.assert_array_equal(out, np.float32(expected))


def test_random_words_are_unbiased() -> None:
    """2^18 elements, residues of 0, 1/16, … 15/16 of a step: shares within 8 standard deviations."""
    size = 1 << 18
    update = Update("axpy")
    for j in range(16):
        w, g = np.ones(size, np.float32), np.full(size, -j * 2.0**-13, np.float32)
        updates.update(update, Constants(1.0), w, g, step=j + 1, tensor=9)
        share = np.count_nonzero(w > 1) / size
        assert abs(share - j / 16) <= 8 * 0.5 / np.sqrt(size), j
        assert (share > 0) == (j > 0)


def test_naive_residual_is_a_nearest_rounded_weight() -> None:
    """W' − r' of `residual-naive` is a 1-6-9 weight that is rounded to nearest, and no residual is rounded."""
    rng = np.random.default_rng(4)
    size = 400
    exact = {"unscale": BINARY32}
    naive = Update("residual-naive", sites=exact)
    nearest = Update("axpy", sites={**exact, "update": Site("dlfloat16", "nearest-away")})
    master = numbers(rng, size, -10, 3)
    w, r = start(naive, master)
    assert r is not None
    master = w - r
    for number in range(1, 30):
        g = numbers(rng, size, -18, -4)
        updates.update(naive, Constants(1.0), w, g, residual=r, step=number)
        updates.update(nearest, Constants(1.0), master, g, step=number)
        np.testing.assert_array_equal(w.astype(np.float64) - r, master)


def test_saturated_weight_keeps_its_residual() -> None:
    """1-4-3 ends at 30; what is beyond it is in the residual, and comes back."""
    assert stepped(Update("residual-wide"), 30.0, -10.0, 1) == (30.0, -10.0)
    assert stepped(Update("residual-wide"), 30.0, 12.0, 1, residual=-10.0) == (28.0, 0.0)


def test_start() -> None:
    w = np.random.default_rng(1).standard_normal((30, 20)).astype(np.float32)
    fmt, rest = get_format("hfp8-143"), get_format("dlfloat16")
    weight, residual = start(Update("residual-wide"), w)
    expected = fmt.decode(fmt.encode(w, rounding="nearest-away"))
    np.testing.assert_array_equal(weight, expected)
    lost = rest.decode(rest.encode(expected - w, rounding="nearest-away"))
    np.testing.assert_array_equal(residual, lost)
    weight, residual = start(Update("axpy"), w, seed=3, tensor=4)
    key = Draw(3, 0, 4).words(Place.UPDATE, STOCHASTIC, w.size).reshape(w.shape)
    expected = rest.decode(rest.encode(w, "stochastic", "special", key, 24))
    np.testing.assert_array_equal(weight, expected)
    assert residual is None


# -- other sites -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learners, size", [(1, 7), (2, 5), (3, 200), (5, 3), (8, 1030)])
@pytest.mark.parametrize("site", [Site(), STOCHASTIC, Site("ieee-169", "stochastic-c")])
def test_ring_sum(learners: int, size: int, site: Site) -> None:
    rng, draw = np.random.default_rng(learners), Draw(5, 6, 7)
    x = np.stack([numbers(rng, size, -8, 3) for _ in range(learners)])
    result = reduce(list(x), site, seed=5, step=6, tensor=7)
    np.testing.assert_array_equal(result, reference.reduce(x, site, draw))
    few = min(size, 40)
    if few == size:
        exact = oracle.reduce(
            site, [[oracle.from_float(float(v)) for v in row] for row in x], 5, 6, 7
        )
        np.testing.assert_array_equal(result, [to_float(v) for v in exact])
    if learners == 1:
        np.testing.assert_array_equal(result, x[0])
    if learners == 2:  # chunk 0 starts at learner 1
        first, _ = round_site(
            Op.SUM, [(1.0, x[1]), (1.0, x[0])], site, draw.words(Place.REDUCE, site, size, hop=1)
        )
        np.testing.assert_array_equal(result, first)


def test_ring_order_starts_after_the_owner() -> None:
    """Chunk c is summed as learners c + 1, c + 2, …, c: large terms first or last give other bits."""
    x = np.array([[1, 1, 1], [2**-10, 2**-10, 2**-10], [2**-10, 2**-10, 2**-10]], np.float32)
    site = Site("dlfloat16", "toward-zero")
    # Chunk 0: (2^−10 + 2^−10) + 1. Chunk 1: (2^−10 + 1) + 2^−10. Chunk 2: (1 + 2^−10) + 2^−10.
    np.testing.assert_array_equal(reduce(list(x), site, step=1), [1 + 2**-9, 1, 1])


def test_encoded_sum_rounds_what_it_starts_with() -> None:
    """Codes hold numbers of the format only; of numbers that are of the format already, the sum is the same."""
    site = Site("dlfloat16", "toward-zero")
    x = np.array([[2.0**-9], [1 + 2.0**-10 + 2.0**-11]], np.float32)  # one chunk has the element
    x = np.repeat(x, 2, axis=1)
    np.testing.assert_array_equal(reduce(list(x), site, step=1), [1 + 2.0**-9 + 0, 1 + 2.0**-9])
    y = np.array([[1 + 2.0**-10] * 2, [2.0**-10] * 2], np.float32)
    # Chunk 0 starts with 2^−10, chunk 1 with 1 + 2^−10, which is cut to 1.
    np.testing.assert_array_equal(reduce(list(y), site, step=1), [1 + 2.0**-9] * 2)
    np.testing.assert_array_equal(reduce(list(y), site, step=1, encoded=True), [1 + 2.0**-9, 1])


@pytest.mark.parametrize("mode", ["stochastic-a", "stochastic-c"])
def test_part_of_an_update_is_that_of_the_whole(mode: str) -> None:
    """By the kernel (variant A) and by the plain loop (variant C): random words are those of the whole tensor."""
    rule = Update("residual-wide", sites={"momentum": Site("dlfloat16", mode)})
    constants = Constants.for_sgd(0.01, momentum=0.9)
    w, g = (
        numbers(np.random.default_rng(3), 2500, -3, 1),
        numbers(np.random.default_rng(4), 2500, -3, 1),
    )
    results = []
    for parts in ([None], [slice(0, 700), slice(700, 2500)], [slice(700, 1900)]):
        weight, residual = start(rule, w)
        assert residual is not None
        momentum = np.zeros_like(w)
        for part in parts:
            updates.update(
                rule, constants, weight, g, residual=residual, momentum=momentum, seed=5, step=6, tensor=7,
                part=part,
            )  # fmt: skip
        results.append((weight, residual, momentum))
    for whole, pieces, middle in zip(*results):
        np.testing.assert_array_equal(pieces, whole)
        np.testing.assert_array_equal(middle[700:1900], whole[700:1900])
    assert not results[2][2][:700].any()
    with pytest.raises(InputError, match="needs contiguous tensors"):
        updates.update(
            Update("axpy"), Constants(0.1), weight[::2], g[::2], step=1, part=slice(0, 3)
        )


def test_softmax_subtracts_first() -> None:
    z = np.array([[3.0, 1002.0, 1001.5], [0.1, -5.0, 0.1]], np.float32)
    result = softmax_input(z, Site(), step=1)
    dl = get_format("dlfloat16")
    exact = z.astype(np.float64) - z.max(axis=1, keepdims=True).astype(np.float64)
    np.testing.assert_array_equal(result, dl.decode(dl.encode(exact, rounding="nearest-away")))
    np.testing.assert_array_equal(softmax_input(z.T, Site(), axis=0, step=1), result.T)
    assert not np.signbit(result[result == 0]).any()


VECTOR_SITES = [
    Site(), STOCHASTIC, Site("ieee-169", "nearest-even"), Site("fixed8.8", "stochastic", "saturate"),
    Site("bfloat16", "stochastic", "special", 16), BINARY32,
]  # fmt: skip


@pytest.mark.parametrize("site", VECTOR_SITES, ids=lambda site: site.text)
@pytest.mark.parametrize("place", [Place.BIAS, Place.NORM], ids=lambda place: place.name.lower())
def test_biases_and_normalisations_agree(place: Place, site: Site) -> None:
    """Fast code, plain loop, C reference and oracle; the words of the two places differ."""
    rng, draw = np.random.default_rng(4), Draw(21, 22, 2**63 + 23)
    terms = [numbers(rng, 300, -20, 6) for _ in range(2 if place == Place.BIAS else 1)]
    terms[-1][::7] = -terms[0][::7]
    keys = {"seed": 21, "step": 22, "tensor": 2**63 + 23}
    result = updates.rounded_sum(place, site, [(1.0, x) for x in terms], **keys)
    words = draw.words(place, site, 300)
    plain, _ = round_site(Op.SUM, [(1.0, x) for x in terms], site, words)
    exact = oracle.rounded_sums(
        place.name.lower(), site, [[oracle.from_float(float(v)) for v in x] for x in terms], *draw
    )
    by_c = reference.rounded_sum(place, site, terms, draw)
    for other in (plain, by_c, np.array([to_float(x) for x in exact])):
        np.testing.assert_array_equal(result.view(np.uint32), other.view(np.uint32))


SOFTMAX_SITES = [
    Site(), STOCHASTIC, Site("ieee-169", "nearest-even"), Site("fixed8.8", "stochastic", "saturate"),
    Site("e5m2", "toward-zero"), Site("hfp8-143", "nearest-away", "saturate"), BINARY32,
]  # fmt: skip


@pytest.mark.parametrize("site", SOFTMAX_SITES, ids=lambda site: site.text)
def test_softmax_inputs_agree(site: Site) -> None:
    """C reference, oracle and fast code; rows of numbers at all distances, masked ones, and infinite ones."""
    rng, draw = np.random.default_rng(3), Draw(11, 12, 2**63 + 13)
    z = numbers(rng, 1200, -12, 6).reshape(40, 30)
    z[5] = numbers(rng, 30, -140, 30)
    z[6] = np.abs(z[6])
    z[7] = -np.abs(z[7])
    z[8, ::2] = 0.0
    z[9, 1::2] = -0.0
    z[10] = z[10, 0]
    z[11:20][rng.random((9, 30)) < 0.3] = -np.inf
    z[20] = -np.inf
    result = softmax_input(z, site, seed=11, step=12, tensor=2**63 + 13)
    expected, invalid = reference.softmax_input(z, site, draw)
    assert invalid == -1
    np.testing.assert_array_equal(result.view(np.uint32), expected.view(np.uint32))
    few = slice(4, 22)
    exact = oracle.softmax_input(
        site, [[oracle.from_float(float(x)) for x in row] for row in z[:22]], 11, 12, 2**63 + 13
    )
    exact = np.array([[to_float(x) for x in row] for row in exact])
    np.testing.assert_array_equal(result[few].view(np.uint32), exact[few].view(np.uint32))
    assert np.isneginf(result[20]).all() and (result[~np.isneginf(z)] <= 0).all()


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_softmax_of_special_rows_is_nan(special: float) -> None:
    z = np.array([[1.0, special, -np.inf], [1.0, 2.0, 3.0]], np.float32)
    result = softmax_input(z, Site(), step=1)
    expected, invalid = reference.softmax_input(z, Site(), Draw(0, 1, 0))
    np.testing.assert_array_equal(result, expected)
    # ∞ − ∞ is NaN; what is finite less ∞ overflows into the one code of NaN and infinity.
    assert np.isnan(result[0, :2]).all() and np.isneginf(result[0, 2]) and invalid == -1
    np.testing.assert_array_equal(result[1], [-2, -1, 0])
    exact = oracle.softmax_input(Site(), [[oracle.from_float(float(x)) for x in z[0]]], 0, 1, 0)
    np.testing.assert_array_equal(result[0], [to_float(x) for x in exact[0]])
    with pytest.raises(InputError, match=r"NaN at \[0, [01]\] of the softmax"):
        softmax_input(z, Site("hfp8-143", "nearest-away", "saturate"), step=1)
    site = Site("hfp8-143", "nearest-away", "saturate")
    assert reference.softmax_input(z, site, Draw(0, 1, 0))[1] in (0, 1)


def test_results_have_words_of_their_own() -> None:
    x = np.full(1000, 1 + 2.0**-10, np.float32)
    result = round_result(x, STOCHASTIC, seed=1, step=2, tensor=3)
    random = Draw(1, 2, 3).words(Place.RESULT, STOCHASTIC, 1000)
    np.testing.assert_array_equal(result > 1, random >= 2**23)


# -- arguments -----------------------------------------------------------------------------------------------


def test_constants_of_adam() -> None:
    def single(x: float) -> float:
        return float(np.float32(x))

    c = Constants.for_adam(1e-3, 10, decay=0.1, decoupled=True)
    assert c.rate == single(1e-3 / (1 - 0.9**10)) and c.gain == single(1 - 0.9)
    assert c.second_gain == single(1 - 0.999) and c.shrink == single(1 - 1e-3 * 0.1)
    assert c.correction == single(np.sqrt(1 - 0.999**10)) and c.decay == 0
    assert Constants.for_adam(1e-3, 1, decay=0.1).decay == single(0.1)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Update("resid"), "unknown update rule 'resid'"),
        (lambda: Update(optimiser="lion"), "unknown optimiser 'lion'"),
        (lambda: Update("axpy", sites={"residual": Site()}), "unknown site of update rule axpy"),
        (lambda: Update(momentum_roundings=3), "momentum_roundings is 3, must be 1 or 2"),
        (lambda: Update(optimiser="adam", nesterov=True), "options of sgd, not of adam"),
        (lambda: Site("dlfloat16", overflow="error"), "must be 'saturate' or 'special'"),
        (lambda: Site("e8m0", overflow="saturate"), "needs a sign and a zero"),
        (lambda: Site("binary32", "stochastic", random_bits=25), "must be 1..24"),
        (lambda: Constants(float("nan")), "constant rate of an update is nan"),
        (lambda: Constants(1.0, scale=0), "must be positive"),
        (lambda: Constants(1.0, shrink=1e-9).unshrink, "is no binary32 number: decay less"),
        (lambda: Constants.for_adam(1.0, 0), "must be at least 1"),
        (lambda: reduce([], Site(), step=1), "one gradient of each"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(make, text: str) -> None:
    with pytest.raises(InputError, match=text):
        make()


def test_every_step_has_a_site() -> None:
    """Shared places take their settings from the place that users name."""
    for rule in RULES:
        for options, constants in OPTIMISERS.values():
            update = Update(rule, **options)
            for step in update.steps(constants, stuck=True):
                assert isinstance(update.site(step.place), Site)
    assert {f.name for f in dataclasses.fields(Constants)} >= {
        term.constant
        for rule in RULES
        for step in Update(rule).steps(Constants(1.0))
        for term in step.terms
        if term.constant not in ("one", "unshrink")
    }


def test_plain_update_leaves_the_gradient() -> None:
    tensors = {slot: np.ones(3, np.float32) for slot in (Slot.WEIGHT, Slot.GRADIENT)}
    plain_update(Update("axpy"), Constants(0.5, scale=4), tensors, Draw(0, 1, 0))
    np.testing.assert_array_equal(tensors[Slot.GRADIENT], 1)
