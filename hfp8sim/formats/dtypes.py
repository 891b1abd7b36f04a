"""Dtypes of NumPy, ml_dtypes and PyTorch whose bits are the codes of a format."""

from __future__ import annotations

from typing import Any

import numpy as np

from hfp8sim.errors import InputError

#: The format of each dtype, by the name that NumPy, ml_dtypes and PyTorch share.
FORMAT_OF_DTYPE = {
    "float16": "binary16", "float32": "binary32", "bfloat16": "bfloat16",
    "float8_e4m3fn": "e4m3fn", "float8_e5m2": "e5m2", "float8_e4m3": "e4m3", "float8_e3m4": "e3m4",
    "float8_e4m3fnuz": "e4m3fnuz", "float8_e5m2fnuz": "e5m2fnuz", "float8_e4m3b11fnuz": "e4m3b11fnuz",
    "float8_e8m0fnu": "e8m0", "float6_e2m3fn": "e2m3", "float6_e3m2fn": "e3m2", "float4_e2m1fn": "e2m1",
}  # fmt: skip
#: The dtype of each of these formats.
DTYPE_OF_FORMAT = {fmt: dtype for dtype, fmt in FORMAT_OF_DTYPE.items()}


def dtype_name(dtype: Any) -> str:
    """The name that NumPy, ml_dtypes and PyTorch give a dtype, such as `float8_e4m3fn`; "" for what is none."""
    text = str(dtype)
    if text.startswith("torch."):
        return text.removeprefix("torch.")
    if dtype is None or isinstance(dtype, str | int):
        return ""
    try:
        found = np.dtype(dtype)
    except TypeError:
        return ""
    return str(found.names[0] if found.names and len(found.names) == 1 else found.name)


def numpy_dtype(format_name: str) -> np.dtype[Any]:
    """The dtype of NumPy or ml_dtypes whose bits are the codes of a format.

    Raises:
        InputError: a format without a dtype, or ml_dtypes is needed and not installed.
    """
    name = DTYPE_OF_FORMAT.get(format_name)
    if name is None:
        known = ", ".join(DTYPE_OF_FORMAT)
        raise InputError(
            f"no dtype has the codes of {format_name}; these formats have one: {known}"
        )
    if name in ("float16", "float32"):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise InputError(f"dtype {name} needs ml_dtypes: pip install ml-dtypes") from None
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype
