"""The kernels that are called fast: what the processor runs in their inner loops."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hfp8sim import kernels

ROOT = Path(__file__).parents[2]
#: Instructions of one step of 24 sums (8 rows of 3 vectors).
STEP = {
    "nearest-away": {"fma": 24, "addd": 24, "and": 24},
    "nearest-even": {"fma": 33, "mulps": 9, "addd": 15, "subps": 30},
    "toward-zero": {"fma": 24, "and": 24},
    "stochastic": {"fma": 24, "xor": 24, "addd": 24, "and": 24},
}
#: Some have several names.
NAMES = {"pandd": "and", "andps": "and", "pxord": "xor", "xorps": "xor", "paddd": "addd"}


@pytest.mark.skipif(kernels.host_target().lanes != 16, reason="the processor has no AVX-512")
@pytest.mark.parametrize("mode", STEP)
def test_sums_stay_in_registers(mode: str) -> None:
    """A step is what docs/speed.md says it is; no sum goes to memory and back."""
    command = [sys.executable, "-m", "benchmarks.assembly", "--set", f"rounding={mode}"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    loop = out.split("\n\n")[0].splitlines()
    assert not [line for line in loop if "rsp" in line]
    names = [line.split()[0].removeprefix("v") for line in loop]
    counts = Counter("fma" if name.startswith("fm") else NAMES.get(name, name) for name in names)
    assert {name: counts[name] for name in STEP[mode]} == STEP[mode]
