"""Archives of arrays (.npz), read within bounds: nothing that a file says of itself is taken on trust."""

from __future__ import annotations

import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from hfp8sim.errors import InputError, located, one_line

#: Bytes that an archive may hold unpacked: so many in any case, and so many times its own size.
_UNPACKED_BYTES, _UNPACKED_RATIO = 1 << 28, 200

#: What zipfile, zlib and NumPy's header parser raise on damaged bytes.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def open_archive(source: Path) -> zipfile.ZipFile:
    """The archive in a file.

    Raises OSError for what the system refuses, and `InputError` for what is no archive, and for one that would
    be many times as large unpacked: `zipfile` reads no more of a member than the archive declares.
    """
    try:
        archive = zipfile.ZipFile(source)
    except DAMAGE as error:
        raise InputError(f"torn, or not an .npz file: {one_line(error)}") from None
    declared = sum(member.file_size for member in archive.infolist())
    if declared > max(_UNPACKED_BYTES, _UNPACKED_RATIO * os.path.getsize(source)):
        archive.close()
        raise InputError(
            f"unpacks to {declared} bytes, more than {_UNPACKED_RATIO} times its size; "
            "if that is right, unpack it into a folder"
        )
    return archive


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether column-major, dtype) of an .npy file; raises `InputError` and what is in `DAMAGE`."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # others are of arrays with names of fields
        raise InputError(f".npy version {version}; it must be (1, 0)")
    return np.lib.format.read_array_header_1_0(stream)


def read_values(
    stream: IO[bytes], shape: tuple[int, ...], fortran: bool, dtype: np.dtype
) -> np.ndarray:
    """The array behind a header that was checked; `InputError` unless exactly its bytes follow."""
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    data = stream.read(size)
    if len(data) != size or stream.read(1):
        raise InputError(f"torn: not exactly {size} bytes of data")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; `InputError` if it cannot be read."""
    with located(path):
        try:
            with open_archive(path) as archive:
                return {
                    name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()
                }
        except InputError:
            raise
        except OSError as error:
            raise InputError(error.strerror or "not an .npz file") from None
        except DAMAGE:
            raise InputError("torn, or not an .npz file of plain arrays") from None


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as stream, located(name):
        shape, fortran, dtype = read_header(stream)
        if dtype.hasobject:
            raise InputError("its values are objects; they must be numbers")
        if min(shape, default=0) < 0:
            raise InputError(f"shape is {shape}; it must not be negative")
        return read_values(stream, shape, fortran, dtype)
