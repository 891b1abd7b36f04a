"""Lowering: a layer in a phase becomes tiles, and the tiles a program. How long it takes is `hfp8sim.timing`'s."""

from hfp8sim.lowering.programs import Finish, LayerPhase, lower_layer, lower_workload
from hfp8sim.lowering.splits import Split

__all__ = ["Finish", "LayerPhase", "Split", "lower_layer", "lower_workload"]
