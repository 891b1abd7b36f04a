"""A report as plain data: rows, facts and notes. It can be pickled and copied; the forms of output are elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, NamedTuple

from hfp8sim.lowering import LayerPhase
from hfp8sim.machine.config import Machine
from hfp8sim.report.columns import Row, total_row

#: Columns that every row has.
IDENTITY = ("layer", "phase", "groups", "m", "n", "k", "macs")

#: Facts that every report has.
REQUIRED_FACTS = (
    "workload",
    "machine",
    "peak_macs_per_cycle",
    "time_model",
    "profile",
    "seed",
    "versions",
)


class Origin(NamedTuple):
    """What was lowered: enough to make the programs again, and with them the timeline.

    Layers carry shapes and no tensors, so that a report stays small.
    """

    layers: tuple[LayerPhase, ...]
    machine: Machine
    time_model: str
    seed: int


#: Bytes that a file name without its ending has at most.
_LONGEST = 100

#: Prefixes of the notes that name missing products and replaced values. Reports show these notes first.
_ALERTS = ("missing: ", "not known: ", "not used: ", "sampled: ")


@dataclasses.dataclass(frozen=True, repr=False)
class ReportRecord:
    """The data of a report.

    Attributes:
        layers: one row (a dict by column name) for every layer and phase, in order.
        facts: what was run: versions, workload, machine, profile, policy, seed, command. JSON's own types.
        notes: remarks on the workload.
        planned: rows of the whole run; more than `layers` has if it was interrupted.
        origin: what the timeline is made from; None in a report that was read from a file.
    """

    layers: list[Row]
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    planned: int | None = None
    origin: Origin | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def partial(self) -> bool:
        """Whether rows are missing."""
        return self.planned is not None and len(self.layers) < self.planned

    @property
    def alerts(self) -> list[str]:
        """Notes on products that are missing and on values that are not known."""
        return [note for note in self.notes if note.startswith(_ALERTS)]

    @property
    def remarks(self) -> list[str]:
        """The other notes."""
        return [note for note in self.notes if not note.startswith(_ALERTS)]

    @property
    def name(self) -> str:
        """The workload's name, as file names use it."""
        return file_name(str(self.facts["workload"]))

    @property
    def total(self) -> Row:
        """The total row: sums and extremes over all rows; the rates follow from the sums."""
        return total_row(self.layers)

    def rows(self) -> list[Row]:
        """Every layer and phase, then the total."""
        return [*self.layers, self.total]


def file_name(workload: str) -> str:
    """A workload's name with the characters replaced that file names do not take.

    A long one is cut to `_LONGEST` bytes, the last of which are a digest of the whole.
    """
    allowed = "".join(c if c.isalnum() or c in "-_.@" else "_" for c in workload).lstrip(".")
    if len(allowed.encode()) <= _LONGEST:
        return allowed or "report"
    digest = hashlib.sha256(workload.encode(errors="surrogatepass")).hexdigest()[:8]
    return allowed.encode()[: _LONGEST - 9].decode(errors="ignore") + "-" + digest


def calibrated(report: ReportRecord) -> bool:
    """Whether biases or scales of operands were chosen from tensors."""
    return str(report.facts.get("calibration", "none")) != "none"


def policy_text(policy: list[dict[str, Any]] | None) -> str:
    """A policy as the command line writes it; `none` for an empty one."""
    rules = (f"{_quoted(rule['rule'])}={rule['profile']['name']}" for rule in policy or [])
    return ",".join(rules) or "none"


def _quoted(rule: str) -> str:
    """A rule as a policy's text takes it."""
    if "," not in rule and not rule.startswith('"') and rule.strip() == rule:
        return rule
    return '"' + rule.replace('"', '""') + '"'
