"""Every row of the instruction table has all that the machine and the pipelined model need of it."""

import pytest

from hfp8sim.isa.table import INSTRUCTIONS
from hfp8sim.machine import interpreter, sequencer
from hfp8sim.machine.insns import control, matmul, move, post
from hfp8sim.timing import costs, pipelined

#: What an instruction needs: the files that hold it, and the function that calls it by opcode.
CLAUSES = {
    "resolve": ((control, matmul, move, post), sequencer._resolve),
    "execute": ((control, matmul, move, post), interpreter._execute),
    "cost": ((costs.control, costs.matmul, costs.move, costs.post), pipelined._cost),
}


@pytest.mark.parametrize("clause", CLAUSES)
@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_instruction_has_clause(row, clause):
    files, dispatch = CLAUSES[clause]
    name = f"{clause}_{row.mnemonic}"
    assert len([file for file in files if hasattr(file, name)]) == 1
    assert name in getattr(dispatch, "py_func", dispatch).__code__.co_names


def test_unit_and_tile_attributes_agree():
    for row in INSTRUCTIONS:
        assert row.tiled or not (row.unit or row.one_group)
        assert not (row.barrier and row.tiled)
