"""The test kit: laws, boundary values and hypothesis strategies for formats and units of any origin.

hfp8sim tests its own formats and units with it.
"""

from hfp8sim.testing.boundaries import boundary_values, number_codes

__all__ = ["boundary_values", "number_codes"]
