"""Building and running benches of rtl/: Verilator with a C++ main program, Icarus with a Verilog one.

A bench is built once for its sources: into `out/rtl/`, in a folder whose name has their digest.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from hfp8sim.files import cache_folder
from hfp8sim.formats import get_format
from hfp8sim.isa.format_words import format_word

ROOT = Path(__file__).parents[2]
RTL = ROOT / "rtl"
BENCHES = Path(__file__).parent / "bench"
OUT = ROOT / "out" / "rtl"
REFERENCE = ROOT / "c_ref"
#: Modules that a user instantiates; the others are parts of these.
UNITS = sorted(path.stem for path in RTL.glob("hfp8_*.v"))
STANDARD = "1364-2005"
OPTIMISE = "-O2"  #: of the C++ compiler

VERILATOR, ICARUS, YOSYS = "verilator", "iverilog", "yosys"


def need(*programs: str) -> pytest.MarkDecorator:
    """A mark that skips tests without some programs, in one line that says what to install."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"no {' or '.join(missing)}: apt-get install {' '.join(missing)}"
    )


def word(name: str) -> str:
    """The word of a format in C's and Python's notation."""
    return f"0x{format_word(get_format(name)):08x}"


def parameters(**formats: str | int) -> dict[str, str]:
    """Parameters of a module: formats by name, integers as they are."""
    return {
        key: str(value) if isinstance(value, int) else "32'h" + word(value)[2:]
        for key, value in formats.items()
    }


def run(
    *command: str | Path, cwd: Path = ROOT, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program; what it printed is the message of the AssertionError if it fails."""
    process = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True
    )
    if check and process.returncode:
        raise AssertionError(
            f"{' '.join(map(str, command))}\n{process.stdout[-4000:]}{process.stderr[-4000:]}"
        )
    return process


@functools.cache
def digest(*folders: Path) -> str:
    content = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix in (".v", ".vh", ".cpp", ".c", ".h"):
                content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:16]


def build(
    top: str,
    bench: str,
    values: Mapping[str, str],
    wrapper: str = "",
    definitions: Iterable[str] = (),
) -> Path:
    """The program of a Verilator bench: module `top` with parameters, driven by `bench`.cpp.

    Args:
        wrapper: Verilog text with `top` in it, if that is not a module of rtl/.
        definitions: of C++ macros, as `NAME=VALUE`.
    """
    name = "-".join([top, bench, *(value.rpartition("h")[2] for value in values.values())])
    key = hashlib.sha256("\0".join([wrapper, *definitions]).encode()).hexdigest()[:8]
    folder = OUT / f"{name}-{digest(RTL, BENCHES, REFERENCE)}-{key}"
    with locked(folder):
        if not (folder / "bench").exists():
            folder.mkdir(exist_ok=True)
            _compile(folder, top, bench, values, wrapper, definitions)
    return folder / "bench"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time works on a folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(
    folder: Path,
    top: str,
    bench: str,
    values: Mapping[str, str],
    wrapper: str,
    definitions: Iterable[str],
) -> None:
    source = RTL / f"{top}.v"
    if wrapper:
        source = folder / f"{top}.v"
        source.write_text(wrapper)
    settings = [f"-G{key}={value}" for key, value in values.items()]
    run(
        VERILATOR, "--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "-Wno-fatal",
        "--default-language", STANDARD, f"-I{RTL}", "--top-module", top, "--prefix", "Vdut",
        "-Mdir", folder, *settings, source,
    )  # fmt: skip
    model = folder / "model.cpp"
    model.write_text(
        "".join(f'#include "{path.name}"\n' for path in sorted(folder.glob("Vdut*.cpp")))
    )
    run("g++", OPTIMISE, *_flags(), f"-I{folder}", "-c", model, "-o", folder / "model.o")
    run(
        "g++", OPTIMISE, *_flags(), *(f"-D{each}" for each in definitions), f"-I{folder}",
        f"-I{REFERENCE}", BENCHES / f"{bench}.cpp", folder / "model.o", *_common(), "-lpthread",
        "-latomic", "-o", folder / "linking",
    )  # fmt: skip
    os.replace(folder / "linking", folder / "bench")


@functools.cache
def _flags() -> tuple[str, ...]:
    include = run(VERILATOR, "--getenv", "VERILATOR_ROOT").stdout.strip() + "/include"
    definitions = ("VM_COVERAGE", "VM_SC", "VM_TRACE", "VM_TRACE_FST", "VM_TRACE_VCD")
    return (
        "-std=c++17", "-w", f"-I{include}", f"-I{include}/vltstd",
        *(f"-D{name}=0" for name in definitions),
    )  # fmt: skip


def _common() -> list[Path]:
    """Object files that all benches link, in the cache folder: Verilator's library and the C reference."""
    version = run(VERILATOR, "--version").stdout + run("g++", "--version").stdout
    key = hashlib.sha256((digest(REFERENCE) + version).encode()).hexdigest()[:16]
    folder = cache_folder() / "rtl" / key
    objects = [folder / name for name in ("verilated.o", "threads.o", "reference.o")]
    with locked(folder):
        if not folder.exists():
            include = Path(_flags()[2][2:])
            part = folder.with_name(key + ".part")
            part.mkdir(exist_ok=True)
            compile_ = ("g++", "-O2", *_flags(), "-c")
            run(*compile_, include / "verilated.cpp", "-o", part / "verilated.o")
            run(*compile_, include / "verilated_threads.cpp", "-o", part / "threads.o")
            reference = REFERENCE / "hfp8_ref.c"
            run("gcc", "-std=c11", "-O2", "-c", reference, "-o", part / "reference.o")
            os.replace(part, folder)
    return objects
