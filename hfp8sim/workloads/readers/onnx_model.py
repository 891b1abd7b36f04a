"""An ONNX file, read and completed: external weights, free dimensions, shapes of all values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, one_line, unknown
from hfp8sim.network.records import MAX_SIZE
from hfp8sim.workloads.readers.onnx_fold import fold_constants
from hfp8sim.workloads.readers.onnx_tensors import StoredTensors


def import_onnx() -> Any:
    """The package `onnx`; `InputError` where it is not installed."""
    try:
        import onnx
        import onnx.inliner
        import onnx.reference
        import onnx.shape_inference
    except ImportError:
        raise InputError('reading ONNX needs an extra: pip install "hfp8sim[onnx]"') from None
    return onnx


def load_model(onnx: Any, source: Path) -> Any:
    """The model in the file, without external weights; `InputError` if it is none or damaged."""
    try:
        model = onnx.load(str(source), load_external_data=False)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's own, which differ between its implementations
        raise InputError(f"no ONNX model, or torn: {one_line(error)}") from None
    if not model.HasField("graph") or not model.graph.node:
        raise InputError("no ONNX model, or one without a node")
    if not all(isinstance(name, str) for name in _names_in(model.graph)):
        raise InputError("torn: a name in it is no text")  # protobuf gives invalid UTF-8 as bytes
    return model


def _names_in(graph: Any) -> Iterator[Any]:
    """Every name that the reader uses."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for entry in (*graph.input, *graph.output):
        yield entry.name
        yield from (dim.dim_param for dim in entry.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)


#: ONNX's own operators that hold products: they are replaced by their definition.
_EXPANDED = ("Attention", "CausalConvWithState", "FlexAttention", "LinearAttention")
#: Domain of the functions that hold these definitions until they are inlined, and ONNX's own domains.
_EXPANSION = "hfp8sim.expanded"
_OWN_DOMAINS = ("", "ai.onnx", "ai.onnx.preview")
#: Nodes that a model may have with its functions inlined.
_MAX_NODES = 10**6
#: From this version on, stored tensors need not be inputs of the graph too.
_IR_VERSION = 8


def prepare_model(
    onnx: Any,
    model: Any,
    tensors: StoredTensors,
    arrays: Mapping[str, np.ndarray],
    was_free: bool,
) -> list[str]:
    """Complete the model in place; returns warnings on what could not be completed.

    If no dimension of the model was free, the shapes that it declares behind operators of other domains
    are taken over, as inference does not know these operators.

    Moves the stored tensors to `tensors`, inlines functions, infers the shapes of all values and folds
    constants.
    """
    warnings: list[str] = []
    try:
        if model.functions and _inlined_nodes(model) > _MAX_NODES:
            warnings.append(f"functions not inlined: more than {_MAX_NODES} nodes")
            del model.functions[:]  # shape inference would go through each call of them
        elif model.functions:
            model.CopyFrom(onnx.inliner.inline_local_functions(model))
    except Exception as error:  # several types, some raised from C++
        warnings.append(f"functions not inlined: {one_line(error)}")
    declared = [] if was_free else _declared_by_others(model)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    tensors.take(model.graph)
    expanded = [n for n in model.graph.node if n.op_type in _EXPANDED and n.domain in _OWN_DOMAINS]
    if expanded:
        warnings += fold_constants(onnx, model, tensors, arrays, declared)
        warnings += _expand(onnx, model)
    warnings += fold_constants(onnx, model, tensors, arrays, declared)
    _name_states(model)
    return warnings


def _inlined_nodes(model: Any) -> int:
    """Nodes of a model with its functions inlined, at most `_MAX_NODES + 1`; the same for a cycle."""
    functions = {(f.domain, f.name): f for f in model.functions}
    counts: dict[tuple[str, str], int] = {}
    for _ in range(len(functions) + 1):  # as deep as calls can be nested
        before = dict(counts)
        for key, function in functions.items():
            sizes = (before.get((node.domain, node.op_type), 1) for node in function.node)
            counts[key] = min(_MAX_NODES + 1, sum(sizes))
        if counts == before:
            return sum(counts.get((node.domain, node.op_type), 1) for node in model.graph.node)
    return _MAX_NODES + 1


def _name_states(model: Any) -> None:
    """Give the states of every recurrent node a name, so that a run can give their values."""
    used = {name for node in model.graph.node for name in node.output}
    for index, node in enumerate(model.graph.node):
        if node.op_type not in ("LSTM", "GRU", "RNN") or node.domain not in _OWN_DOMAINS:
            continue
        if not node.output:
            node.output.append("")
        if not node.output[0]:
            name = f"{node.name or node.op_type}.states"
            node.output[0] = name if name not in used else f"{name}_{index}"


def _declared_by_others(model: Any) -> list[Any]:
    """Types and shapes that the model declares for results of operators that are not ONNX's own."""
    nodes = [node for node in model.graph.node if node.domain not in _OWN_DOMAINS]
    names = {name for node in nodes for name in node.output}
    copies = [type(entry)() for entry in model.graph.value_info if entry.name in names]
    entries = [entry for entry in model.graph.value_info if entry.name in names]
    for copy, entry in zip(copies, entries, strict=True):
        copy.CopyFrom(entry)
    return copies


def _expand(onnx: Any, model: Any) -> list[str]:
    """Replace operators of `_EXPANDED` by ONNX's own definition; returns warnings."""
    entries = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    types = {entry.name: entry.type for entry in entries}
    for tensor in model.graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    versions = {imported.domain: imported.version for imported in model.opset_import}
    warnings, named = [], set[str]()
    whole = type(model)()
    whole.CopyFrom(model)
    for index, node in enumerate(whole.graph.node):
        if node.op_type not in _EXPANDED or node.domain not in _OWN_DOMAINS:
            continue
        try:
            domain = node.domain.removesuffix("ai.onnx")
            schema = onnx.defs.get_schema(node.op_type, versions.get(domain, 1), domain)
            inputs = [types[name].SerializeToString() if name else b"" for name in node.input]
            known = schema.context_dependent_function_opset_versions
            fitting = [version for version in known if version <= versions.get("", 1)]
            data = schema.get_context_dependent_function_with_opset_version(
                max(fitting, default=min(known)), node.SerializeToString(), inputs
            )
        except Exception as error:  # several types, some raised from C++
            warnings.append(f"{node.op_type} not expanded: {one_line(error)}")
            continue
        function = whole.functions.add()
        function.ParseFromString(data)
        named |= _name_products(function, node.name or next(filter(None, node.output), "attention"))
        function.name = node.op_type = f"{node.op_type}_{index}"
        function.domain = node.domain = _EXPANSION
    if whole.functions:
        whole.opset_import.append(onnx.helper.make_opsetid(_EXPANSION, 1))
        try:
            model.CopyFrom(onnx.inliner.inline_local_functions(whole))
        except Exception as error:
            warnings.append(f"operators not expanded: {one_line(error)}")
    for node in model.graph.node:
        name, _, number = node.name.rpartition("__")  # the inliner appends the number of the call
        if name in named and number.isdecimal():
            node.name = name
    return warnings


def _name_products(function: Any, label: str) -> set[str]:
    """Name the products of an expanded operator after it, attention's two as qk and pv; all new names."""
    products = [node for node in function.node if node.op_type in ("MatMul", "Conv")]
    names = ("qk", "pv") if "ttention" in function.name and len(products) == 2 else None
    for index, node in enumerate(products):
        node.name = f"{label}.{names[index] if names else index}"
    return {node.name for node in products}


#: A size by the name of a free dimension, by `INPUT:AXIS`, or all sizes of an input.
Dims = Mapping[str, int | Sequence[int]]


def fix_dimensions(
    model: Any, batch: int | None, dims: Dims, arrays: Mapping[str, np.ndarray]
) -> bool:
    """Give every free dimension of the inputs a size: that of an array, of `dims`, or the batch.

    Returns whether any dimension was free. Raises `InputError` that names all dimensions that stay free, and for what does not fit the model.
    """
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = {entry.name: entry for entry in model.graph.input if entry.name not in initializers}
    for name in arrays:
        if name not in inputs:
            raise unknown("input", name, list(inputs))
    sizes = _Sizes(batch, dims)
    for name, entry in inputs.items():
        sizes.read(name, entry, arrays.get(name))
    for name, entry in inputs.items():
        sizes.fix(name, entry)
    sizes.check()
    return bool(sizes.free) or sizes.batched


class _Sizes:
    """Sizes of free dimensions, by name and by input and axis."""

    def __init__(self, batch: int | None, dims: Dims) -> None:
        self.batch = batch
        self.given = dict(dims)
        for name, size in [*self.given.items(), ("batch", 1 if batch is None else batch)]:
            for each in size if isinstance(size, tuple | list) else (size,):
                if isinstance(each, bool) or not isinstance(each, int) or not 1 <= each <= MAX_SIZE:
                    raise InputError(
                        f"dimension {name!r} is {each!r}; it must be a whole number from 1 to {MAX_SIZE}"
                    )
        self.named: dict[str, tuple[int, str]] = {}  #: a size and the input that has it, by name
        self.used: set[str] = set()
        self.free: dict[str, None] = {}  #: names of all free dimensions
        self.missing: dict[str, list[str]] = {}  #: names of those without a size, by input
        self.fixed: set[tuple[str, int]] = set()  #: inputs and axes with a size, which may be 0
        self.batched = False

    def read(self, name: str, entry: Any, array: np.ndarray | None) -> None:
        """Check what is given for an input, and give its free dimensions the sizes that fix them."""
        if not entry.type.HasField("tensor_type"):
            return
        tensor = entry.type.tensor_type
        given = self.given.get(name)
        shape = tuple(given) if isinstance(given, tuple | list) else None
        if shape is not None:
            self.used.add(name)
        if array is not None:
            if shape is not None and shape != array.shape:
                raise InputError(f"input {name!r} has shape {array.shape}, but {shape} is given")
            shape = array.shape
        if shape is not None:
            if not tensor.HasField("shape"):
                tensor.shape.SetInParent()
                for _ in shape:
                    tensor.shape.dim.add()
            _check_shape(name, tensor.shape.dim, shape)
        for axis, dim in enumerate(tensor.shape.dim):
            if _is_fixed(dim):
                continue
            place = f"{name}:{axis}"
            label = _label(dim)
            self.free[label or place] = None
            size = shape[axis] if shape is not None else self.given.get(place)
            if place in self.given:
                self.used.add(place)
            if size is None and label in self.given:
                size = self.given[label]
            if label in self.given:
                self.used.add(label)
            if not isinstance(size, int):
                continue
            self._name(label, size, name)
            dim.dim_value = size
            self.fixed.add((name, axis))

    def _name(self, label: str, size: int, owner: str) -> None:
        """Note the size of a named dimension; `InputError` where two inputs differ."""
        known = self.named.setdefault(label, (size, owner)) if label else (size, owner)
        if known[0] != size:
            raise InputError(
                f"dimension {label!r} is {known[0]} in {known[1]!r} and {size} in {owner!r}"
            )

    def fix(self, name: str, entry: Any) -> None:
        """Give an input's other free dimensions a size: that of the same name, or the batch."""
        for axis, dim in enumerate(entry.type.tensor_type.shape.dim):
            if _is_fixed(dim) or (name, axis) in self.fixed:
                continue
            label = _label(dim)
            if axis == 0 and label not in self.named:
                self.batched = True
                self._name(label, 1 if self.batch is None else self.batch, name)
                dim.dim_value = 1 if self.batch is None else self.batch
            elif label in self.named:
                self.batched = self.batched or axis == 0
                dim.dim_value = self.named[label][0]
            else:
                self.missing.setdefault(name, []).append(label or f"{name}:{axis}")

    def check(self) -> None:
        """`InputError` for dimensions that stay free, and for sizes that no dimension takes."""
        if self.missing:
            raise _free_dimensions(self.missing)
        if self.batch is not None and not self.batched:
            raise InputError(f"batch is {self.batch}, but no input has a free first dimension")
        for name in self.given:
            if name not in self.used:
                raise unknown("free dimension", name, sorted(self.free) or ["(none is free)"])


def _label(dim: Any) -> str:
    """The name of a free dimension; "" for signs such as `?`, which exporters write everywhere."""
    return str(dim.dim_param) if any(map(str.isalpha, dim.dim_param)) else ""


def _is_fixed(dim: Any) -> bool:
    return bool(dim.HasField("dim_value") and dim.dim_value > 0)


def _check_shape(name: str, dims: Any, shape: tuple[int, ...]) -> None:
    """Raise `InputError` if a shape does not have the axes and fixed sizes of its input."""
    if len(shape) != len(dims):
        raise InputError(f"input {name!r} has {len(shape)} axes; the model's has {len(dims)}")
    for axis, dim in enumerate(dims):
        if _is_fixed(dim) and shape[axis] != dim.dim_value:
            raise InputError(
                f"input {name!r} has size {shape[axis]} along axis {axis}; "
                f"the model's has {dim.dim_value}"
            )


def _free_dimensions(missing: Mapping[str, list[str]]) -> InputError:
    """All dimensions without a size, each named once, and how to give them."""
    labels = list(dict.fromkeys(label for names in missing.values() for label in names))
    owners = [
        f"input {name!r} has a free dimension {' and '.join(map(repr, names))}"
        for name, names in missing.items()
    ]
    sizes = ", ".join(f"{label!r}: 128" for label in labels)
    options = " ".join(f"--dim {label}=128" for label in labels)
    their = "its size" if len(labels) == 1 else "their sizes"
    return InputError(f"{', '.join(owners)}; give {their}, as in dims={{{sizes}}} or {options}")
