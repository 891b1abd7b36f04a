"""What instructions cost under the `pipelined` time model, one family a file.

For every row of the instruction table there is

    cost_MNEMONIC(op, regs, pipe, segment, spans, model)    first and last cycle in the timeline

which advances the clocks of `pipe` and books cycles to the parts of `segment`. `pipelined.run` calls it.
"""

from hfp8sim.timing.costs import control, matmul, move, post

#: The files in which `isa.dispatch` looks for the costs of the instructions.
FAMILIES = (control, matmul, move, post)
