"""The keys of a sweep: what an axis can vary.

A plain key is an argument of a run or of a training. A dotted key is a field of a profile, a key of a machine or
a key of a recipe: `profile.chunk_length`, `machine.memory.bytes_per_cycle`, `recipe.update.random_bits`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hfp8sim.errors import InputError, unknown
from hfp8sim.machine.config import number_fields
from hfp8sim.recipes.record import keys as recipe_keys
from hfp8sim.units.profile import FIELDS


class Key(NamedTuple):
    """A plain key."""

    meaning: str
    kind: str  #: run, train, or both
    default: Any = None  #: None: what the run or the training has by default


#: The plain keys, in the order of a table's columns.
PLAIN: dict[str, Key] = {
    "workload": Key("a shipped network, a file or a record", "run"),
    "network": Key("a network that is trained, or MODULE:FUNCTION", "train"),
    "data": Key("data set of a training", "train"),
    "recipe": Key("recipe of a training: a name, a TOML file or a record", "train"),
    "profile": Key("arithmetic: a name, a TOML file or a record", "run", "hfp8"),
    "machine": Key("a name, a TOML file or a record", "both", "rapid-core"),
    "system": Key("chips and links: a TOML file or a record", "both"),
    "policy": Key("layers with another profile, as in first=fp16,last=fp16", "run"),
    "calibrate": Key("max, percentile, percentile=P or mse", "run"),
    "phases": Key("phases with commas between", "run", "fwd,dgrad,wgrad"),
    "time_model": Key("a time model's name", "both"),
    "max_macs": Key("multiply-accumulates beyond which a phase is sampled", "run"),
    "events_every": Key("count events in one of so many blocks of rows", "run"),
    "time_only": Key("compute no values", "run"),
    "optimiser": Key("sgd or adam", "train"),
    "rate": Key("learning rate at the first step", "train"),
    "momentum": Key("of SGD", "train"),
    "decay": Key("weight decay", "train"),
    "batch": Key("examples of a batch", "train"),
    "steps": Key("training steps", "train"),
    "weights": Key("file of a training's first weights", "train"),
    "checkpoint": Key("file that a training writes its network into", "train"),
    "seed": Key("of drawn tensors, first weights, order of data and stochastic roundings", "both", 0),
}  # fmt: skip

#: Top-level lists of a sweep's file, and the key that each varies.
LISTS = {
    "workloads": "workload",
    "networks": "network",
    "recipes": "recipe",
    "profiles": "profile",
    "machines": "machine",
    "systems": "system",
    "seeds": "seed",
}

#: The keys of a system that an axis can vary.
SYSTEM = (
    "system.chips", "system.topology", "system.protocol", "system.overlap",
    "system.link.gb_per_s", "system.link.latency_us",
)  # fmt: skip

#: Keys that name what is computed and not how: configurations are compared over all their values.
NETWORKS = ("workload", "network", "data")
CASES = (*NETWORKS, "seed")


def all_keys() -> list[str]:
    """Every key that an axis can have."""
    return [
        *PLAIN,
        *(f"profile.{name}" for name in FIELDS if name != "name"),
        *(f"machine.{name}" for name, _ in number_fields()),
        *SYSTEM,
        *(f"recipe.{name}" for name in recipe_keys() if name != "name"),
    ]


def check_keys(keys: list[str]) -> None:
    """`InputError` for an unknown key, and for keys of runs beside keys of trainings."""
    known = all_keys()
    for key in keys:
        if key not in known:
            raise unknown("sweep key", key, known)
    kinds = {PLAIN[key].kind if key in PLAIN else _kind(key) for key in keys}
    if {"run", "train"} <= kinds:
        run, train = (
            next(key for key in keys if (PLAIN[key].kind if key in PLAIN else _kind(key)) == kind)
            for kind in ("run", "train")
        )
        raise InputError(
            f"{run} is of a run and {train} of a training; a sweep has points of one kind"
        )


def _kind(key: str) -> str:
    """The kind of points that a dotted key belongs to."""
    return "train" if key.startswith("recipe.") else "both"


def is_training(keys: list[str]) -> bool:
    """Whether the points of a sweep with these keys are trainings."""
    return any(key in ("network", "recipe") or key.startswith("recipe.") for key in keys)


def cell(value: Any) -> Any:
    """A value of an axis as a table holds it: records by their name."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    name = getattr(value, "name", None)
    if not isinstance(name, str):
        raise InputError(
            f"{value!r:.60} is no value of a sweep: give a number, a text, or a record"
        )
    return name
