"""The generated tables of docs/machine.md: keys of a machine file, shipped machines, time models."""

from __future__ import annotations

from pathlib import Path

from docs.pages.markdown import filled, table
from hfp8sim.machine.catalog import get_machine, machines
from hfp8sim.machine.config import number_fields
from hfp8sim.timing import MODELS

PAGE = Path(__file__).parents[1] / "machine.md"


def page() -> str:
    """The page with the tables of today."""
    text = PAGE.read_text("utf-8")
    return filled(text, keys=keys(), presets=presets(), time_models=time_models())


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
    """The shipped machines side by side; an assumed value has a star, an inferred one a degree sign."""
    marks = {"assumed": "*", "inferred": "°", "published": ""}
    shipped = [get_machine(name) for name in machines()]
    rows = [
        (f"`{key}`", *(f"{m[key]}{marks[m.status(key)]}" for m in shipped))
        for key, _ in number_fields()
    ]
    peaks = [f"{m.peak_tflops(8):g} / {m.peak_tflops(16):g}" for m in shipped]
    rows.append(("peak TFLOPS, 8 / 16 bits", *peaks))
    return table(("", *(f"`{m.name}`" for m in shipped)), rows)


def time_models() -> str:
    """Every registered time model and what it knows."""
    rows = [
        (
            f"`{name}`",
            model.summary,
            "its program" if model.needs_program else "its GEMM",
            "yes" if model.knows_memory else "no",
            "yes" if model.has_timeline else "no",
        )
        for name, model in MODELS.items()
    ]
    return table(("model", "summary", "times a layer from", "knows memory", "timeline"), rows)
