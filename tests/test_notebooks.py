"""The example notebooks run, and hold the output of the present code.

python -m tests.test_notebooks          write the present output into them
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: make setup")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make setup")

PATHS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def executed(path: Path) -> Any:
    """The notebook with the output of a run."""
    notebook = nbformat.read(path, as_version=4)
    # A kernel finds `hfp8sim` where this process does.
    setup = nbformat.v4.new_code_cell(f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}")
    notebook.cells.insert(0, setup)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    del notebook.cells[0]
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = number
        cell.metadata = {}
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = number
    return notebook


def outputs(notebook: Any) -> list[Any]:
    """What the cells show, by MIME type, as JSON with sorted keys; addresses left out."""
    shown = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    return [
        re.sub(r"<[^>]* object at 0x[0-9a-f]+>", "<…>", json.dumps(output, sort_keys=True))
        for output in shown
    ]


def test_there_are_two_notebooks() -> None:
    assert len(PATHS) == 2


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook_holds_its_present_output(path: Path) -> None:
    saved = nbformat.read(path, as_version=4)
    assert outputs(saved), "run python -m tests.test_notebooks"
    assert outputs(executed(path)) == outputs(saved), "stale: run python -m tests.test_notebooks"
    assert any(
        "text/html" in output.get("data", {})
        for c in saved.cells
        for output in c.get("outputs", ())
    )


if __name__ == "__main__":
    for each in PATHS:
        nbformat.write(executed(each), each)
