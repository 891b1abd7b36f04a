"""The same rows under pytest-benchmark: `pytest benchmarks --benchmark-enable --benchmark-group-by=group`.

One thread where a row does not say otherwise; OPENBLAS_NUM_THREADS=1 is for the caller to set.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cases import Case, all_cases


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"{case.group}: {case.name}")
def test_speed(benchmark: Any, case: Case) -> None:
    benchmark.group = case.group
    benchmark.extra_info["work"] = f"{case.work} {case.unit.split('/')[0]}"
    benchmark(case.prepare())
