"""`Watch`: reports of training steps, with the columns of `hfp8sim run`, cycles of a machine, and pictures over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.files import write_text
from hfp8sim.machine import get_machine
from hfp8sim.report.report import Report
from hfp8sim.report.training import StepReport, StepRow, TrainingLog
from hfp8sim.simulation.run import simulate
from hfp8sim.training.conversion import find_emulation, is_emulated
from hfp8sim.training.recording import Recorder

#: Multiply-accumulates of one layer and phase beyond which a sample of its outputs is measured.
MAX_MACS = 1 << 21


class Watch:
    """Watches a converted model in training.

        watch = training.Watch(model, optimiser, every=100, machine="rapid-core")
        for x, y in loader:
            ...  # forward, backward, optimiser.step()
            report = watch.after_step(loss)  # None but at steps 1, 100, 200, …
        watch.write("out")  # out/NAME.html, .csv, .json

    At a step that is reported, the operands of every product are copied as the step multiplies them. `simulate`
    measures them afterwards. The training itself does not change by a bit.

    Args:
        model: converted or not. Of one that is not, only loss and scale are watched.
        optimiser: one of `hfp8sim.training`, for the loss scale and stuck weights; None without.
        every: steps from one report to the next.
        machine: whose cycles are reported: a preset's name, a file or a record.
        max_macs: a product with more multiply-accumulates is measured on a sample of its outputs.
        name: of the run, in titles and files.
        facts: what else the page should list.
        threads: worker threads of the measurements; no result depends on them.

    Attributes:
        log: everything so far: `log.to_html()`, `log.to_csv()`, `log.to_json()`.
        reports: the whole report of each step that was reported, by its number.

    Raises:
        InputError: an unknown machine, a number out of range.
    """

    def __init__(
        self, model: nn.Module, optimiser: Any = None, *, every: int = 100, machine: Any = "rapid-core",
        max_macs: int | None = MAX_MACS, name: str = "training", facts: dict[str, Any] | None = None,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        check_whole_number(every, "every", 1)
        self.model, self.optimiser, self.every = model, optimiser, every
        self.machine, self.max_macs, self.threads = get_machine(machine), max_macs, threads
        own = {"every": every, "machine": self.machine.name}
        self.log = TrainingLog(name, own | (facts or {}))
        self.reports: dict[int, Report] = {}
        self.done = 0  # steps
        self.emulation = find_emulation(model)
        self._scale = self._next_scale()
        self._arm()

    def after_step(self, loss: Any) -> Report | None:
        """Note a step after the optimiser's step; report it if it is due.

        Args:
            loss: of the step, unscaled: a number or a tensor of one.

        Returns:
            The report of the step, or None.
        """
        number = self.done = self.done + 1
        counts = getattr(self.optimiser, "counts", None)
        stuck = counts.stuck_share if counts is not None and self.optimiser.count_stuck else None
        skipped = counts is not None and counts.skipped
        value = float(loss.detach()) if isinstance(loss, torch.Tensor) else float(loss)
        self.log.steps.append(StepRow(number, value, self._scale, skipped, stuck))
        report = self._report(number)
        self._scale = self._next_scale()
        self._arm()
        return report

    def resume(self, steps: int, log: TrainingLog | None = None) -> None:
        """Go on after some steps of the run, with the log of them if there is one; later steps in it are dropped."""
        self.done = steps
        if log is not None:
            self.log.steps = [step for step in log.steps if step.step <= steps]
            self.log.reports = [report for report in log.reports if report.step <= steps]
            self.log.note(log.notes)
        self._arm()

    def write(self, folder: str | Path) -> list[Path]:
        """Write NAME.html, NAME.csv and NAME.json, each whole or not at all.

        Raises:
            InputError: a folder that cannot be written; jinja2 is missing.
        """
        texts = {"json": self.log.to_json(), "csv": self.log.to_csv(), "html": self.log.to_html()}
        return [write_text(Path(folder) / f"{self.log.name}.{end}", t) for end, t in texts.items()]

    def stop(self) -> None:
        """Record no further step."""
        if self.emulation is not None:
            self.emulation.recorder = None

    def _next_scale(self) -> float:
        scale = getattr(self.optimiser, "scale", None)
        return float(scale.scale) if scale is not None else 1.0

    def _arm(self) -> None:
        """Record the next step if it is due."""
        number = self.done + 1
        if self.emulation is not None:
            due = number == 1 or number % self.every == 0
            self.emulation.recorder = Recorder() if due else None

    def _report(self, number: int) -> Report | None:
        recorder = self.emulation.recorder if self.emulation is not None else None
        if recorder is None or not recorder.uses:
            self.log.note([f"missing: {reason}" for reason in recorder.missing] if recorder else [])
            return None
        assert self.emulation is not None
        self.emulation.recorder = None
        workload, rules = recorder.workload(f"{self.log.name}, step {number}")
        report = simulate(
            workload, self.machine, rules[0][1], self.emulation.seed, policy=rules, max_macs=self.max_macs,
            threads=self.threads or 1,
        )  # fmt: skip
        self.reports[number] = report
        self.log.note(report.alerts)
        self.log.reports.append(StepReport(number, report.layers, self._stuck()))
        return report

    def _stuck(self) -> dict[str, float]:
        """The stuck share of each emulated layer's weight in the last step."""
        shares = getattr(self.optimiser, "stuck", {})
        if not shares or not self.optimiser.count_stuck:
            return {}
        numbers = {id(p): n for n, (_, p) in enumerate(self.optimiser._parameters())}
        found = {}
        for name, module in self.model.named_modules():
            weight = getattr(module, "weight", None)
            if is_emulated(module) and weight is not None and numbers.get(id(weight)) in shares:
                found[name or type(module).__name__] = shares[numbers[id(weight)]]
        return found


def read_log(path: Path) -> TrainingLog:
    """The log in a JSON file of `Watch.write`; `InputError` where there is none."""
    try:
        content = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"{path}: {reason}") from None
    return TrainingLog.from_json(content, str(path))
