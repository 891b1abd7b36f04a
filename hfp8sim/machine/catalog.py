"""The shipped machines, and machines by name or file."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

from hfp8sim.errors import InputError, unknown
from hfp8sim.machine.config import Machine, from_toml
from hfp8sim.machine.scalesim_cfg import load_cfg


def machines() -> list[str]:
    """Names of the shipped machines; the first is the default."""
    folder = resources.files(__package__) / "presets"
    names = sorted(f.name[: -len(".toml")] for f in folder.iterdir() if f.name.endswith(".toml"))
    return sorted(names, key=lambda name: name != "rapid-core")


def get_machine(name: str | Path | Machine = "rapid-core") -> Machine:
    """A machine by name, from a `.toml` file, or from a SCALE-Sim `.cfg`; a `Machine` is returned as it is.

    Raises:
        InputError: an unknown name, an unreadable file, a key that is unknown, missing or out of range.
    """
    if isinstance(name, Machine):
        return name
    if not isinstance(name, str | Path):
        raise InputError(f"machine is {name!r:.60}; it must be a name, a path or a Machine")
    path = Path(name)
    if path.suffix == ".cfg":
        return load_cfg(path)
    if path.suffix == ".toml":
        try:
            return from_toml(path.read_bytes(), str(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
    return _preset(str(name))


@functools.cache
def _preset(name: str) -> Machine:
    if name not in machines():
        raise unknown("machine", name, [*machines(), "a path ending in .toml or .cfg"])
    preset = resources.files(__package__) / "presets" / f"{name}.toml"
    return from_toml(preset.read_bytes(), f"preset {name}")
