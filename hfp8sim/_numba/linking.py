"""Compiled functions that are linked before they are optimised.

Numba finishes every function on its own: it optimises it with all that it calls, makes machine code of it, and
wrappers for calls from Python and C. A function that is called by others is optimised and turned into machine
code again in each of them. Most functions of this package are called by compiled code alone.

Here a function that compiled code calls, a callee, is kept as LLVM code. A function that Python calls, or that
is called through its address, is a root: the callees that it reaches are linked into it, all is optimised once,
and that alone becomes machine code. A function can be both.
"""

# mypy: disable-error-code="no-untyped-call, attr-defined"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from numba.core import compiler, sigutils, types, typing
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler
from numba.core.environment import lookup_environment
from numba.core.registry import CPUDispatcher

from hfp8sim._numba.argument_types import type_of


class _CalleeLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The LLVM code of one callee. It is not optimised as a whole, nor turned into machine code."""

    def add_linking_library(self, library: Any) -> None:
        """Note a library that this one calls."""
        self._linking_libraries.append(library)

    def _optimize_functions(self, ll_module: Any) -> None:
        """Callees are optimised in their callers."""
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Link what it calls, for a library of Numba's own: that links finished ones alone."""
        for library in _reached(self):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        """The LLVM module, whose functions are kept in a caller only as long as they are called there."""
        if self._shared_module is None:
            for function in self._final_module.functions:
                if not function.is_declaration and function.linkage == llvm.Linkage.external:
                    function.linkage = "linkonce_odr"
            self._shared_module = self._final_module
        return self._shared_module


class _RootLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A root and the callees that it reaches."""

    def add_linking_library(self, library: Any) -> None:
        """Note a library that this one calls."""
        self._linking_libraries.append(library)

    def finalize(self) -> None:
        """Link all callees, optimise, and make machine code."""
        self._linking_libraries = _reached(self)
        super().finalize()
        for variable in self._final_module.global_variables:
            environment = lookup_environment(variable.name)
            if environment is not None:
                self._codegen.set_env(variable.name, environment)


def _reached(library: Any) -> list[Any]:
    """The libraries that a library calls, directly or not, each after all of its callers.

    LLVM's linker drops a `linkonce_odr` function that nothing calls yet. That is why callers come first.
    """
    seen: set[Any] = {library}
    finished: list[Any] = []

    def visit(caller: Any) -> None:
        if caller is library or isinstance(
            caller, _CalleeLibrary
        ):  # one of Numba's own holds what it calls
            for callee in caller._linking_libraries:
                if callee not in seen:
                    seen.add(callee)
                    visit(callee)
        finished.append(caller)

    visit(library)
    finished.pop()
    return finished[::-1]


@functools.cache
def _pipeline(library_class: type[JITCodeLibrary]) -> type[compiler.Compiler]:
    """Numba's compiler, with another kind of library."""

    class Pipeline(compiler.Compiler):  # type: ignore[misc]
        def define_pipelines(self) -> Any:
            state = self.state
            state.library = library_class(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
            return super().define_pipelines()

    return Pipeline


class _CalleeCompiler(_FunctionCompiler):  # type: ignore[misc]
    def _customize_flags(self, flags: Any) -> Any:
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        return flags


class _Callee(NamedTuple):
    key: object  #: under which Numba's target context knows how to call it
    result: Any  #: Numba's `CompileResult`


class LinkedDispatcher(CPUDispatcher):  # type: ignore[misc]
    """A function under `@jit`: a root for Python, a callee for compiled code."""

    #: Whether it becomes plain Python where `interpreted` runs the function that calls it.
    interpretable = True

    def __init__(
        self, py_func: Callable[..., Any], locals: Any = None, targetoptions: Any = None
    ) -> None:
        super().__init__(py_func, locals or {}, targetoptions, _pipeline(_RootLibrary))
        self._callees: dict[tuple[Any, ...], _Callee] = {}

    @functools.cached_property
    def _callee_compiler(self) -> _CalleeCompiler:
        pipeline = _pipeline(_CalleeLibrary)
        return _CalleeCompiler(
            self.py_func, self.targetdescr, self.targetoptions, self.locals, pipeline
        )

    def _compilation_chain_init_hook(self) -> None:
        """Nothing: Numba looks here for packages that add types to it. No function under `@jit` takes such a type."""

    def typeof_pyval(self, val: Any) -> Any:
        """Numba's type of an argument of a call."""
        kind = type_of(val)
        self._types_active_call.add(kind)
        return kind

    def compile(self, sig: Any) -> Any:
        """The root of a signature. Other processes that wait for it go on if that fails."""
        try:
            return super().compile(sig)
        finally:
            self._cache.end_turn(sig)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What Numba's type inference asks for at a call by compiled code.

        Numba would compile a callee anew for each integer that a caller writes as a constant. All integers are one type
        here. LLVM still knows the constant, once the callee is linked.
        """
        signature, args = self._callee_compiler.fold_argument_types(args, kws)
        args = tuple(
            types.unliteral(arg) if isinstance(arg, types.IntegerLiteral) else arg for arg in args
        )
        callee = self._callee(tuple(args))
        name = self.py_func.__name__
        template = typing.make_concrete_template(
            f"CallTemplate({name})", key=name, signatures=[callee.result.signature]
        )
        return template, signature, args, {}

    def get_overload(self, sig: Any) -> Any:
        """The key of the callee of a signature, which Numba's lowering asks for."""
        args, _ = sigutils.normalize_signature(sig)
        return self._callee(tuple(args)).key

    def _callee(self, args: tuple[Any, ...]) -> _Callee:
        if args not in self._callees:
            with global_compiler_lock:
                result = self._callee_compiler.compile(args, None)
                callee = _Callee(object(), result)
                self.targetctx.insert_user_function(callee.key, result.fndesc, [result.library])
                self._callees[args] = callee
        return self._callees[args]
