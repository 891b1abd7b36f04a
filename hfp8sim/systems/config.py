"""Systems: chips and links, as frozen records that are read from TOML."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hfp8sim.errors import InputError, unknown
from hfp8sim.files import read_toml
from hfp8sim.machine.catalog import get_machine
from hfp8sim.systems.collectives import TOPOLOGIES
from hfp8sim.systems.links import Link
from hfp8sim.systems.protocols import get_protocol

#: Chips that a system has at most.
MAX_CHIPS = 1 << 20


@dataclasses.dataclass(frozen=True)
class System:
    """Some chips that share a mini-batch, each with all of the weights.

    Raises:
        InputError: a value out of range or an unknown name.
    """

    name: str
    chips: int
    link: Link
    topology: str = "ring"  #: a name in `TOPOLOGIES`
    protocol: str = "hfp8"  #: how weights are updated: a name in `PROTOCOLS`
    overlap: bool = True  #: whether the exchange of a layer runs beside the computation of others
    machine: str = ""  #: of each chip: what `get_machine` takes; empty: the caller's choice
    summary: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InputError(f"system name is {self.name!r:.60}; it must be a text")
        if not isinstance(self.link, Link):
            raise InputError(f"system {self.name}: link is {self.link!r:.60}; it must be a Link")
        chips = self.chips
        whole = isinstance(chips, int) and not isinstance(chips, bool)
        if not whole or not 1 <= chips <= MAX_CHIPS:
            raise InputError(
                f"system {self.name}: chips is {chips!r}, must be an integer 1..{MAX_CHIPS}"
            )
        if not isinstance(self.overlap, bool):
            raise InputError(f"system {self.name}: overlap is {self.overlap!r}, must be a boolean")
        if self.topology not in TOPOLOGIES:
            raise unknown("topology", self.topology, list(TOPOLOGIES), of=f"system {self.name}")
        get_protocol(self.protocol)
        if self.machine:
            get_machine(self.machine)

    def replace(self, **fields: Any) -> System:
        """A copy with the given fields changed."""
        return dataclasses.replace(self, **fields)


def load_system(path: str | Path | System) -> System:
    """The system that a TOML file describes; a `System` is returned as it is.

    Keys: `name`, `chips`, `link.gb_per_s`, and optionally `link.latency_us`, `topology`, `protocol`,
    `overlap`, `machine` (a preset, or a file beside this one) and `summary`.

    Raises:
        InputError: a file that cannot be read; a key that is unknown, missing or out of range.
    """
    if isinstance(path, System):
        return path
    table = read_toml(path)
    path = Path(path)
    link = table.get("link", {})
    if not isinstance(link, dict):
        raise InputError(f"{path}: [link] must be a table")
    _check_keys(path, "", table, System)
    _check_keys(path, "link.", link, Link)
    for key in ("name", "topology", "protocol", "machine", "summary"):
        if not isinstance(table.get(key, ""), str):
            raise InputError(f"{path}: {key} must be a string")
    beside = path.parent / table.get("machine", "")
    if beside.is_file():
        table["machine"] = str(beside)
    try:
        return System(**table | {"link": Link(**link)})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_keys(path: Path, prefix: str, table: dict[str, Any], record: type[Any]) -> None:
    """`InputError` for a key that the record does not have, or one of its fields that is missing."""
    fields = {field.name: field for field in dataclasses.fields(record)}
    for key in table:
        if key not in fields:
            raise InputError(
                f"{path}: {unknown('key', prefix + key, [prefix + name for name in fields])}"
            )
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in table:
            raise InputError(f"{path}: key {prefix + name!r} is missing")
