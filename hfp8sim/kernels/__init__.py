"""The array of multiply-accumulate units, fast: GEMMs at a good part of float32 BLAS's speed.

`plan` chooses a kernel from a look at the operands (`scan`); `multiply` runs it on a whole GEMM, `panels`,
`start` and `accumulate` on pieces. The bits are those of the plain integer loop; why, stands in
docs/speed.md.
"""

from hfp8sim.kernels.form import EVENTS, PANEL, SWAMPED
from hfp8sim.kernels.jobs import Jobs
from hfp8sim.kernels.memory import Reused, Workspace
from hfp8sim.kernels.pack import Scan, encode, scan
from hfp8sim.kernels.panels import (
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
from hfp8sim.kernels.select import Plan, Processor, plan, processor
from hfp8sim.kernels.stream import BREATH, accumulate, multiply, zero_steps

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
