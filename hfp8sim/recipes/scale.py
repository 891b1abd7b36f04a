"""Loss scales: one number for the network, or one for each layer, as state machines (docs/numerics.md, section 6)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from hfp8sim.errors import InputError, unknown

#: Kinds of loss scale.
KINDS = {
    "none": "errors are not scaled",
    "static": "one number, always",
    "dynamic": "lowered by an overflow, raised after clean steps",
}


def _means(text: str) -> dict[str, str]:
    return {"meaning": text}


class ScaleState(NamedTuple):
    """A loss scale during training."""

    scale: float  #: that the next step uses
    clean: int = 0  #: steps without overflow since the scale changed
    step: int = 0  #: steps made


@dataclasses.dataclass(frozen=True)
class LossScale:
    """How the loss is scaled. The constructor raises `InputError` for what cannot be."""

    kind: str = dataclasses.field(default="dynamic", metadata=_means(", ".join(KINDS)))
    start: float = dataclasses.field(
        default=1024.0, metadata=_means("the first scale, or the only")
    )
    growth: float = dataclasses.field(default=2.0, metadata=_means("factor after clean steps"))
    backoff: float = dataclasses.field(default=2.0, metadata=_means("divisor after an overflow"))
    interval: int = dataclasses.field(default=1000, metadata=_means("clean steps until it grows"))
    floor: float = dataclasses.field(default=1.0, metadata=_means("the lowest scale"))
    cap: float = dataclasses.field(default=2.0**24, metadata=_means("the highest scale"))
    floors: tuple[tuple[int, float], ...] = dataclasses.field(
        default=(), metadata=_means("(step, floor): floors that hold from a step on")
    )

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of loss scale", self.kind, list(KINDS))
        for name in ("start", "growth", "backoff", "floor", "cap"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"loss_scale.{name} is {value!r}, must be a number")
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"loss_scale.{name} is {value!r}, must be positive and finite")
        if (
            isinstance(self.interval, bool)
            or not isinstance(self.interval, int)
            or self.interval < 1
        ):
            raise InputError(f"loss_scale.interval is {self.interval!r}, must be an integer ≥ 1")
        if self.growth < 1 or self.backoff <= 1:
            raise InputError("loss_scale.growth must be at least 1, and loss_scale.backoff above 1")
        object.__setattr__(self, "floors", _checked_floors(self.floors))
        highest = max([self.floor, *(floor for _, floor in self.floors)])
        if self.kind == "dynamic" and not (self.floor <= self.start <= self.cap >= highest):
            raise InputError(
                "loss_scale needs floor ≤ start ≤ cap, and floors that are at most the cap"
            )

    def begin(self) -> ScaleState:
        """The state before the first step."""
        if self.kind == "none":
            return ScaleState(1.0)
        if self.kind == "static":
            return ScaleState(self.start)
        return ScaleState(max(self.start, self.lowest(1)))

    def lowest(self, step: int) -> float:
        """The floor of step number `step`, from 1."""
        reached = [floor for first, floor in self.floors if first <= step]
        return reached[-1] if reached else self.floor

    def advance(self, state: ScaleState, overflowed: bool) -> ScaleState:
        """The state after a step whose gradients overflowed, so that it was skipped, or did not."""
        step = state.step + 1
        if self.kind != "dynamic":
            return state._replace(step=step)
        scale, clean = state.scale, state.clean + 1
        if overflowed:
            scale, clean = scale / self.backoff, 0
        elif clean == self.interval:
            scale, clean = min(scale * self.growth, self.cap), 0
        return ScaleState(max(scale, self.lowest(step + 1)), clean, step)

    @property
    def text(self) -> str:
        """The loss scale in a table's cell."""
        if self.kind == "none":
            return "none"
        if self.kind == "static":
            return f"{self.start:g}"
        floors = f", rising to {self.floors[-1][1]:g}" if self.floors else ""
        return f"dynamic from {self.start:g}{floors}"


def _checked_floors(floors: Any) -> tuple[tuple[int, float], ...]:
    """Pairs of step and floor, ascending."""
    try:
        pairs = tuple((int(step), float(floor)) for step, floor in floors)
    except (TypeError, ValueError):
        raise InputError("loss_scale.floors must be pairs of a step and a floor") from None
    steps = [step for step, _ in pairs]
    if steps != sorted(set(steps)) or any(step < 0 for step in steps):
        raise InputError("steps of loss_scale.floors must ascend from 0 or later")
    if any(not (floor > 0 and math.isfinite(floor)) for _, floor in pairs):
        raise InputError("floors of loss_scale.floors must be positive and finite")
    return pairs


@dataclasses.dataclass(frozen=True)
class TrackedScale:
    """A scale that follows the largest magnitudes of the last steps; its state is their list, the newest last.

    **Choice**: 16 steps.
    """

    top: float  #: the format's largest number
    length: int = 16

    def exponent(self, history: Sequence[float]) -> int | None:
        """The largest e with which no magnitude of the history times 2^e is above the top; None without one."""
        largest = max(history, default=0.0)
        return largest_exponent(largest, self.top) if largest > 0 else None

    def advance(self, history: Sequence[float], largest: float) -> list[float]:
        """The history after a step with this largest magnitude."""
        return [*history, largest][-self.length :]


def largest_exponent(largest: float, top: float) -> int:
    """The largest e with largest · 2^e ≤ top, both positive."""
    exponent = math.frexp(top)[1] - math.frexp(largest)[1]
    return exponent - (math.ldexp(largest, exponent) > top)


@dataclasses.dataclass(frozen=True)
class LayerScale:
    """The scale of a layer's errors before 4-bit rounding (Sun et al., NeurIPS 2020), as a state machine.

    The largest scaled error shall lie in [top/2, top]. A step sees it and changes the next step's scale by a factor of
    two. **Choice**: start 2^10 and bounds 2^−18 and 2^61, so that removing the scale is exact.
    """

    top: float = 64.0  #: the largest number of the radix-4 format's even grid
    start: float = 1024.0
    lowest: float = 2.0**-18
    highest: float = 2.0**61

    def advance(self, scale: float, largest: float) -> float:
        """The next step's scale.

        Args:
            scale: this step's.
            largest: the largest magnitude among the layer's errors, before the scale.
        """
        scaled = scale * largest
        if scaled > self.top:
            scale /= 2
        elif scaled < self.top / 2:
            scale *= 2
        return min(max(scale, self.lowest), self.highest)
