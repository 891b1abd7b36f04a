"""Machines, programs and executions travel between processes."""

import copy
import pickle

import numpy as np
import pytest

from hfp8sim.isa import assemble
from hfp8sim.machine import execute, get_machine, machines
from tests.machine.test_check import BODY, HEAD
from tests.machine.test_executor import operands

COPIES = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]
COPY_IDS = ["deepcopy", "pickle"]


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
def test_machine_copies(copied):
    for name in machines():
        machine = copied(get_machine(name))
        assert machine == get_machine(name) and hash(machine) == hash(get_machine(name))


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
def test_program_copies(copied):
    program = assemble(HEAD + '.layer "fc" "fwd" 0\n' + BODY.replace("halt", ".end\nhalt"))
    other = copied(program)
    assert other == program and hash(other) == hash(program)
    assert not other.words.flags.writeable
    assert np.array_equal(
        execute(other, operands()).outputs["y"], execute(program, operands()).outputs["y"]
    )


@pytest.mark.parametrize("copied", COPIES, ids=COPY_IDS)
def test_execution_copies(copied):
    execution = execute(assemble(HEAD + BODY), operands(), count=True)
    other = copied(execution)
    assert np.array_equal(other.outputs["y"], execution.outputs["y"])
    assert np.array_equal(other.dram, execution.dram)
    assert (other.macs, other.gated, other.events) == (
        execution.macs,
        execution.gated,
        execution.events,
    )
