"""The native trace: layers with their tensors in one `.npz` file or in a directory.

Both hold `manifest.json` and an array `LAYER.TENSOR.npy` for each tensor; LAYER is the layer's index:

    {"format": "hfp8sim-trace", "version": 1, "name": "...", "notes": ["..."],
     "missing": ["products of the source that are no layers, and why"],
     "layers": [{"name": "conv1", "kind": "conv2d", "conv": {"batch": 32, "height": 8, ...},
                 "phases": ["fwd", "wgrad"], "origin": "captured", "tensors": ["x", "w", "dy"]},
                {"name": "fc1", "kind": "linear", "m": 32, "n": 64, "k": 128, "groups": 1,
                 "calibration": {"x": {"format": "hfp8-143", "bias": 9}}, ...}],
     "calibration": "max"}

Arrays are float32, or float16 where that is exact. A trace is written whole or not at all. Equal content
gives equal bytes. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hfp8sim.errors import InputError, located, one_line, unknown
from hfp8sim.files import write_folder, write_whole
from hfp8sim.network.records import (
    KINDS,
    PHASES,
    TENSORS,
    Conv,
    Layer,
    Scaling,
    Workload,
    check_phases,
)
from hfp8sim.workloads.readers.npz import DAMAGE, open_archive, read_header, read_values

FORMAT = "hfp8sim-trace"
VERSION = 1
MANIFEST = "manifest.json"

#: Bytes of a manifest: those of some hundred thousand layers.
_MANIFEST_BYTES = 1 << 26

#: Keys of the manifest's objects and the types of their values.
_TOP_KEYS = {
    "format": str,
    "version": int,
    "name": str,
    "notes": list,
    "layers": list,
    "missing": list,
    "calibration": str,
}
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
    "unread": dict,
    "calibration": dict,
}
_SCALING_KEYS = {"format": str, "bias": int, "scale": int}
_CONV_KEYS = {f.name: object for f in dataclasses.fields(Conv)}
_CONV_OPTIONAL = {f.name for f in dataclasses.fields(Conv) if f.default is not dataclasses.MISSING}
_TYPE_NAMES = {str: "text", int: "whole number", list: "list", dict: "object", object: "value"}

#: Opens a file of the trace by its name.
Opener = Callable[[str], IO[bytes]]


# --- writing ---------------------------------------------------------------------------------------


def save_trace(path: str | os.PathLike[str], workload: Workload) -> None:
    """Write `workload` to `path`: one file if it ends in `.npz`, else a directory.

    An older trace at `path` is replaced when the new one is complete. Raises `InputError` if the target
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
        record |= {
            "phases": layer.phases,
            "origin": layer.origin,
            "tensors": list(layer.tensors),
        }
        if layer.calibration:
            record["calibration"] = {
                key: {k: v for k, v in scaling._asdict().items() if k != "scale" or v}
                for key, scaling in layer.calibration.items()
            }
        return record | ({"unread": layer.unread} if layer.unread else {})

    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": workload.name,
        "notes": workload.notes,
        "layers": [entry(layer) for layer in workload],
    }
    if workload.missing:
        document["missing"] = workload.missing
    if workload.calibration:
        document["calibration"] = workload.calibration
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode(
        errors="backslashreplace"  # half a surrogate pair, which JSON has as an escape
    )


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
            info = zipfile.ZipInfo(name)  # a fixed date, 1980: equal content gives equal bytes
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, compresslevel=9)


def _write_directory(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    if target.exists() and not (target / MANIFEST).is_file():
        raise InputError(f"{target}: exists and is no trace; give another path")
    write_folder(target, files)


# --- reading ---------------------------------------------------------------------------------------


def load_trace(path: str | os.PathLike[str], *, values: bool = True) -> Workload:
    """Read a trace file or directory.

    Args:
        values: whether to read tensors. False leaves them out: layers, shapes and the rest are in the manifest.

    Every fault raises `InputError`, in one line that names the file and, where there is one, the layer
    and the tensor.
    """
    source = Path(path)
    with located(source):
        try:
            if source.is_dir():
                return _read(lambda name: (source / name).open("rb"), values)
            with open_archive(source) as archive:
                return _read(lambda name: archive.open(name), values)
        except OSError as error:
            raise InputError(f"cannot read the trace: {error.strerror or error}") from None


def _read(open_file: Opener, values: bool) -> Workload:
    document = _read_manifest(open_file)
    _check_keys(document, _TOP_KEYS, optional={"notes", "missing", "calibration"})
    if document["format"] != FORMAT:
        raise InputError(f"format is {document['format']!r}; it must be {FORMAT!r}")
    if document["version"] != VERSION:
        raise InputError(f"version is {document['version']}; this release reads version {VERSION}")
    notes, missing = document.get("notes", []), document.get("missing", [])
    for key, texts in (("notes", notes), ("missing", missing)):
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"{key} must be a list of texts")
    layers = [
        _read_layer(index, entry, open_file, values)
        for index, entry in enumerate(document["layers"])
    ]
    return Workload(
        document["name"], tuple(layers), tuple(notes), missing=tuple(missing),
        calibration=document.get("calibration", ""),
    )  # fmt: skip


def _read_manifest(open_file: Opener) -> Any:
    try:
        with open_file(MANIFEST) as stream:
            contents = stream.read(_MANIFEST_BYTES + 1)
        if len(contents) > _MANIFEST_BYTES:
            raise InputError(f"{MANIFEST} has more than {_MANIFEST_BYTES} bytes")
        text = contents.decode()
    except InputError:
        raise
    except (FileNotFoundError, KeyError):
        raise InputError(f"no {MANIFEST} in it; this is no trace") from None
    except DAMAGE as error:
        raise InputError(f"{MANIFEST} is torn: {one_line(error)}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{MANIFEST} is no JSON: {one_line(error)}") from None


def _check_keys(record: Any, types: Mapping[str, type], optional: Iterable[str] = ()) -> None:
    """Raise `InputError` unless `record` is an object with the keys of `types`, of those types.

    Keys in `optional` may be missing. No other key is allowed.
    """
    if not isinstance(record, dict):
        raise InputError(f"{str(record)[:40]!r} must be an object")
    for key, value in record.items():
        if key not in types:
            raise unknown("key", key, list(types))
        if not isinstance(value, types[key]) or (types[key] is int and isinstance(value, bool)):
            raise InputError(f"{key} is {value!r:.60}; it must be a {_TYPE_NAMES[types[key]]}")
    for key in types:
        if key not in record and key not in optional:
            raise InputError(f"key {key!r} is missing")


def _read_layer(index: int, entry: Any, open_file: Opener, values: bool) -> Layer:
    name = entry.get("name", index) if isinstance(entry, dict) else index
    with located(f"layer {name!r}"):
        _check_layer(entry)
        conv = _read_conv(entry)
    layer = _make_layer(entry, conv)  # its errors name the layer
    tensors = {}
    for key in entry.get("tensors", []) if values else []:
        with located(f"layer {name!r}, tensor {key} ({_member(index, key)})"):
            tensors[key] = _read_tensor(layer.tensor_shape(key), _member(index, key), open_file)
    return layer.replace(tensors=tensors)


def _check_layer(entry: Any) -> None:
    """Raise `InputError` for keys, kind, phases or tensors that a layer does not have."""
    is_conv = isinstance(entry, dict) and "conv" in entry
    absent = {"m", "n", "k", "groups"} if is_conv else {"conv", "groups"}
    absent |= {"phases", "origin", "tensors", "unread", "calibration"}
    _check_keys(entry, _LAYER_KEYS, absent)
    if is_conv and (extra := {"m", "n", "k", "groups"} & set(entry)):
        raise InputError(f"has conv, so {min(extra)!r} must not be given as well")
    if is_conv and entry["kind"] != "conv2d":
        raise InputError(f"has conv, so its kind must be 'conv2d', not {entry['kind']!r}")
    if entry["kind"] not in KINDS:
        raise unknown("layer kind", entry["kind"], list(KINDS))
    check_phases(entry.get("phases", PHASES))
    if not all(isinstance(reason, str) for reason in entry.get("unread", {}).values()):
        raise InputError("unread must give a text for each tensor")
    for key in (*entry.get("tensors", []), *entry.get("calibration", {})):
        if key not in TENSORS:
            raise unknown("tensor", key, list(TENSORS))
    for key, scaling in entry.get("calibration", {}).items():
        with located(f"calibration of {key}"):
            _check_keys(scaling, _SCALING_KEYS, {"scale"})


def _read_conv(entry: Mapping[str, Any]) -> Conv | None:
    if "conv" not in entry:
        return None
    with located("conv"):
        _check_keys(entry["conv"], _CONV_KEYS, _CONV_OPTIONAL)
    return Conv(**entry["conv"])


def _make_layer(entry: Mapping[str, Any], conv: Conv | None) -> Layer:
    """The layer without its tensors."""
    fields = {
        "phases": tuple(entry.get("phases", PHASES)),
        "origin": entry.get("origin", "captured"),
        "unread": entry.get("unread", {}),
        "calibration": {k: Scaling(**v) for k, v in entry.get("calibration", {}).items()},
    }
    if conv is not None:
        return Layer.from_conv(entry["name"], conv, **fields)
    sizes = {key: entry[key] for key in ("m", "n", "k")}
    return Layer(entry["name"], entry["kind"], groups=entry.get("groups", 1), **sizes, **fields)


def _read_tensor(expected: tuple[int, ...], member: str, open_file: Opener) -> np.ndarray:
    """One array. Its header is checked before memory of the size that it claims is allocated."""
    try:
        with open_file(member) as stream:
            shape, fortran, dtype = read_header(stream)
            if dtype not in (np.dtype("<f4"), np.dtype("<f2")):
                raise InputError(f"dtype is {dtype}; it must be little-endian float32 or float16")
            if shape != expected:
                raise InputError(f"shape is {shape}; it must be {expected}")
            return read_values(stream, shape, fortran, dtype)
    except InputError:
        raise
    except (FileNotFoundError, KeyError):
        raise InputError("is missing") from None
    except DAMAGE as error:
        raise InputError(f"torn: {one_line(error)}") from None
