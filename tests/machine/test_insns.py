"""Every row of the instruction table has one function of each kind, and the dispatch calls it."""

import pytest

from hfp8sim.isa.dispatch import dispatch, functions_of
from hfp8sim.isa.table import INSTRUCTIONS, OP
from hfp8sim.machine import insns, interpreter, sequencer
from hfp8sim.timing import costs, pipelined

#: By prefix of a function's name: the files that may hold it, and the dispatch by opcode that calls it.
FUNCTIONS = {
    "resolve": (insns.FAMILIES, sequencer._resolve),
    "execute": (insns.FAMILIES, interpreter._execute),
    "cost": (costs.FAMILIES, pipelined._cost),
}


@pytest.mark.parametrize("prefix", FUNCTIONS)
@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_instruction_has_one_function_and_is_dispatched(row, prefix):
    families, chosen = FUNCTIONS[prefix]
    name = f"{prefix}_{row.mnemonic}"
    assert len([family for family in families if hasattr(family, name)]) == 1
    assert name in getattr(chosen, "py_func", chosen).__code__.co_names


def test_dispatch_calls_the_function_of_the_opcode():
    class Family:
        """A function for every instruction, which returns the instruction's name."""

    for row in INSTRUCTIONS:
        setattr(Family, f"tell_{row.mnemonic}", staticmethod(lambda code, name=row.mnemonic: name))
    chosen = dispatch("tell", [Family], "code", "code", "hfp8sim.isa.dispatch")
    chosen = getattr(chosen, "py_func", chosen)
    assert [chosen(row.opcode) for row in INSTRUCTIONS] == [row.mnemonic for row in INSTRUCTIONS]


def test_dispatch_needs_a_function_for_every_instruction():
    assert set(functions_of("effect", insns.FAMILIES)) == {OP.ld, OP.st, OP.mm, OP.cv, OP.post}
    with pytest.raises(KeyError):
        dispatch("effect", insns.FAMILIES, "core", "core.now.opcode", "hfp8sim.isa.dispatch")


def test_unit_and_tile_attributes_agree():
    for row in INSTRUCTIONS:
        assert row.tiled or not (row.unit or row.one_group)
        assert not (row.barrier and row.tiled)
