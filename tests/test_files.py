"""Files are written whole or not at all, whatever exists at their path and whenever the writer is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from hfp8sim import files
from hfp8sim.errors import InputError
from hfp8sim.files import check_target, write_folder, write_text, write_whole

OLD, NEW = "old\n", "new: é\n"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def half(file: IO[str]) -> None:
    file.write("half")
    raise KeyboardInterrupt


def test_new_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    assert write_text(path, NEW) == path
    assert path.read_text("utf-8") == NEW
    assert names(tmp_path / "a") == {"b.txt"}


def test_interrupt_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text(OLD)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, half)
    assert path.read_text() == OLD
    assert names(tmp_path) == {"f"}


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "f"
    path.write_text(OLD)
    path.chmod(mode)
    write_text(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_new_files_follow_the_mask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "f", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o666 & ~mask


def test_read_only_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_text(OLD)
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root
    with pytest.raises(InputError, match="the file is read-only"):
        write_text(path, NEW)
    assert path.read_text() == OLD


def test_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_text(OLD)
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    write_text(tmp_path / "chain", NEW)
    assert (tmp_path / "target").read_text("utf-8") == NEW
    assert (tmp_path / "chain").is_symlink() and (tmp_path / "link").is_symlink()
    (tmp_path / "nowhere").symlink_to("later")
    write_text(tmp_path / "nowhere", NEW)
    assert (tmp_path / "later").read_text("utf-8") == NEW and (tmp_path / "nowhere").is_symlink()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="cannot write"):
        write_text(tmp_path / "circle", NEW)
    assert (tmp_path / "circle").is_symlink()


def test_pipe_is_written_through(tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text("utf-8")))
    reader.start()
    write_text(pipe, NEW)
    reader.join()
    assert received == [NEW]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_device_stays_a_device(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        device.symlink_to("/dev/null")
    write_text(device, NEW)
    assert stat.S_ISCHR(device.stat().st_mode)
    with pytest.raises(InputError, match="cannot write /dev/full: No space left"):
        write_text("/dev/full", NEW)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_standard_output_is_written_to(tmp_path: Path) -> None:
    """Not a file of that name, and not a new file in place of the one that it leads to."""
    code = f"from hfp8sim.files import write_text; write_text('/dev/stdout', {NEW!r})"
    out = tmp_path / "out"
    with out.open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert out.read_text("utf-8") == NEW
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        == NEW.encode()
    )


@pytest.mark.parametrize("kind", ["folder", "socket"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    before = path.stat().st_mode
    with pytest.raises(InputError, match=f"it is a .*{kind}"):
        write_text(path, NEW)
    assert path.stat().st_mode == before and names(tmp_path) == {"x"}


def test_names_that_no_file_has_are_refused(tmp_path: Path) -> None:
    for name in ("a\0b", "x" * 300):
        with pytest.raises(InputError, match="cannot write"):
            write_text(tmp_path / name, NEW)
    assert names(tmp_path) == set()


def test_longest_name_that_a_file_can_have(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), NEW)
    assert names(tmp_path) == {"x" * 255}


def test_half_characters_are_escaped(tmp_path: Path) -> None:
    """Names of files in another encoding have them."""
    write_text(tmp_path / "f", "\udce9")
    assert (tmp_path / "f").read_text() == "\\udce9"


# -- writers that are killed -------------------------------------------------------------------------


def killed(write: Callable[[], object]) -> None:
    """Call `write` in a process that dies at its end without any clean-up."""
    child = os.fork()
    if not child:
        try:
            write()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def die_within(file: IO[Any]) -> None:
    file.write("half")
    file.flush()
    os._exit(0)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_next_write_removes_what_a_killed_writer_left(tmp_path: Path, kind: str) -> None:
    def write() -> None:
        if kind == "file":
            write_whole(tmp_path / "f", die_within)
        else:
            write_folder(tmp_path / "f", map(os._exit, [0]))  # type: ignore[arg-type]

    killed(write)
    assert len(names(tmp_path) - {"f"}) == 1
    write_text(tmp_path / "g", NEW)
    assert names(tmp_path) == {"g"}


def test_write_leaves_files_of_other_writers(tmp_path: Path) -> None:
    def nested(file: IO[str]) -> None:
        write_text(tmp_path / "g", OLD)
        file.write(NEW)

    write_whole(tmp_path / "f", nested)
    assert (tmp_path / "f").read_text("utf-8") == NEW
    assert names(tmp_path) == {"f", "g"}


LOOP = """
import sys
from pathlib import Path
from hfp8sim.files import write_folder, write_text
folder = Path(sys.argv[1])
print("ready", flush=True)
for number in range(10**9):
    text = f"{number}\\n" * 5000
    write_text(folder / "f", text)
    write_folder(folder / "t", [(name, text.encode()) for name in "abc"])
"""


@pytest.mark.parametrize("seed", range(5))
def test_killed_writers_leave_whole_files(tmp_path: Path, seed: int) -> None:
    kill_at(LOOP, tmp_path, seed)
    parts = [tmp_path / "f", *(tmp_path / "t" / name for name in "abc")]
    texts = [path.read_text() for path in parts if path.exists()]
    assert len(texts) in (0, 1, 4)
    for text in texts:
        lines = text.split("\n")
        assert len(lines) == 5001 and set(lines[:-1]) == {lines[0]}
    assert len(set(texts[1:])) <= 1
    write_text(tmp_path / "last", NEW)
    assert names(tmp_path) <= {"f", "t", "last"}


def kill_at(code: str, folder: Path, seed: int) -> None:
    """Run Python code with the folder as its argument, and kill it some milliseconds after it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.002 + 0.0137 * seed)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_folders_are_exchanged_without_the_system_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def __init__(self, *_: object, **__: object) -> None: ...

    monkeypatch.setattr("ctypes.CDLL", Library)
    for content in (b"1", b"2"):
        write_folder(tmp_path / "t", [("a", content)])
        assert (tmp_path / "t" / "a").read_bytes() == content
        assert names(tmp_path) == {"t"}


def test_files_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system has none, nothing is taken for abandoned."""
    monkeypatch.setattr(files, "lock", lambda _: None)
    (tmp_path / ".hfp8sim-0.tmp").write_text("of another process")
    write_text(tmp_path / "f", NEW)
    assert names(tmp_path) == {"f", ".hfp8sim-0.tmp"}


def test_target_of_long_work_is_checked_before_it(tmp_path: Path) -> None:
    check_target(tmp_path / "new" / "file")
    assert not [*(tmp_path / "new").iterdir()]
    with pytest.raises(InputError, match="new: it is a folder"):
        check_target(tmp_path / "new")
