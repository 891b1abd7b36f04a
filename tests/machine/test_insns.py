"""Every row of the instruction table has its three functions, and each is called by its dispatch."""

import pytest

from hfp8sim.isa.table import INSTRUCTIONS
from hfp8sim.machine import interpreter, sequencer
from hfp8sim.machine.insns import control, matmul, move, post
from hfp8sim.timing import costs, pipelined

#: By prefix of a function's name: the files that may hold it, and the dispatch by opcode that calls it.
FUNCTIONS = {
    "resolve": ((control, matmul, move, post), sequencer._resolve),
    "execute": ((control, matmul, move, post), interpreter._execute),
    "cost": ((costs.control, costs.matmul, costs.move, costs.post), pipelined._cost),
}


@pytest.mark.parametrize("prefix", FUNCTIONS)
@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_instruction_has_one_function_and_is_dispatched(row, prefix):
    files, dispatch = FUNCTIONS[prefix]
    name = f"{prefix}_{row.mnemonic}"
    assert len([file for file in files if hasattr(file, name)]) == 1
    assert name in getattr(dispatch, "py_func", dispatch).__code__.co_names


def test_unit_and_tile_attributes_agree():
    for row in INSTRUCTIONS:
        assert row.tiled or not (row.unit or row.one_group)
        assert not (row.barrier and row.tiled)
