"""`hfp8sim study`: its list, a run with its files, its refusals."""

import pytest

pytest.importorskip("torch")

from hfp8sim.report.study import StudyRecord
from hfp8sim.training.studies.registry import studies
from tests.cli.test_cli import Run, run  # noqa: F401


def test_study_lists_all(run: Run) -> None:  # noqa: F811
    status, out, _ = run("study")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:] if line[0] != " "] == studies()


def test_study_prints_its_verdict_and_writes_its_data(run: Run, tmp_path) -> None:  # noqa: F811
    status, out, _ = run("study", "last-layer", "--quick", "--out", tmp_path)
    assert status == 0
    assert "verdict at this scale (quick size): shown" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"last-layer.{end}" for end in ("csv", "json", "svg")
    ]
    record = StudyRecord.from_json((tmp_path / "last-layer.json").read_text("utf-8"))
    assert str(record) in out
    assert record.facts["command"].startswith("hfp8sim study last-layer --quick")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["study", "update"], "unknown study 'update'"),
        (["study", "--quick"], "name the studies, or `all`"),
        (["study", "last-layer", "--budget", "0"], "--budget is 0, must be positive"),
    ],
)
def test_bad_arguments_are_one_line(run: Run, arguments, text) -> None:  # noqa: F811
    status, out, err = run(*arguments)
    assert (status, out) == (2, "") and text in err and err.count("\n") == 1
