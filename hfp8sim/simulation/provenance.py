"""The facts of a report: everything that is needed to run it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import sys
from typing import Any

import numpy as np

from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.machine import Machine
from hfp8sim.network import Workload
from hfp8sim.systems import System
from hfp8sim.units import Profile
from hfp8sim.units.policy import Rules, assign
from hfp8sim.version import __version__


@dataclasses.dataclass(frozen=True)
class Settings:
    """What determines a report beside the versions of the software."""

    workload: Workload
    machine: Machine
    profile: Profile
    rules: Rules  #: of the policy
    seed: int
    time_model: str
    phases: tuple[str, ...]
    max_macs: int | None
    time_only: bool
    calibration: str  #: how the operands' biases and scales were chosen; "" for none
    events_every: int  #: events are counted in one of so many blocks of rows
    system: System | None = None  #: the chips that share the mini-batch


def facts(settings: Settings) -> dict[str, Any]:
    """The settings and versions in JSON's own types; docs/report.schema.json describes them."""
    machine = settings.machine
    values = {
        "workload": settings.workload.name,
        "digest": digest(settings.workload),
        "machine": dataclasses.asdict(machine),
        "peak_macs_per_cycle": machine.macs_per_cycle(),
        "peak_macs_per_cycle_16bit": machine.macs_per_cycle(16),
        "time_model": settings.time_model,
        "profile": profile_fields(settings.profile),
        "policy": [
            {"rule": rule, "profile": profile_fields(other)} for rule, other in settings.rules
        ],
        "seed": settings.seed,
        "phases": list(settings.phases),
        "max_macs": settings.max_macs,
        "time_only": settings.time_only,
        "events_every": settings.events_every,
        "calibration": settings.calibration or "none",
        "versions": {
            "hfp8sim": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": sys.modules["numba"].__version__,
        },
    }
    if settings.system is not None:
        values["system"] = dataclasses.asdict(settings.system) | _weights(settings)
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _weights(settings: Settings) -> dict[str, dict[str, int]]:
    """The weights of each layer, and the bytes of one in the layer's format."""
    workload = settings.workload
    profiles = [profile for profile, _ in assign(workload, settings.profile, settings.rules)]
    return {
        "weights": {
            layer.name: layer.parameters if "wgrad" in layer.phases else 0 for layer in workload
        },
        "weight_bytes": {
            layer.name: int(profile.operand_formats("fwd")[1].dtype.itemsize)
            for layer, profile in zip(workload, profiles, strict=True)
        },
    }


def profile_fields(profile: Profile) -> dict[str, Any]:
    """A profile's fields; formats by name, or by all their properties where they are not registered."""

    def plain(value: Any) -> Any:
        if not isinstance(value, FloatFormat):
            return value
        registered = value.name in formats() and get_format(value.name) == value
        return value.name if registered else dataclasses.asdict(value)

    return {f.name: plain(getattr(profile, f.name)) for f in dataclasses.fields(profile)}


def digest(workload: Workload) -> str:
    """SHA-256 of a workload's layers, tensors and calibration; equal digests mean equal work."""
    sha = hashlib.sha256()
    for layer in workload:
        fields = (layer.name, layer.kind, layer.groups, layer.m, layer.n, layer.k, layer.phases)
        sha.update(repr((fields, layer.conv)).encode())
        for key in sorted(layer.tensors):
            sha.update(key.encode())
            sha.update(np.ascontiguousarray(layer.tensors[key]).data)
        if layer.calibration:
            sha.update(repr(sorted(layer.calibration.items())).encode())
    return sha.hexdigest()
