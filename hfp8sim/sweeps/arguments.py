"""The arguments of `sweep` as a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hfp8sim.errors import InputError
from hfp8sim.sweeps.keys import LISTS
from hfp8sim.sweeps.plan import Plan, Range, load_plan


def plan_of(source: Any, settings: dict[str, Any], name: str) -> Plan:
    """The plan of `sweep`'s arguments.

    Args:
        source: workloads, or a plan, or its file.
        settings: the other arguments that make a plan, by name.
        name: of the sweep.

    Raises:
        InputError: a setting beside a plan, a key that is given twice, or what `Plan` refuses.
    """
    is_file = isinstance(source, str | Path) and str(source).endswith(".toml")
    if is_file or isinstance(source, Plan):
        given = [key for key, value in settings.items() if value not in (None, (), 0)]
        if given:
            raise InputError(f"{given[0]} is given beside a plan; change the plan instead")
        return source if isinstance(source, Plan) else load_plan(source)
    axes: dict[str, Any] = {}
    for plural, key in LISTS.items():
        values = _listed(source if plural == "workloads" else settings[plural])
        if values:
            axes[key] = values
    for key, value in (settings["vary"] or {}).items():
        if key in axes:
            raise InputError(f"{key} is given twice")
        axes[key] = value if isinstance(value, Range | str) else _listed(value)
    for key, value in (settings["fixed"] or {}).items():
        if key in axes:
            raise InputError(f"{key} is given twice")
        axes[key] = [value]
    return Plan(
        axes, tuple(dict(point) for point in settings["points"]), settings["samples"],
        settings["sample_seed"], tuple(_listed(settings["where"])), name, settings["quality"],
        tuple(_listed(settings["costs"])),
    )  # fmt: skip


def _listed(values: Any) -> list[Any]:
    """Several values as a list, numbers as Python's; one value as a list of one."""
    if not isinstance(values, list | tuple | range | np.ndarray):
        return [values]
    return [value.item() if isinstance(value, np.generic) else value for value in values]
