"""What a process loads before its first result: start-up time as facts, not as times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import COMMANDS

#: Rooms that a small product is computed without.
ROOMS_ABOVE = (
    "network", "isa", "machine", "lowering", "timing", "workloads", "analysis", "report", "simulation", "testing",
    "verify", "cli",
)  # fmt: skip
#: Modules that a small product whose code is compiled already is computed without: of the package, for unfolded
#: images, other targets and edited sources; of others, large ones that Numba loads to compile.
NOT_FOR_A_GEMM = (
    "hfp8sim.kernels.im2col", "hfp8sim.kernels.model", "hfp8sim._numba.imports",
    "numba.np.arrayobj", "numba.np.linalg", "numba.typed.listobject", "scipy.linalg", "unittest", "cffi.cparser",
    "multiprocessing", "asyncio", "numpy.ma",
)  # fmt: skip
#: Modules of the package that are loaded at most.
MOST_FOR_A_GEMM, MOST_FOR_HELP = 68, 22
NOT_FOR_HELP = ("numpy", "numba", "llvmlite", "jinja2", "ctypes", "multiprocessing", "asyncio")


def modules_loaded(code: str, tmp_path: Path) -> set[str]:
    """The modules of a process that runs some code. Its sources are read and its kernels compiled before."""
    (tmp_path / "code.py").write_text(
        code + "\nimport sys; print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for _ in range(2):
        process = subprocess.run(
            [sys.executable, str(tmp_path / "code.py")], env=environment, capture_output=True, text=True, check=True
        )  # fmt: skip
    return set(process.stderr.split())


def own(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "hfp8sim"}


def test_small_gemm_loads_what_it_needs(tmp_path: Path) -> None:
    (_, _, code), _ = COMMANDS["a second process to its first small GEMM"]
    modules = modules_loaded(code, tmp_path)
    assert not modules & set(NOT_FOR_A_GEMM)
    assert not {
        name
        for name in own(modules)
        if name.startswith(tuple(f"hfp8sim.{room}" for room in ROOMS_ABOVE))
    }
    assert len(own(modules)) <= MOST_FOR_A_GEMM


def test_help_loads_what_it_needs(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['hfp8sim', '--help']\n"
        "from hfp8sim.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
    )
    modules = modules_loaded(code, tmp_path)
    assert not modules & set(NOT_FOR_HELP)
    rooms = {name.split(".")[1] for name in own(modules) if "." in name}
    assert rooms <= {"__main__", "cli", "collector", "errors", "report", "version"}
    assert len(own(modules)) <= MOST_FOR_HELP


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.argv = ['hfp8sim', 'profiles']\n"
        "from hfp8sim.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n",
        "import hfp8sim\nhfp8sim.get_format\n",
        "import hfp8sim\ntry: hfp8sim.nothing\nexcept AttributeError: pass\n",
    ],
)
def test_collector_is_on_afterwards(code: str) -> None:
    """Garbage is not collected while modules load."""
    code += "import gc, sys; print(gc.isenabled(), file=sys.stderr)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stderr.strip() == "True"


def young_and_frozen(before: str) -> tuple[int, int]:
    """Objects in the two younger generations, and frozen ones, after `hs.gemm` is loaded."""
    code = (
        f"import gc; gc.collect(); {before}\n"
        "import hfp8sim; hfp8sim.gemm\n"
        "young = sum(len(gc.get_objects(generation)) for generation in (0, 1))\n"
        "print(young, gc.get_freeze_count())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    young, frozen = map(int, process.stdout.split())
    return young, frozen


def test_loaded_modules_are_old() -> None:
    """The first garbage collection does not look at their objects."""
    young, frozen = young_and_frozen("")
    assert young < 1000
    assert frozen == 0


def test_frozen_objects_of_the_caller_stay_frozen() -> None:
    young, frozen = young_and_frozen("gc.freeze()")
    assert young > 1000
    assert frozen > 1000
