"""`hfp8sim machines`: the list, one machine, and a comparison with measured times."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hfp8sim import cli

DATA = Path(__file__).parents[1] / "data/spyre_gemm.csv"


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the console script in this process: exit status, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hfp8sim", "machines", *arguments])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as left:
                cli.main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return int(left.value.code or 0), *capsys.readouterr()

    return call


def test_machine_shows_how_public_its_values_are(run: Run) -> None:
    status, text, _ = run("spyre-32core")
    assert status == 0
    found = {line.split()[0]: line.split()[1:3] for line in text.splitlines() if "." in line}
    assert found["memory.bytes_per_cycle"] == ["136", "inferred"]
    assert found["memory.scratchpad_kib"] == ["2048", "published"]
    assert found["post.lanes"] == ["128", "assumed"]
    assert "spyre-32core" in run()[1]


def test_machine_against_measured_times(run: Run) -> None:
    status, text, _ = run("spyre-32core", "--against", str(DATA))
    assert status == 0
    assert "512×1024×4096" in text
    assert (
        "best splits: 26; median |ln(model/device)| 0.052; 100.0% within 30%; 0.91 to 1.21" in text
    )
    (row,) = (line for line in text.splitlines() if "512×1024×4096" in line)
    assert row.split()[6:8] == ["1.21", "0.95–1.58"]


def test_programs_and_plot_of_measured_times(run: Run, tmp_path: Path) -> None:
    header, *lines = DATA.read_text().splitlines()
    few = [line for line in lines if line.startswith(("fp16,64,1024", "fp8,1,"))]
    (tmp_path / "few.csv").write_text("\n".join([header, *few]) + "\n")
    plot = tmp_path / "plot.svg"
    status, text, _ = run(
        "spyre-32core", "--against", str(tmp_path / "few.csv"), "--programs", "--plot", str(plot)
    )
    assert status == 0
    assert "rows without a split of K, programs: 6; " in text
    assert str(plot) in text
    root = ElementTree.parse(plot).getroot()
    marks = [element.tag.rpartition("}")[2] for element in root]
    assert marks.count("circle") == len(few)
    assert marks.count("polygon") == marks.count("path") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spyre-32core", "--programs"], "--programs and --plot go with --against"),
        (["--against", str(DATA)], "--against needs the name of a machine"),
        (["spyre"], "unknown machine 'spyre'"),
        (["spyre-32core", "--against", "none.csv"], "none.csv: cannot be read"),
    ],
)
def test_machines_refuses(arguments: list[str], message: str, run: Run) -> None:
    status, _, error = run(*arguments)
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
