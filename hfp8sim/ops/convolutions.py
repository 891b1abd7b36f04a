"""Convolutions and their gradients in the machine's arithmetic, codes in and codes out.

Each is one matrix product for each group, as `network.phase_gemm` defines it, of images that are unfolded a
block at a time. Bits, events and random words are those of `gemm` on the unfolded matrices, where group g draws
from stream + g.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hfp8sim import kernels
from hfp8sim.errors import InputError, unknown
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels.convolution import Unfolded, convolve, correlate
from hfp8sim.kernels.form import Overflow
from hfp8sim.network import Conv
from hfp8sim.ops.events import Events, count_nan, no_counts
from hfp8sim.ops.operand import Codes, check_codes
from hfp8sim.ops.plain import plain_gemm
from hfp8sim.ops.threads import thread_count
from hfp8sim.units.accumulator import DRAWS, gemm_facts
from hfp8sim.units.profile import Profile, get_profile

#: Orders of the axes of images; of weights: (O, R, S, C/g) and (O, C/g, R, S).
LAYOUTS = ("NHWC", "NCHW")

Pair = int | tuple[int, int]
#: One number for all sides, (vertical, horizontal), or (top, bottom, left, right).
Padding = int | tuple[int, int] | tuple[int, int, int, int]
Result = Codes | tuple[Codes, Events]


@standard_arithmetic
def conv_fwd(
    x: ArrayLike,
    w: ArrayLike,
    profile: str | Profile = "hfp8",
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    a_format: str | FloatFormat | None = None,
    b_format: str | FloatFormat | None = None,
    seed: int = 0,
    stream: int = 0,
    threads: int | None = None,
    events: bool = False,
    out: Codes | None = None,
) -> Result:
    """Convolve images with weights as the machine would.

    Output (n, p, q) of filter f is the chunked sum over k = (r, s, c), c fastest, of pixel
    (p·stride + r·dilation − padding, …) times weight; padding is +0. Nothing is unfolded as a whole.

    Args:
        x: codes of images in `a_format`, (N, H, W, C), or (N, C, H, W) in layout NCHW; any strides. Of a
            one-dimensional convolution (N, W, C) or (N, C, W).
        w: codes of weights in `b_format`, (O, R, S, C/groups), or PyTorch's (O, C/groups, R, S) in layout NCHW.
        profile: a name or a record.
        stride, dilation: in pixels; one number, or (vertical, horizontal).
        padding: pixels of zeros; one number, (vertical, horizontal), or (top, bottom, left, right). Negative
            ones crop.
        groups: of channels; C and O are multiples of it.
        layout: NHWC or NCHW: the order of the axes of all tensors.
        a_format, b_format: names or records; the profile's formats of activations and weights by default.
        seed, stream: of the random bits, 0 ≤ n < 2^64. Group g draws from stream + g.
        threads: worker threads; all cores by default. No result depends on it.
        events: also return the `Events`.
        out: an array of the result's shape and dtype to fill in and return.

    Returns:
        Codes of the profile's `result_format`, (N, P, Q, O) or (N, O, P, Q); with `events` a pair. In layout
        NCHW the memory is that of NHWC (PyTorch's channels last), unless `out` is given.

    Raises:
        InputError: tensors that are not codes of their format or do not fit each other, an unknown name,
            threads < 1.
    """
    work = _Work("fwd", profile, a_format, b_format, seed, stream, threads, events)
    x, w = work.codes(x, 0, "x"), work.codes(w, 1, "w")
    one = x.ndim == 3
    images, weights = _images(x, "x", layout), _weights(w, layout, one)
    conv = _conv(images.shape, weights.shape, *_settings(stride, padding, dilation, one), groups)
    count, r, s, depth = weights.shape
    filters = np.ascontiguousarray(weights).reshape(groups, count // groups, r * s * depth)
    target = _target(out, (images.shape[0], *conv.output, count), work, layout, one)
    counts = work.convolve(images, conv, filters, target)
    return work.result(target, counts)


@standard_arithmetic
def conv_dgrad(
    error: ArrayLike,
    w: ArrayLike,
    input_size: tuple[int, ...],
    profile: str | Profile = "hfp8",
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    a_format: str | FloatFormat | None = None,
    b_format: str | FloatFormat | None = None,
    seed: int = 0,
    stream: int = 0,
    threads: int | None = None,
    events: bool = False,
    out: Codes | None = None,
) -> Result:
    """The gradient of a convolution's input: errors convolved with the weights, rotated by 180°.

    Pixel (n, y, x) of channel c is the chunked sum over k = (r, s, f), f fastest, of errors times weights;
    between errors lie stride − 1 zeros, and around them what padding `Conv.input_gradient` gives.

    Args:
        error: codes of the errors of `conv_fwd`'s result, in `a_format`.
        w: as `conv_fwd`.
        input_size: height and width of the images, (H, W); (W,) of a one-dimensional convolution.
        a_format, b_format: names or records; the profile's formats of errors and weights by default.
        profile, stride, padding, dilation, groups, layout, seed, stream, threads, events, out: as `conv_fwd`.

    Returns:
        Codes of the profile's `result_format`, (N, H, W, C) or (N, C, H, W); with `events` a pair.

    Raises:
        InputError: as `conv_fwd`; errors that are not of the size that this convolution gives.
    """
    work = _Work("dgrad", profile, a_format, b_format, seed, stream, threads, events)
    error, w = work.codes(error, 0, "error"), work.codes(w, 1, "w")
    one = error.ndim == 3
    images, weights = _images(error, "error", layout), _weights(w, layout, one)
    count, r, s, depth = weights.shape
    size = _sizes("input_size", input_size, one)
    conv = _conv(
        (images.shape[0], *size, depth * groups), weights.shape,
        *_settings(stride, padding, dilation, one), groups,
    )  # fmt: skip
    _require_errors(images, conv)
    turned = weights[:, ::-1, ::-1].reshape(groups, count // groups, r, s, depth)
    filters = np.ascontiguousarray(turned.transpose(0, 4, 2, 3, 1)).reshape(groups, depth, -1)
    target = _target(out, (images.shape[0], *size, depth * groups), work, layout, one)
    counts = work.convolve(images, conv.input_gradient(), filters, target)
    return work.result(target, counts)


@standard_arithmetic
def conv_wgrad(
    x: ArrayLike,
    error: ArrayLike,
    kernel_size: tuple[int, ...] | int,
    profile: str | Profile = "hfp8",
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    a_format: str | FloatFormat | None = None,
    b_format: str | FloatFormat | None = None,
    seed: int = 0,
    stream: int = 0,
    threads: int | None = None,
    events: bool = False,
    out: Codes | None = None,
) -> Result:
    """The gradient of a convolution's weights: images, unfolded and transposed, times errors.

    Weight (r, s, c) of filter f is the chunked sum over k = (n, p, q), q fastest, of pixels times errors.

    Args:
        x: as `conv_fwd`.
        error: codes of the errors of `conv_fwd`'s result, in `b_format`.
        kernel_size: height and width of the weights, (R, S) or one number for both.
        a_format, b_format: names or records; the profile's formats of activations and errors by default.
        profile, stride, padding, dilation, groups, layout, seed, stream, threads, events, out: as `conv_fwd`.

    Returns:
        Codes of the profile's `result_format` in the shape of the weights; with `events` a pair. Unless `out`
        is given, the memory is in the order (R, S, C/groups, O).

    Raises:
        InputError: as `conv_dgrad`.
    """
    work = _Work("wgrad", profile, a_format, b_format, seed, stream, threads, events)
    x, error = work.codes(x, 0, "x"), work.codes(error, 1, "error")
    one = x.ndim == 3
    images, errors = _images(x, "x", layout), _images(error, "error", layout)
    r, s = _sizes("kernel_size", kernel_size, one)
    count, channels = errors.shape[3], images.shape[3]
    conv = _conv(
        images.shape, (count, r, s, channels // max(groups, 1)),
        *_settings(stride, padding, dilation, one), groups,
    )  # fmt: skip
    _require_errors(errors, conv)
    target = _target(out, (count, r, s, channels // groups), work, layout, one, weights=True)
    counts = work.correlate(images, conv, errors, target)
    return work.result(target, counts)


# -- arguments ---------------------------------------------------------------------------------------


def _images(codes: Codes, name: str, layout: str) -> Codes:
    """Images as (N, H, W, C), a view."""
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if codes.ndim == 3:  # one-dimensional: of height 1
        codes = codes[:, None] if layout == "NHWC" else codes[:, :, None]
    if codes.ndim != 4:
        raise InputError(
            f"{name} has shape {codes.shape}; it must have four axes, {layout}, or three"
        )
    return codes if layout == "NHWC" else codes.transpose(0, 2, 3, 1)


def _weights(codes: Codes, layout: str, one: bool) -> Codes:
    """Weights as (O, R, S, C/groups), a view."""
    axes = 3 if one else 4
    if codes.ndim != axes:
        raise InputError(f"w has shape {codes.shape}; beside such images it must have {axes} axes")
    return _images(codes, "w", layout)


def _sizes(name: str, value: Any, one: bool) -> tuple[int, int]:
    """Height and width; of a one-dimensional convolution height 1."""
    if isinstance(value, tuple | list):
        if len(value) == (1 if one else 2):
            return (1, *value) if one else tuple(value)  # type: ignore[return-value]
    elif not isinstance(value, str) and np.ndim(value) == 0:
        return (1, value) if one else (value, value)
    raise InputError(f"{name} is {value!r}; it must be {'one number' if one else 'two numbers'}")


class _Settings(NamedTuple):
    """Of a convolution's geometry."""

    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]


def _settings(stride: Any, padding: Any, dilation: Any, one: bool) -> _Settings:
    """Stride, padding and dilation of both axes."""
    if one:
        padding = (
            (0, 0, *(2 * padding if len(padding) == 1 else padding))
            if isinstance(padding, tuple | list)
            else (0, 0, padding, padding)
        )
    elif not isinstance(padding, tuple | list) or len(padding) != 4:
        vertical, horizontal = _sizes("padding", padding, one)
        padding = (vertical, vertical, horizontal, horizontal)
    return _Settings(
        _sizes("stride", stride, one), tuple(padding), _sizes("dilation", dilation, one)
    )


def _conv(
    images: tuple[int, ...], weights: tuple[int, ...], stride: tuple[int, int],
    padding: tuple[int, int, int, int], dilation: tuple[int, int], groups: int,
) -> Conv:  # fmt: skip
    """The geometry of a forward convolution; images (N, H, W, C), weights (O, R, S, C/groups)."""
    batch, height, width, channels = images
    conv = Conv(
        batch, height, width, channels, weights[0], weights[1:3], stride, padding, dilation, groups  # type: ignore[arg-type]
    )  # fmt: skip
    if weights[3] * groups != channels:
        raise InputError(
            f"x has {channels} channels and there are {groups} groups, so w must have "
            f"{channels // groups} channels, not {weights[3]}"
        )
    return conv


def _require_errors(errors: Codes, conv: Conv) -> None:
    """Errors have the size of the convolution's result."""
    expected = conv.batch, *conv.output, conv.filters
    if errors.shape != expected:
        n, p, q, f = errors.shape
        raise InputError(
            f"error has {n} images of {p}×{q} pixels and {f} channels; this convolution gives "
            f"{expected[0]} of {expected[1]}×{expected[2]} and {expected[3]}"
        )


class _Target(NamedTuple):
    """Where results go."""

    codes: Codes  #: contiguous: (N, H, W, C), or (R, S, C/groups, O) of weights
    shown: Codes  #: the same memory in the order of the caller's axes
    out: Codes | None  #: the caller's array


def _target(
    out: Codes | None, shape: tuple[int, ...], work: _Work, layout: str, one: bool,
    weights: bool = False,
) -> _Target:  # fmt: skip
    """Memory for a result of a shape (N, H, W, C), or (O, R, S, C/groups) of weights.

    Raises:
        InputError: `out` is not of the result's shape and dtype.
    """
    dtype = work.profile.result_format.dtype
    if weights:
        codes = np.empty((*shape[1:], shape[0]), dtype)
        ordered = codes.transpose(3, 0, 1, 2)
    else:
        codes = ordered = np.empty(shape, dtype)
    shown = ordered if layout == "NHWC" else ordered.transpose(0, 3, 1, 2)
    if one:
        shown = shown[:, 0] if layout == "NHWC" else shown[:, :, 0]
    if out is None:
        return _Target(codes, shown, None)
    if not isinstance(out, np.ndarray) or (out.shape, out.dtype) != (shown.shape, dtype):
        raise InputError(f"out must be an array of {dtype} of shape {shown.shape}")
    if not weights and out.flags.c_contiguous and shown.flags.c_contiguous:
        return _Target(out.reshape(shape), out, None)
    return _Target(codes, shown, out)


# -- work --------------------------------------------------------------------------------------------


class _Work:
    """One convolution's arithmetic, and what is asked for."""

    def __init__(
        self, phase: str, profile: str | Profile, a_format: str | FloatFormat | None,
        b_format: str | FloatFormat | None, seed: int, stream: int, threads: int | None, events: bool,
    ) -> None:  # fmt: skip
        self.profile = get_profile(profile)
        usual = self.profile.operand_formats(phase)
        self.formats = tuple(
            known if given is None else get_format(given)
            for given, known in zip((a_format, b_format), usual)
        )
        self.seed, self.stream = seed, stream
        self.threads, self.events = thread_count(threads), events

    def codes(self, x: ArrayLike, side: int, name: str) -> Codes:
        """An operand's codes, checked."""
        return check_codes(np.asarray(x), self.formats[side], name)

    def convolve(self, images: Codes, conv: Conv, filters: Codes, target: _Target) -> _Counted:
        """Images (N, H, W, C) times filters (G, F, K)."""
        matrix = target.codes.reshape(-1, target.codes.shape[-1])
        plan = self._plan(images, filters, filters.shape[2])
        if plan.kernel is None:
            groups = [filters[g].T for g in range(conv.groups)]
            return self._plain(images, conv, groups, matrix, transposed=False)
        counts = convolve(
            plan, images, conv, filters, (*self.formats, self.profile.result_format),  # type: ignore[arg-type]
            self._keys(conv.groups), matrix, self.threads,
        )  # fmt: skip
        return self._counted(plan, counts, matrix, filters.shape[2])

    def correlate(self, images: Codes, conv: Conv, errors: Codes, target: _Target) -> _Counted:
        """Unfolded images (N, H, W, C), transposed, times errors (N, P, Q, F)."""
        matrix = target.codes.reshape(-1, target.codes.shape[-1])
        depth = conv.batch * conv.output[0] * conv.output[1]
        plan = self._plan(images, errors, depth)
        if plan.kernel is None:
            count = conv.filters // conv.groups
            groups = [
                errors[..., g * count : (g + 1) * count].reshape(depth, count)
                for g in range(conv.groups)
            ]
            return self._plain(images, conv, groups, matrix, transposed=True)
        counts = correlate(
            plan, images, conv, errors, (*self.formats, self.profile.result_format),  # type: ignore[arg-type]
            self._keys(conv.groups), matrix, self.threads,
        )  # fmt: skip
        return self._counted(plan, counts, matrix, depth)

    def _plan(self, a: Codes, b: Codes, depth: int) -> kernels.Plan:
        scans = kernels.scan(a, self.formats[0]), kernels.scan(b, self.formats[1])
        return kernels.shared_plan(self.profile, *self.formats, *scans, depth, self.events)  # type: ignore[arg-type]

    def _facts(self, group: int) -> Any:
        stream = self.stream + group
        return gemm_facts(self.profile, *self.formats, self.seed, stream)  # type: ignore[arg-type]

    def _keys(self, groups: int) -> list[Any]:
        """The keys of each group's random words."""
        if not self.profile.stochastic:
            return [self._facts(0).keys] * groups
        return [self._facts(g).keys for g in range(groups)]

    def _plain(
        self, images: Codes, conv: Conv, groups: list[Codes], matrix: Codes, transposed: bool
    ) -> _Counted:
        """All groups by the plain loop; `groups`: operand B of each."""
        counts, channels = no_counts(), conv.channels // conv.groups
        columns = matrix.shape[1] // conv.groups
        for g, b in enumerate(groups):
            part = images[..., g * channels : (g + 1) * channels]
            a: Any = Unfolded(part, conv, transposed)
            of_group = matrix[:, g * columns : (g + 1) * columns]
            counts += plain_gemm(a, b, self._facts(g), of_group, self.threads)
        return _Counted(counts, count_nan(matrix, self.profile.result_format))

    def _counted(self, plan: kernels.Plan, counted: Any, matrix: Codes, depth: int) -> _Counted:
        """A kernel's counts; NaN is looked for where sums may overflow."""
        counts, nan = no_counts(), 0
        counts[: kernels.EVENTS], counts[DRAWS] = counted, matrix.size * self.profile.draws(depth)
        assert plan.kernel is not None
        if self.events and plan.kernel.form.overflow is not Overflow.IMPOSSIBLE:
            nan = count_nan(matrix, self.profile.result_format)
        return _Counted(counts, nan)

    def result(self, target: _Target, counted: _Counted) -> Result:
        """What the caller gets."""
        codes = target.shown
        if target.out is not None:
            target.out[...] = codes
            codes = target.out
        return (codes, Events.of(*counted)) if self.events else codes


class _Counted(NamedTuple):
    """Counts of events, and results that are NaN."""

    counts: Any
    nan: int
