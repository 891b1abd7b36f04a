"""Weights of trained networks: read from files of several kinds, and written as values or as codes.

A safetensors file is eight bytes with the size of a header, little-endian, the header in JSON, and the tensors one after
the other (huggingface.co/docs/safetensors). The header of a file of codes names each code's format.
"""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from hfp8sim.errors import InputError
from hfp8sim.files import write_whole
from hfp8sim.training.conversion import is_emulated, weight_parts
from hfp8sim.training.encoding import Encoded
from hfp8sim.training.functions import array
from hfp8sim.workloads.readers.onnx_model import import_onnx

Tensor = Any  #: PyTorch's

#: Data types of safetensors.
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "U16": "<u2", "U32": "<u4", "BOOL": "?",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_METADATA = "__metadata__"
#: The longest header that a reader takes, as in the library.
_LONGEST_HEADER = 100_000_000


class WeightFile(NamedTuple):
    """What a file of weights holds."""

    state: dict[str, Tensor]  #: tensors by name
    settings: dict[str, Any] | None = (
        None  #: of the run, if the file is a checkpoint of `hfp8sim train`
    )
    emulation: dict[str, Any] | None = None  #: its scales and PACT's α, likewise


def read_weights(path: str | Path) -> WeightFile:
    """The tensors of a checkpoint of `hfp8sim train`, a `state_dict` of torch.save, a safetensors or an ONNX file.

    No code in the file runs.

    Raises:
        InputError: a file that cannot be read, or that holds no tensors by name.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".safetensors":
        arrays, _ = read_safetensors(path)
        return WeightFile({name: torch.from_numpy(x) for name, x in arrays.items()})
    if suffix == ".onnx":
        return WeightFile(_initialisers(path))
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        first = str(error).split("\n")[0]
        raise InputError(f"{path}: not a file of torch.save: {first}") from None
    settings = emulation = None
    if isinstance(saved, dict) and isinstance(saved.get("model"), dict):
        settings, emulation = (
            saved[name] if isinstance(saved.get(name), dict) else None
            for name in ("settings", "emulation")
        )
        saved = saved["model"]
    tensors = isinstance(saved, dict) and all(isinstance(x, torch.Tensor) for x in saved.values())
    if not tensors or not saved:
        raise InputError(f"{path}: no state_dict: it must hold tensors by name")
    return WeightFile(saved, settings, emulation)


def load_weights(
    model: nn.Module, path: str | Path, weights: WeightFile | None = None
) -> nn.Module:
    """Load the tensors of a file into a model, all of them.

    Args:
        weights: what `read_weights` has read.

    Raises:
        InputError: as `read_weights`; names or shapes that are not the model's. The text names the first.
    """
    try:
        model.load_state_dict((weights or read_weights(path)).state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).split("\n")[1:] if line.strip()]
        raise InputError(f"{path}: not weights of this network: {' '.join(lines[:1])}") from None
    return model


def _initialisers(path: str | Path) -> dict[str, Tensor]:
    """The initialisers of an ONNX file by name; torch.onnx names them as `state_dict` does."""
    onnx = import_onnx()
    try:
        graph = onnx.load(str(path)).graph
        return {
            x.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(x)))
            for x in graph.initializer
        }
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # protobuf's, onnx's and NumPy's errors of damaged files
        first = str(error).split("\n")[0]
        raise InputError(f"{path}: not an ONNX file: {first}") from None


# -- safetensors ---------------------------------------------------------------------------------------


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, and its metadata.

    Raises:
        InputError: a file that cannot be read or is damaged.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(len(content) - 8, _LONGEST_HEADER):
        raise InputError(f"{path}: not a safetensors file")
    try:
        header = json.loads(content[8 : 8 + size])
        metadata = header.pop(_METADATA, {})
        arrays = {}
        for name, entry in header.items():
            first, stop = entry["data_offsets"]
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            data = content[8 + size + first : 8 + size + stop]
            arrays[name] = np.frombuffer(data, dtype).reshape(entry["shape"]).copy()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged safetensors file: {error}") from None
    return arrays, metadata


def write_safetensors(
    path: str | Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> Path:
    """Write arrays into a safetensors file, whole or not at all.

    Raises:
        InputError: what the system refuses.
    """
    header: dict[str, Any] = {_METADATA: metadata}
    blocks, offset = [], 0
    for name, x in arrays.items():
        block = np.ascontiguousarray(x, x.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": _NAMES[x.dtype], "shape": list(x.shape),
            "data_offsets": [offset, offset + len(block)],
        }  # fmt: skip
        blocks.append(block)
        offset += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    content = b"".join([len(text).to_bytes(8, "little"), text, *blocks])
    return write_whole(path, lambda file: file.write(content), binary=True)


# -- quantised weights ---------------------------------------------------------------------------------


def encoded_weights(model: nn.Module) -> dict[str, list[Encoded]]:
    """The operands of the weights of emulated layers, by parameter; several where a parameter is several weights.

    Each is what the layer's next forward pass multiplies with.
    """
    return {
        f"{prefix}{name}": [products.encode(array(part), "w") for products, part in parts]
        for prefix, module in _emulated(model)
        for name, parts in weight_parts(module).items()
    }


def _emulated(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if is_emulated(module):
            yield f"{name}." if name else "", module


def save_quantised(model: nn.Module, path: str | Path) -> Path:
    """Write a quantised model, whole or not at all.

    `.safetensors`: weights of emulated layers as codes, all else as it is. The metadata of the file has for each parameter of
    codes `NAME.format` and `NAME.scales`: a value is decode(code) · scale. Parameters that are several weights, as MultiheadAttention's,
    have a scale for each part; parts have equal size.

    Another name: a `state_dict` of torch.save in which these weights have the values of their codes. It loads into the plain network
    with `strict=True`.

    Raises:
        InputError: what the system refuses.
    """
    encoded = encoded_weights(model)
    state = {name: x.detach().cpu() for name, x in model.state_dict().items()}
    if Path(path).suffix.lower() == ".safetensors":
        arrays = {name: x.numpy() for name, x in state.items()}
        metadata = {"format": "pt"}
        for name, operands in encoded.items():
            arrays[name] = np.concatenate([encoded.operand.codes for encoded in operands])
            metadata[f"{name}.format"] = operands[0].operand.format.name
            metadata[f"{name}.scales"] = " ".join(
                repr(math.ldexp(encoded.step, encoded.operand.exponent)) for encoded in operands
            )
        return write_safetensors(path, arrays, metadata)
    for name, operands in encoded.items():
        values = np.concatenate([operand.values() for operand in operands])
        state[name] = torch.from_numpy(values).to(state[name].dtype)
    content = io.BytesIO()
    torch.save(state, content)
    return write_whole(path, lambda file: file.write(content.getvalue()), binary=True)
