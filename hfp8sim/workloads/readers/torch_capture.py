"""Capture from PyTorch: the operands of every matrix product of one training step.

The model runs once, unchanged, under two modes of PyTorch. A `TorchDispatchMode` sees every operator that is
executed, whichever function, script or transform it comes from, and records those that are products
(`torch_products`). A `TorchFunctionMode` gives them the names of the functions that were called, and takes fused
attention and recurrence apart into the products that they consist of (`torch_handlers`). Their results differ
from the fused ones by rounding alone. Gradients of the results are the errors.

During the backward pass a second dispatch mode compares: a product that belongs to no recorded one is missing.

Importing this module imports torch. Users call `hfp8sim.workloads.capture`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch._subclasses import FakeTensor
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from hfp8sim.errors import InputError
from hfp8sim.network.records import (
    PHASES,
    Conv,
    Layer,
    Workload,
    distinct,
)
from hfp8sim.workloads.readers import nests, tensor_layouts, torch_products
from hfp8sim.workloads.readers.torch_handlers import HANDLERS
from hfp8sim.workloads.readers.torch_products import Loops

Tensor = Any
Arrange = Callable[[np.ndarray], np.ndarray]


def run(model: Any, batch: Any, loss: Callable[[Any], Any] | None, name: str) -> Workload:
    """The workload of one training step; arguments and errors are those of `hfp8sim.workloads.capture`."""
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model is {type(model).__name__}; it must be a torch.nn.Module")
    if any(isinstance(p, FakeTensor) for p in model.parameters()):
        raise InputError(
            "the model's parameters are fake tensors; for shapes alone build it on the device meta"
        )
    recorder = _Recorder(backward=loss is not None)
    with _plain_execution(model), torch.enable_grad(), recorder.recording(model):
        if isinstance(batch, Mapping):
            result = model(**batch)
        else:
            result = model(*batch) if isinstance(batch, tuple | list) else model(batch)
        value = loss(result) if loss is not None else None
    if value is not None:
        _backward(model, value, recorder)
    if not recorder.records:
        raise InputError(_no_layer(recorder))
    names = distinct(record.name for record in recorder.records)
    layers = [r.layer(n, recorder) for n, r in zip(names, recorder.records, strict=True)]
    notes = [f"captured from {type(model).__name__} with torch {torch.__version__}"]
    if loss is None:
        notes.append("no loss was given: forward only")
    if any(record.w is None for record in recorder.records):
        notes.append("captured from tensors without values: shapes only")
    return Workload(
        name, tuple(layers), tuple(notes), tuple(recorder.warnings), tuple(recorder.missing)
    )


def _no_layer(recorder: _Recorder) -> str:
    if recorder.missing:
        more = len(recorder.missing) - 1
        return f"no product of the model can be read: {recorder.missing[0]}" + (
            f"; and {more} more" if more else ""
        )
    if recorder.empty:
        return f"every product of the model is empty, such as {recorder.empty[0]}; give a batch of at least 1"
    return "the model called no linear, convolution or matrix product"


@contextmanager
def _plain_execution(model: Any) -> Iterator[None]:
    """Every operator runs as it is called: nothing compiled, fused, optimised away or computed again later."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message in ("TF32 acceleration on top of oneDNN", "Using `torch.compile"):
            warnings.filterwarnings("ignore", message)
        fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        # Reentrant checkpoints run their forward pass without gradients. Nothing else is left of them here.
        apply = mock.patch.object(
            torch.utils.checkpoint.CheckpointFunction, "apply", lambda f, _, *args: f(*args)
        )
        stack.enter_context(apply)
        scripts = [m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)]
        if scripts:
            stack.enter_context(torch.jit.optimized_execution(False))
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        for script in scripts:
            for name in script._c._method_names():
                method = getattr(script, name, None)
                if isinstance(method, torch.ScriptMethod):
                    method._debug_flush_compilation_cache()  # else plans of earlier runs stay
        yield


def _backward(model: Any, value: Any, recorder: _Recorder) -> None:
    """Compute the gradients of the loss. No parameter's `.grad` changes."""
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(f"the loss returned {shape}; it must return one number as a tensor")
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not value.requires_grad or not parameters:
        raise InputError("the loss depends on no parameter that requires a gradient")
    with _BackwardCheck(recorder):
        torch.autograd.grad(value, parameters, allow_unused=True)


class _UnreadableError(Exception):
    """Why the values of a tensor cannot be recorded."""


def _numpy(tensor: Tensor) -> np.ndarray | None:
    """The values in float32; None of a tensor on the device meta.

    Raises `_UnreadableError` for values that float32 cannot hold.
    """
    if tensor.is_meta:
        return None
    if tensor.is_nested or tensor.layout != torch.strided:
        raise _UnreadableError("an operand is sparse or nested")
    if tensor.is_complex():
        raise _UnreadableError("an operand is complex")
    if tensor.is_quantized:
        raise _UnreadableError("an operand is quantised")
    return np.array(tensor.detach().to(torch.float32).cpu().numpy())


@dataclass
class _Record:
    """One layer while it is captured. A recurrent layer is used once for each time step."""

    name: str
    build: Callable[[str, int], Layer]  #: the layer without tensors, of (name, number of uses)
    w: np.ndarray | None  #: None: the tensors have no values
    phases: tuple[str, ...]
    x: list[np.ndarray | None] = field(default_factory=list)  #: activations of each use
    dy: list[np.ndarray | None] = field(
        default_factory=list
    )  #: errors of each use; None: no gradient
    reached: bool = False  #: whether a gradient came

    def add_use(self, x: np.ndarray | None, arrange: Arrange) -> Callable[[Tensor], None]:
        """Add one use of the layer. The result stores the gradient of the result, arranged as the errors."""
        index = len(self.x)
        self.x.append(x)
        self.dy.append(None)

        def store(gradient: Tensor) -> None:
            values = _numpy(gradient)
            self.reached = True
            self.dy[index] = None if values is None else arrange(values)

        return store

    def layer(self, name: str, recorder: _Recorder) -> Layer:
        bare = self.build(name, len(self.x))
        tensors = {}
        x = [part for part in self.x if part is not None]
        if x and self.w is not None:
            tensors = {"x": self._joined(bare, "x", x), "w": self.w}
        if recorder.backward and len(self.phases) > 1:
            gradients = [part for part in self.dy if part is not None]
            if gradients:  # a use without a gradient has a gradient of zero
                zero = np.zeros_like(gradients[0])
                parts = [zero if part is None else part for part in self.dy]
                tensors["dy"] = self._joined(bare, "dy", parts)
            elif not self.reached:
                recorder.warnings.append(f"layer {name!r} got no gradient from the loss")
        return bare.replace(tensors=tensors, phases=self.phases if recorder.backward else ("fwd",))

    @staticmethod
    def _joined(bare: Layer, key: str, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([part[None] for part in parts]).reshape(bare.tensor_shape(key))


class _Recorder(TorchFunctionMode):  # type: ignore[misc]
    """What was recorded. As a mode, names the functions that run, and calls the handlers of some."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.backward = backward
        self.dispatcher = _Dispatcher(self)
        self.records: list[_Record] = []
        self.warnings: list[str] = []
        self.missing: list[str] = []
        self.empty: list[str] = []  #: products of no element
        #: Nodes of the backward graph whose products belong to recorded or missing ones.
        self.nodes: list[Any] = []
        self.inside_recorded = 0  #: depth of functions whose products a handler records
        self._modules: list[
            tuple[str, Any]
        ] = []  # (name, module) of running modules, innermost last
        self._operators: list[str] = []  # names of running functions, innermost last
        self._steps: str = ""  # the recurrent function whose products are steps of one layer
        #: Recurrent layers by weight, shape of the activations and name.
        self._cells: dict[tuple[int, tuple[int, ...], str], _Record] = {}
        #: Results to hook. A result knows its gradient's node after its operator only.
        self._unhooked: list[tuple[Tensor, Callable[[Tensor], None] | None]] = []
        self._padded: tuple[Tensor, Tensor, list[int]] | None = None
        #: Tensors that hold the elements of a weight in another type or order.
        self._weight_copies = WeakTensorKeyDictionary()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        operator = str(getattr(func, "__name__", func)).strip("_")
        handler = HANDLERS.get(operator)
        # Under a transform such as vmap the tensors here are not those that are multiplied.
        if handler is not None and torch._C._functorch.peek_interpreter_stack() is None:
            return handler(self, func, *args, **kwargs)
        with self.operator(operator):
            return func(*args, **kwargs)

    # --- what cannot be recorded

    def warn(self, operator: str, reason: str) -> None:
        """Add a warning about an operator of the running module, once."""
        self._note(self.warnings, f"{operator} in {self._module_name()} {reason}")

    def miss(self, operator: str, reason: str) -> None:
        """Add a product that is not recorded, and why, once for each module."""
        self._note(self.missing, f"{operator} in {self._module_name()}: {reason}")

    @staticmethod
    def _note(notes: list[str], message: str) -> None:
        if message not in notes:
            notes.append(message)

    # --- names

    @contextmanager
    def recording(self, model: Any) -> Iterator[None]:
        """Record what runs inside of this context, with the names of the model's modules."""
        with _ModuleTracker(model, self._modules), self, self.dispatcher:
            yield
            self.add_hooks()

    def _module_name(self) -> str:
        return (self._modules[-1][0] if self._modules else "") or "the model"

    def name(self, operator: str) -> str:
        """The running module's name, followed by the operator if the module may call several."""
        if not self._modules or not self._modules[-1][0]:
            return operator
        name, module = self._modules[-1]
        weight = getattr(module, "weight", None)
        single = not list(module.children()) and isinstance(weight, torch.Tensor)
        return name if single else f"{name}.{operator}"

    @contextmanager
    def operator(self, name: str) -> Iterator[None]:
        """Products inside of this context have this name."""
        self._operators.append(name)
        try:
            yield
        finally:
            self._operators.pop()

    def running(self, default: str) -> str:
        """The name of the running function."""
        return self._operators[-1] if self._operators else default

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """The caller records what the operators inside of this context compute."""
        self.inside_recorded += 1
        try:
            yield
        finally:
            self.inside_recorded -= 1

    @contextmanager
    def time_steps(self, operator: str) -> Iterator[None]:
        """Inside of this context, products with the same weight and shape are time steps of one layer."""
        self._steps = operator
        try:
            with self.operator(operator):
                yield
        finally:
            self._steps = ""

    # --- weights

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether the tensor is a parameter, a view of one, or a copy in another type or order."""
        base = tensor._base if tensor._base is not None else tensor
        return isinstance(base, torch.nn.Parameter) or base in self._weight_copies

    def copied(self, source: Tensor, result: Tensor) -> None:
        if isinstance(result, torch.Tensor) and result is not source and self.is_weight(source):
            self._weight_copies[result] = True

    # --- padding

    def padded(self, arguments: tuple[Any, ...], result: Tensor) -> None:
        """Remember what a convolution with the padding "same" pads on one side, before its operator runs."""
        if self.running("").startswith("conv"):
            self._padded = (result, arguments[0], arguments[1])

    def unpadded(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """(input, padding) of what the running convolution padded; the padding is in the order of `F.pad`."""
        if self._padded is not None and self._padded[0] is x:
            return self._padded[1:]
        return x, []

    # --- records

    def add_hooks(self) -> None:
        """Hook the gradients of the results of finished operators."""
        for result, store in self._unhooked:
            if result.grad_fn is not None:
                self.nodes.append(result.grad_fn)
                if store is not None and self.backward:
                    result.register_hook(store)
        self._unhooked.clear()

    def expect(self, result: Any, store: Callable[[Tensor], None] | None) -> None:
        """Hook the result of the running operator when it has finished.

        With gradients disabled it has none of its own: what computes it may be a function with its own gradient.
        """
        if isinstance(result, torch.Tensor) and torch.is_grad_enabled():
            self._unhooked.append((result, store))

    def product(self, operator: str, a: Tensor, b: Tensor, result: Tensor, loops: Loops) -> None:
        """Record a product of two tensors with labelled axes. If only `a` is a weight, it is the second operand.

        Args:
            loops: labels of the axes of `a`, `b` and `result`, see `nests.Product`.
        """
        a_loops, b_loops, out = loops
        if 0 in (*a.shape, *b.shape):
            return self._empty(operator, a, b)
        if self.is_weight(a) and not self.is_weight(b):
            (a, a_loops), (b, b_loops) = (b, b_loops), (a, a_loops)
        try:
            product = nests.Product.of(a.shape, a_loops, b.shape, b_loops, out)
            x, w = _numpy(a), _numpy(b)
        except (InputError, _UnreadableError) as error:
            return self.miss(operator, str(error))
        shape, weight = product.shape, self.is_weight(b)
        x, w = (
            None if x is None else product.a(x),
            None if w is None else product.b(w),
        )
        if self._steps and weight and shape.groups == 1:
            base = b._base if b._base is not None else b
            key = (id(base), tuple(shape), self._steps)
            return self._step(key, self.name(operator), "recurrent", x, w, a, b, result)

        def build(name: str, _: int) -> Layer:
            kind = ("linear" if shape.groups == 1 else "gemm") if weight else "matmul"
            return Layer(name, kind, shape.m, shape.n, shape.k, shape.groups)

        record = _Record(self.name(operator), build, w, _phases(a, b))
        self.records.append(record)
        self.expect(result, record.add_use(x, product.out))

    def _empty(self, operator: str, a: Tensor, b: Tensor) -> None:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        self._note(self.empty, f"{operator} in {self._module_name()} of {shapes}")
        self.warn(operator, f"multiplies empty tensors of shapes {shapes}")

    def convolution(
        self, operator: str, x: Tensor, w: Tensor, result: Tensor, conv: Conv, transposed: bool
    ) -> None:
        """Record a convolution of images (N, C, H, W) or signals (N, C, W), with or without N."""
        try:
            images, weights = _numpy(x), _numpy(w)
        except _UnreadableError as error:
            return self.miss(operator, str(error))
        if images is not None:
            images = tensor_layouts.nhwc(
                images.reshape(conv.batch, conv.channels, conv.height, conv.width)
            )
        if weights is not None:
            weights = weights.reshape(*weights.shape[:2], *conv.kernel)
            weights = (
                tensor_layouts.rotated_filters(weights, conv.groups)
                if transposed
                else tensor_layouts.filters(weights)
            )

        def build(name: str, _: int) -> Layer:
            return Layer.from_conv(name, conv)

        def gradient(dy: np.ndarray) -> np.ndarray:
            return tensor_layouts.nhwc(dy.reshape(conv.batch, conv.filters, *conv.output))

        record = _Record(self.name(operator), build, weights, _phases(x, w))
        self.records.append(record)
        self.expect(result, record.add_use(images, gradient))

    def time_step(self, name: str, kind: str, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        """x · wᵀ + bias, recorded as a further use of the layer with this name, weight and shape."""
        with self.recorded():
            result = F.linear(x, w, bias)
        values, weights = _numpy(x), _numpy(w)
        weights = None if weights is None else weights.T
        self._step((id(w), tuple(x.shape), name), name, kind, values, weights, x, w.T, result)
        self.add_hooks()
        return result

    def _step(
        self,
        key: tuple[int, tuple[int, ...], str],
        name: str,
        kind: str,
        values: np.ndarray | None,
        weights: np.ndarray | None,
        x: Tensor,
        w: Tensor,
        result: Tensor,
    ) -> None:
        """Record a use of a layer that is used at several time steps: x (M, K) times w (K, N)."""
        m, (k, n) = x.shape[0], w.shape

        def build(name: str, steps: int) -> Layer:
            if kind == "recurrent":
                return Layer(name, kind, m, n, k, steps)
            return Layer(name, kind, m * steps, n, k)

        if key not in self._cells:
            self._cells[key] = _Record(name, build, weights, _phases(x, w))
            self.records.append(self._cells[key])
        record = self._cells[key]
        record.phases = tuple(p for p in PHASES if p in {*record.phases, *_phases(x, w)})
        self.expect(result, record.add_use(values, lambda dy: dy))


#: Operators whose result has the elements of their first argument.
_COPIES = {"aten::_to_copy", "aten::clone", "aten::detach", "aten::alias"}


class _Dispatcher(TorchDispatchMode):  # type: ignore[misc]
    """Gives each operator that is a product to its rule (`torch_products`), and runs all operators unchanged."""

    supports_higher_order_operators = True

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        rec, kwargs = self.recorder, dict(kwargs or {})
        rec.add_hooks()
        operator = _operator(func)
        if operator.startswith("prim::"):
            return NotImplemented  # a question to a tensor that is not one of PyTorch's own
        if operator not in torch_products.READ and _composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if not torch_products.is_product(operator):
            if operator in _COPIES:
                rec.copied(args[0], result)
            if operator == "aten::constant_pad_nd":
                rec.padded(args, result)
            return result
        name = rec.running(operator.split("::")[-1])
        if not rec.inside_recorded:
            rule = torch_products.READ.get(operator)
            if rule is None:
                rec.miss(name, torch_products.unread(operator))
            else:
                rule(rec, name, _arguments(func, args, kwargs), result)
        rec.expect(result[0] if isinstance(result, tuple) else result, None)
        return result


class _BackwardCheck(TorchDispatchMode):  # type: ignore[misc]
    """Names the products of a backward pass that belong to no product of the forward pass."""

    supports_higher_order_operators = True

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.nodes = {id(node) for node in recorder.nodes}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        operator = _operator(func)
        # With gradients enabled it is a checkpoint, which computes the forward pass again.
        if torch_products.is_product(operator) and not torch.is_grad_enabled():
            node = torch._C._current_autograd_node()
            if node is not None and id(node) not in self.nodes:
                name = operator.split("::")[-1]
                self.recorder.miss(name, f"it belongs to {node.name()} of the backward pass alone")
        return func(*args, **(kwargs or {}))


def _operator(func: Any) -> str:
    """Name with namespace, without overload; in-place forms have the name of the operator itself."""
    if isinstance(func, torch._ops.OpOverload):
        return str(func._schema.name).removesuffix("_")
    return f"higher_order::{func.name()}"


def _composite(func: Any) -> bool:
    """Whether the operator is defined by others, and is not an operator of its own here."""
    return isinstance(func, torch._ops.OpOverload) and func._can_decompose()


def _arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an operator by name, with its defaults."""
    names = [argument.name for argument in func._schema.arguments]
    defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


class _ModuleTracker:
    """Context in which `stack` lists the running modules of a model, the innermost last."""

    def __init__(self, model: Any, stack: list[tuple[str, Any]]) -> None:
        self.names = {id(module): name for name, module in model.named_modules()}
        self.stack, self.hooks = stack, list[Any]()

    def __enter__(self) -> None:
        # Hooks of all modules: modules of TorchScript take none of their own.
        self.hooks.append(register_module_forward_pre_hook(self._enter))
        self.hooks.append(register_module_forward_hook(self._leave, always_call=True))

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _enter(self, module: Any, _: Any) -> None:
        if id(module) in self.names:
            self.stack.append((self.names[id(module)], module))

    def _leave(self, module: Any, _: Any, __: Any) -> None:
        if self.stack and self.stack[-1][1] is module:
            self.stack.pop()


def _phases(x: Tensor, w: Tensor) -> tuple[str, ...]:
    enabled = torch.is_grad_enabled()
    required = {
        "fwd": True,
        "dgrad": enabled and x.requires_grad,
        "wgrad": enabled and w.requires_grad,
    }
    return tuple(phase for phase in PHASES if required[phase])
