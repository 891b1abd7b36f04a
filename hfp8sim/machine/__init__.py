"""The machine: its configuration and its executor. How long it takes stands in `hfp8sim.timing`. See docs/machine.md."""

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
