"""Sweeps: runs and trainings over many settings, on one machine or on a cluster, into one table."""

from hfp8sim.sweeps.plan import Plan, Range, load_plan
from hfp8sim.sweeps.result import SweepResult
from hfp8sim.sweeps.run import SweepInterrupted, sweep

__all__ = ["Plan", "Range", "SweepInterrupted", "SweepResult", "load_plan", "sweep"]
