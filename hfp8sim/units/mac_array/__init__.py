"""The array of multiply-accumulate units, fast: GEMMs at a good part of float32 BLAS's speed.

`plan` chooses a kernel from a look at the operands (`scan`); `multiply` runs it on a whole GEMM, `panels`,
`start` and `accumulate` on pieces. The bits are those of the plain integer loop; why, stands in
docs/speed.md.
"""

from hfp8sim.units.mac_array.array import BREATH, accumulate, multiply, zero_steps
from hfp8sim.units.mac_array.jobs import Jobs
from hfp8sim.units.mac_array.kernel import EVENTS, PANEL, SWAMPED
from hfp8sim.units.mac_array.memory import Reused, Workspace
from hfp8sim.units.mac_array.pack import Scan, encode, scan
from hfp8sim.units.mac_array.panels import (
    Keys,
    Numbers,
    Panels,
    State,
    count_panels,
    panels,
    room,
    side,
    start,
)
from hfp8sim.units.mac_array.plan import Plan, Processor, plan, processor

__all__ = [
    "BREATH",
    "EVENTS",
    "PANEL",
    "SWAMPED",
    "Jobs",
    "Keys",
    "Numbers",
    "Panels",
    "Plan",
    "Processor",
    "Reused",
    "Scan",
    "State",
    "Workspace",
    "accumulate",
    "count_panels",
    "encode",
    "multiply",
    "panels",
    "plan",
    "processor",
    "room",
    "scan",
    "side",
    "start",
    "zero_steps",
]  # fmt: skip
