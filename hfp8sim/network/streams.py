"""Which random stream a layer's phase draws from."""

from __future__ import annotations

from hfp8sim.errors import InputError
from hfp8sim.network.records import PHASES, check_phase

#: Streams of one phase of one layer: one for each group, and a few for the layer's operands.
STREAMS_PER_PHASE = 1 << 28
_STREAMS_PER_LAYER = 1 << 32


def phase_stream(layer: int, phase: str) -> int:
    """The first random stream of layer number `layer` of a network in a phase.

    It depends on the layer's place in the network and on the phase alone: not on the phases, layers or
    order that a run or a program chooses. Group g draws from this stream + g.

    Raises:
        InputError: an unknown phase, or a layer number outside 0 … 2^32 − 1.
    """
    if not 0 <= layer < 1 << 32:
        raise InputError(f"layer number is {layer}; it must be from 0 to 2^32 - 1")
    return layer * _STREAMS_PER_LAYER + PHASES.index(check_phase(phase)) * STREAMS_PER_PHASE
