"""Problems for updates, and the four implementations on the same tensors."""

from __future__ import annotations

import contextlib

import numpy as np

from hfp8sim.errors import InputError
from hfp8sim.ops import updates
from hfp8sim.units.sites import Draw
from hfp8sim.units.update import Constants, Counts, Slot, Update, plain_update
from hfp8sim.verify import c_reference as reference
from tests import oracle

#: Arguments of `ops.updates.update` by slot.
NAMES = {Slot.RESIDUAL: "residual", Slot.MOMENTUM: "momentum", Slot.SECOND: "second"}

SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4e38, -1e-45, 2**-31, 8.6e9, 1.4e-39], np.float32
)
#: A NaN whose fraction is all ones.
FULL_NAN = np.uint32(0x7FFFFFFF).view(np.float32)


def numbers(rng: np.random.Generator, size: int, low: int, high: int) -> np.ndarray:
    """binary32 numbers of either sign with exponents from low to high."""
    x = (
        (1 + rng.random(size))
        * rng.choice([-1, 1], size)
        * 2.0 ** rng.integers(low, high + 1, size)
    )
    return x.astype(np.float32)


def on_grid(x: np.ndarray, fmt) -> np.ndarray:
    """x rounded to a format's numbers."""
    return fmt.decode(fmt.encode(x)).astype(np.float32)


def problem(
    rule: Update, rng: np.random.Generator, size: int, wild: bool
) -> dict[Slot, np.ndarray]:
    """Tensors of an update: likely ones, or `wild` ones of any binary32 number, NaN and infinities too."""
    with np.errstate(over="ignore", invalid="ignore"):
        if wild:
            tensors = {slot: numbers(rng, size, -149, 127) for slot in list(Slot)[:5]}
            near = numbers(rng, size, -30, 10)  # sums at every distance
            for slot in tensors:
                scale = 2.0 ** rng.integers(-60, 1, size)
                close = rng.random(size) < 0.7
                tensors[slot] = np.where(close, near * scale, tensors[slot]).astype(np.float32)
            for x in tensors.values():
                places = rng.choice(size, size // 8, replace=False)
                x[places] = rng.choice(SPECIAL, places.size)
                x[rng.choice(size, size // 200, replace=False)] = FULL_NAN
        else:
            weight = numbers(rng, size, -12, 2)
            tensors = {
                Slot.WEIGHT: on_grid(weight, rule.sites["update"].record),
                Slot.RESIDUAL: numbers(rng, size, -20, -4),
                Slot.MOMENTUM: on_grid(numbers(rng, size, -20, 4), rule.sites["momentum"].record),
                Slot.SECOND: numbers(rng, size, -30, 0),
                Slot.GRADIENT: numbers(rng, size, -24, 12),
            }
        if rule.residual and not wild:
            tensors[Slot.RESIDUAL] = on_grid(tensors[Slot.RESIDUAL], rule.sites["residual"].record)
        tensors[Slot.SECOND] = np.abs(tensors[Slot.SECOND])
    return tensors


def copied(tensors: dict[Slot, np.ndarray]) -> dict[Slot, np.ndarray]:
    return {slot: x.copy() for slot, x in tensors.items()}


def by_plain(rule: Update, constants: Constants, tensors, draw: Draw, stuck: bool = True):
    tensors = copied(tensors)
    return tensors, plain_update(rule, constants, tensors, draw, stuck=stuck)


def by_c(rule: Update, constants: Constants, tensors, draw: Draw):
    tensors = copied(tensors)
    return tensors, reference.update(rule, constants, tensors, draw)


def by_kernel(rule: Update, constants: Constants, tensors, draw: Draw, **options):
    """`ops.updates.update`; a NaN without a code gives None for the counts."""
    tensors = copied(tensors)
    state = {NAMES[slot]: tensors[slot] for slot in rule.state(constants)}
    counts: Counts | None = None
    with contextlib.suppress(InputError):
        counts = updates.update(
            rule, constants, tensors[Slot.WEIGHT], tensors[Slot.GRADIENT], **state,
            seed=draw.seed, step=draw.step, tensor=draw.tensor, stuck=True, **options,
        )  # fmt: skip
    return tensors, counts


def by_oracle(rule: Update, constants: Constants, tensors, draw: Draw):
    tensors, counts = copied(tensors), Counts()
    weight = tensors[Slot.WEIGHT]
    for t in range(weight.size):
        element = oracle.Element(draw.seed, draw.step, draw.tensor, t)
        state = [oracle.from_float(float(tensors[slot][t])) for slot in list(Slot)[:5]]
        try:
            new, stuck = oracle.update_element(rule, constants, *state, element)
        except oracle.NoCode:
            counts.invalid = t if counts.invalid < 0 else counts.invalid
            continue
        counts.stuck += stuck
        for met, total in (
            (element.overflowed, counts.overflowed),
            (element.underflowed, counts.underflowed),
        ):
            for place, count in met.items():
                total[place] = total.get(place, 0) + count
        for slot, x in zip(list(Slot)[:4], new, strict=True):
            if slot == Slot.WEIGHT or slot in rule.state(constants):
                tensors[slot][t] = to_float(x)
    return tensors, counts


def to_float(x: oracle.X) -> np.float32:
    if x.kind == "nan":
        return np.float32(np.nan)
    value = np.inf if x.kind == "infinity" else float(x.magnitude)
    return np.float32(-value if x.negative else value)


def differences(rule: Update, constants: Constants, a, b) -> list[str]:
    """Elements of weight and state that differ, sign of zero included."""
    wrong = []
    for slot in (Slot.WEIGHT, *rule.state(constants)):
        x, y = a[slot], b[slot]
        differs = (x.view(np.uint32) != y.view(np.uint32)) & ~(np.isnan(x) & np.isnan(y))
        wrong += [f"{slot.name}[{t}]: {x[t]!r} {y[t]!r}" for t in np.flatnonzero(differs)[:3]]
    return wrong
