"""Short programs are checked, executed and timed by Python's interpreter: the results are those of compiled code."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from hfp8sim._numba import interpreted
from hfp8sim.errors import InputError
from hfp8sim.isa import Program, assemble
from hfp8sim.lowering import lower_layer
from hfp8sim.machine import execute, get_machine, interpreter
from hfp8sim.machine.check import INTERPRETED, Findings, examine
from hfp8sim.network import PHASES, Conv, Layer
from hfp8sim.timing import pipelined_driver
from tests.lowering.layers import layer_inputs
from tests.machine.test_check import BODY, HEAD

LAYERS = (
    Layer("fc", "linear", 50, 33, 200),
    Layer.from_conv("conv", Conv(2, 7, 7, 4, 6, (3, 3), padding=(1, 1, 1, 1))),
    Layer.from_conv("depthwise", Conv(1, 6, 6, 4, 4, (3, 3), groups=4)),
)
#: Operand B overwrites rows that A is read from.
STALE = BODY.replace("ld b, s[10]", "ld b, s[0]").replace("ldw s[10]", "ldw s[0]")
UNWRITTEN = BODY.replace("ld b, s[10]\n", "")


def findings(program: Program, steps: int, monkeypatch: pytest.MonkeyPatch) -> Findings | str:
    """What a check finds that may interpret so many steps."""
    monkeypatch.setattr(INTERPRETED, "steps", steps)
    monkeypatch.setattr(interpreted, "_is_compiled", lambda *_: False)
    monkeypatch.setattr(INTERPRETED, "_compiled", set())
    examine.cache_clear()
    try:
        return examine(program, get_machine())
    except InputError as error:
        return str(error)
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("body", [BODY, STALE, UNWRITTEN])
def test_interpreted_check_finds_the_same(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = assemble(HEAD + body)
    compiled = findings(program, 0, monkeypatch)
    assert findings(program, 1000, monkeypatch) == compiled
    assert findings(program, 20, monkeypatch) == compiled  # it is started again, compiled


def executed(program: Program, codes: Any, threads: int, count: bool) -> tuple[Any, ...]:
    """All results of a program's execution, and the log of one that is alone."""
    lines: list[str] = []
    execute(program, codes, log=lines.append, count=count)
    result = execute(program, codes, threads=threads, count=count)
    outputs = {name: array.tolist() for name, array in result.outputs.items()}
    return outputs, result.macs, result.gated, result.events, lines


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("phase", PHASES)
def test_interpreted_program_has_the_same_results(
    layer: Layer, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = layer_inputs(layer, phase, "hfp8", np.random.default_rng(3))
    program = lower_layer(layer, phase, get_machine(), tile=(16, 16, 32))
    cases = [(1, False), (1, True), (2, True)]
    compiled = [executed(program, codes, *case) for case in cases]
    monkeypatch.setattr(interpreted, "_is_compiled", lambda *_: False)
    budget = interpreted.Budget(10**6)
    monkeypatch.setattr(interpreter, "INTERPRETED", budget)
    compiled_loop = interpreter._run
    monkeypatch.setattr(
        interpreter, "interpreted", lambda _: interpreted.interpreted(compiled_loop)
    )
    monkeypatch.setattr(interpreter, "_run", None)
    assert [executed(program, codes, *case) for case in cases] == compiled
    assert budget.steps == 10**6 - 6 * examine(program, get_machine()).instructions


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("phase", PHASES)
def test_interpreted_program_takes_the_same_time(
    layer: Layer, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = get_machine()
    program = lower_layer(layer, phase, machine)
    instructions = examine(program, machine).instructions
    compiled = (
        pipelined_driver.time_segments(program, machine),
        pipelined_driver.list_spans(program, machine),
    )
    monkeypatch.setattr(interpreted, "_is_compiled", lambda *_: False)
    monkeypatch.setattr(INTERPRETED, "_compiled", set())
    monkeypatch.setattr(INTERPRETED, "steps", 10**6)
    assert pipelined_driver.time_segments(program, machine) == compiled[0]
    assert INTERPRETED.steps < 10**6
    assert pipelined_driver.list_spans(program, machine) == compiled[1]
    monkeypatch.setattr(INTERPRETED, "steps", instructions - 1)
    assert pipelined_driver.time_segments(program, machine) == compiled[0]
    assert INTERPRETED.steps == instructions - 1
