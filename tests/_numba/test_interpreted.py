"""Compiled functions run by Python's interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

from hfp8sim._numba import jit as jit_module
from hfp8sim._numba.interpreted import Budget, interpreted, nothing_interpreted
from hfp8sim._numba.jit import jit, jit_loop
from hfp8sim._numba.layouts import RANGE, layout

needs_compiler = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")


@jit
def halve(x):  # type: ignore[no-untyped-def]
    return x // 2


@jit
def halvings(x):  # type: ignore[no-untyped-def]
    n = 0
    while x:
        x = halve(x)
        n += 1
    return n


@needs_compiler
def test_interpreted_function_compiles_nothing() -> None:
    compiled: Any = halvings
    assert interpreted(halvings)(37) == 6
    assert not compiled.overloads and not halve.overloads
    assert halvings(37) == 6
    assert interpreted(halvings)(37) == 6


@needs_compiler
def test_budget_is_for_functions_without_machine_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)

    def double(x):  # type: ignore[no-untyped-def]
        return 2 * x

    budget, function = Budget(10), jit(double)
    budget.spend(3)
    assert budget.left(function, 1) == 7
    function(1)
    assert budget.left(function, 1) == 0
    assert budget.left(function, 1.0) == 7
    in_another_process = jit(double)
    assert budget.left(in_another_process, 1) == 0
    assert budget.left(in_another_process, 1.0) == 7
    function(1.0)
    assert budget.left(function, 1.0) == 0


@needs_compiler
def test_nothing_is_interpreted_on_request() -> None:
    def triple(x):  # type: ignore[no-untyped-def]
        return 3 * x

    budget, function = Budget(10), jit(triple)
    with nothing_interpreted():
        assert budget.left(function, 1) == 0
    assert budget.left(function, 1) == 10


@jit_loop
def total(values):  # type: ignore[no-untyped-def]
    result = np.int64(0)
    for value in values:
        result += value
    return result


class Numbers(NamedTuple):
    values: Any
    places: Any


@jit
def step(numbers):  # type: ignore[no-untyped-def]
    numbers.places[0] += total(numbers.values)


@needs_compiler
def test_loops_over_elements_stay_compiled() -> None:
    loop: Any = total
    numbers = Numbers(np.array([3, 4], np.uint8), np.array([5]))
    interpreted(step)(numbers)
    assert numbers.places.tolist() == [12]
    assert len(loop.overloads) == 1 and not step.overloads  # type: ignore[attr-defined]


def test_plain_function_needs_no_budget() -> None:
    """With NUMBA_DISABLE_JIT=1 no function is compiled."""
    assert Budget(10).left(lambda x: x, 1) == 0
    assert interpreted(abs) is abs


TWO = layout(a=RANGE, b=RANGE, spans=(RANGE, 2), numbers=(np.int64, 3))


@jit
def change(record, rows, values):  # type: ignore[no-untyped-def]
    record.b = record.a
    record.a.first += 1
    record.spans[1] = record.a
    record.a.count = values.size
    record.numbers[2] += record.b.first
    rows[0] = record.b
    record.b.first = values[1]
    rows[1].count = rows.size


@needs_compiler
def test_interpreted_records_are_those_of_numpy() -> None:
    """A nested record is copied when it is assigned."""
    results = []
    for function in (change, interpreted(change), change.py_func):  # type: ignore[attr-defined]
        table, rows, values = np.zeros(1, TWO), np.zeros(2, RANGE), np.array([5, 6])
        table["a"]["first"] = 3
        function(table[0], rows, values)
        results.append((table.tolist(), rows.tolist(), values.tolist()))
    assert str(results[0]) == str(results[1]) == str(results[2])


def test_arguments_that_are_read_only() -> None:
    values = np.array([37])
    values.flags.writeable = False
    assert interpreted(first)(values) == 37


@jit
def first(values):  # type: ignore[no-untyped-def]
    return values[0]
