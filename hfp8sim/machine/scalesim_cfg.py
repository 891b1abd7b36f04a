"""Machines from SCALE-Sim configurations (`.cfg`, versions 2 and 3)."""

from __future__ import annotations

import configparser
import functools
from pathlib import Path

from hfp8sim.errors import InputError, unknown
from hfp8sim.machine.config import MAX_ROWS, Array, Machine, Memory, Post

_SIZES = ("IfmapSramSzkB", "FilterSramSzkB", "OfmapSramSzkB")
_DATAFLOWS = ("os", "ws", "is")
_DEFAULT_BANDWIDTH = 10  #: words per cycle, as in SCALE-Sim


def load_cfg(path: Path) -> Machine:
    """The machine of a `.cfg`: array, SRAM sizes, dataflow and bandwidth. `notes` lists what is not represented.

    The three SRAMs become one scratchpad, because our scratchpad is shared. A word is one byte, as in SCALE-Sim.

    Raises:
        InputError: an unreadable file, or a key that is missing or out of range.
    """
    parser = _parse(path)
    section = parser["architecture_presets"]
    number = functools.partial(_number, path, section)
    dataflow = section.get("Dataflow", "").strip().lower()
    if dataflow not in _DATAFLOWS:
        raise InputError(f"{path}: {unknown('Dataflow', dataflow, _DATAFLOWS)}")
    columns, kib = number("ArrayWidth"), sum(number(key) for key in _SIZES)
    notes = ["clock, latency, accumulators and post lanes are not in a SCALE-Sim configuration"]
    if columns > 0 and kib * 1024 // columns > MAX_ROWS:
        kib = MAX_ROWS * columns // 1024
        notes.append(f"scratchpad cut to {kib} KiB, the most that can be addressed")
    bandwidth = number("Bandwidth") if "Bandwidth" in section else _DEFAULT_BANDWIDTH
    try:
        return Machine(
            name=_name(parser) or path.stem,
            summary=f"SCALE-Sim configuration {path.name}",
            cores=1,
            clock_mhz=1000,
            time_model=f"scalesim-{dataflow}",
            array=Array(number("ArrayHeight"), columns, 1, 1, 1),
            memory=Memory(kib, max(number("OfmapSramSzkB"), 1) * 256, bandwidth, 0),
            post=Post(columns),
            assumed=("clock_mhz", "memory.accumulators", "memory.latency", "post.lanes"),
            notes=(*notes, *_ignored(parser)),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _parse(path: Path) -> configparser.ConfigParser:
    """The sections of a configuration, one of which is [architecture_presets]."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        first = str(error).split("\n")[0]
        raise InputError(f"{path}: not a SCALE-Sim configuration: {first}") from None
    if not parser.has_section("architecture_presets"):
        raise InputError(f"{path}: section [architecture_presets] is missing")
    return parser


def _number(path: Path, section: configparser.SectionProxy, key: str) -> int:
    """The integer of a key; the first one, if it is a list."""
    text = section.get(key)
    if text is None:
        raise InputError(f"{path}: key {key!r} is missing in [architecture_presets]")
    try:
        return int(text.split(",")[0])
    except ValueError:
        raise InputError(f"{path}: {key} is {text!r}, must be an integer") from None


def _name(parser: configparser.ConfigParser) -> str:
    """The name of the run, which may span several lines and be quoted; empty if it has none."""
    return " ".join(parser.get("general", "run_name", fallback="").split()).strip(" \"'")


def _ignored(parser: configparser.ConfigParser) -> list[str]:
    """A note for each setting that the machine does not represent."""
    notes = []
    if parser.get("run_presets", "InterfaceBandwidth", fallback="CALC").strip().upper() == "CALC":
        notes.append(
            "InterfaceBandwidth CALC (unlimited) has no counterpart; `pipelined` uses Bandwidth"
        )
    known = ("general", "architecture_presets", "run_presets")
    return notes + [f"section [{name}] ignored" for name in parser.sections() if name not in known]
