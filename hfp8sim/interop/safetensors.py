"""safetensors: named tensors in one file, read without a copy.

A file is the length of its header (8 bytes, little-endian), the header (JSON) and the tensors' bytes. The header has
dtype, shape and place of each tensor, and texts under `__metadata__`. There is no code to run in it.

A tensor of codes whose format has a dtype there is stored in that dtype: `F8_E4M3`, `F8_E5M2`, `F8_E8M0`, `BF16`, `F16`.
Codes of any other format are stored as unsigned integers. A text `hfp8sim.NAME` in the metadata then has the format, as
JSON, and the exponent of a scale. Other tools read such a file, too: they see unsigned integers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.arrays import checked_array, code_bits, coded_name
from hfp8sim.errors import InputError, located, one_line
from hfp8sim.files import check_path, write_whole
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.dtypes import FORMAT_OF_DTYPE
from hfp8sim.ops import Operand

#: NumPy's dtypes by their names in the header.
_PLAIN = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "U32": "u4", "I32": "i4",
    "U64": "u8", "I64": "i8", "F16": "f2", "F32": "f4", "F64": "f8",
}  # fmt: skip
#: Formats of dtypes that NumPy lacks, by their names in the header.
_CODED = {"BF16": "bfloat16", "F8_E4M3": "e4m3fn", "F8_E5M2": "e5m2", "F8_E8M0": "e8m0"}
#: Names in the header, by NumPy's dtype and by format.
_NAME_OF_DTYPE = {np.dtype(code): name for name, code in _PLAIN.items()}
_NAME_OF_FORMAT = {fmt: name for name, fmt in _CODED.items()} | {
    "binary16": "F16",
    "binary32": "F32",
}

_METADATA = "__metadata__"
#: Keys of the metadata that this package writes begin with this.
_PREFIX = "hfp8sim."
#: Bytes that a header has at most; the reference implementation has the same limit.
_LONGEST_HEADER = 100_000_000
#: The fields of a format that the metadata holds.
_FORMAT_FIELDS = tuple(f.name for f in dataclasses.fields(FloatFormat) if f.name != "source")


def load_safetensors(path: str | os.PathLike[str]) -> dict[str, NDArray[Any] | Operand]:
    """The tensors of a file by name.

    Args:
        path: a `.safetensors` file. It is mapped into memory: a tensor is read from the disk when it is used.

    Returns:
        An `Operand` for every tensor of codes: dtypes BF16, F8_E4M3, F8_E5M2, F8_E8M0, and codes of other formats that
        `save_safetensors` wrote. A read-only array for every other tensor.

    Raises:
        InputError: no such file, a damaged one, a tensor of another dtype.
    """
    return load_with_metadata(path)[0]


def load_with_metadata(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any] | Operand], dict[str, str]]:
    """The tensors of a file, as `load_safetensors` gives them, and all texts of its metadata, by name.

    Raises:
        InputError: as `load_safetensors`.
    """
    check_path(path)
    source = Path(path)
    with located(source):
        try:
            length = source.stat().st_size
            data = np.memmap(source, np.uint8, "r") if length else np.empty(0, np.uint8)
        except OSError as error:
            raise InputError(error.strerror or str(error)) from None
        header, start = _header(data)
        metadata = header.pop(_METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
            raise InputError(f"{_METADATA} must be an object of texts")
        content = data[start:]
        return {name: _tensor(content, name, x, metadata) for name, x in header.items()}, metadata


def save_safetensors(
    path: str | Path,
    tensors: Mapping[str, ArrayLike | Operand],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write tensors into a file, whole or not at all.

    Args:
        path: the file; `.safetensors` by convention.
        tensors: arrays, tensors of PyTorch and operands, by name.
        metadata: further texts. Those whose names begin with `hfp8sim.` belong to the tensors of another file: they
            are left out.

    Returns:
        The path.

    Raises:
        InputError: a dtype that the file cannot hold, a name or a text that is none, a file that cannot be written.
    """
    if not isinstance(tensors, Mapping):
        raise InputError(f"tensors is {tensors!r:.60}; it must be arrays by name")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InputError(f"metadata is {metadata!r:.60}; it must be texts by name")
    texts = {k: v for k, v in (metadata or {}).items() if not str(k).startswith(_PREFIX)}
    if not all(isinstance(text, str) for pair in texts.items() for text in pair):
        raise InputError("metadata must be texts by name")
    stored = {name: _stored(name, value, texts) for name, value in tensors.items()}
    # Wide elements first: then every tensor begins at a multiple of its elements' size.
    order = sorted(stored, key=lambda name: (-stored[name][1].dtype.itemsize, name))
    header: dict[str, Any] = {_METADATA: texts} if texts else {}
    place = 0
    for name in order:
        dtype, array = stored[name]
        header[name] = {
            "dtype": dtype, "shape": list(array.shape), "data_offsets": [place, place + array.nbytes],
        }  # fmt: skip
        place += array.nbytes
    content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)

    def write(file: IO[bytes]) -> None:
        file.write(len(content).to_bytes(8, "little"))
        file.write(content)
        for name in order:
            file.write(np.ascontiguousarray(stored[name][1]).tobytes())

    return write_whole(path, write, binary=True)


# -- writing -----------------------------------------------------------------------------------------


def _stored(
    name: str, value: ArrayLike | Operand, texts: dict[str, str]
) -> tuple[str, NDArray[Any]]:
    """A tensor's dtype in the header and its elements; the format of codes is added to `texts` where it must be."""
    if not isinstance(name, str) or name == _METADATA:
        raise InputError(f"{name!r:.60} is no name of a tensor")
    if not isinstance(value, Operand):
        array = checked_array(value, name)
        if dtype := coded_name(array.dtype):
            value = Operand(code_bits(array), FORMAT_OF_DTYPE[dtype])
        elif (plain := array.dtype.newbyteorder("=")) in _NAME_OF_DTYPE:
            little = plain.newbyteorder("<")
            return _NAME_OF_DTYPE[plain], array.astype(little, copy=False)
        else:
            raise InputError(f"{name}: a safetensors file holds no {array.dtype}")
    dtype = _NAME_OF_FORMAT.get(value.format.name, "")
    if not dtype or value.exponent:
        fields = {field: getattr(value.format, field) for field in _FORMAT_FIELDS}
        texts[_PREFIX + name] = json.dumps({"format": fields, "exponent": value.exponent})
        dtype = _NAME_OF_DTYPE[value.codes.dtype]
    return dtype, value.codes


# -- reading -----------------------------------------------------------------------------------------


def _header(data: NDArray[np.uint8]) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors' bytes begin."""
    size = int.from_bytes(data[:8].tobytes(), "little")
    if data.size < 8 or size > min(data.size - 8, _LONGEST_HEADER):
        raise InputError("torn, or not a safetensors file")
    try:
        header = json.loads(data[8 : 8 + size].tobytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"the header is no JSON: {one_line(error)}") from None
    if not isinstance(header, dict):
        raise InputError("the header must be an object of tensors by name")
    return header, 8 + size


def _tensor(
    data: NDArray[np.uint8], name: str, entry: Any, metadata: Mapping[str, Any]
) -> NDArray[Any] | Operand:
    """One tensor. Every fact of its entry is checked before it is used."""
    where = f"tensor {name!r}"
    if not isinstance(entry, dict):
        raise InputError(f"{where}: its entry must be an object")
    dtype, shape, offsets = str(entry.get("dtype")), entry.get("shape"), entry.get("data_offsets")
    fmt = get_format(_CODED[dtype]) if dtype in _CODED else None
    if fmt is None and dtype not in _PLAIN:
        known = ", ".join((*_PLAIN, *_CODED))
        raise InputError(f"{where}: dtype is {dtype!r:.40}; known: {known}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise InputError(f"{where}: shape and data_offsets must be lists of whole numbers")
    elements = np.dtype(_PLAIN[dtype] if fmt is None else fmt.dtype).newbyteorder("<")
    start, stop = offsets
    if not start <= stop <= data.size or stop - start != elements.itemsize * math.prod(shape):
        raise InputError(
            f"{where}: bytes {start} to {stop} are not those of {dtype} {tuple(shape)}"
        )
    array: NDArray[Any] = np.asarray(data[start:stop]).view(elements).reshape(shape)
    text = metadata.get(_PREFIX + name)
    if text is None:
        return array if fmt is None else Operand(array, fmt)
    with located(where):
        record, exponent = _format(text)
        return Operand(array, record, exponent)


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    """Whether a value of the header is a list of numbers ≥ 0."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)


def _format(text: Any) -> tuple[FloatFormat, int]:
    """Format and exponent of a text in the metadata."""
    try:
        facts = json.loads(text)
        fields, exponent = facts["format"], facts["exponent"]
        record = FloatFormat(**fields)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"its format in the metadata is damaged: {one_line(error)}") from None
    if type(exponent) is not int:
        raise InputError(f"its exponent in the metadata is {exponent!r:.40}, no whole number")
    return record, exponent
