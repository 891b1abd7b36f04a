"""The native trace: layers with their tensors in one `.npz` file or in a directory.

Both hold `manifest.json` and one array `LAYER.TENSOR.npy` per tensor, LAYER being the layer's index:

    {"format": "hfp8sim-trace", "version": 1, "name": "...", "notes": ["..."],
     "layers": [{"name": "conv1", "kind": "conv2d", "conv": {"batch": 32, "height": 8, ...},
                 "phases": ["fwd", "wgrad"], "origin": "captured", "tensors": ["x", "w", "dy"]},
                {"name": "fc1", "kind": "linear", "m": 32, "n": 64, "k": 128, "groups": 1, ...}]}

Arrays are float32, or float16 where that loses nothing. A trace is written whole or not at all, and
its bytes depend on its content alone. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hfp8sim.errors import InputError, unknown
from hfp8sim.files import write_whole
from hfp8sim.network.records import (
    PHASES,
    TENSORS,
    Conv,
    Layer,
    Workload,
)

FORMAT = "hfp8sim-trace"
VERSION = 1
MANIFEST = "manifest.json"

# What zipfile, zlib and numpy's header parser raise on damaged bytes.
_TORN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)

_TOP_KEYS = {"format": str, "version": int, "name": str, "notes": list, "layers": list}
_LAYER_KEYS = {
    "name": str,
    "kind": str,
    "m": int,
    "n": int,
    "k": int,
    "groups": int,
    "conv": dict,
    "phases": list,
    "origin": str,
    "tensors": list,
}
_CONV_KEYS = {f.name: object for f in dataclasses.fields(Conv)}
_CONV_OPTIONAL = {f.name for f in dataclasses.fields(Conv) if f.default is not dataclasses.MISSING}


# --- writing ---------------------------------------------------------------------------------------


def save_trace(path: str | os.PathLike[str], workload: Workload) -> None:
    """Write `workload` to `path`: one file if it ends in `.npz`, else a directory.

    What was there before stays until the new trace is complete. Raises `InputError` where the target
    cannot be written, or is a directory that holds something else.
    """
    target = Path(path)
    files = [(MANIFEST, _manifest(workload))]
    for index, layer in enumerate(workload):
        files += [(_member(index, key), _npy(array)) for key, array in layer.tensors.items()]
    if target.suffix.lower() == ".npz":
        write_whole(target, lambda stream: _write_archive(stream, files), binary=True)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_directory(target, files)
    except OSError as error:
        raise InputError(f"{target}: cannot write the trace: {error.strerror or error}") from None


def _member(index: int, key: str) -> str:
    return f"{index}.{key}.npy"


def _manifest(workload: Workload) -> bytes:
    def entry(layer: Layer) -> dict[str, Any]:
        record: dict[str, Any] = {"name": layer.name, "kind": layer.kind}
        if layer.conv is not None:
            record["conv"] = dataclasses.asdict(layer.conv)
        else:
            record |= {"m": layer.m, "n": layer.n, "k": layer.k, "groups": layer.groups}
        return record | {
            "phases": layer.phases,
            "origin": layer.origin,
            "tensors": list(layer.tensors),
        }

    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": workload.name,
        "notes": workload.notes,
        "layers": [entry(layer) for layer in workload],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _npy(array: np.ndarray) -> bytes:
    """The array as an .npy file, in float16 where that is exact."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    exact = np.array_equal(half.astype(np.float32).view(np.uint32), array.view(np.uint32))
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, half if exact else array, allow_pickle=False)
    return buffer.getvalue()


def _write_archive(stream: IO[bytes], files: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name)  # dated 1980: equal content, equal bytes
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, compresslevel=9)


def _write_directory(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    if target.exists() and not (target / MANIFEST).is_file():
        raise InputError(f"{target}: exists and is no trace; give another path")
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        for name, data in files:
            (new / name).write_bytes(data)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(new, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# --- reading ---------------------------------------------------------------------------------------


def load_trace(path: str | os.PathLike[str]) -> Workload:
    """Read a trace file or directory; every fault is an `InputError` of one line that names it."""
    source = Path(path)
    try:
        if source.is_dir():
            return _read(source, lambda name: (source / name).open("rb"))
        with _archive(source) as archive:
            return _read(source, lambda name: archive.open(name))
    except OSError as error:
        raise InputError(f"{source}: cannot read the trace: {error.strerror or error}") from None


def _archive(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except _TORN as error:
        raise InputError(f"{source}: torn, or no trace: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read(source: Path, opener: Callable[[str], IO[bytes]]) -> Workload:
    document = _document(source, opener)
    where = str(source)
    _check_keys(where, document, _TOP_KEYS, optional={"notes"})
    if document["format"] != FORMAT:
        raise InputError(f"{where}: format is {document['format']!r}; it must be {FORMAT!r}")
    if document["version"] != VERSION:
        raise InputError(
            f"{where}: version is {document['version']}; this release reads version {VERSION}"
        )
    notes = document.get("notes", [])
    if not all(isinstance(note, str) for note in notes):
        raise InputError(f"{where}: notes must be a list of texts")
    try:
        layers = [
            _layer(source, index, entry, opener) for index, entry in enumerate(document["layers"])
        ]
        return Workload(document["name"], tuple(layers), tuple(notes))
    except InputError as error:
        prefix = "" if str(error).startswith(where) else f"{where}: "
        raise InputError(f"{prefix}{error}") from None


def _document(source: Path, opener: Callable[[str], IO[bytes]]) -> Any:
    try:
        with opener(MANIFEST) as stream:
            text = stream.read().decode()
    except (FileNotFoundError, KeyError):
        raise InputError(f"{source}: no {MANIFEST} in it; this is no trace") from None
    except _TORN as error:
        raise InputError(f"{source}: {MANIFEST} is torn: {_line(error)}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: {MANIFEST} is no JSON: {_line(error)}") from None


def _check_keys(
    where: str, record: Any, known: Mapping[str, type], optional: Iterable[str] = ()
) -> None:
    """`record` is an object with exactly the known keys, but for the optional ones, of their types."""
    if not isinstance(record, dict):
        raise InputError(f"{where}: {str(record)[:40]!r} stands where an object must stand")
    for key, value in record.items():
        if key not in known:
            raise InputError(f"{where}: {unknown('key', key, list(known))}")
        if not isinstance(value, known[key]) or (known[key] is int and isinstance(value, bool)):
            raise InputError(f"{where}: {key} is {value!r:.60}; it must be a {_NAMES[known[key]]}")
    for key in known:
        if key not in record and key not in optional:
            raise InputError(f"{where}: key {key!r} is missing")


_NAMES = {str: "text", int: "whole number", list: "list", dict: "object", object: "value"}


def _layer(source: Path, index: int, entry: Any, opener: Callable[[str], IO[bytes]]) -> Layer:
    name = entry.get("name", index) if isinstance(entry, dict) else index
    where = f"{source}: layer {name!r}"
    is_conv = isinstance(entry, dict) and "conv" in entry
    shape = {"m", "n", "k", "groups"} if is_conv else {"conv", "groups"}
    _check_keys(where, entry, _LAYER_KEYS, shape | {"phases", "origin", "tensors"})
    if is_conv and (extra := {"m", "n", "k", "groups"} & set(entry)):
        raise InputError(f"{where}: has conv, so {min(extra)!r} must not be given as well")
    keys = entry.get("tensors", [])
    for key in keys:
        if key not in TENSORS:
            raise InputError(f"{where}: {unknown('tensor', key, list(TENSORS))}")
    try:
        bare = _bare_layer(entry, where)
        tensors = {key: _tensor(bare, index, key, opener) for key in keys}
        return bare.replace(tensors=tensors)
    except InputError as error:
        message = str(error)
        if message.startswith("layer "):
            message = f"{source}: {message}"
        elif not message.startswith(str(source)):
            message = f"{where}: {message}"
        raise InputError(message) from None


def _bare_layer(entry: dict[str, Any], where: str) -> Layer:
    fields = {
        "phases": tuple(entry.get("phases", PHASES)),
        "origin": entry.get("origin", "captured"),
    }
    if "conv" not in entry:
        sizes = {key: entry[key] for key in ("m", "n", "k")}
        return Layer(entry["name"], entry["kind"], groups=entry.get("groups", 1), **sizes, **fields)
    _check_keys(f"{where}, conv", entry["conv"], _CONV_KEYS, _CONV_OPTIONAL)
    if entry["kind"] != "conv2d":
        raise InputError(f"{where}: has conv, so its kind must be 'conv2d', not {entry['kind']!r}")
    return Layer.from_conv(entry["name"], Conv(**entry["conv"]), **fields)


def _tensor(layer: Layer, index: int, key: str, opener: Callable[[str], IO[bytes]]) -> np.ndarray:
    """One array, its header checked before anything of its claimed size is allocated."""
    member = _member(index, key)
    where = f"tensor {key} ({member})"
    try:
        with opener(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise InputError(f"{where}: .npy version {version}; it must be (1, 0)")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            if dtype not in (np.dtype("<f4"), np.dtype("<f2")):
                raise InputError(
                    f"{where}: dtype is {dtype}; it must be little-endian float32 or float16"
                )
            if shape != layer.tensor_shape(key):
                raise InputError(f"{where}: shape is {shape}; it must be {layer.tensor_shape(key)}")
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            data = stream.read(size)
            if len(data) != size or stream.read(1):
                raise InputError(f"{where}: torn: not exactly {size} bytes of data")
    except InputError:
        raise
    except (FileNotFoundError, KeyError):
        raise InputError(f"{where}: is missing") from None
    except _TORN as error:
        raise InputError(f"{where}: torn: {_line(error)}") from None
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
