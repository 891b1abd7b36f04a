"""A workload through the machine, to a report.

`simulate` runs a whole network. It calls `emulate` for each layer and phase: tensors in, the machine's result
out, without references, sampling or reports. Training loops, sweeps and co-simulation may call `emulate` directly.
"""

from hfp8sim.simulation.calibration import calibrate
from hfp8sim.simulation.run import Interrupted, simulate
from hfp8sim.simulation.theory import predictions
from hfp8sim.simulation.values import Emulated, emulate

__all__ = ["Emulated", "Interrupted", "calibrate", "emulate", "predictions", "simulate"]
