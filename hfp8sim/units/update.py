"""Updates of weights: which sites a rule has, in which order, and a plain loop over them.

docs/numerics.md, section 6. A rule is data, a list of steps; `hfp8sim.kernels.update` reads the same list.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from hfp8sim.errors import InputError, unknown
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats.rounding import OVERFLOWED, UNDERFLOWED
from hfp8sim.units.sites import (
    BINARY32,
    STOCHASTIC,
    Draw,
    Op,
    Place,
    Site,
    Values,
    invalid_elements,
    round_site,
)


class Slot(enum.IntEnum):
    """A tensor of an update."""

    WEIGHT = 0  #: W
    RESIDUAL = 1  #: r
    MOMENTUM = 2  #: v
    SECOND = 3  #: n
    GRADIENT = 4  #: G, then g
    DIRECTION = 5  #: d, where it is not v or g
    EFFECTIVE = 6  #: u or t
    NEW_WEIGHT = 7  #: W'
    NEW_RESIDUAL = 8  #: r'
    MOVED = 9  #: where binary32 moves the effective weight to
    STILL = 10  #: the effective weight in binary32


class Term(NamedTuple):
    """A term of a step: sign · constant · tensor."""

    slot: Slot
    constant: str = "one"
    sign: int = 1


class Step(NamedTuple):
    """One rounding of an update."""

    result: Slot
    place: Place | None  #: whose format and words; None: to binary32, nearest-even
    op: Op
    terms: tuple[Term, ...]


@dataclasses.dataclass(frozen=True)
class Constants:
    """The constants of a step. The constructor rounds each to binary32.

    `for_sgd` and `for_adam` compute those that depend on others.
    """

    rate: float  #: α; Adam's divided by 1 − β₁ᵗ
    scale: float = 1.0  #: s, times the number of learners
    decay: float = 0.0  #: λ, added to the gradient
    shrink: float = 1.0  #: κ: 1 − α·λ of decoupled decay
    momentum: float = 0.0  #: μ, or β₁
    gain: float = 1.0  #: τ, or 1 − β₁
    second: float = 0.0  #: β₂
    second_gain: float = 0.0  #: 1 − β₂
    correction: float = 1.0  #: b = √(1 − β₂ᵗ)
    epsilon: float = 0.0  #: ε

    @standard_arithmetic
    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = float(np.float32(getattr(self, field.name)))
            if not np.isfinite(value):
                raise InputError(f"constant {field.name} of an update is {value}, must be finite")
            object.__setattr__(self, field.name, value)
        if self.scale <= 0 or self.correction <= 0:
            raise InputError("loss scale and bias correction of an update must be positive")

    @classmethod
    @standard_arithmetic
    def for_sgd(
        cls, rate: float, *, momentum: float = 0.0, dampening: float = 0.0, decay: float = 0.0,
        scale: float = 1.0,
    ) -> Constants:  # fmt: skip
        """The constants of a step of SGD."""
        return cls(rate, scale=scale, decay=decay, momentum=momentum, gain=1.0 - dampening)

    @classmethod
    @standard_arithmetic
    def for_adam(
        cls, rate: float, number: int, *, betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8, decay: float = 0.0, decoupled: bool = False, scale: float = 1.0,
    ) -> Constants:  # fmt: skip
        """The constants of Adam's update number `number`, from 1; `decoupled` is AdamW's decay."""
        if number < 1:
            raise InputError(f"number of Adam's update is {number}, must be at least 1")
        first, second = betas
        return cls(
            rate / (1 - first**number),
            scale=scale,
            decay=0.0 if decoupled else decay,
            shrink=1 - rate * decay if decoupled else 1.0,
            momentum=first,
            gain=1 - first,
            second=second,
            second_gain=1 - second,
            correction=float(np.sqrt(1 - second**number)),
            epsilon=epsilon,
        )

    @property
    def one(self) -> float:
        """The constant of a term without one."""
        return 1.0

    @property
    def unshrink(self) -> float:
        """ρ = 1 − κ; `InputError` if that is no binary32 number."""
        rest = 1.0 - self.shrink
        if float(np.float32(rest)) != rest:
            raise InputError(f"1 - {self.shrink} is no binary32 number: decay less at a step")
        return rest


# -- the rules, as data ----------------------------------------------------------------------------------


def _sum(result: Slot, place: Place | None, *terms: Term) -> Step:
    return Step(result, place, Op.SUM, terms)


_W, _R, _V, _N, _G, _D, _U, _W1, _R1, _MOVED, _STILL = Slot

_UNSCALE = Step(_G, Place.UNSCALE, Op.RATIO, (Term(_G, "scale"),))
_DECAY = _sum(_G, Place.DECAY, Term(_G), Term(_W, "decay"))
_DECAY_OF_EFFECTIVE = _sum(_G, Place.DECAY, Term(_G), Term(_W, "decay"), Term(_R, "decay", -1))
_MOMENTUM = _sum(_V, Place.MOMENTUM, Term(_V, "momentum"), Term(_G, "gain"))
_MOMENTUM_TWICE = (
    _sum(_V, Place.MOMENTUM_PRODUCT, Term(_V, "momentum")),
    _sum(_V, Place.MOMENTUM, Term(_V), Term(_G, "gain")),
)
_NESTEROV = _sum(_D, Place.NESTEROV, Term(_G), Term(_V, "momentum"))
_SECOND_MOMENT = Step(
    _N, Place.SECOND_MOMENT, Op.SUM_OF_SQUARE, (Term(_N, "second"), Term(_G, "second_gain"))
)
_ADAM_DIRECTION = (
    Step(_D, None, Op.ROOT, (Term(_N),)),
    Step(_D, None, Op.RATIO, (Term(_D, "correction"),)),
    Step(_D, None, Op.OFFSET, (Term(_D, "epsilon"),)),
    Step(_D, None, Op.QUOTIENT, (Term(_V), Term(_D))),
)
_LOST = _sum(_R1, Place.RESIDUAL, Term(_W1), Term(_U, sign=-1))


def _axpy(d: Slot) -> tuple[Step, ...]:
    return (_sum(_W1, Place.UPDATE, Term(_W, "shrink"), Term(d, "rate", -1)),)


def _effective(result: Slot, place: Place | None, d: Slot) -> Step:
    """κ·W − α·d − κ·r."""
    return _sum(result, place, Term(_W, "shrink"), Term(d, "rate", -1), Term(_R, "shrink", -1))


def _wide(d: Slot) -> tuple[Step, ...]:
    return _effective(_U, None, d), _sum(_W1, Place.UPDATE, Term(_U)), _LOST


def _naive(d: Slot) -> tuple[Step, ...]:
    return _effective(_U, Place.EFFECTIVE, d), _sum(_W1, Place.UPDATE, Term(_U)), _LOST


def _small(d: Slot) -> tuple[Step, ...]:
    return (
        _sum(_U, Place.EFFECTIVE, Term(_R, "shrink"), Term(d, "rate"), Term(_W, "unshrink")),
        _sum(_W1, Place.UPDATE, Term(_W), Term(_U, sign=-1)),
        _sum(_R1, Place.RESIDUAL, Term(_W1), Term(_W, sign=-1), Term(_U)),
    )


class Rule(NamedTuple):
    """From the direction to the weight."""

    meaning: str
    steps: Callable[[Slot], tuple[Step, ...]]  #: given the slot of the direction
    sites: Mapping[str, Site]  #: defaults
    residual: bool = False  #: whether there is a residual


_SECOND = {"second-moment": BINARY32}
_OF_GRADIENT = dict.fromkeys(("unscale", "decay", "momentum"), STOCHASTIC) | _SECOND
_OF_RESIDUAL = _OF_GRADIENT | {
    "update": Site("hfp8-143", "nearest-away", "saturate"),
    "residual": Site("dlfloat16", "nearest-away"),
}
#: The rules by name.
RULES: dict[str, Rule] = {
    "master": Rule(
        "binary32 weights", _axpy, dict.fromkeys((*_OF_GRADIENT, "update"), BINARY32)
    ),
    "axpy": Rule(
        "three sums, each rounded (Wang et al., NeurIPS 2018)",
        _axpy, _OF_GRADIENT | {"update": STOCHASTIC},
    ),
    "residual-wide": Rule(
        "8-bit weight and 16-bit residual (Sun et al., NeurIPS 2019), their sum in binary32",
        _wide, _OF_RESIDUAL, residual=True,
    ),
    "residual-small": Rule(
        "the same, small terms first: no wide adder", _small, _OF_RESIDUAL, residual=True
    ),
    "residual-naive": Rule(
        "the same, the sum rounded to the residual's format: loses small steps",
        _naive, _OF_RESIDUAL, residual=True,
    ),
}  # fmt: skip
#: The optimisers by name.
OPTIMISERS = ("sgd", "adam")
#: The places whose format and words another place's site gives.
_SHARED = {
    Place.MOMENTUM_PRODUCT: Place.MOMENTUM,
    Place.NESTEROV: Place.MOMENTUM,
    Place.EFFECTIVE: Place.RESIDUAL,
}


@dataclasses.dataclass(frozen=True)
class Update:
    """How weights are updated. The constructor raises `InputError` for what does not fit together.

    `sites` names those that differ from the rule's defaults; afterwards it has all of the rule's.
    """

    rule: str = "residual-wide"
    optimiser: str = "sgd"
    sites: Mapping[str, Site] = dataclasses.field(default_factory=dict)
    momentum_roundings: int = 1  #: 1: μ·v + g; 2: μ·v first
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown("update rule", self.rule, list(RULES))
        if self.optimiser not in OPTIMISERS:
            raise unknown("optimiser", self.optimiser, OPTIMISERS)
        if self.momentum_roundings not in (1, 2):
            raise InputError(f"momentum_roundings is {self.momentum_roundings}, must be 1 or 2")
        if self.optimiser == "adam" and (self.nesterov or self.momentum_roundings == 2):
            raise InputError("nesterov and momentum_roundings=2 are options of sgd, not of adam")
        defaults = RULES[self.rule].sites
        for name in self.sites:
            if name not in defaults:
                raise unknown(f"site of update rule {self.rule}", name, list(defaults))
        object.__setattr__(self, "sites", {**defaults, **self.sites})

    @property
    def residual(self) -> bool:
        """Whether the rule keeps a residual."""
        return RULES[self.rule].residual

    def site(self, place: Place | None) -> Site:
        """How a step rounds."""
        if place is None:
            return BINARY32
        return self.sites[_SHARED.get(place, place).text]

    def steps(self, constants: Constants, *, stuck: bool = False) -> tuple[Step, ...]:
        """The roundings of a step, in order.

        Args:
            constants: terms whose constant is 0 are left out with their rounding.
            stuck: also compute where binary32 moves the effective weight to.
        """
        return _steps(
            self.rule, self.optimiser, self.momentum_roundings, self.nesterov,
            constants.decay != 0, constants.momentum != 0, stuck,
        )  # fmt: skip

    def state(self, constants: Constants) -> tuple[Slot, ...]:
        """The tensors beside weight and gradient that a step reads and writes."""
        wanted = [Slot.RESIDUAL] if self.residual else []
        if self.optimiser == "adam" or constants.momentum != 0:
            wanted.append(Slot.MOMENTUM)
        if self.optimiser == "adam":
            wanted.append(Slot.SECOND)
        return tuple(wanted)


@functools.lru_cache(256)
def _steps(
    rule: str, optimiser: str, roundings: int, nesterov: bool, decay: bool, momentum: bool,
    stuck: bool,
) -> tuple[Step, ...]:  # fmt: skip
    residual = RULES[rule].residual
    steps = [_UNSCALE]
    if decay:
        steps.append(_DECAY_OF_EFFECTIVE if residual else _DECAY)
    direction = Slot.GRADIENT
    if optimiser == "adam":
        steps += [_MOMENTUM, _SECOND_MOMENT, *_ADAM_DIRECTION]
        direction = Slot.DIRECTION
    elif momentum:
        steps += _MOMENTUM_TWICE if roundings == 2 else [_MOMENTUM]
        direction = Slot.MOMENTUM
        if nesterov:
            steps.append(_NESTEROV)
            direction = Slot.DIRECTION
    steps += RULES[rule].steps(direction)
    if stuck and residual:
        still = _sum(Slot.STILL, None, Term(Slot.WEIGHT), Term(Slot.RESIDUAL, sign=-1))
        steps += [_effective(Slot.MOVED, None, direction), still]
    elif stuck:
        moved = _axpy(direction)[0]
        still = _sum(Slot.STILL, None, Term(Slot.WEIGHT))
        steps += [moved._replace(result=Slot.MOVED, place=None), still]
    return tuple(steps)


# -- a plain loop over the steps ---------------------------------------------------------------------------


@dataclasses.dataclass
class Counts:
    """What the roundings of an update met."""

    overflowed: dict[str, int] = dataclasses.field(default_factory=dict)  #: by site
    underflowed: dict[str, int] = dataclasses.field(default_factory=dict)  #: by site
    stuck: int = 0  #: elements that stayed, though binary32 would have moved them; if counted
    invalid: int = -1  #: the first element with a NaN that its format has no code for; −1: none

    def add(self, place: Place | None, overflowed: int, underflowed: int) -> None:
        """Add the counts of a site; roundings to binary32 that are no site of their own do not count."""
        if place is not None:
            for counts, number in (
                (self.overflowed, overflowed),
                (self.underflowed, underflowed),
            ):
                counts[place.text] = counts.get(place.text, 0) + number


def plain_update(
    update: Update,
    constants: Constants,
    tensors: dict[Slot, Values],
    draw: Draw,
    *,
    stuck: bool = False,
    first: int = 0,
) -> Counts:
    """Update tensors in place, one site of all elements after another.

    Args:
        update: the rule.
        constants: of this step.
        tensors: weight, gradient and those of `update.state`; float32, 1-D, of one size. The gradient stays.
        draw: whose random words.
        stuck: count the elements that are stuck.
        first: the number of the first element in its tensor.
    """
    now, counts = dict(tensors), Counts()
    bad = np.zeros(now[Slot.WEIGHT].size, np.bool_)
    for step in update.steps(constants, stuck=stuck):
        site = update.site(step.place)
        random = np.empty(0, np.int64)
        if step.place is not None:
            random = draw.words(step.place, site, bad.size, first=first)
        terms = [(t.sign * float(getattr(constants, t.constant)), now[t.slot]) for t in step.terms]
        now[step.result], flags = round_site(step.op, terms, site, random)
        counts.add(
            step.place,
            int(np.count_nonzero(flags & OVERFLOWED)),
            int(np.count_nonzero(flags & UNDERFLOWED)),
        )
        bad[invalid_elements(site, flags)] = True
    if bad.any():
        counts.invalid = first + int(np.flatnonzero(bad)[0])
    if stuck:
        counts.stuck = int(np.count_nonzero(_stays(now) & (now[_MOVED] != now[_STILL])))
    now[Slot.WEIGHT] = now[Slot.NEW_WEIGHT]
    if update.residual:
        now[Slot.RESIDUAL] = now[Slot.NEW_RESIDUAL]
    for slot in (Slot.WEIGHT, *update.state(constants)):
        tensors[slot][~bad] = now[slot][~bad]
    return counts


def _stays(now: Mapping[Slot, Values]) -> np.ndarray:
    stays = now[Slot.NEW_WEIGHT] == now[Slot.WEIGHT]
    if Slot.NEW_RESIDUAL in now:
        stays &= now[Slot.NEW_RESIDUAL] == now[Slot.RESIDUAL]
    return np.asarray(stays)
