"""Products that a model computes outside its layers, such as `q @ k.transpose(-1, -2)`.

Forward hooks on every module of a converted model keep a stack of the modules that are running. While it is
not empty, a `TorchFunctionMode` passes products on to `functional`. The innermost module gives a product its
name, its arithmetic and its number. The number counts within one call of that module, so a call that is repeated
under activation checkpointing draws the same random words.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from hfp8sim.errors import InputError
from hfp8sim.training import functional, functions
from hfp8sim.training.emulation import NUMBERS_PER_MODULE, Arithmetic, Emulation, Products

Tensor = Any  #: PyTorch's, which need not be installed where types are checked
_SOFTMAXES = NUMBERS_PER_MODULE // 2


@dataclasses.dataclass
class Scope:
    """One module of a converted model, as the interception needs to know it."""

    name: str
    number: int  #: of the module in the model
    arithmetic: Arithmetic | None  #: None: PyTorch computes the products of this module's code
    emulation: Emulation

    def products(self, index: int) -> Products:
        """The arithmetic of product number `index` of one call of the module."""
        return self._numbered(f"{self.name}.{index}", index + 1, index)

    def softmax(self, index: int) -> Products:
        """The arithmetic of softmax number `index` of one call of the module."""
        return self._numbered(f"{self.name}.softmax{index}", _SOFTMAXES + index, index)

    def _numbered(self, name: str, number: int, index: int) -> Products:
        assert self.arithmetic is not None
        if index + 1 >= _SOFTMAXES:
            raise InputError(f"module {self.name} computes more than {index} products in one call")
        number += self.number * NUMBERS_PER_MODULE
        return Products(name, self.arithmetic, number, self.emulation)

    def enter(self, module: nn.Module, args: Any) -> None:
        """The forward pre-hook: the module's code begins."""
        if not _running.frames:
            _running.mode.__enter__()
        _running.frames.append(_Frame(self))

    def leave(self, module: nn.Module, args: Any, result: Any) -> None:
        """The forward hook, called after errors too: the module's code has ended."""
        _running.frames.pop()
        if not _running.frames:
            _running.mode.__exit__(None, None, None)


@dataclasses.dataclass
class NormalisedResult:
    """Rounds what a normalisation layer returns."""

    products: Products

    @torch.compiler.disable
    def round(self, module: nn.Module, args: Any, result: Tensor) -> Tensor:
        """The forward hook."""
        return functions.Normalised.apply(result, self.products)


@dataclasses.dataclass
class _Frame:
    """A call of a module that is running."""

    scope: Scope
    count: int = 0  #: products so far
    softmaxes: int = 0  #: softmaxes so far

    def products(self) -> Products:
        """The arithmetic of the call's next product."""
        self.count += 1
        return self.scope.products(self.count - 1)

    def softmax(self) -> Products:
        """The arithmetic of the call's next softmax."""
        self.softmaxes += 1
        return self.scope.softmax(self.softmaxes - 1)


class _Running(threading.local):
    """The calls that are running in one thread, outermost first."""

    def __init__(self) -> None:
        self.frames: list[_Frame] = []
        self.mode = _Mode()


class _Mode(TorchFunctionMode):
    """Passes products on to `functional`; every other function runs as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        frame = _running.frames[-1]
        handler = HANDLERS.get(func)
        if handler is None or frame.scope.arithmetic is None:
            return func(*args, **(kwargs or {}))
        return handler(frame, *args, **(kwargs or {}))


_running = _Running()


@contextlib.contextmanager
def not_emulated() -> Iterator[None]:
    """PyTorch computes the products inside."""
    if not _running.frames:
        yield
        return
    _running.frames.append(_Frame(dataclasses.replace(_running.frames[-1].scope, arithmetic=None)))
    try:
        yield
    finally:
        _running.frames.pop()


def _is_float(*tensors: Any) -> bool:
    return all(isinstance(t, torch.Tensor) and t.is_floating_point() for t in tensors)


def _matmul(frame: _Frame, a: Tensor, b: Tensor) -> Tensor:
    if not _is_float(a, b):
        return torch.matmul(a, b)
    return functional.matmul(a, b, products=frame.products())


def _rmatmul(frame: _Frame, b: Tensor, a: Tensor) -> Tensor:
    return _matmul(frame, a, b)


def _add_product(
    frame: _Frame, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """addmm, addmv and baddbmm: β·c + α·(a · b); the product is emulated."""
    product = _matmul(frame, a, b)
    scaled = product if alpha == 1 else alpha * product
    return scaled if beta == 0 else scaled + (c if beta == 1 else beta * c)


def _linear(frame: _Frame, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    if not _is_float(x, w):
        return F.linear(x, w, bias)
    return functional.linear(x, w, bias, products=frame.products())


def _attention(frame: _Frame, *args: Any, **kwargs: Any) -> Tensor:
    products = frame.products(), frame.products(), frame.softmax()
    return functional.scaled_dot_product_attention(*args, products=products, **kwargs)


def _einsum(frame: _Frame, equation: str, *operands: Any) -> Tensor:
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    if len(operands) == 1 or not _is_float(*operands):
        return torch.einsum(equation, *operands)
    if len(operands) != 2:
        raise InputError(
            f"einsum {equation!r} in module {frame.scope.name} has {len(operands)} operands: "
            "multiply two at a time"
        )
    return functional.einsum(equation, *operands, products=frame.products())


def _softmax(frame: _Frame, z: Tensor, dim: int | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """A softmax in the code of a module; a `dtype` converts first."""
    dtype = kwargs.get("dtype", args[-1] if args and isinstance(args[-1], torch.dtype) else None)
    z = z if dtype is None else z.to(dtype)
    if dim is None:  # deprecated by PyTorch
        dim = 0 if z.ndim in (0, 1, 3) else 1
    if not _is_float(z) or not z.ndim:
        return torch.softmax(z, dim)
    return functional.softmax(z, dim, products=frame.softmax())


def _refuse(frame: _Frame, *args: Any, **kwargs: Any) -> Any:
    raise InputError(
        f"module {frame.scope.name} calls a product that is not emulated; use torch.nn's layers, matmul, "
        "einsum or scaled_dot_product_attention, or keep the module in binary32 by policy"
    )


#: The functions of PyTorch that compute products, and what computes them here.
HANDLERS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(
        (torch.matmul, torch.mm, torch.bmm, torch.mv, torch.dot, torch.linalg.matmul, torch.Tensor.matmul,
         torch.Tensor.mm, torch.Tensor.bmm, torch.Tensor.mv, torch.Tensor.dot, torch.Tensor.__matmul__), _matmul,
    ),
    torch.Tensor.__rmatmul__: _rmatmul,
    **dict.fromkeys(
        (torch.addmm, torch.addmv, torch.baddbmm, torch.Tensor.addmm, torch.Tensor.addmv, torch.Tensor.baddbmm),
        _add_product,
    ),
    **dict.fromkeys((torch.softmax, torch.Tensor.softmax, F.softmax), _softmax),
    F.linear: _linear,
    F.scaled_dot_product_attention: _attention,
    torch.einsum: _einsum,
    **dict.fromkeys(
        (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
         F.bilinear, F.multi_head_attention_forward, torch.addbmm, torch.Tensor.addbmm, torch.tensordot,
         torch.linalg.multi_dot, torch.chain_matmul, torch.inner, torch.Tensor.inner), _refuse,
    ),
}  # fmt: skip
