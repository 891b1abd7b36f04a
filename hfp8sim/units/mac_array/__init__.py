"""The array of multiply-accumulate units, fast: GEMMs at a good part of float32 BLAS's speed.

`plan` chooses a kernel from a look at the operands (`scan`); `multiply` runs it on a whole GEMM, `panels`,
`start` and `accumulate` on pieces. The bits are those of the plain integer loop; why, stands in
docs/speed.md.
"""

from hfp8sim.units.mac_array.array import (
    Fresh,
    Panels,
    Reused,
    State,
    accumulate,
    multiply,
    panels,
    start,
)
from hfp8sim.units.mac_array.kernel import EVENTS, PANEL
from hfp8sim.units.mac_array.pack import Scan, encode, scan
from hfp8sim.units.mac_array.plan import Plan, Processor, plan, processor

__all__ = [
    "EVENTS",
    "PANEL",
    "Fresh",
    "Panels",
    "Plan",
    "Processor",
    "Reused",
    "Scan",
    "State",
    "accumulate",
    "encode",
    "multiply",
    "panels",
    "plan",
    "processor",
    "scan",
    "start",
]  # fmt: skip
