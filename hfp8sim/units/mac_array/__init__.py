"""The array of multiply-accumulate units, fast: GEMMs at a good part of float32 BLAS's speed.

`plan` chooses a kernel from a look at the operands (`scan`); `multiply` runs it on a whole GEMM, `panels`,
`start` and `accumulate` on pieces. The bits are those of the plain integer loop; why, stands in
docs/speed.md.
"""

from hfp8sim.units.mac_array.array import (
    BREATH,
    Keys,
    Panels,
    Reused,
    State,
    accumulate,
    count_panels,
    multiply,
    panels,
    room,
    side,
    start,
    tell_job,
    zero_steps,
)
from hfp8sim.units.mac_array.calls import address
from hfp8sim.units.mac_array.kernel import EVENTS, PANEL, SWAMPED
from hfp8sim.units.mac_array.pack import Scan, encode, encoder, scan
from hfp8sim.units.mac_array.plan import Plan, Processor, plan, processor

__all__ = [
    "BREATH",
    "EVENTS",
    "PANEL",
    "SWAMPED",
    "Keys",
    "Panels",
    "Plan",
    "Processor",
    "Reused",
    "Scan",
    "State",
    "accumulate",
    "address",
    "count_panels",
    "encode",
    "encoder",
    "multiply",
    "panels",
    "plan",
    "processor",
    "room",
    "scan",
    "side",
    "start",
    "tell_job",
    "zero_steps",
]  # fmt: skip
