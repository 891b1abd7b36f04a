"""The tutorials of training: every block of Python runs, in order and with fewer steps."""

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What the tests change: few steps, one seed, small reports.
QUICK = {
    "own-network.md": {"STEPS = 300": "STEPS = 3"},
    "sun-2019.md": {"STEPS, SEEDS = 315, 3": "STEPS, SEEDS = 3, 1", "every=100": "every=3"},
}


def program(name: str) -> str:
    """The page's program in its quick size."""
    text = "\n".join(BLOCK.findall((TUTORIALS / name).read_text("utf-8")))
    for full, quick in QUICK[name].items():
        assert text.count(full) == 1, full
        text = text.replace(full, quick)
    return text


@pytest.mark.parametrize("name", QUICK)
def test_tutorial_runs(name, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    try:
        exec(compile(program(name), name, "exec"), {"__name__": "tutorial"})
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out.splitlines()
    page = (TUTORIALS / name).read_text("utf-8")
    shown = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    kinds = {kind(line) for block in shown for line in block.splitlines()}
    assert {kind(line) for line in printed} <= kinds


def kind(line: str) -> str:
    """A line of output without its figures: the page must show the same lines that the program prints."""
    return re.sub(r"[\d.−+-]+|\binf\b", "#", " ".join(line.split()))


def test_own_network_has_forty_lines() -> None:
    (block,) = BLOCK.findall((TUTORIALS / "own-network.md").read_text("utf-8"))
    assert sum(bool(line.strip()) for line in block.splitlines()) <= 40
