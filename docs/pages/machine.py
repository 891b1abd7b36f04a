"""The generated tables of docs/machine.md: the keys of a machine file, and the shipped machines."""

from __future__ import annotations

from pathlib import Path

from docs.pages.markdown import filled, table
from hfp8sim.machine.config import get_machine, machines, number_fields

PAGE = Path(__file__).parents[1] / "machine.md"


def page() -> str:
    """The page with the tables of today."""
    return filled(PAGE.read_text("utf-8"), keys=keys(), presets=presets())


def keys() -> str:
    """Every key of a machine: range and meaning."""
    rows = [
        (
            f"`{key}`",
            f"{field.metadata['low']}..{field.metadata['high']}",
            field.metadata["meaning"],
        )
        for key, field in number_fields()
    ]
    return table(("key", "range", "meaning"), rows)


def presets() -> str:
    """The shipped machines side by side; an assumed value has a star."""
    shipped = [get_machine(name) for name in machines()]
    rows = [
        (f"`{key}`", *(f"{m[key]}{'*' if key in m.assumed else ''}" for m in shipped))
        for key, _ in number_fields()
    ]
    peaks = [f"{m.peak_tflops(8):g} / {m.peak_tflops(16):g}" for m in shipped]
    rows.append(("peak TFLOPS, 8 / 16 bits", *peaks))
    return table(("", *(f"`{m.name}`" for m in shipped)), rows)
