"""The machine: configurations, static checks and the executor (docs/machine.md). `hfp8sim.timing` has its time."""

from hfp8sim.machine.catalog import get_machine, machines
from hfp8sim.machine.check import check
from hfp8sim.machine.config import TIME_MODELS, Machine
from hfp8sim.machine.executor import Execution, execute

__all__ = [
    "TIME_MODELS",
    "Execution",
    "Machine",
    "check",
    "execute",
    "get_machine",
    "machines",
]
