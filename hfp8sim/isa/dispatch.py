"""Functions that choose an instruction's function by its opcode, derived from the instruction table."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import INSTRUCTIONS


def functions_of(prefix: str, families: Iterable[ModuleType]) -> dict[int, Callable[..., Any]]:
    """By opcode, the function `PREFIX_MNEMONIC` of each instruction that has one in any of the modules."""
    functions = {name: value for family in families for name, value in vars(family).items()}
    names = {row.opcode: f"{prefix}_{row.mnemonic}" for row in INSTRUCTIONS}
    return {opcode: functions[name] for opcode, name in names.items() if name in functions}


def dispatch(
    prefix: str, families: Iterable[ModuleType], parameters: str, opcode: str, module: str
) -> Callable[..., Any]:
    """A compiled function that calls `PREFIX_MNEMONIC` of the instruction with an opcode.

    Its source is a chain of comparisons, one for each row of the table, because Numba inlines no call through
    a table of functions. LLVM makes a jump table of the chain.

    Args:
        families: modules that together hold one function for every instruction.
        parameters: of this function and of the functions it calls, as source text.
        opcode: the instruction's opcode as an expression of the parameters, as source text.
        module: the name of the module that uses it. The disk cache keys it by what that module imports.

    Raises:
        KeyError: an instruction without a function.
    """
    functions = functions_of(prefix, families)
    namespace: dict[str, Any] = {"__name__": module}
    lines = [f"def {prefix}({parameters}):", f"    opcode = {opcode}"]
    for row in INSTRUCTIONS:
        name = f"{prefix}_{row.mnemonic}"
        namespace[name] = functions[row.opcode]
        lines += [f"    if opcode == {row.opcode}:", f"        return {name}({parameters})"]
    lines += [f"    return {prefix}_nop({parameters})", ""]
    source, file = "\n".join(lines), f"<{prefix} by opcode>"
    linecache.cache[file] = (
        len(source),
        None,
        source.splitlines(keepends=True),
        file,
    )  # for tracebacks
    exec(compile(source, file, "exec"), namespace)
    function: Callable[..., Any] = jit(namespace[prefix])
    return function
