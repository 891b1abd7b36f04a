"""Weights of trained networks: read from files of several kinds, and written as values or as codes.

The metadata of a safetensors file of codes have the format and the scales of each tensor.
"""

from __future__ import annotations

import io
import math
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hfp8sim.errors import InputError, located, one_line
from hfp8sim.files import check_path, write_whole
from hfp8sim.interop.safetensors import load_with_metadata, save_safetensors
from hfp8sim.ops import Operand
from hfp8sim.training.conversion import is_emulated, weight_parts
from hfp8sim.training.encoding import Encoded
from hfp8sim.training.functions import array
from hfp8sim.workloads.readers.onnx_model import import_onnx

Tensor = Any  #: PyTorch's


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
        values, texts = load_with_metadata(path)
        with located(path):
            return WeightFile({name: _tensor(name, x, texts) for name, x in values.items()})
    if suffix == ".onnx":
        return WeightFile(_initialisers(path))
    saved = read_saved(path, "a file of torch.save")
    settings = emulation = None
    if isinstance(saved, dict) and isinstance(saved.get("model"), dict):
        settings, emulation = (
            saved[name] if isinstance(saved.get(name), dict) else None
            for name in ("settings", "emulation")
        )
        saved = saved["model"]
    tensors = isinstance(saved, dict) and all(
        isinstance(name, str) and isinstance(x, torch.Tensor) for name, x in saved.items()
    )
    if not tensors or not saved:
        raise InputError(f"{path}: no state_dict: it must hold tensors by name")
    return WeightFile(saved, settings, emulation)


def read_saved(path: str | Path, what: str) -> Any:
    """What torch.save has written into a file, in memory; no code in the file runs.

    Args:
        what: the file should be, for errors.

    Raises:
        InputError: a file that cannot be read, that is of another kind, or that holds objects beside tensors, numbers,
            texts, lists and dicts.
    """
    check_path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files of other programs, which are refused
            return torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except pickle.UnpicklingError:  # PyTorch's text advises to run the file's code
        raise InputError(
            f"{path}: not {what}: it must hold tensors, numbers and texts, as a state_dict does"
        ) from None
    except Exception:  # damaged files: of zip, of PyTorch, of Python
        raise InputError(f"{path}: torn, or not {what}") from None


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
        raise InputError(f"{path}: not weights of this network: {one_line(lines[0])}") from None
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


def _tensor(name: str, value: NDArray[Any] | Operand, texts: Mapping[str, str]) -> Tensor:
    """A tensor of a safetensors file; codes of `hs.save_safetensors` and of `save_quantised` become their values."""
    if isinstance(value, Operand):
        return torch.from_numpy(value.values())
    if f"{name}.format" not in texts or f"{name}.scales" not in texts:
        return torch.from_numpy(np.array(value))
    with located(f"tensor {name!r}"):
        codes = Operand(value, texts[f"{name}.format"])
        scales = _scales(texts[f"{name}.scales"])
        if codes.ndim < 1 or codes.shape[0] % len(scales):
            raise InputError(f"its shape {codes.shape} has no {len(scales)} equal parts")
        factors = np.repeat(scales, codes.shape[0] // len(scales)).astype(np.float32)
        return torch.from_numpy((codes.values().T * factors).T.copy())


def _scales(text: str) -> list[float]:
    """The numbers of a text, one or more."""
    try:
        scales = [float(scale) for scale in text.split()]
    except ValueError:
        scales = []
    if not scales:
        raise InputError(f"its scales are {text!r:.60}; they must be numbers")
    return scales


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
        tensors: dict[str, Any] = dict(state)
        metadata = {"format": "pt"}
        for name, operands in encoded.items():
            tensors[name] = np.concatenate([encoded.operand.codes for encoded in operands])
            metadata[f"{name}.format"] = operands[0].operand.format.name
            metadata[f"{name}.scales"] = " ".join(
                repr(math.ldexp(encoded.step, encoded.operand.exponent)) for encoded in operands
            )
        return save_safetensors(path, tensors, metadata)
    for name, operands in encoded.items():
        values = np.concatenate([operand.values() for operand in operands])
        state[name] = torch.from_numpy(values).to(state[name].dtype)
    content = io.BytesIO()
    torch.save(state, content)
    return write_whole(path, lambda file: file.write(content.getvalue()), binary=True)
