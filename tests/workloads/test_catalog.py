"""Workloads by name and by path."""

from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.workloads import load_workload, workloads


def test_shipped_workloads() -> None:
    for name, line in workloads().items():
        assert load_workload(name).name == name
        assert line and "\n" not in line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits-cn", "unknown workload 'digits-cn'; did you mean digits-cnn?"),
        ("missing.csv", "missing.csv: no such file"),
        ("no/where", "no/where: no such file"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_workload(name)
    assert message in str(caught.value)


def test_no_reader(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is no trace"):
        load_workload(tmp_path)
    (tmp_path / "net.docx").write_text("?")
    with pytest.raises(InputError, match=r"no reader for '\.docx' files"):
        load_workload(tmp_path / "net.docx")
