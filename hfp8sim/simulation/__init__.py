"""A workload through the machine, to a report."""

from hfp8sim.simulation.run import Interrupted, predictions, simulate

__all__ = ["Interrupted", "predictions", "simulate"]
