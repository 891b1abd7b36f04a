"""Studies: each runs in its quick size, judges itself, and agrees with the data that the docs show."""

import dataclasses
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from hfp8sim import InputError  # noqa: E402
from hfp8sim.report.study import StudyRecord  # noqa: E402
from hfp8sim.training.studies.registry import get_study, studies  # noqa: E402

DATA = Path(__file__).parents[2] / "docs" / "studies"


@pytest.mark.parametrize("name", studies())
def test_quick_size_measures_every_arm(name) -> None:
    study = get_study(name)
    record = study.run(quick=True)
    assert study.name == name
    assert {row["arm"] for row in record.rows} == set(study.arms)
    assert record.seeds == list(range(study.quick_seeds))
    assert {key for row in record.rows for key in row} >= {metric.name for metric in study.metrics}
    assert record.checks
    assert record.facts["cpu_seconds"] < 30
    assert StudyRecord.from_json(record.to_json()) == record
    record.to_svg()


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.json")))
def test_stored_data_is_that_of_the_study_as_it_is(name) -> None:
    """Also says that `make studies` was run again after a study changed."""
    study = get_study(name)
    stored = StudyRecord.from_json((DATA / f"{name}.json").read_text("utf-8"), name)
    assert study.record(stored.rows, stored.facts) == stored
    assert not stored.facts["quick"]
    assert len(stored.seeds) == study.seeds >= 3
    assert stored.points == (sorted(study.points) if study.sweep else [None])
    assert stored.facts["cpu_seconds"] < 600


def test_budget_takes_fewer_seeds() -> None:
    study = dataclasses.replace(get_study("last-layer"), points=(10,), seeds=4)
    assert study.run(budget=math.inf).seeds == [0, 1, 2, 3]
    assert study.run(budget=1e-9).seeds == [0]


def test_unknown_study_is_named() -> None:
    with pytest.raises(InputError, match="unknown study 'update'"):
        get_study("update")
