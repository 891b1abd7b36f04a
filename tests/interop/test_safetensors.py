"""safetensors: what is written is read, the reference implementation agrees, and damage is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat
from hfp8sim.interop.safetensors import load_with_metadata

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5)).astype(np.float32)
#: Tensors of every kind, by name.
TENSORS: dict[str, Any] = {
    "f64": X.astype(np.float64), "f32": X, "f16": X.astype(np.float16), "i64": np.arange(7), "bool": X > 0,
    "u8": np.arange(5, dtype=np.uint8), "scalar": np.array(3, np.float32), "empty": np.empty((0, 4), np.float32),
    "strided": X.T, "big endian": X.astype(">f4"), "bf16": X.astype(ml_dtypes.bfloat16),
    "e4m3": X.astype(ml_dtypes.float8_e4m3fn), "e5m2": hs.Operand.encode(X, "e5m2"),
    "hfp8": hs.Operand.encode(X, "hfp8-143@6", exponent=-3), "dl": hs.Operand.encode(X, "dlfloat16"),
    "scaled": hs.Operand.encode(X, "e5m2", exponent=2), "own": hs.Operand.encode(X, FloatFormat("mine", 3, 3, 2)),
}  # fmt: skip
#: The dtypes of some of them in the file.
DTYPES = {
    "bf16": "BF16",
    "e4m3": "F8_E4M3",
    "e5m2": "F8_E5M2",
    "hfp8": "U8",
    "dl": "U16",
    "f16": "F16",
}


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_tensors_come_back(tmp_path: Path) -> None:
    path = hs.save_safetensors(tmp_path / "a.safetensors", TENSORS, {"made by": "a test"})
    loaded = hs.load_safetensors(path)
    assert set(loaded) == set(TENSORS)
    for name, value in TENSORS.items():
        got = loaded[name]
        if isinstance(value, np.ndarray) and value.dtype.kind != "V":
            assert isinstance(got, np.ndarray) and got.shape == value.shape
            assert got.dtype == value.dtype.newbyteorder("=") and not got.flags.writeable
            np.testing.assert_array_equal(got, value)
        else:
            expected = value if isinstance(value, hs.Operand) else hs.Operand.from_array(value)
            assert isinstance(got, hs.Operand)
            assert (got.format, got.exponent) == (expected.format, expected.exponent)
            np.testing.assert_array_equal(got.codes, expected.codes)


def test_metadata_of_another_file_describe_no_tensor(tmp_path: Path) -> None:
    """A caller that decodes the codes and saves them with the metadata that it has read."""
    path = hs.save_safetensors(tmp_path / "a", {"w": TENSORS["hfp8"]}, {"made by": "a test"})
    tensors, texts = load_with_metadata(path)
    assert "hfp8sim.w" in texts
    again = hs.save_safetensors(tmp_path / "b", {"w": tensors["w"].values()}, texts)  # type: ignore[union-attr]
    loaded, kept = load_with_metadata(again)
    assert kept == {"made by": "a test"}
    np.testing.assert_array_equal(np.asarray(loaded["w"]), TENSORS["hfp8"].values())


def test_file_is_mapped_and_aligned(tmp_path: Path) -> None:
    path = hs.save_safetensors(
        tmp_path / "a.safetensors", {"a": np.ones(3, np.uint8), "b": np.ones(2)}
    )
    for array in hs.load_safetensors(path).values():
        assert isinstance(array, np.ndarray) and array.flags.aligned
        base: Any = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap)


def test_reference_implementation_agrees(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    from safetensors import safe_open

    path = hs.save_safetensors(tmp_path / "a.safetensors", TENSORS)
    with safe_open(path, "np") as file:
        assert set(file.keys()) == set(TENSORS)
        for name, dtype in DTYPES.items():
            assert file.get_slice(name).get_dtype() == dtype
        for name in ("f64", "f32", "f16", "i64", "strided", "bool"):
            np.testing.assert_array_equal(file.get_tensor(name), TENSORS[name])
        np.testing.assert_array_equal(file.get_tensor("hfp8"), TENSORS["hfp8"].codes)
    plain = {"a": X, "b": np.arange(9, dtype=np.int16)}
    numpy_files.save_file(plain, tmp_path / "b.safetensors")
    for name, got in hs.load_safetensors(tmp_path / "b.safetensors").items():
        np.testing.assert_array_equal(got, plain[name])


def test_tensors_of_torch_are_written(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(4).to(torch.float8_e5m2)}
    loaded = hs.load_safetensors(hs.save_safetensors(tmp_path / "a.safetensors", tensors))
    assert isinstance(loaded["b"], hs.Operand)
    assert loaded["b"].to_torch().dtype == torch.float8_e5m2
    np.testing.assert_array_equal(loaded["a"], np.ones((2, 3), np.float32))


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "the header is no JSON"),
        ([], "the header must be an object"),
        ({"a": 3}, "tensor 'a': its entry must be an object"),
        ({"a": F32 | {"dtype": "F7"}}, "tensor 'a': dtype is 'F7'; known: BOOL"),
        ({"a": F32 | {"dtype": ["F32"]}}, "tensor 'a': dtype is "),
        ({"a": F32 | {"shape": "2"}}, "shape and data_offsets must be lists"),
        ({"a": F32 | {"shape": [-2]}}, "shape and data_offsets must be lists"),
        ({"a": F32 | {"data_offsets": [0]}}, "shape and data_offsets must be lists"),
        ({"a": F32 | {"data_offsets": [0, 80]}}, "bytes 0 to 80 are not those of F32"),
        ({"a": F32 | {"shape": [4], "data_offsets": [0, 16]}}, "bytes 0 to 16 are not those of F32"),
        ({"a": F32 | {"data_offsets": [8, 0]}}, "bytes 8 to 0 are not those of F32"),
        ({"a": F32 | {"shape": [3]}}, r"bytes 0 to 8 are not those of F32 \(3,\)"),
        ({"a": F32, "__metadata__": []}, "__metadata__ must be an object of texts"),
        ({"a": F32 | {"dtype": "U32"}, "__metadata__": {"hfp8sim.a": "{}"}}, "its format in the metadata is damaged"),
        ({"a": F32 | {"dtype": "U32"}, "__metadata__": {"hfp8sim.a": '{"format": {"name": "x"}, "exponent": 0}'}},
         "its format in the metadata is damaged"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, header: Any, message: str) -> None:
    path = write(tmp_path / "a.safetensors", header, bytes(8))
    with pytest.raises(InputError, match=message) as error:
        hs.load_safetensors(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"1234567", (1 << 60).to_bytes(8, "little") + b"{}"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match="torn, or not a safetensors file"):
        hs.load_safetensors(tmp_path / "a")
    with pytest.raises(InputError, match="No such file"):
        hs.load_safetensors(tmp_path / "b")


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"a": np.ones(2, complex)}, None, "a: a safetensors file holds no complex128"),
        ({"__metadata__": X}, None, "'__metadata__' is no name of a tensor"),
        ({"a": X}, {"k": 3}, "metadata must be texts by name"),
    ],
)
def test_what_the_file_cannot_hold_is_refused(
    tmp_path: Path, tensors: Any, metadata: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        hs.save_safetensors(tmp_path / "a", tensors, metadata)
    assert not (tmp_path / "a").exists()
