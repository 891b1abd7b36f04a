"""Sweeps: runs and trainings over many settings, on one machine or on a cluster, into one table.

`hs.sweep` is in `run`, `hs.SweepResult` in `result`. Neither is imported here: worker processes need the plan alone.
"""

from hfp8sim.sweeps.plan import Plan, Range, load_plan

__all__ = ["Plan", "Range", "load_plan"]
