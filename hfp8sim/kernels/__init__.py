"""Fast GEMMs: the arithmetic of `units`, at a good part of the speed of float32 BLAS.

`plan` chooses a kernel from facts about the operands (`scan`) and proves that it is exact; docs/speed.md has
the proofs. `multiply` runs a plan on a whole GEMM. A `Stream` takes a GEMM piece by piece, in compiled code too
(`begin_range`, `is_packed`, `pack_codes`, `end_range`, `write_results` on a `STREAM`). The bits are those of
the plain integer loop. `im2col` and `convolution` are not loaded with the package: products do without.

`pack_operand`, `allocate_accumulators`, `accumulate` and `encode` are the single steps of a stream, for
proofs and measurements.
"""

from hfp8sim.kernels.form import EVENTS, PANEL, SWAMPED
from hfp8sim.kernels.gemm import MACS_PER_CALL, MACS_WORTH_THREADS, Outcome, multiply
from hfp8sim.kernels.jobs import Writer, code_writer, pack_codes, value_writer, write_results
from hfp8sim.kernels.memory import Reused, Workspace
from hfp8sim.kernels.nonzeros import LARGEST_SHARE
from hfp8sim.kernels.pack import Scan, encode, scan, step_number
from hfp8sim.kernels.panels import (
    Accumulators,
    Keys,
    Panels,
    allocate_accumulators,
    count_panels,
)
from hfp8sim.kernels.select import Plan, plan, shared_plan
from hfp8sim.kernels.stream import (
    STREAM,
    Stream,
    accumulate,
    add_range,
    begin_range,
    end_range,
    is_packed,
    pack_operand,
    share_of_halves,
    view,
    zero_steps,
)
from hfp8sim.kernels.target import BLOCKING, TARGETS, Target, host_target
from hfp8sim.kernels.workers import share, slices
from hfp8sim.kernels.zero_products import count_nonzero, nonzero

__all__ = [
    "BLOCKING",
    "EVENTS",
    "LARGEST_SHARE",
    "MACS_PER_CALL",
    "MACS_WORTH_THREADS",
    "PANEL",
    "STREAM",
    "SWAMPED",
    "TARGETS",
    "Accumulators",
    "Keys",
    "Outcome",
    "Panels",
    "Plan",
    "Reused",
    "Scan",
    "Stream",
    "Target",
    "Workspace",
    "Writer",
    "accumulate",
    "add_range",
    "allocate_accumulators",
    "begin_range",
    "code_writer",
    "count_nonzero",
    "count_panels",
    "encode",
    "end_range",
    "host_target",
    "is_packed",
    "multiply",
    "nonzero",
    "pack_codes",
    "pack_operand",
    "plan",
    "scan",
    "share",
    "share_of_halves",
    "shared_plan",
    "slices",
    "step_number",
    "value_writer",
    "view",
    "write_results",
    "zero_steps",
]
