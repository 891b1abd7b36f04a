"""The result of a sweep as callers use it: the data, and a method for each form."""

from __future__ import annotations

from pathlib import Path

from hfp8sim.errors import InputError
from hfp8sim.files import write_text
from hfp8sim.report.table import plain_text
from hfp8sim.sweeps.best import save_best
from hfp8sim.sweeps.page import render
from hfp8sim.sweeps.record import SweepRecord
from hfp8sim.sweeps.table import print_result


class SweepResult(SweepRecord):
    """What a sweep has computed, in the order of its plan. `print(result)` shows it as the command line does.

    `rows` has one row (a dict by column name) for each point, `layers` one for each layer and phase of each point,
    `configurations` one for each combination of settings over all its workloads and seeds.
    """

    def __str__(self) -> str:
        return plain_text(lambda terminal: print_result(self, terminal))

    def _repr_html_(self) -> str:
        """The best configurations as a table for notebooks."""
        from hfp8sim.sweeps.page import table_html

        return table_html(self)

    def to_html(self) -> str:
        """One self-contained page; `InputError` without the extra `report`."""
        return render(self)

    def save(self, folder: str | Path) -> list[Path]:
        """Write points.csv, layers.csv, the files of the best configurations into `best/`, and report.html.

        The page is left out where jinja2 is not installed. Returns the paths.

        Raises:
            InputError: a folder that cannot be written.
        """
        folder = Path(folder)
        paths = [
            write_text(folder / "points.csv", self.to_csv()),
            write_text(folder / "layers.csv", self.to_csv("layers")),
            *save_best(self, folder / "best"),
        ]
        try:
            page = self.to_html()
        except InputError:
            return paths
        return [*paths, write_text(folder / "report.html", page)]
