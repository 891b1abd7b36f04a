"""Sweeps: runs and trainings over many settings, on one machine or on a cluster, into one table.

`hs.sweep` is in `run`, `hs.SweepResult` in `result`. Names are loaded when they are first used: `sweep` starts its
processes before it loads a plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hfp8sim.sweeps.plan import Plan as Plan
    from hfp8sim.sweeps.plan import Range as Range
    from hfp8sim.sweeps.plan import load_plan as load_plan

__all__ = ["Plan", "Range", "load_plan"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'hfp8sim.sweeps' has no attribute {name!r}")
    from hfp8sim.sweeps import plan

    return getattr(plan, name)
