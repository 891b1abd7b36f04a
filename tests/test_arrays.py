"""Arrays of ml_dtypes, tensors of PyTorch and objects with `__dlpack__`, wherever numbers or codes are taken."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.arrays import CODED_BYTES, checked_array
from hfp8sim.errors import InputError
from hfp8sim.formats.dtypes import FORMAT_OF_DTYPE
from hfp8sim.network import Layer

CODED = sorted(CODED_BYTES)


def all_codes(name: str) -> np.ndarray:
    """An array of the dtype with every bit pattern of its format."""
    fmt = hs.get_format(FORMAT_OF_DTYPE[name])
    codes = np.arange(1 << fmt.bits, dtype=fmt.dtype)
    return codes.view(np.dtype(getattr(ml_dtypes, name)))


class Exporter:
    """An object that offers an array through DLPack alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


# -- a format from a dtype ---------------------------------------------------------------------------


def test_every_coded_dtype_has_a_format() -> None:
    assert set(FORMAT_OF_DTYPE) == {*CODED_BYTES, "float16", "float32"}
    for name, size in CODED_BYTES.items():
        dtype = np.dtype(getattr(ml_dtypes, name))
        fmt = hs.get_format(dtype)
        assert (
            fmt == hs.get_format(getattr(ml_dtypes, name)) == hs.get_format(FORMAT_OF_DTYPE[name])
        )
        assert (dtype.itemsize, fmt.numpy_dtype) == (size, dtype)
    assert hs.get_format(np.float16).name == "binary16"
    assert hs.get_format(np.dtype("f4")).numpy_dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (np.float64, "no format has the codes of dtype float64"),
        (np.dtype("u1"), "no format has the codes of dtype uint8"),
        (None, "unknown format None"),
        (3, "unknown format 3"),
        ("float7", "unknown format 'float7'"),
    ],
)
def test_dtype_without_a_format_is_refused(dtype: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hs.get_format(dtype)


def test_format_without_a_dtype_is_refused() -> None:
    with pytest.raises(InputError, match="no dtype has the codes of hfp8-143; these formats"):
        _ = hs.get_format("hfp8-143").numpy_dtype


# -- ml_dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODED)
def test_arrays_of_ml_dtypes_decode_and_encode(name: str) -> None:
    array, fmt = all_codes(name), hs.get_format(FORMAT_OF_DTYPE[name])
    values = fmt.decode(array)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        np.testing.assert_array_equal(values, array.astype(np.float64))
    finite = array[np.isfinite(values)]
    wide = hs.get_format("binary32")
    np.testing.assert_array_equal(wide.decode(wide.encode(finite)), finite.astype(np.float64))
    np.testing.assert_array_equal(
        hs.convert(finite, "hfp8-143")[0], hs.convert(finite.astype(np.float64), "hfp8-143")[0]
    )


@pytest.mark.parametrize("name", CODED)
def test_operand_from_array_shares_memory_both_ways(name: str) -> None:
    array = all_codes(name).reshape(-1, 2).T
    operand = hs.Operand.from_array(array)
    assert operand.format == hs.get_format(array.dtype) and operand.shape == array.shape
    assert np.shares_memory(operand.codes, array)
    back = operand.to_numpy()
    assert back.dtype == array.dtype and np.shares_memory(back, array)


def test_gemm_takes_arrays_by_their_dtype() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 40)).astype(ml_dtypes.float8_e4m3fn)
    b = rng.normal(size=(40, 3)).astype(ml_dtypes.float8_e5m2)
    expected = hs.gemm(a.view("u1"), b.view("u1"), a_format="e4m3fn", b_format="e5m2")
    np.testing.assert_array_equal(hs.gemm(a, b), expected)
    with pytest.raises(InputError, match=r"a holds e4m3fn codes \(float8_e4m3fn\), not hfp8-143"):
        hs.gemm(a, b, a_format="hfp8-143")


def test_codes_of_another_format_are_refused() -> None:
    array = np.ones(3, ml_dtypes.float8_e5m2)
    with pytest.raises(InputError, match=r"e4m3fn codes .* float8_e5m2 are codes of e5m2"):
        hs.get_format("e4m3fn").decode(array)
    with pytest.raises(InputError, match=r"codes holds e5m2 codes \(float8_e5m2\), not e4m3fn"):
        hs.Operand(array, "e4m3fn")


@pytest.mark.parametrize("dtype", [np.float64, np.int8])
def test_operand_from_array_refuses_other_dtypes(dtype: Any) -> None:
    with pytest.raises(InputError, match="no format has the codes of dtype"):
        hs.Operand.from_array(np.ones(3, dtype))


def test_scaled_operand_has_no_dtype() -> None:
    operand = hs.Operand.encode(np.ones(3), "e5m2", exponent=2)
    with pytest.raises(InputError, match=r"the scale 2\^2 is in no dtype"):
        operand.to_numpy()


def test_layer_takes_bfloat16() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(ml_dtypes.bfloat16)
    layer = Layer("f", "linear", 3, 2, 4, tensors={"x": x})
    np.testing.assert_array_equal(layer.tensors["x"], x.astype(np.float32))


# -- DLPack ------------------------------------------------------------------------------------------


def test_dlpack_objects_are_read_in_place() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.shares_memory(checked_array(Exporter(array), "x"), array)  # type: ignore[arg-type]
    fmt = hs.get_format("hfp8-143")
    np.testing.assert_array_equal(fmt.decode(Exporter(array)), fmt.decode(array))  # type: ignore[arg-type]


def test_operand_exports_its_codes_through_dlpack() -> None:
    operand = hs.Operand.encode(np.ones((2, 3)), "hfp8-143")
    codes = np.from_dlpack(operand)  # type: ignore[arg-type]
    assert codes.dtype == np.uint8 and np.shares_memory(codes, operand.codes)


def test_dlpack_object_elsewhere_is_refused() -> None:
    class Elsewhere:
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("on a device")

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    with pytest.raises(InputError, match="x is no array: "):
        hs.get_format("e5m2").encode(Elsewhere())  # type: ignore[arg-type]


# -- PyTorch -----------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def test_formats_of_torch_dtypes(torch: Any) -> None:
    names = [name for name in FORMAT_OF_DTYPE if hasattr(torch, name)]
    assert {"bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"} <= set(names)
    for name in names:
        assert hs.get_format(getattr(torch, name)).name == FORMAT_OF_DTYPE[name]
    with pytest.raises(InputError, match="no format has the codes of dtype int64"):
        hs.get_format(torch.int64)


@pytest.mark.parametrize(
    "name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
)
def test_tensors_decode_encode_and_share_memory(torch: Any, name: str) -> None:
    tensor = torch.randn(6, 4, requires_grad=True).to(getattr(torch, name))
    numbers = tensor.detach().double().numpy()
    fmt = hs.get_format(tensor.dtype)
    operand = hs.Operand.from_array(tensor)
    np.testing.assert_array_equal(operand.values(np.float64), numbers)
    np.testing.assert_array_equal(fmt.decode(tensor), numbers)
    np.testing.assert_array_equal(fmt.encode(tensor), operand.codes)
    np.testing.assert_array_equal(
        hs.convert(tensor, "hfp8-152")[0], hs.convert(numbers, "hfp8-152")[0]
    )
    back = operand.to_torch()
    assert back.dtype == tensor.dtype and back.data_ptr() == tensor.data_ptr()


def test_channels_last_tensors_are_read_in_place(torch: Any) -> None:
    """A convolution of PyTorch's tensors in their memory order: no element moves."""
    images = torch.randn(2, 8, 6, 5).to(memory_format=torch.channels_last).to(torch.float8_e4m3fn)
    weights = torch.randn(4, 8, 3, 3).to(memory_format=torch.channels_last).to(torch.float8_e4m3fn)
    x, w = hs.Operand.from_array(images), hs.Operand.from_array(weights)
    nhwc = x.transpose(0, 2, 3, 1)
    assert (
        nhwc.codes.flags.c_contiguous
        and nhwc.codes.__array_interface__["data"][0] == images.data_ptr()
    )
    got = hs.conv_fwd(images, weights, layout="NCHW")
    np.testing.assert_array_equal(got, hs.conv_fwd(x, w, layout="NCHW"))
    plain = hs.conv_fwd(nhwc, w.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(got, plain.transpose(0, 3, 1, 2))


def test_results_become_tensors_without_a_copy(torch: Any) -> None:
    a = hs.Operand.encode(np.ones((3, 4)), "hfp8-143")
    with pytest.raises(InputError, match=r"PyTorch has no dtype for hfp8-143; torch\.from_numpy"):
        a.to_torch()
    assert torch.from_dlpack(a).dtype == torch.uint8
    result = hs.Operand(hs.gemm(a, a.T, "e5m2-fp32"), "binary32").to_torch()
    assert result.dtype == torch.float32 and bool((result == 4).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda torch: torch.ones(2, 2, device="meta"),
            r"x is a tensor on meta; .* tensor\.cpu\(\)",
        ),
        (lambda torch: torch.eye(2).to_sparse(), "x is a sparse or quantised tensor"),
        (lambda torch: torch.ones(2, dtype=torch.complex64), "cannot encode an array of complex64"),
    ],
)
def test_tensors_without_plain_memory_are_refused(torch: Any, make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hs.get_format("e5m2").encode(make(torch))
