"""Updates of weights: the plain loop and the kernels against C."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import get_format
from hfp8sim.ops.updates import update_flat
from hfp8sim.units.sites import Draw, Site, Values
from hfp8sim.units.update import RULES, Constants, Counts, Slot, Update, plain_update
from hfp8sim.verify import c_reference as reference
from hfp8sim.verify.check import Check, Result, differences

#: Modes of the weight in which every 1-6-9 weight is updated.
MODES = ("nearest-even", "nearest-away", "toward-zero", "stochastic-a")
#: Elements of an update of the fast tier.
_SIZE = 4096
#: Steps α·d of the sweeps of residuals.
_STEPS = (2.0**-13, -(2.0**-13), 2.0**-9, 0.0, 0.75 * 2.0**-7, -1.25, 2.0**-30, 3.0)
#: An update's options and constants.
_OPTIMISERS: tuple[tuple[dict[str, Any], Constants], ...] = (
    ({}, Constants.for_sgd(0.01, momentum=0.9, decay=1e-4, scale=1024)),
    ({"nesterov": True}, Constants.for_sgd(0.01, momentum=0.9, dampening=0.1, scale=1000)),
    ({"momentum_roundings": 2}, Constants.for_sgd(0.1, momentum=0.9)),
    ({"optimiser": "adam"}, Constants.for_adam(1e-3, 3, decay=0.01, scale=3)),
    ({"optimiser": "adam"}, Constants.for_adam(1e-3, 1, decay=0.1, decoupled=True)),
)


def compared(
    where: str, rule: Update, constants: Constants, tensors: dict[Slot, Values], draw: Draw
) -> Result:
    """Update copies of the tensors three times, and compare weights, state and counts."""
    copies = [{slot: x.copy() for slot, x in tensors.items()} for _ in range(3)]
    plain, fast, expected = copies
    counts = [
        plain_update(rule, constants, plain, draw, stuck=True),
        update_flat(rule, constants, fast, draw, True, 1),
        reference.update(rule, constants, expected, draw),
    ]
    pairs = [
        (_bits(x[slot]), _bits(expected[slot]))
        for slot in (Slot.WEIGHT, *rule.state(constants))
        for x in (plain, fast)
    ]
    result = differences(lambda t: f"{where}, element {t}", *pairs)
    if any(count != counts[2] for count in counts):
        result += Result(0, 1, f"{where}: {_first_other(counts)} ≠ {counts[2]}")
    return result


def _first_other(counts: list[Counts]) -> Counts:
    return next(count for count in counts if count != counts[2])


def _bits(x: Values) -> NDArray[np.uint32]:
    """The bits of binary32 numbers, all NaN alike."""
    return np.where(np.isnan(x), np.float32(np.nan), x).astype(np.float32).view(np.uint32)


def _drawn(rng: np.random.Generator, wild: bool) -> dict[Slot, Values]:
    """Tensors of an update: numbers of likely sizes, or any encodings of binary32."""
    slots = (Slot.WEIGHT, Slot.RESIDUAL, Slot.MOMENTUM, Slot.SECOND, Slot.GRADIENT)
    tensors: dict[Slot, Values] = {}
    for slot in slots:
        if wild:
            bits = rng.integers(0, 1 << 32, _SIZE).astype(np.uint32)
            tensors[slot] = bits.view(np.float32)
        else:
            exponents = rng.integers(-20, 3, _SIZE)
            tensors[slot] = (rng.standard_normal(_SIZE) * 2.0**exponents).astype(np.float32)
    tensors[Slot.SECOND] = np.abs(tensors[Slot.SECOND])
    return tensors


def update_sample() -> Check:
    """Every rule and optimiser on drawn tensors; of the fast tier."""
    cases = list(itertools.product(RULES, range(len(_OPTIMISERS)), (False, True)))

    def part(i: int) -> Result:
        name, optimiser, wild = cases[i]
        options, constants = _OPTIMISERS[optimiser]
        rule = Update(name, **options)
        tensors = _drawn(np.random.default_rng([10, i]), wild)
        return compared(f"{name}, case {i}", rule, constants, tensors, Draw(i, i + 1, 2 * i))

    return Check(
        "update by every rule and optimiser", f"{len(cases)} tensors of {_SIZE}",
        "plain loop and kernels = C", len(cases), part,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class WeightSweep:
    """All 1-6-9 weights, one step at a time. Part: one gradient of a grid."""

    mode: str

    @property
    def gradients(self) -> NDArray[np.float64]:
        """Both signs of 1, 1 + 2^−9 and 14 fractions between, in every binade of 1-6-9, and one binade below."""
        fractions = 1 + np.arange(16) * 37 % 512 / 512
        fractions[1] = 1 + 2.0**-9
        grid = np.ldexp(fractions, np.arange(-32, 32)[:, None]).ravel()
        return np.concatenate([grid, -grid])

    def part(self, number: int) -> Result:
        """All weights and one gradient."""
        fmt = get_format("dlfloat16")
        weights = fmt.decode(np.arange(1 << 16, dtype=np.uint16)).astype(np.float32)
        exact = Site("binary32", "nearest-even")
        rule = Update("axpy", sites={"unscale": exact, "update": Site("dlfloat16", self.mode)})
        gradient = np.full(weights.size, self.gradients[number], np.float32)
        tensors = {Slot.WEIGHT: weights, Slot.GRADIENT: gradient}
        where = f"step {float(gradient[0])!r}"
        return compared(where, rule, Constants(1.0), tensors, Draw(1, number + 1, 0))


@dataclasses.dataclass(frozen=True)
class ResidualSweep:
    """All 1-4-3 weights with all 1-6-9 residuals. Part: one weight and one step of a few."""

    rule: str

    def part(self, number: int) -> Result:
        """One weight, one step and all residuals."""
        code, step = divmod(number, len(_STEPS))
        residuals = get_format("dlfloat16").decode(np.arange(1 << 16, dtype=np.uint16))
        weight = float(get_format("hfp8-143").decode(np.uint8(code)))
        rule = Update(self.rule, sites={"unscale": Site("binary32", "nearest-even")})
        tensors = {
            Slot.WEIGHT: np.full(residuals.size, weight, np.float32),
            Slot.RESIDUAL: residuals.astype(np.float32),
            Slot.GRADIENT: np.full(residuals.size, _STEPS[step], np.float32),
        }
        where = f"weight {weight!r}, step {_STEPS[step]!r}"
        return compared(where, rule, Constants(1.0), tensors, Draw(1, number + 1, 0))


def exhaustive_checks() -> list[Check]:
    """The sweeps."""
    against = "plain loop and kernels = C"
    rows = []
    for mode in MODES:
        weights = WeightSweep(mode)
        steps = len(weights.gradients)
        rows.append(
            Check(
                f"update of 1-6-9 weights, {mode}", f"all 2^16 weights × {steps} steps", against,
                steps, weights.part, exhaustive=True,
            )
        )  # fmt: skip
    for name, rule in RULES.items():
        if rule.residual:
            residuals = ResidualSweep(name)
            rows.append(
                Check(
                    f"update {name}", f"all 2^24 (weight, residual) × {len(_STEPS)} steps", against,
                    256 * len(_STEPS), residuals.part, exhaustive=True,
                )
            )  # fmt: skip
    return rows
