"""A workload through the machine, to a report.

`simulate` runs a whole network; `emulate` is the seam below it: tensors in, the machine's result out, without
references, sampling or reports. Training, sweeps and co-simulation call it.
"""

from hfp8sim.simulation.run import Interrupted, simulate
from hfp8sim.simulation.theory import predictions
from hfp8sim.simulation.values import Emulated, emulate

__all__ = ["Emulated", "Interrupted", "emulate", "predictions", "simulate"]
