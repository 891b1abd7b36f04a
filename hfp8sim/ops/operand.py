"""`Operand`: a tensor of codes that is encoded once and multiplied any number of times."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from hfp8sim import kernels
from hfp8sim.arrays import checked_array, code_bits, coded_name
from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.dtypes import DTYPE_OF_FORMAT, FORMAT_OF_DTYPE
from hfp8sim.ops.conversions import convert

Codes = NDArray[np.unsignedinteger[Any]]

#: Of an operand's scale: the scale of a product of two, and the kernels' own, stay in float64's range.
_MAX_EXPONENT = 400


@dataclasses.dataclass(frozen=True, eq=False, repr=False, slots=True)
class Operand:
    """Codes of one format, with a power-of-two scale: an element's value is decode(code) · 2^exponent.

    `hs.gemm`, `hs.batched` and the convolutions take an operand wherever they take codes. What they must know
    about its elements (`scan`) is computed once, by the first of them. Transposes, reshapes and slices are
    views: they copy no code and keep the scan.

    The object is immutable. It does not copy the codes: a caller that changes them afterwards gets wrong results.

    Args:
        codes: unsigned integers below 2^bits, of any shape and strides.
        format: name or record.
        exponent: of the scale; −400 ≤ exponent ≤ 400.
        saturated, underflowed: elements that overflowed and underflowed when the codes were made.

    Raises:
        InputError: codes that are not integers of that range, an unknown format, an exponent out of range.
    """

    codes: Codes
    format: FloatFormat
    exponent: int
    saturated: int
    underflowed: int
    _scans: list[kernels.Scan]  #: the scan, once it has been computed; views share the list

    def __init__(
        self,
        codes: ArrayLike,
        format: str | FloatFormat,
        exponent: int = 0,
        *,
        saturated: int = 0,
        underflowed: int = 0,
    ) -> None:
        record = get_format(format)
        exponent = check_whole_number(exponent, "exponent", -_MAX_EXPONENT, _MAX_EXPONENT)
        self._set(check_codes(codes, record, "codes"), record, exponent, saturated, underflowed, [])

    def _set(
        self, codes: Codes, format: FloatFormat, exponent: int, saturated: int, underflowed: int,
        scans: list[kernels.Scan],
    ) -> None:  # fmt: skip
        put = object.__setattr__  # the class is frozen
        put(self, "codes", codes)
        put(self, "format", format)
        put(self, "exponent", exponent)
        put(self, "saturated", saturated)
        put(self, "underflowed", underflowed)
        put(self, "_scans", scans)

    @classmethod
    def encode(
        cls,
        x: ArrayLike,
        fmt: str | FloatFormat,
        *,
        rounding: str = "nearest-even",
        overflow: str = "saturate",
        bits: int = 13,
        seed: int = 0,
        stream: int = 0,
        exponent: int = 0,
        source: str | None = None,
        threads: int | None = None,
    ) -> Operand:
        """Round a tensor into a format: the codes are those of x · 2^−exponent.

        Args:
            x: real numbers of any shape and strides, as `hs.convert`.
            fmt, rounding, overflow, bits, seed, stream, source, threads: as `hs.convert`.
            exponent: of the scale.

        Returns:
            Codes of x's shape, in x's order of memory.

        Raises:
            InputError: as `hs.convert`; an exponent out of range.
        """
        record = get_format(fmt)
        check_whole_number(exponent, "exponent", -_MAX_EXPONENT, _MAX_EXPONENT)
        # x · 2^−e in a format is x in that format with the bias lowered by e: one rounding, no product.
        codes, counts = convert(
            x, record.with_bias(record.bias - exponent), rounding, overflow,
            bits=bits, seed=seed, stream=stream, source=source, threads=threads,
        )  # fmt: skip
        return cls(codes, record, exponent, **counts)

    @classmethod
    def from_array(cls, x: ArrayLike) -> Operand:
        """The operand whose codes are the bits of a floating-point array or tensor: nothing is rounded or copied.

        Args:
            x: an array or a tensor in memory, of any shape and strides, in a dtype of NumPy, ml_dtypes or PyTorch
                that has a format: float16, float32, bfloat16, float8_e4m3fn, … Any object with `__dlpack__`.

        Raises:
            InputError: another dtype. Integers are codes already: `hs.Operand(x, fmt)`.
        """
        array = checked_array(x, "x")
        dtype = coded_name(array.dtype) or array.dtype.name
        if dtype not in FORMAT_OF_DTYPE:
            raise InputError(
                f"no format has the codes of dtype {dtype}; hs.Operand(x, fmt) takes codes"
            )
        return cls(code_bits(array), FORMAT_OF_DTYPE[dtype])

    # -- other libraries -----------------------------------------------------------------------------

    def to_numpy(self) -> NDArray[Any]:
        """The codes as an array of the format's dtype, NumPy's or ml_dtypes'; it shares their memory.

        Raises:
            InputError: a format without a dtype, an operand with a scale, or ml_dtypes is not installed.
        """
        return self._unscaled().view(self.format.numpy_dtype)

    def to_torch(self) -> Any:
        """The codes as a tensor of PyTorch in the format's dtype; it shares their memory.

        Read-only codes, such as those of a file, are copied: PyTorch has no read-only tensors.

        Raises:
            InputError: a format that PyTorch has no dtype for, an operand with a scale, or torch is not installed.
        """
        try:
            import torch
        except ImportError:
            raise InputError('to_torch needs an extra: pip install "hfp8sim[torch]"') from None
        name = DTYPE_OF_FORMAT.get(self.format.name, "")
        dtype = getattr(torch, name, None)
        if dtype is None:
            raise InputError(
                f"PyTorch has no dtype for {self.format.name}; torch.from_numpy(operand.values()) has the numbers"
            )
        codes = self._unscaled()
        if not codes.flags.writeable:
            codes = codes.copy(order="K")
        signed = codes.view(f"i{codes.dtype.itemsize}") if codes.dtype.itemsize > 1 else codes
        return torch.from_numpy(signed).view(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        """The codes, as unsigned integers, for another library: `torch.from_dlpack(operand)`."""
        return self.codes.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The device of the codes: the CPU."""
        return self.codes.__dlpack_device__()

    def _unscaled(self) -> Codes:
        """The codes; `InputError` if they have a scale, which no dtype holds."""
        if self.exponent:
            raise InputError(
                f"the scale 2^{self.exponent} is in no dtype; values() has the numbers"
            )
        return self.codes

    # -- shape ---------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the codes."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.codes.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.codes.size

    @property
    def T(self) -> Operand:
        """The transpose, as that of an array."""
        return self._view(self.codes.T)

    def transpose(self, *axes: int) -> Operand:
        """The axes in another order, reversed by default: a view."""
        return self._view(self.codes.transpose(*axes))

    def reshape(self, *shape: int) -> Operand:
        """The codes in another shape. They are copied only where no strides give that shape."""
        return self._view(self.codes.reshape(*shape))

    def __getitem__(self, index: Any) -> Operand:
        """Some of the elements, indexed as an array. The scan, a bound, stays that of all."""
        return self._view(self.codes[index])

    def _view(self, codes: Codes) -> Operand:
        view = object.__new__(Operand)
        view._set(
            codes, self.format, self.exponent, self.saturated, self.underflowed, self._scans
        )  # fmt: skip
        return view

    # -- elements ------------------------------------------------------------------------------------

    @property
    def scan(self) -> kernels.Scan:
        """Bounds on the elements' decoded codes, the scale left out; see `kernels.Scan`."""
        if not self._scans:
            self._scans.append(kernels.scan(self.codes, self.format))
        return self._scans[0]

    def values(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """The elements' values, decode(code) · 2^exponent, in an array of the codes' shape.

        Args:
            dtype: float32 or float64. A value that the dtype cannot hold is rounded to it.
        """
        with np.errstate(over="ignore", under="ignore"):
            if not self.exponent:
                return self.format.decode(self.codes, dtype=dtype)
            values: NDArray[Any] = np.ldexp(self.format.decode(self.codes), self.exponent)
            return values.astype(dtype)

    def __repr__(self) -> str:
        scale = f" · 2^{self.exponent}" if self.exponent else ""
        return f"Operand({self.format.name}{scale}, shape={self.shape})"


def as_operand(
    x: ArrayLike | Operand, fmt: str | FloatFormat | None, default: str | FloatFormat, name: str
) -> Operand:
    """An argument that is an operand, or an array of codes.

    Args:
        fmt: the format that the caller names; an operand's own, or that of the array's dtype, must be the same.
        default: the format of codes if neither the caller nor the dtype names one.
        name: of the argument, for errors.

    Raises:
        InputError: an array that holds no codes of the format, an operand of another format.
    """
    if not isinstance(x, Operand):
        array = checked_array(x, name)
        record = get_format(default if fmt is None else fmt)
        if fmt is None and (dtype := coded_name(array.dtype)):
            record = get_format(FORMAT_OF_DTYPE[dtype])
        operand = object.__new__(Operand)
        operand._set(check_codes(array, record, name), record, 0, 0, 0, [])
        return operand
    if fmt is not None and get_format(fmt) != x.format:
        raise InputError(
            f"{name} is an operand of {x.format.name} codes, but {name}_format is {get_format(fmt).name}"
        )
    return x


def check_codes(x: ArrayLike, fmt: FloatFormat, name: str) -> Codes:
    """An array of codes of a format, integers 0 ≤ code < 2^bits, in the format's dtype."""
    codes = checked_array(x, name)
    if dtype := coded_name(codes.dtype):
        if FORMAT_OF_DTYPE[dtype] != fmt.name:
            raise InputError(
                f"{name} holds {FORMAT_OF_DTYPE[dtype]} codes ({dtype}), not {fmt.name}"
            )
        codes = code_bits(codes)
    if codes.dtype.kind not in "ui":
        raise InputError(
            f"{name} must hold {fmt.name} codes (unsigned integers), not {codes.dtype}; "
            f"encode numbers first: hs.Operand.encode(x, {fmt.name!r})"
        )
    if codes.dtype == fmt.dtype and fmt.bits == 8 * fmt.dtype.itemsize:
        return codes
    if codes.size and (int(codes.min()) < 0 or int(codes.max()) >> fmt.bits):
        raise InputError(f"{name} holds codes outside 0..{(1 << fmt.bits) - 1} of {fmt.name}")
    return codes.astype(fmt.dtype, copy=False)
