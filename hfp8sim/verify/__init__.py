"""Proof by exhaustion: the compiled units and kernels against the C reference, on all that there is.

`checks` is the table of what can be tried, `run` tries it on all cores and remembers how far it came.
"""

from hfp8sim.verify.catalog import checks
from hfp8sim.verify.check import Check, Result
from hfp8sim.verify.run import run

__all__ = ["Check", "Result", "checks", "run"]
