"""Tensors that an ONNX model stores: inside the file, in external files, dense or sparse.

A tensor is read when its values are asked for, never before. A declared size is compared with what is
stored before memory of that size is allocated.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from hfp8sim.errors import InputError, one_line

#: Elements up to which one tensor is computed or unpacked.
MAX_ELEMENTS = 2**28
#: Bytes of a tensor's data above which the model keeps a stub of it, so that inference stays cheap.
_STUB_BYTES = 4096


class UnreadableTensor(Exception):
    """A stored tensor's values cannot be read; the text is the reason."""


class StoredTensors:
    """The tensors of a model by name, read when they are asked for.

    Attributes:
        protos: the model's `TensorProto` or `SparseTensorProto`, by name.
        folder: directory of the model, which external files are relative to.
    """

    def __init__(self, onnx: Any, folder: Path) -> None:
        self.onnx, self.folder = onnx, folder
        self.protos: dict[str, Any] = {}

    def take(self, graph: Any) -> None:
        """Move the initialisers of `graph` here; the graph keeps stubs of the large and the sparse ones."""
        for tensor in graph.initializer:
            if tensor.name in self.protos:
                continue
            self.add(tensor.name, tensor)
            if _stored_bytes(tensor) > _STUB_BYTES:
                _make_stub(self.onnx, tensor)
        for sparse in graph.sparse_initializer:
            own = self.onnx.SparseTensorProto()
            own.CopyFrom(sparse)
            self.protos[own.values.name] = own
            stub = graph.initializer.add(name=own.values.name, data_type=own.values.data_type)
            stub.dims.extend(own.dims)
            _make_stub(self.onnx, stub)
        del graph.sparse_initializer[:]

    def put(self, graph: Any, name: str, proto: Any) -> None:
        """Add a copy of a tensor to `graph` and here, as `take` does."""
        tensor = graph.initializer.add()
        tensor.CopyFrom(proto)
        tensor.name = name
        self.add(name, tensor)
        if _stored_bytes(tensor) > _STUB_BYTES:
            _make_stub(self.onnx, tensor)

    def add(self, name: str, tensor: Any) -> None:
        """Store a copy of a tensor under `name`."""
        own = self.onnx.TensorProto()
        own.CopyFrom(tensor)
        own.name = name
        self.protos[name] = own

    def is_external(self, name: str) -> bool:
        """Whether the tensor's data lie in another file."""
        location = getattr(self.protos[name], "data_location", None)
        return bool(location == self.onnx.TensorProto.EXTERNAL)

    def check_location(self, tensor: Any) -> None:
        """`UnreadableTensor` for an external tensor whose file is not in the model's folder."""
        for entry in getattr(tensor, "external_data", ()):
            location = Path(entry.value) if entry.key == "location" else Path()
            if location.is_absolute() or ".." in location.parts:
                raise UnreadableTensor(
                    f"external data not read: {entry.value!r:.80} is outside the folder"
                )

    def dims(self, name: str) -> tuple[int, ...]:
        """The shape that the model declares."""
        return tuple(self.protos[name].dims)

    def read(self, name: str) -> np.ndarray:
        """The values of one tensor.

        Raises `UnreadableTensor` where an external file is missing or too short, and `InputError` where
        the model itself is damaged.
        """
        tensor = self.protos[name]
        if self.is_external(name):
            tensor = self._loaded(tensor)
        try:
            if isinstance(tensor, self.onnx.SparseTensorProto):
                return self._dense(tensor)
            return np.asarray(self.onnx.numpy_helper.to_array(tensor))
        except UnreadableTensor:
            raise
        except Exception as error:  # damaged data of any type
            raise InputError(f"initialiser {name!r} is torn: {one_line(error)}") from None

    def _loaded(self, tensor: Any) -> Any:
        """A copy of an external tensor with its data."""
        helper = self.onnx.external_data_helper
        self.check_location(tensor)
        try:
            info = helper.ExternalDataInfo(tensor)
            path = self.folder / info.location
            dtype = self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            stored = path.stat().st_size - (info.offset or 0)
            needed = _packed_bytes(self.onnx, tensor, dtype)
            if stored < needed or info.length not in (None, needed):
                raise UnreadableTensor(f"{info.location} does not hold its {needed} bytes")
            own = self.onnx.TensorProto()
            own.CopyFrom(tensor)
            if info.length is None:
                own.external_data.add(key="length", value=str(needed))
            helper.load_external_data_for_tensor(own, str(self.folder))
        except UnreadableTensor:
            raise
        except FileNotFoundError:
            raise UnreadableTensor(f"external file {info.location} is missing") from None
        except Exception as error:  # a path outside the folder, an unreadable file, a bad number
            raise UnreadableTensor(f"external data not read: {one_line(error)}") from None
        own.data_location = self.onnx.TensorProto.DEFAULT
        return own

    def _dense(self, sparse: Any) -> np.ndarray:
        """A sparse tensor with its zeros. Indices are flat, or one row of coordinates each."""
        shape = tuple(sparse.dims)
        if min(shape, default=1) < 0 or prod(shape) > MAX_ELEMENTS:
            raise UnreadableTensor(f"sparse tensor of shape {shape} is too large")
        values = self.onnx.numpy_helper.to_array(sparse.values)
        indices = self.onnx.numpy_helper.to_array(sparse.indices)
        if indices.ndim == 2:
            indices = np.ravel_multi_index(tuple(indices.T), shape)
        dense = np.zeros(prod(shape), values.dtype)
        dense[indices] = values
        return dense.reshape(shape)


def _stored_bytes(tensor: Any) -> int:
    """Bytes of a tensor's data in the model, at most; text counts as large."""
    if tensor.string_data:
        return _STUB_BYTES + 1
    numbers = (tensor.float_data, tensor.double_data, tensor.int32_data, tensor.int64_data)
    return len(tensor.raw_data) + 8 * sum(map(len, (*numbers, tensor.uint64_data)))


def _make_stub(onnx: Any, tensor: Any) -> None:
    """Leave name, type and shape; inference does not look for the data of an external tensor."""
    name, dtype, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type = name, dtype
    tensor.dims.extend(dims)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="stub")


def _packed_bytes(onnx: Any, tensor: Any, dtype: np.dtype) -> int:
    """Bytes of a tensor's data; types of 2 and 4 bits are packed."""
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    bits = 4 if "INT4" in name or "FLOAT4" in name else 2 if "INT2" in name else dtype.itemsize * 8
    if any(size < 0 for size in tensor.dims):
        raise UnreadableTensor(f"shape {tuple(tensor.dims)} is negative")
    return (prod(map(int, tensor.dims)) * bits + 7) // 8
