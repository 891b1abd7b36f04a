"""Instructions, one family a file: what each of them resolves to and what it does.

For every row of the instruction table, a file of this package has

    resolve_MNEMONIC(words, core, regs, boxes, op)

which resolves addresses, changes the state of the sequencer and returns a member of `FAULT`; `sequencer.step`
calls it. And it has

    execute_MNEMONIC(context)

which moves or computes data and returns a member of `OUTCOME`; the compiled loop in `interpreter` calls it.
`effect_MNEMONIC(core)` is the instruction's text in the log, if it changes any data.
"""

from hfp8sim.machine.insns import control, matmul, move, post

#: The files in which `isa.dispatch` looks for the functions of the instructions.
FAMILIES = (control, matmul, move, post)
