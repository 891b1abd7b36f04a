"""Arrays that a caller gives: NumPy's, ml_dtypes', PyTorch's, and any that DLPack exports.

None of these packages but NumPy is imported here. A tensor shares its memory with the array that it becomes.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from hfp8sim.errors import InputError, one_line

#: Floating-point dtypes that NumPy itself does not have, by the bytes of an element. ml_dtypes and PyTorch have them.
CODED_BYTES = {
    "bfloat16": 2,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3": 1, "float8_e3m4": 1,
    "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e4m3b11fnuz": 1, "float8_e8m0fnu": 1,
    "float6_e2m3fn": 1, "float6_e3m2fn": 1, "float4_e2m1fn": 1,
}  # fmt: skip


def checked_array(value: ArrayLike, what: str) -> NDArray[Any]:
    """The array that an argument is, with the memory of a NumPy array or a tensor.

    Elements that NumPy has no dtype for keep their bits: their array has ml_dtypes' dtype, or a structured dtype whose
    one field has the dtype's name (`coded_name` finds either).

    Raises:
        InputError: a ragged list, a huge integer, a masked array, a tensor that is not in the CPU's memory, or one
            that is sparse or quantised.
    """
    if type(value) is np.ndarray:
        return value
    if _is_masked(value):
        raise InputError(f"{what} is a masked array; give it values, as in x.filled(0)")
    if isinstance(value, np.ndarray):
        return value
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _tensor_array(torch, value, what)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)  # type: ignore[arg-type]
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError, RuntimeError, BufferError) as error:
        raise InputError(f"{what} is no array: {one_line(error)}") from None


def _is_masked(value: ArrayLike) -> bool:
    """Whether this is a masked array. NumPy loads `numpy.ma` on its first use, which takes as long as ten small GEMMs."""
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(value, masked.MaskedArray)


def checked_dtype(value: DTypeLike, what: str) -> np.dtype[Any]:
    """The dtype that an argument names; `InputError` if it names none."""
    try:
        return np.dtype(value)
    except TypeError:
        raise InputError(f"{what} is {value!r:.60}, which names no dtype of NumPy") from None


def check_out(out: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """`InputError` unless results of a dtype and a shape can be written into the argument `out`."""
    if not isinstance(out, np.ndarray) or (out.shape, out.dtype) != (shape, dtype):
        given = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise InputError(f"out is {given}; it must be an array {dtype} {shape}")
    if not out.flags.writeable:
        raise InputError("out is read-only; it must be an array that can be written")
    steps = zip(out.strides, shape, strict=True)
    if out.size and any(step == 0 and size > 1 for step, size in steps):
        raise InputError("out has elements that share memory; each must have its own")


def _tensor_array(torch: Any, tensor: Any, what: str) -> NDArray[Any]:
    """A tensor of PyTorch as an array that shares its memory."""
    if tensor.device.type != "cpu":
        raise InputError(f"{what} is a tensor on {tensor.device}; give it in memory: tensor.cpu()")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise InputError(
            f"{what} is a sparse or quantised tensor; give it dense: tensor.to_dense()"
        )
    tensor = tensor.detach().resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    try:
        if name not in CODED_BYTES:
            plain: NDArray[Any] = tensor.numpy()
            return plain
        bits = tensor.view(torch.uint8 if CODED_BYTES[name] == 1 else torch.int16).numpy()
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{what} is no array: {one_line(error)}") from None
    coded: NDArray[Any] = bits.view(np.dtype([(name, f"u{CODED_BYTES[name]}")]))
    return coded


def coded_name(dtype: np.dtype[Any]) -> str:
    """The name of a dtype whose elements are codes of a format that NumPy lacks, such as `float8_e4m3fn`; or ""."""
    if dtype.kind in "ui" or (dtype.kind == "f" and dtype.itemsize > 1):  # by far the most
        return ""
    name = dtype.names[0] if dtype.names and len(dtype.names) == 1 else dtype.name
    return str(name) if name in CODED_BYTES else ""


def code_bits(array: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """The codes of an array whose dtype has a `coded_name`: a view."""
    return array.view(f"u{array.dtype.itemsize}")


def widened(array: NDArray[Any]) -> NDArray[np.float32]:
    """The numbers of an array whose dtype has a `coded_name`, as float32, which holds them exactly."""
    if coded_name(array.dtype) == "bfloat16":
        return (code_bits(array).astype(np.uint32) << 16).view(np.float32)
    if array.dtype.names is None:  # of ml_dtypes
        with np.errstate(invalid="ignore"):
            return array.astype(np.float32)
    torch = sys.modules["torch"]  # a structured dtype comes from a tensor
    tensor = torch.from_numpy(code_bits(array)).view(getattr(torch, coded_name(array.dtype)))
    values: NDArray[np.float32] = tensor.float().numpy()
    return values
