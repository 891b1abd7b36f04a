"""The tasks of a run: every layer and phase in order, with its arithmetic and its random stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from hfp8sim.errors import located
from hfp8sim.lowering import LayerPhase
from hfp8sim.network import PHASES, Layer, Workload, phase_stream
from hfp8sim.simulation.scaling import calibrated_profile, scaling_text
from hfp8sim.units import Profile
from hfp8sim.units.policy import Rules, assign


@dataclasses.dataclass(frozen=True)
class Task:
    """One layer in one phase, the profile that computes it, and the policy's rule that chose it.

    The profile has the biases and scales of the layer's calibration.
    """

    layer: Layer
    phase: str
    profile: Profile
    stream: int  #: the first random stream, by `network.phase_stream`
    rule: str = ""  #: empty: the run's own profile
    scaling: str = ""  #: the calibrated operands in words; empty: the profile's own formats

    @property
    def name(self) -> str:
        """The layer's name and the phase."""
        return f"{self.layer.name} {self.phase}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole phase."""
        return self.layer.shape(self.phase).macs

    def lowering(self) -> LayerPhase:
        """What `lower_workload` takes; the layer without its tensors, since lowering needs none."""
        return LayerPhase(self.layer.replace(tensors={}), self.phase, self.profile, self.stream)


def list_tasks(
    workload: Workload, phases: Iterable[str], profile: Profile, rules: Rules = ()
) -> list[Task]:
    """The tasks in the order of a training step: forward through the network, then backward through it,
    each layer's input gradient before its weight gradient.

    Args:
        phases: the phases to compute; a layer that lacks one is left out of it.
        profile: of layers that no rule names.
        rules: a policy's rules, by `hfp8sim.units.policy.parse`.

    Raises:
        InputError: a rule that names no layer of the workload.
    """
    selected = tuple(phases)
    layers = list(enumerate(zip(workload.layers, assign(workload, profile, rules), strict=True)))
    forward, backward = PHASES[:1], PHASES[1:]
    return [
        _task(layer, phase, own, phase_stream(index, phase), rule)
        for order, direction in ((layers, forward), (layers[::-1], backward))
        for index, (layer, (own, rule)) in order
        for phase in direction
        if phase in selected and phase in layer.phases
    ]


def _task(layer: Layer, phase: str, profile: Profile, stream: int, rule: str) -> Task:
    """The task with the layer's calibration in its profile."""
    with located(f"layer {layer.name!r}"):
        calibrated = calibrated_profile(layer, profile)
    return Task(layer, phase, calibrated, stream, rule, scaling_text(layer, profile, phase))
