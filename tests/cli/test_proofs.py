"""What `hfp8sim verify` prints."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hfp8sim import cli, verify
from hfp8sim.cli.proofs import summary
from hfp8sim.verify import Check, Result


def test_summary_states_counts_and_first_difference() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    check = Check("adder", "all pairs", "A = B", 1, lambda i: Result())
    console.print(summary([(check, Result(1 << 32, 3, "x = 1: 0x2 ≠ 0x3"))]))
    text = console.export_text()
    assert "4,294,967,296" in text and "first: x = 1: 0x2 ≠ 0x3" in text and "all pairs" in text


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    monkeypatch.setattr(sys, "argv", ["hfp8sim", *map(str, arguments)])
    capsys.readouterr()
    try:
        cli.main()
        status = 0
    except SystemExit as left:
        status = int(left.code or 0)
    return status, *capsys.readouterr()


def test_vectors_are_written_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong answer gives exit status 1, its operands, and a failure in the JUnit file."""
    written = call(monkeypatch, capsys, "vectors", "fma", "--out", tmp_path, "--forms", "hex")
    assert written[:2] == (0, f"{tmp_path / 'fma.hex'}\nfma coverage: 150 of 150 bins\n")
    assert not (tmp_path / "fma.npz").exists()
    path, junit = tmp_path / "fma.hex", tmp_path / "junit.xml"
    status, out, _ = call(monkeypatch, capsys, "vectors", "--check", path, "--junit", junit)
    assert status == 0 and "4,096" in out and 'failures="0"' in junit.read_text("utf-8")
    assert "coverage: 150 of 150 bins" in junit.read_text("utf-8")
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1][:-1] + "f"]), "utf-8")
    status, out, _ = call(monkeypatch, capsys, "vectors", "--check", path, "--junit", junit)
    assert status == 1 and "nearest-even, first: vector 4095: mode 0" in out
    assert 'failures="1"' in junit.read_text("utf-8")
    assert call(monkeypatch, capsys, "vectors", "--check", path, "--no-flags")[0] == 0


def test_answers_alone_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, capsys, "vectors", "add", "--out", tmp_path, "--count", 40)
    rows = [
        line for line in (tmp_path / "add.hex").read_text("utf-8").splitlines() if line[0] != "/"
    ]
    answers = tmp_path / "answers.txt"
    answers.write_text("\n".join(row[-6:] for row in rows), "utf-8")
    command = ("vectors", "--check", answers, "--of", tmp_path / "add.hex")
    assert call(monkeypatch, capsys, "vectors", "--check", "/nowhere/a.hex")[::2] == (
        2, "hfp8sim: /nowhere/a.hex: No such file or directory\n",
    )  # fmt: skip
    status, out, _ = call(monkeypatch, capsys, *command)
    assert status == 0 and "empty: " in out and " more" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", 10_000_001], "count is 10000001, must be at most 10000000"),
        (["dot", "--count", 1_000_001], "count is 1000001, must be at most 1000000 for dot"),
        (["--forms", "bin"], "unknown form 'bin'"),
        (["--forms", ""], "--forms is empty; it must be hex, npz or both"),
        (["--junit", "out.xml"], "--of and --junit need --check FILE"),
        (["--check", "fma.hex"], "--check takes no units: the file names its own"),
    ],
)
def test_bad_vector_arguments_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[object], message: str,
) -> None:  # fmt: skip
    status, _, err = call(monkeypatch, capsys, "vectors", "fma", "--out", tmp_path, *arguments)
    assert status == 2 and message in err and err.count("\n") == 1


def test_verify_writes_junit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Check("adder", "pairs", "A = B", 1, lambda i: Result(4, 1, "x = 1")), Check("other", "", "", 1, lambda i: Result(3))]  # fmt: skip
    monkeypatch.setattr(verify, "checks", lambda exhaustive: found)
    path = tmp_path / "junit.xml"
    assert call(monkeypatch, capsys, "verify", "--junit", path)[0] == 1
    text = path.read_text("utf-8")
    assert 'tests="2" failures="1"' in text and 'message="1 of 4 differ">x = 1<' in text
