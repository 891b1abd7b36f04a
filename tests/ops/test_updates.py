"""`ops.updates.update` on arrays: threads, layouts, bad tensors."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.ops.updates import update
from hfp8sim.units.sites import BINARY32, Draw, Site
from hfp8sim.units.update import Constants, Slot, Update
from tests.units.updates import by_plain, differences, problem

CONSTANTS = Constants.for_sgd(0.01, momentum=0.9, decay=1e-4, scale=1024)
RULE = Update("residual-wide")


def run(tensors, **options):
    state = {"residual": tensors[Slot.RESIDUAL], "momentum": tensors[Slot.MOMENTUM]}
    return update(
        RULE, CONSTANTS, tensors[Slot.WEIGHT], tensors[Slot.GRADIENT], **state,
        **{"seed": 1, "step": 2, "tensor": 3, **options},
    )  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1023, 1024, 1025, 2 * 65536 + 77])
def test_any_size_and_number_of_threads(size: int) -> None:
    tensors = problem(RULE, np.random.default_rng(size), size, wild=False)
    expected, counts = by_plain(RULE, CONSTANTS, tensors, Draw(1, 2, 3))
    for threads in (1, 3):
        result = {slot: x.copy() for slot, x in tensors.items()}
        assert run(result, threads=threads, stuck=True) == counts
        assert differences(RULE, CONSTANTS, expected, result) == []


def test_layouts() -> None:
    """Elements are numbered in row-major order, however they lie in memory."""
    shape = (40, 30)
    tensors = problem(RULE, np.random.default_rng(0), 1200, wild=False)
    tensors = {slot: x.reshape(shape) for slot, x in tensors.items()}
    expected = {slot: x.copy() for slot, x in tensors.items()}
    run(expected)
    for view in (np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2]):
        result = {slot: view(x) for slot, x in tensors.items()}
        kept = dict(result)
        run(result)
        assert all(result[slot] is kept[slot] for slot in result)
        assert differences(RULE, CONSTANTS, expected, result) == []


@pytest.mark.parametrize("field", ["seed", "step", "tensor"])
def test_words_depend_on_seed_step_and_tensor(field: str) -> None:
    tensors = problem(RULE, np.random.default_rng(0), 2000, wild=False)
    one, other = ({slot: x.copy() for slot, x in tensors.items()} for _ in range(2))
    run(one)
    run(other, **{field: 2**64 - 7})
    assert differences(RULE, CONSTANTS, one, other) != []


@pytest.mark.parametrize(
    "change, text",
    [
        ({"residual": None}, "update rule residual-wide with sgd needs a residual"),
        ({"momentum": None}, "needs a momentum"),
        ({"second": np.zeros(4, np.float32)}, "takes no second"),
        ({"residual": np.zeros(4)}, "residual of an update must be a float32 array, not float64"),
        ({"gradient": [1.0]}, "gradient of an update must be a float32 array, not list"),
        ({"momentum": np.zeros(5, np.float32)}, r"has shape \(5,\), must be the weight's, \(4,\)"),
        ({"weight": np.broadcast_to(np.float32(1), 4)}, "weight of an update is read-only"),
        ({"threads": 0}, "threads is 0, must be at least 1"),
    ],
)
def test_bad_tensors_are_named(change, text: str) -> None:
    names = ("weight", "gradient", "residual", "momentum")
    arguments = {name: np.zeros(4, np.float32) for name in names} | change
    with pytest.raises(InputError, match=text):
        update(RULE, CONSTANTS, **arguments, step=1)


@pytest.mark.parametrize("mode", ["nearest-away", "stochastic-b"])  # kernel and plain loop
def test_nan_without_code_keeps_the_element(mode: str) -> None:
    rule = Update("axpy", sites={"update": Site("hfp8-143", mode, "saturate")})
    weight = np.ones((30, 70), np.float32)
    gradient, momentum = np.ones_like(weight), np.zeros_like(weight)
    gradient[21, 3] = gradient[29, 69] = np.nan
    with pytest.raises(InputError, match=r"NaN at \[21, 3\] of the update"):
        update(rule, CONSTANTS, weight, gradient, momentum=momentum, step=1)
    assert weight[21, 3] == weight[29, 69] == 1 and not np.isnan(weight).any()
    assert momentum[21, 3] == momentum[29, 69] == 0
    assert momentum[0, 0] > 0 and momentum[29, 68] > 0


def test_stuck_elements_are_counted() -> None:
    """At W = 1 nearest 1-6-9 keeps a step of 2^−12, which binary32 makes; a step of 2^−26 neither makes."""
    rule = Update("axpy", sites={"unscale": BINARY32, "update": Site("dlfloat16")})
    weight = np.ones(4, np.float32)
    gradient = np.array([2**-12, 2**-26, 2**-9, 0], np.float32)
    counts = update(rule, Constants(1.0), weight, gradient, step=1, stuck=True)
    assert counts.stuck == 1
    np.testing.assert_array_equal(weight, np.float32([1, 1, 1 - 2**-9, 1]))


def test_counts_by_site() -> None:
    rule = Update("residual-wide")
    weight, residual = np.full(3, 30, np.float32), np.zeros(3, np.float32)
    gradient = np.array([-4, 2**-45, 1], np.float32)
    counts = update(rule, Constants(1.0), weight, gradient, residual=residual, step=1)
    assert counts.overflowed == {"unscale": 0, "update": 1, "residual": 0}
    assert counts.underflowed == {"unscale": 1, "update": 0, "residual": 0}
