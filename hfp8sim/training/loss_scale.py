"""Loss scaling: a number, or a state that shrinks at an overflow and grows after clean steps.

docs/numerics.md, section 6, "Loss scale". `torch.amp.GradScaler` works on converted models, too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from hfp8sim.errors import InputError


@dataclasses.dataclass
class LossScale:
    """The number that a loss is multiplied by before the backward pass.

    With `interval` 0 it is static. Otherwise it is dynamic: it is divided by `backoff` after a step whose
    gradients overflowed, and multiplied by `growth` after `interval` steps without one.

    Raises:
        InputError: a number out of range.
    """

    scale: float = 1024.0  #: of the current step
    interval: int = 0  #: clean steps before the scale grows; 0: static
    growth: float = 2.0
    backoff: float = 2.0
    floor: float = 1.0  #: the scale is never smaller
    cap: float = 2.0**24  #: the scale never grows beyond it
    #: By number of the step from which on it holds: a floor that rises during training, as that of
    #: Mellempudi et al., 2019.
    floors: Mapping[int, float] = dataclasses.field(default_factory=dict)
    clean: int = 0  #: steps without an overflow since the scale changed
    step: int = 0  #: steps taken or skipped

    def __post_init__(self) -> None:
        for name in ("scale", "floor", "cap", *(f"floors[{step}]" for step in self.floors)):
            value = self.floors[int(name[7:-1])] if name[-1] == "]" else getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"loss scale: {name} is {value!r}, must be a positive number")
        for name in ("growth", "backoff"):
            if not 1 < getattr(self, name) < math.inf:
                raise InputError(
                    f"loss scale: {name} is {getattr(self, name)!r}, must be more than 1"
                )
        if self.interval < 0:
            raise InputError(f"loss scale: interval is {self.interval}, must be at least 0")

    @classmethod
    def of(cls, value: float | LossScale) -> LossScale:
        """A scale as it is, or a number as a static one."""
        return value if isinstance(value, LossScale) else cls(float(value))

    @classmethod
    def dynamic(cls, start: float = 2.0**10, interval: int = 1000, **settings: Any) -> LossScale:
        """A dynamic scale; `settings` are fields of the class."""
        return cls(start, interval, **settings)

    def after_step(self, *, overflow: bool) -> None:
        """Change the scale after a step, which was skipped if it overflowed."""
        self.step += 1
        if self.interval:
            self.clean = 0 if overflow else self.clean + 1
            if overflow:
                self.scale /= self.backoff
            elif self.clean == self.interval:
                self.scale, self.clean = min(self.scale * self.growth, self.cap), 0
            self.scale = max(self.scale, self._floor())

    def _floor(self) -> float:
        """The floor of the next step."""
        reached = [step for step in self.floors if step <= self.step + 1]
        return self.floors[max(reached)] if reached else self.floor

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"scale": self.scale, "clean": self.clean, "step": self.step}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.scale, self.clean, self.step = (
            float(state["scale"]),
            int(state["clean"]),
            int(state["step"]),
        )
