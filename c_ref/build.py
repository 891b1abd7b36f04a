"""Builds the C reference as the extension module ``hfp8sim._c_ref`` (cffi, API mode).

``setup.py`` takes ``ffi`` from here; ``python c_ref/build.py`` builds the module in place. The
declarations that cffi reads are cut from the header, so that they exist once.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "c_ref" / "hfp8_ref.h"
UNITS = (
    "rounding",
    "convert",
    "random",
    "exact",
    "mac",
    "gemm",
    "update",
    "bitstream",
    "vectors",
    "handles",
)  # what hfp8_ref.c includes


def declarations() -> str:
    """The part of the header between its two cdef markers."""
    text = HEADER.read_text(encoding="utf-8")
    return text.split("/* >>> cdef */")[1].split("/* <<< cdef */")[0]


def compile_flags() -> list[str]:
    """Flags for the platform's compiler. A warning is an error where HFP8SIM_STRICT is set, as developers do.

    A compiler of tomorrow warns of more than one of today: users' builds must not fail by that.
    """
    if sys.platform == "win32":
        return ["/std:c11", "/O2", *(["/W4", "/WX"] if os.environ.get("HFP8SIM_STRICT") else [])]
    strict = ["-Wall", "-Wextra", "-Werror"] if os.environ.get("HFP8SIM_STRICT") else []
    return ["-std=c11", "-O2", *strict]


ffi = FFI()
ffi.cdef(declarations())
ffi.set_source(
    "hfp8sim._c_ref",
    '#include "hfp8_ref.h"',
    # Relative to the project root, where setuptools runs; absolute paths would break an sdist.
    sources=["c_ref/hfp8_ref.c"],
    depends=[
        "c_ref/build.py",
        "c_ref/hfp8_ref.h",
        "c_ref/hfp8_dpi.h",
        "c_ref/hfp8_names.h",
        "c_ref/internal.h",
        *(f"c_ref/{unit}.c" for unit in UNITS),
    ],
    include_dirs=["c_ref"],
    extra_compile_args=compile_flags(),
    # A machine without a compiler can still install the package; `hfp8sim verify` says so.
    optional=True,
)


def build_in_place() -> None:
    """Compiles ``hfp8sim/_c_ref*.so`` here; unlike an install it fails when the compiler does."""
    from setuptools import Distribution

    os.chdir(ROOT)
    project = Distribution({"packages": ["hfp8sim"], "cffi_modules": ["c_ref/build.py:ffi"]})
    for extension in project.ext_modules:
        extension.optional = False
    command = project.get_command_obj("build_ext")
    with tempfile.TemporaryDirectory() as scratch:
        command.inplace = True
        command.build_temp = scratch
        command.ensure_finalized()
        command.run()


if __name__ == "__main__":
    build_in_place()
