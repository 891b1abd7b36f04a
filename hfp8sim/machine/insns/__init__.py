"""Instructions, one family a file: what each resolves to and what it does.

For every row of the instruction table there is

    resolve_MNEMONIC(words, core, regs, boxes, op)    addresses, state of the sequencer; returns a fault

and `sequencer.step` calls it.
"""
