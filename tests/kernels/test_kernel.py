"""Names of kernels: each kernel has its own, and a name says all of it."""

from __future__ import annotations

import itertools

import pytest

from hfp8sim.errors import InputError
from hfp8sim.kernels import TARGETS
from hfp8sim.kernels.form import (
    Adder,
    Counting,
    Form,
    Lane,
    Mode,
    Opening,
    Order,
    Overflow,
    RoundingForm,
    Underflow,
)
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.target import host_target

AWAY = RoundingForm(Mode.AWAY, Adder.CHOP)
USUAL = Form(
    Lane.FLOAT32, 1, Order.FUSED, AWAY, AWAY,
    Overflow.IMPOSSIBLE, Underflow.IMPOSSIBLE, Opening.EXACT,
)  # fmt: skip


def all_forms() -> list[Form]:
    """Every value of every field, beside the usual ones, and all pairs of some."""
    changes = [
        {"lane": Lane.FLOAT64},
        *({"products": n, "order": order} for n in (0, 1, 2, 32) for order in Order),
        *({"intra": RoundingForm(*x)} for x in itertools.product(Mode, Adder)),
        *({"inter": RoundingForm(*x)} for x in itertools.product(Mode, Adder)),
        *({"overflow": x, "underflow": y} for x in Overflow for y in Underflow),
        *({"opening": x} for x in Opening),
    ]
    pairs = itertools.combinations(changes, 2)
    return list({USUAL._replace(**(one | other)) for one, other in pairs})


@pytest.mark.parametrize("target", TARGETS)
def test_name_round_trip(target: str) -> None:
    names = {}
    for form, counting in itertools.product(all_forms(), Counting):
        kernel = Kernel.of(form, counting, TARGETS[target])
        for each in {kernel, kernel.narrow, kernel._replace(lanewise=True)}:
            assert Kernel.parse(each.name) == each
            assert names.setdefault(each.name, each) == each


def test_name_of_the_usual_kernel() -> None:
    kernel = Kernel.of(USUAL, Counting.NONE, TARGETS["avx512dq"])
    assert kernel.name == "f32_away_chop_8x3v_lag5__avx512dq"
    assert kernel.narrow.name == "f32_away_chop_16x1v_lag10__avx512dq"


@pytest.mark.parametrize("name", [
    "f32_away_chop_8x3v__sse9", "f16_away_chop_8x3v__sse2", "f32_away_chop_8x3v_usual__sse2", "",
    "f32_away_chop_then_away_chop_8x3v__sse2",
])  # fmt: skip
def test_unknown_name(name: str) -> None:
    with pytest.raises(ValueError, match="no kernel is named"):
        Kernel.parse(name)


def test_host_target_is_a_row() -> None:
    assert TARGETS[host_target().name] is host_target()


def test_target_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model", "generic"):
        monkeypatch.setenv("HFP8SIM_TARGET", name)
        assert host_target.__wrapped__() is TARGETS[name]
    monkeypatch.setenv("HFP8SIM_TARGET", "avx512")
    with pytest.raises(InputError, match="HFP8SIM_TARGET is 'avx512', must be generic or model"):
        host_target.__wrapped__()
