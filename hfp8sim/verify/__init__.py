"""Proof by exhaustion: the compiled units and kernels against the C reference, on every input.

`checks` is the table of input spaces. `run` executes them on all cores and stores its progress.
"""

from hfp8sim.verify.catalog import checks
from hfp8sim.verify.check import Check, Result
from hfp8sim.verify.run import run

__all__ = ["Check", "Result", "checks", "run"]
