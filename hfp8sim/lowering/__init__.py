"""Lowering: a layer in a phase becomes tiles, and the tiles a program."""

from hfp8sim.lowering.lower import Finish, lower_layer, lower_workload

__all__ = ["Finish", "lower_layer", "lower_workload"]
