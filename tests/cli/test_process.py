"""What surrounds a command: encodings, closed streams, pipes, signals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hfp8sim import cli
from hfp8sim.cli import common, process

HFP8SIM = f"'{sys.executable}' -m hfp8sim"


def status_of(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit status of a command that raises."""

    @cli.app.command("fails")
    def fails() -> None:
        raise error

    try:
        monkeypatch.setattr(sys, "argv", ["hfp8sim", "fails"])
        return cli._status()
    finally:
        cli.app.registered_commands.pop()


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (EOFError("no data"), 2, "\nhfp8sim: a file ends too early: no data\n"),
        (KeyboardInterrupt(), 130, "hfp8sim: interrupted; nothing was written\n"),
        (OSError(28, "No space left on device"), 2, "hfp8sim: cannot write: No space left on device\n"),
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (MemoryError(), 2, "hfp8sim: out of memory; --max-macs lowers what is emulated at once\n"),
    ],
)  # fmt: skip
def test_errors_of_a_command(
    error: BaseException,
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(process, "drop_output", lambda: None)
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # typer replaces it
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert status_of(monkeypatch, error) == status
    assert capsys.readouterr().err == says


def test_interrupt_while_the_command_line_loads() -> None:
    code = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "hfp8sim.cli.common":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from hfp8sim.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (common.INTERRUPTED, "")
    assert ended.stderr == "hfp8sim: interrupted; nothing was written\n"


def test_pipe_that_rich_finds_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        def fileno(self) -> int:
            return spare

    def app(**_: object) -> None:
        Console(file=Closed()).print("a line")

    spare = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(process, "drop_output", lambda: None)
    monkeypatch.setattr(sys, "stdout", Closed())  # rich redirects its descriptor
    assert cli._status() == 0
    os.close(spare)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_any_character_can_be_printed(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In JSON, a character that the encoding lacks is an escape of JSON."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    monkeypatch.setattr(signal, "getsignal", lambda _: None)  # signals stay as they are
    process.prepare()
    text = "é × 漢 🧨 \ud800"
    print(json.dumps(text, ensure_ascii=False))
    print(common.encodable("2×3 µs"))
    sys.stdout.flush()
    first, second = raw.getvalue().decode(encoding).splitlines()
    assert json.loads(first) == text
    assert second == ("2x3 us" if encoding == "ascii" else "2×3 µs")


def test_message_that_nobody_reads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    common.say("a message")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams(tmp_path: Path, redirection: str) -> None:
    """A file that the command opens must not take the place of a closed stream."""
    program, source = tmp_path / "p", tmp_path / "s.s"
    source.write_text("csrw m, 64\n")
    command = f"exec {HFP8SIM} asm {source} --out {program} {redirection}"
    result = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert program.read_bytes().startswith(b"hfp8prog")
    assert b"words\n" not in program.read_bytes()


def test_sigterm_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        process.prepare()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        process.prepare()  # as under `nohup`
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


INTERRUPTS_AN_IMPORT = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "hfp8sim.workloads":
            exec("raise KeyboardInterrupt")
sys.meta_path.insert(0, Finder())
"""


def test_interrupt_in_code_of_a_string(tmp_path: Path) -> None:
    """Such as Numba's or a dataclass's: CPython notes it, and would end by the signal though it was caught."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS_AN_IMPORT, "utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "hfp8sim", "workloads"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 130
    assert ended.stderr == "hfp8sim: interrupted; nothing was written\n"
