"""Lowering: a layer in a phase becomes tiles, and the tiles a program."""

from hfp8sim.lowering.lower import Finish, layer_time, lower_layer, lower_workload, time_layer

__all__ = ["Finish", "layer_time", "lower_layer", "lower_workload", "time_layer"]
