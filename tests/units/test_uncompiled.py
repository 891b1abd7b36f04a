"""The kernels are plain functions: without Numba's compiler they give the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.ops.test_products import ORDERS
from tests.units.problems import operand, plain

ROOT = Path(__file__).parents[2]
CASES = [
    (order, mode, source)
    for order in ORDERS
    for mode, source in (
        ("nearest-away", "row-column"),
        ("stochastic-c", "counter"),
        ("stochastic-a", "lfsr"),
    )
]


def results() -> np.ndarray:
    """Codes and event counts of a small GEMM for every order, and updates by every rule."""
    from hfp8sim.formats import get_format
    from hfp8sim.units import get_profile
    from hfp8sim.units.sites import Draw
    from hfp8sim.units.update import RULES, Update
    from tests.units.test_update import OPTIMISERS
    from tests.units.updates import by_plain, problem

    rng = np.random.default_rng(12)
    rows = []
    for order, mode, source in CASES:
        profile = get_profile("hfp8").replace(
            rounding=mode, random_source=source, chunk_length=8, **ORDERS[order]
        )
        fmt_a, fmt_b = get_format("hfp8-143-hw"), get_format("e5m2")
        a, b = operand(rng, fmt_a, (2, 19), "numbers"), operand(rng, fmt_b, (19, 3), "edges")
        codes, events = plain(profile, fmt_a, fmt_b, a, b, seed=3)
        rows.append([*codes.ravel(), *vars(events).values()])
        x = fmt_b.decode(fmt_b.encode(np.linspace(-3, 3, 11)))
        rows.append(list(fmt_a.encode(x)))
    for rule in RULES:
        for options, constants in OPTIMISERS.values():
            tensors = problem(Update(rule, **options), rng, 6, wild=True)
            with np.errstate(all="ignore"):
                updated, counts = by_plain(
                    Update(rule, **options), constants, tensors, Draw(1, 2, 3)
                )
            rows += [x.view(np.uint32) for x in updated.values()]
            rows.append([counts.stuck, *counts.overflowed.values()])
    return np.array([int(value) for row in rows for value in row])


def test_uncompiled_twin(tmp_path: Path) -> None:
    out = tmp_path / "codes.npy"
    script = (
        "import numba, numpy, tests.units.test_uncompiled as t\n"
        "from hfp8sim.formats.rounding import round_pack\n"
        "assert numba.config.DISABLE_JIT and not hasattr(round_pack, 'py_func')\n"
        f"numpy.save({str(out)!r}, t.results())"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], check=True, cwd=ROOT, env=environment
    )
    np.testing.assert_array_equal(np.load(out), results())
