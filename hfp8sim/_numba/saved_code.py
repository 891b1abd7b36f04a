"""What a compiled function is saved as, and how another process makes it callable.

Numba's own files hold the same machine code, but loading them does work that a call does not need:

- It parses the LLVM code of the function, for callers that are compiled later. Here a caller compiles what it calls
  (see `linking.py`), so LLVM code is not saved.
- It imports the modules of all functions that are linked into the machine code, to rebuild their environments.
  Of an environment without constants only the presence is tested; here the function's own stands in for it.
- It compiles Numba's reference counting. Machine code holds a copy of what it uses of that. From outside it
  needs the C functions of Numba's run-time library, whose addresses are registered here.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from numba.core import compiler
from numba.core.codegen import JITCodeLibrary
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]


class SavedCode(NamedTuple):
    """A compiled function as data. Numba's types are pickled by Numba's own rules."""

    name: str  #: of the library, Numba's unit of linking
    machine_code: bytes  #: an object file
    symbols: tuple[str, ...]  #: that the machine code defines
    descriptor: Any  #: names and types of the function, for Numba
    environment: Any  #: of the function
    environments: tuple[Any, ...]  #: with constants, of the functions that are linked into it
    empty_environments: tuple[str, ...]  #: names of those without
    signature: Any
    reload_init: Any  #: functions to call before the machine code is loaded


def saved(result: Any) -> SavedCode:
    """The data of a Numba `CompileResult`."""
    library, descriptor = result.library, result.fndesc
    module = library._final_module
    symbols = [
        symbol.name
        for symbols in (module.functions, module.global_variables)
        for symbol in symbols
        if not symbol.is_declaration
    ]
    descriptor.typemap = descriptor.calltypes = None  # large, and of use to the compiler only
    environments = result._find_referenced_environments()
    return SavedCode(
        library.name, library._get_compiled_object(), tuple(symbols), descriptor, result.environment,
        tuple(each for each in environments if each.consts),
        tuple(each.env_name for each in environments if not each.consts),
        result.signature, result.reload_init,
    )  # fmt: skip


def loaded(code: SavedCode, target_context: Any) -> Any:
    """The Numba `CompileResult` of saved code. Its machine code is ready to be called."""
    _register_run_time_library()
    for initialise in code.reload_init:
        initialise()
    codegen = target_context.codegen()
    library = _LoadedLibrary(codegen, code)
    entry_point = target_context.get_executable(library, code.descriptor, code.environment)
    for environment in code.environments:
        codegen.set_env(environment.env_name, environment)
    for name in code.empty_environments:
        codegen.set_env(name, code.environment)
    compile_result: Any = compiler.CompileResult
    return compile_result(
        typing_context=target_context.typing_context, target_context=target_context,
        entry_point=entry_point, typing_error=None, type_annotation="", signature=code.signature,
        objectmode=False, lifted=(), fndesc=code.descriptor, library=library, call_helper=None,
        environment=code.environment, metadata=None, reload_init=code.reload_init,
        referenced_envs=code.environments,
    )  # fmt: skip


class _LoadedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A library whose machine code comes from a file."""

    def __init__(self, codegen: Any, code: SavedCode) -> None:
        super().__init__(codegen, code.name)
        self.enable_object_caching()
        self._set_compiled_object(code.machine_code)
        self._finalize_final_module()
        codegen._engine._defined_symbols.update(code.symbols)


@functools.cache
def _register_run_time_library() -> None:
    """Tell LLVM's linker the addresses of the C functions of Numba's run-time library, by their names in C."""
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
