"""The time of one layer in one phase."""

from __future__ import annotations

import dataclasses
import functools

from hfp8sim.errors import located
from hfp8sim.lowering.programs import compulsory_bytes, lower_gemm
from hfp8sim.machine.catalog import get_machine
from hfp8sim.machine.config import Machine
from hfp8sim.network import Layer, PhaseGemm, phase_gemm
from hfp8sim.timing.models import TimeModel, get_model
from hfp8sim.timing.parts import LayerTime
from hfp8sim.units.profile import Profile, get_profile


def time_layer(
    layer: Layer,
    phase: str = "fwd",
    profile: str | Profile = "hfp8",
    machine: str | Machine = "rapid-core",
    model: str | None = None,
) -> LayerTime:
    """The time of one layer in one phase: of its program, or of its GEMM under a closed form.

    Args:
        model: a name in `timing.MODELS`; the machine's own by default.

    Raises:
        InputError: an unknown name, or a layer that cannot be lowered under a model that needs a program.
    """
    machine, profile, work = get_machine(machine), get_profile(profile), phase_gemm(layer, phase)
    chosen = get_model(model or machine.time_model)
    with located(f"layer {layer.name!r} ({phase})"):
        time = _time_gemm(work, phase, profile, machine, chosen)
    return dataclasses.replace(time, name=layer.name, phase=phase)


@functools.lru_cache(maxsize=1024)  # networks repeat their layers
def _time_gemm(
    work: PhaseGemm, phase: str, profile: Profile, machine: Machine, model: TimeModel
) -> LayerTime:
    """The time of a phase's GEMM, without the layer's name."""
    if model.needs_program:
        return model.time_program(lower_gemm(work, phase, machine, profile), machine).layers[0]
    bits = max(fmt.bits for fmt in profile.operand_formats(phase))
    return model.time_gemm(work.gemm, machine, bits, compulsory_bytes(work, phase, profile))
