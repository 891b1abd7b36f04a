"""Capture from PyTorch: the operands of every matrix product of one training step.

The model runs once, unchanged, under a `TorchFunctionMode` that intercepts each call of linear,
convolution, matmul, attention and recurrence in the model and in the loss. Fused attention and recurrence
are replaced by the products that they consist of (`torch_handlers`). Their results differ from the fused
ones by rounding alone. Gradients of the results are the errors.

Importing this module imports torch. Users call `hfp8sim.workloads.capture`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from hfp8sim.errors import InputError
from hfp8sim.network.records import (
    PHASES,
    Conv,
    Layer,
    Workload,
    distinct,
)
from hfp8sim.workloads.readers import nests, tensor_layouts
from hfp8sim.workloads.readers.torch_handlers import HANDLERS, UNREAD_FUNCTIONS

Tensor = Any
Arrange = Callable[[np.ndarray], np.ndarray]


def run(model: Any, batch: Any, loss: Callable[[Any], Any] | None, name: str) -> Workload:
    """The workload of one training step; arguments and errors are those of `hfp8sim.workloads.capture`."""
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model is {type(model).__name__}; it must be a torch.nn.Module")
    recorder = _Recorder(backward=loss is not None)
    with recorder.track_modules(model), torch.enable_grad(), recorder:
        if isinstance(batch, Mapping):
            result = model(**batch)
        else:
            result = model(*batch) if isinstance(batch, tuple | list) else model(batch)
        value = loss(result) if loss is not None else None
    if value is not None:
        _backward(model, value)
    if not recorder.records:
        raise InputError("the model called no linear, convolution or matrix product")
    names = distinct(record.name for record in recorder.records)
    layers = [r.layer(n, recorder) for n, r in zip(names, recorder.records, strict=True)]
    notes = [f"captured from {type(model).__name__} with torch {torch.__version__}"]
    if loss is None:
        notes.append("no loss was given: forward only")
    return Workload(name, tuple(layers), tuple(notes), tuple(recorder.warnings))


def _backward(model: Any, value: Any) -> None:
    """Compute the gradients of the loss. No parameter's `.grad` changes."""
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(f"the loss returned {shape}; it must return one number as a tensor")
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not value.requires_grad or not parameters:
        raise InputError("the loss depends on no parameter that requires a gradient")
    torch.autograd.grad(value, parameters, allow_unused=True)


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().to(torch.float32).cpu().numpy())


@dataclass
class _Record:
    """One layer while it is captured. A recurrent layer is used once for each time step."""

    name: str
    build: Callable[[str, int], Layer]  #: the layer without tensors, of (name, number of uses)
    w: np.ndarray
    phases: tuple[str, ...]
    x: list[np.ndarray] = field(default_factory=list)  #: activations of each use
    dy: list[np.ndarray | None] = field(
        default_factory=list
    )  #: errors of each use; None: no gradient

    def add_use(self, x: np.ndarray, result: Tensor, arrange: Arrange, backward: bool) -> None:
        """Add one use of the layer. A hook on its result stores the gradient, arranged as the errors."""
        index = len(self.x)
        self.x.append(x)
        self.dy.append(None)

        def store(gradient: Tensor) -> None:
            self.dy[index] = arrange(_numpy(gradient))

        if backward and result.requires_grad:
            result.register_hook(store)

    def layer(self, name: str, recorder: _Recorder) -> Layer:
        bare = self.build(name, len(self.x))
        tensors = {"x": self._joined(bare, "x", self.x), "w": self.w}
        if recorder.backward:
            gradients = [part for part in self.dy if part is not None]
            if gradients:  # a use without a gradient has a gradient of zero
                zero = np.zeros_like(gradients[0])
                parts = [zero if part is None else part for part in self.dy]
                tensors["dy"] = self._joined(bare, "dy", parts)
            else:
                recorder.warnings.append(f"layer {name!r} got no gradient from the loss")
        return bare.replace(tensors=tensors, phases=self.phases if recorder.backward else ("fwd",))

    @staticmethod
    def _joined(bare: Layer, key: str, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([part[None] for part in parts]).reshape(bare.tensor_shape(key))


class _Recorder(TorchFunctionMode):  # type: ignore[misc]
    """Calls the handler of each function that is a matrix product, and other functions unchanged."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.backward = backward
        self.records: list[_Record] = []
        self.warnings: list[str] = []
        self._modules: list[
            tuple[str, Any]
        ] = []  # (name, module) of running modules, innermost last
        #: Recurrent layers by weight, shape of the activations and name.
        self._cells: dict[tuple[int, tuple[int, ...], str], _Record] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        operator = str(getattr(func, "__name__", func))
        handler = HANDLERS.get(operator)
        if handler is not None:
            return handler(self, func, *args, **kwargs)
        if operator in UNREAD_FUNCTIONS:
            self.warn(operator, "is not read")
        return func(*args, **kwargs)

    def warn(self, operator: str, reason: str) -> None:
        """Add a warning about an operator of the running module, once."""
        message = f"{operator} in {self._module_name() or 'the model'} {reason}; skipped"
        if message not in self.warnings:
            self.warnings.append(message)

    # --- names

    def track_modules(self, model: Any) -> _ModuleTracker:
        return _ModuleTracker(model, self._modules)

    def _module_name(self) -> str:
        return self._modules[-1][0] if self._modules else ""

    def name(self, operator: str) -> str:
        """The running module's name, followed by the operator if the module may call several."""
        if not self._modules or not self._modules[-1][0]:
            return operator
        name, module = self._modules[-1]
        weight = getattr(module, "weight", None)
        single = not list(module.children()) and isinstance(weight, torch.Tensor)
        return name if single else f"{name}.{operator}"

    # --- records

    def product(
        self,
        operator: str,
        a: Tensor,
        b: Tensor,
        result: Tensor,
        loops: tuple[list[str], list[str], list[str]],
    ) -> None:
        """Record a product of two tensors with labelled axes. If only `a` is a parameter, it is the weight.

        Args:
            loops: labels of the axes of `a`, `b` and `result`, see `nests.Product`.
        """
        a_loops, b_loops, out = loops
        if _is_weight(a) and not _is_weight(b):
            (a, a_loops), (b, b_loops) = (b, b_loops), (a, a_loops)
        try:
            product = nests.Product.of(a.shape, a_loops, b.shape, b_loops, out)
        except InputError as error:
            return self.warn(operator, f"is no matrix product: {error}")
        shape = product.shape
        kind = ("linear" if shape.groups == 1 else "gemm") if _is_weight(b) else "matmul"

        def build(name: str, _: int) -> Layer:
            return Layer(name, kind, shape.m, shape.n, shape.k, shape.groups)

        record = _Record(self.name(operator), build, product.b(_numpy(b)), _phases(a, b))
        record.add_use(product.a(_numpy(a)), result, product.out, self.backward)
        self.records.append(record)

    def convolution(
        self, operator: str, x: Tensor, w: Tensor, result: Tensor, conv: Conv, transposed: bool
    ) -> None:
        """Record a convolution of images (N, C, H, W) or signals (N, C, W), with or without N."""
        images = _numpy(x).reshape(conv.batch, conv.channels, conv.height, conv.width)
        weights = _numpy(w)
        weights = weights.reshape(*weights.shape[:2], *conv.kernel)
        arranged = (
            tensor_layouts.rotated_filters(weights, conv.groups)
            if transposed
            else tensor_layouts.filters(weights)
        )

        def build(name: str, _: int) -> Layer:
            return Layer.from_conv(name, conv)

        def gradient(dy: np.ndarray) -> np.ndarray:
            return tensor_layouts.nhwc(dy.reshape(conv.batch, conv.filters, *conv.output))

        record = _Record(self.name(operator), build, arranged, _phases(x, w))
        record.add_use(tensor_layouts.nhwc(images), result, gradient, self.backward)
        self.records.append(record)

    def time_step(self, name: str, kind: str, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        """x · wᵀ + bias, recorded as a further use of the layer with this name, weight and shape."""
        result = F.linear(x, w, bias)
        m, (n, k) = x.shape[0], w.shape

        def build(name: str, steps: int) -> Layer:
            if kind == "recurrent":
                return Layer(name, kind, m, n, k, steps)
            return Layer(name, kind, m * steps, n, k)

        key = (id(w), tuple(x.shape), name)
        if key not in self._cells:
            self._cells[key] = _Record(name, build, _numpy(w).T, _phases(x, w))
            self.records.append(self._cells[key])
        record = self._cells[key]
        record.phases = tuple(p for p in PHASES if p in {*record.phases, *_phases(x, w)})
        record.add_use(_numpy(x), result, lambda dy: dy, self.backward)
        return result


class _ModuleTracker:
    """Context in which `stack` lists the running modules of a model, the innermost last."""

    def __init__(self, model: Any, stack: list[tuple[str, Any]]) -> None:
        self.model, self.stack, self.hooks = model, stack, list[Any]()

    def __enter__(self) -> None:
        for name, module in self.model.named_modules():
            self.hooks.append(module.register_forward_pre_hook(self._enter(name)))
            self.hooks.append(module.register_forward_hook(self._leave, always_call=True))

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        return lambda module, _: self.stack.append((name, module))

    def _leave(self, *_: object) -> None:
        if self.stack:
            self.stack.pop()


def _is_weight(tensor: Tensor) -> bool:
    """Whether the tensor is a parameter or a view of one."""
    base = tensor._base if tensor._base is not None else tensor
    return isinstance(base, torch.nn.Parameter)


def _phases(x: Tensor, w: Tensor) -> tuple[str, ...]:
    required = {"fwd": True, "dgrad": x.requires_grad, "wgrad": w.requires_grad}
    return tuple(phase for phase in PHASES if required[phase])
