"""The inner loop of a profile's kernel, as the processor runs it.

python -m benchmarks.assembly [--profile hfp8] [--set rounding=nearest-even] [--events]
"""

from __future__ import annotations

import os
import tempfile

# Compiled here and now: of a kernel from the cache there is no text.
os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()

import argparse
import re
import shutil
from collections import Counter
from typing import Any

from benchmarks.cases import KEYS, matrices
from hfp8sim import kernels
from hfp8sim.kernels.microkernel import microkernel
from hfp8sim.ops.products import explain
from hfp8sim.simulation.variants import changed_profile


def inner_loop(profile: Any, events: bool = False) -> list[str]:
    """Instructions of the loop over steps: the innermost loop that has most multiplications."""
    a, b = matrices(profile, 64)
    formats, plan = profile.operand_formats("fwd"), explain(a, b, profile, events=events)
    left = kernels.pack_operand(plan, a, formats[0], KEYS, of_a=True)
    right = kernels.pack_operand(plan, b.T, formats[1], KEYS, of_a=False)
    kernels.accumulate(
        plan, left, right, kernels.allocate_accumulators(plan, 64, 64, whole=True), last=True
    )
    assert plan.kernel is not None
    (text,) = microkernel(plan.kernel).inspect_asm().values()  # type: ignore[attr-defined]
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
    labels = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    loops = []
    for i, line in enumerate(lines):
        jump = re.match(r"j\w+\s+(\S+)$", line)
        if jump and labels.get(jump[1], len(lines)) < i:
            loops.append(lines[labels[jump[1]] + 1 : i + 1])
    inner = [loop for loop in loops if not any(line.endswith(":") for line in loop)]
    return max(inner, key=lambda loop: sum("mul" in x or "fma" in x for x in loop))


def main() -> None:
    """Print the loop and how often each instruction stands in it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.assembly")
    parser.add_argument("--profile", default="hfp8")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--events", action="store_true", help="count events")
    options = parser.parse_args()
    profile = changed_profile(options.profile, options.set)
    loop = inner_loop(profile, options.events)
    print("\n".join(loop))
    print()
    for name, count in Counter(line.split()[0] for line in loop).most_common():
        print(f"{count:4} {name}")
    shutil.rmtree(os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)


if __name__ == "__main__":
    main()
