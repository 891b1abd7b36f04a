"""The test kit: what hfp8sim proves its own formats and units with, for those who bring theirs."""

from hfp8sim.testing.boundaries import boundary_values, number_codes

__all__ = ["boundary_values", "number_codes"]
