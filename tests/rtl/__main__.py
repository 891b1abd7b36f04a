"""The tests of rtl/: `make rtl`. Without the programs that they need, one line says so, and nothing fails.

python -m tests.rtl [--long] [arguments of pytest]
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from tests.rtl.tools import ICARUS, ROOT, VERILATOR, YOSYS


def main() -> int:
    """The command: pytest's exit status, or 0 without the programs."""
    arguments = sys.argv[1:]
    mark = "rtl and not rtl_long"
    if "--long" in arguments:
        arguments.remove("--long")
        arguments += ["-rP"]  # what the benches print: cases and CPU time
        mark = "rtl_long"
    programs = (VERILATOR, ICARUS, YOSYS, "g++", "gcc")
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        print(f"rtl/ is not tested: no {', '.join(missing)} (apt-get install {' '.join(missing)})")
        return 0
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/rtl",
        "-m",
        mark,
        "-n",
        "2",
        "--dist",
        "worksteal",
    ]
    return subprocess.run([*command, *arguments], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
