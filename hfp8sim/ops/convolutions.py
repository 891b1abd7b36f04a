"""Convolutions and their gradients in the machine's arithmetic.

Each is one matrix product for each group, as `network.phase_gemm` defines it, of images that are unfolded a
block at a time. Bits, events and random words are those of `gemm` on the unfolded matrices, where group g draws
from stream + g.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from hfp8sim import kernels
from hfp8sim.errors import InputError, unknown
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.kernels.convolution import Unfolded, convolve, correlate
from hfp8sim.kernels.form import Overflow
from hfp8sim.kernels.gemm import Outcome
from hfp8sim.network import Conv
from hfp8sim.ops.events import Events, count_nan, no_counts
from hfp8sim.ops.operand import Codes, Operand, as_operand
from hfp8sim.ops.plain import plain_gemm
from hfp8sim.ops.results import (
    Results,
    Status,
    allocate_result,
    check_status,
    count_nan_results,
    has_special,
    result_writer,
    share_memory,
)
from hfp8sim.ops.threads import thread_count
from hfp8sim.units.accumulator import DRAWS, gemm_facts
from hfp8sim.units.profile import Profile, get_profile

#: Orders of the axes of images; of weights: (O, R, S, C/g) and (O, C/g, R, S).
LAYOUTS = ("NHWC", "NCHW")

Pair = int | tuple[int, int]
#: One number for all sides, (vertical, horizontal), or (top, bottom, left, right).
Padding = int | tuple[int, int] | tuple[int, int, int, int]
Result = Results | tuple[Results, Events]


@standard_arithmetic
def conv_fwd(
    x: ArrayLike | Operand,
    w: ArrayLike | Operand,
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
    out_dtype: DTypeLike | None = None,
    out: Results | None = None,
    status: Status | None = None,
) -> Result:
    """Convolve images with weights as the machine would.

    Output (n, p, q) of filter f is the chunked sum over k = (r, s, c), c fastest, of pixel
    (p·stride + r·dilation − padding, …) times weight; padding is +0. Nothing is unfolded as a whole.

    Args:
        x: codes of images in `a_format`, (N, H, W, C), or (N, C, H, W) in layout NCHW; any strides. Of a
            one-dimensional convolution (N, W, C) or (N, C, W). Or an `Operand` of that shape.
        w: codes of weights in `b_format`, (O, R, S, C/groups), or PyTorch's (O, C/groups, R, S) in layout NCHW.
            Or an `Operand` of that shape.
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
        out_dtype: float32 or float64 for values instead of codes, as `gemm`.
        out: an array of the result's shape and dtype to fill in and return, of any strides. If it overlaps an
            operand, it is filled in when all results are computed.
        status: flags that this product raises: `nonfinite` if a result is infinite or NaN.

    Returns:
        Codes of the profile's `result_format`, or values, (N, P, Q, O) or (N, O, P, Q); with `events` a pair. In layout
        NCHW the memory is that of NHWC (PyTorch's channels last), unless `out` is given.

    Raises:
        InputError: tensors that are not codes of their format or do not fit each other, an unknown name,
            threads < 1; operands with a scale whose result shall be codes; `out_dtype` or `out` that is not as
            above.
    """
    work = _Work("fwd", profile, seed, stream, threads, events, out_dtype, status)
    x, w = work.operands((x, "x", a_format), (w, "w", b_format))
    one = x.ndim == 3
    images, weights = _images(x, "x", layout), _weights(w, layout, one)
    conv = _conv(images.shape, weights.shape, *_settings(stride, padding, dilation, one), groups)
    count, r, s, depth = weights.shape
    filters = np.ascontiguousarray(weights).reshape(groups, count // groups, r * s * depth)
    target = work.target(out, (images.shape[0], *conv.output, count), layout, one)
    return work.convolve(images, conv, filters, target)


@standard_arithmetic
def conv_dgrad(
    error: ArrayLike | Operand,
    w: ArrayLike | Operand,
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
    out_dtype: DTypeLike | None = None,
    out: Results | None = None,
    status: Status | None = None,
) -> Result:
    """The gradient of a convolution's input: errors convolved with the weights, rotated by 180°.

    Pixel (n, y, x) of channel c is the chunked sum over k = (r, s, f), f fastest, of errors times weights;
    between errors lie stride − 1 zeros, and around them what padding `Conv.input_gradient` gives.

    Args:
        error: codes of the errors of `conv_fwd`'s result, in `a_format`.
        w: as `conv_fwd`.
        input_size: height and width of the images, (H, W); (W,) of a one-dimensional convolution.
        a_format, b_format: names or records; the profile's formats of errors and weights by default.
        profile, stride, padding, dilation, groups, layout: as `conv_fwd`.
        seed, stream, threads, events, out_dtype, out, status: as `conv_fwd`.

    Returns:
        Codes of the profile's `result_format`, or values, (N, H, W, C) or (N, C, H, W); with `events` a pair.

    Raises:
        InputError: as `conv_fwd`; errors that are not of the size that this convolution gives.
    """
    work = _Work("dgrad", profile, seed, stream, threads, events, out_dtype, status)
    error, w = work.operands((error, "error", a_format), (w, "w", b_format))
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
    target = work.target(out, (images.shape[0], *size, depth * groups), layout, one)
    return work.convolve(images, conv.input_gradient(), filters, target)


@standard_arithmetic
def conv_wgrad(
    x: ArrayLike | Operand,
    error: ArrayLike | Operand,
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
    out_dtype: DTypeLike | None = None,
    out: Results | None = None,
    status: Status | None = None,
) -> Result:
    """The gradient of a convolution's weights: images, unfolded and transposed, times errors.

    Weight (r, s, c) of filter f is the chunked sum over k = (n, p, q), q fastest, of pixels times errors.

    Args:
        x: as `conv_fwd`.
        error: codes of the errors of `conv_fwd`'s result, in `b_format`.
        kernel_size: height and width of the weights, (R, S) or one number for both.
        a_format, b_format: names or records; the profile's formats of activations and errors by default.
        profile, stride, padding, dilation, groups, layout: as `conv_fwd`.
        seed, stream, threads, events, out_dtype, out, status: as `conv_fwd`.

    Returns:
        Codes of the profile's `result_format`, or values, in the shape of the weights; with `events` a pair. Unless `out`
        is given, the memory is in the order (R, S, C/groups, O).

    Raises:
        InputError: as `conv_dgrad`.
    """
    work = _Work("wgrad", profile, seed, stream, threads, events, out_dtype, status)
    x, error = work.operands((x, "x", a_format), (error, "error", b_format))
    one = x.ndim == 3
    images, errors = _images(x, "x", layout), _images(error, "error", layout)
    r, s = _sizes("kernel_size", kernel_size, one)
    count, channels = errors.shape[3], images.shape[3]
    conv = _conv(
        images.shape, (count, r, s, channels // max(groups, 1)),
        *_settings(stride, padding, dilation, one), groups,
    )  # fmt: skip
    _require_errors(errors, conv)
    target = work.target(out, (count, r, s, channels // groups), layout, one, weights=True)
    return work.correlate(images, conv, errors, target)


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

    results: Results  #: contiguous: (N, H, W, C), or (R, S, C/groups, O) of weights
    shown: Results  #: the same memory in the order of the caller's axes
    out: Results | None  #: the caller's array, if that is other memory

    @property
    def matrix(self) -> Results:
        """The results as a matrix: the last axis is that of columns."""
        return self.results.reshape(-1, self.results.shape[-1])


# -- work --------------------------------------------------------------------------------------------


class _Work:
    """One convolution's arithmetic, and what is asked for."""

    a: Operand
    b: Operand

    def __init__(
        self, phase: str, profile: str | Profile, seed: int, stream: int, threads: int | None,
        events: bool, out_dtype: DTypeLike | None, status: Status | None,
    ) -> None:  # fmt: skip
        self.phase, self.profile = phase, get_profile(profile)
        if self.profile.multiplier != "exact":
            raise InputError(
                f"profile {self.profile.name} multiplies by bit streams: convolutions take exact products"
            )
        check_status(status)
        self.seed, self.stream = seed, stream
        self.threads, self.events = thread_count(threads), events
        self.out_dtype, self.status = out_dtype, status

    def operands(self, *sides: tuple[Any, str, str | FloatFormat | None]) -> tuple[Codes, Codes]:
        """Look up and check both operands: their codes.

        Args:
            sides: of A and of B: codes or an operand, the argument's name, and the format that is given.
        """
        usual = self.profile.operand_formats(self.phase)
        found = []
        for side, fmt, (x, name, given) in zip("ab", usual, sides):
            if isinstance(x, Operand) and given is not None and get_format(given) != x.format:
                raise InputError(
                    f"{name} is an operand of {x.format.name} codes, but {side}_format is "
                    f"{get_format(given).name}"
                )
            found.append(as_operand(x, given, fmt, name))
        self.a, self.b = found
        return self.a.codes, self.b.codes

    @property
    def exponent(self) -> int:
        """Of the results' scale."""
        return self.a.exponent + self.b.exponent

    @property
    def formats(self) -> tuple[FloatFormat, FloatFormat, FloatFormat]:
        """Of the operands and of the result."""
        return self.a.format, self.b.format, self.profile.result_format

    def target(
        self, out: Results | None, shape: tuple[int, ...], layout: str, one: bool, weights: bool = False
    ) -> _Target:  # fmt: skip
        """Memory for a result of a shape (N, H, W, C), or (O, R, S, C/groups) of weights.

        Raises:
            InputError: as `allocate_result`.
        """

        def show(results: Results) -> Results:
            ordered = results.transpose(3, 0, 1, 2) if weights else results
            shown = ordered if layout == "NHWC" else ordered.transpose(0, 3, 1, 2)
            return shown if not one else shown[:, 0] if layout == "NHWC" else shown[:, :, 0]

        stored = (*shape[1:], shape[0]) if weights else shape
        how = self.profile.result_format, self.exponent, self.out_dtype
        if out is None:
            results = allocate_result(stored, *how, None)
            return _Target(results, show(results), None)
        plain = np.empty(stored, np.uint8)
        allocate_result(show(plain).shape, *how, out)
        axes = _images(out, "out", layout)
        back = axes.transpose(1, 2, 3, 0) if weights else axes
        if back.flags.c_contiguous and not share_memory(out, self.a, self.b):
            return _Target(back, out, None)
        results = np.empty(stored, out.dtype)
        return _Target(results, show(results), out)

    def convolve(self, images: Codes, conv: Conv, filters: Codes, target: _Target) -> Result:
        """Images (N, H, W, C) times filters (G, F, K)."""
        depth = filters.shape[2]
        plan = self._plan(depth)
        if plan.kernel is None:
            groups = [filters[g].T for g in range(conv.groups)]
            return self._plain(images, conv, groups, target, transposed=False)
        outcome = convolve(
            plan, images, conv, filters, self.formats, self._keys(conv.groups), target.matrix,
            self.threads, self._writer(plan, target),
        )  # fmt: skip
        return self._result(plan, outcome, target, depth)

    def correlate(self, images: Codes, conv: Conv, errors: Codes, target: _Target) -> Result:
        """Unfolded images (N, H, W, C), transposed, times errors (N, P, Q, F)."""
        depth = conv.batch * conv.output[0] * conv.output[1]
        plan = self._plan(depth)
        if plan.kernel is None:
            count = conv.filters // conv.groups
            groups = [
                errors[..., g * count : (g + 1) * count].reshape(depth, count)
                for g in range(conv.groups)
            ]
            return self._plain(images, conv, groups, target, transposed=True)
        outcome = correlate(
            plan, images, conv, errors, self.formats, self._keys(conv.groups), target.matrix,
            self.threads, self._writer(plan, target),
        )  # fmt: skip
        return self._result(plan, outcome, target, depth)

    def _plan(self, depth: int) -> kernels.Plan:
        a, b = self.a, self.b
        return kernels.shared_plan(
            self.profile, a.format, b.format, a.scan, b.scan, depth, self.events
        )

    def _writer(self, plan: kernels.Plan, target: _Target) -> kernels.Writer:
        return result_writer(plan, self.profile.result_format, self.exponent, target.results)

    def _facts(self, group: int) -> Any:
        stream = (self.stream + group) % (1 << 64) if group else self.stream
        return gemm_facts(self.profile, self.a.format, self.b.format, self.seed, stream)

    def _keys(self, groups: int) -> list[Any]:
        """The keys of each group's random words."""
        if not self.profile.stochastic:
            return [self._facts(0).keys] * groups
        return [self._facts(g).keys for g in range(groups)]

    def _plain(
        self, images: Codes, conv: Conv, groups: list[Codes], target: _Target, transposed: bool
    ) -> Result:
        """All groups by the plain loop; `groups`: operand B of each."""
        fmt, matrix = self.profile.result_format, target.matrix
        codes = matrix if matrix.dtype.kind == "u" else np.empty(matrix.shape, fmt.dtype)
        counts, channels = no_counts(), conv.channels // conv.groups
        columns = matrix.shape[1] // conv.groups
        for g, b in enumerate(groups):
            part = images[..., g * channels : (g + 1) * channels]
            a: Any = Unfolded(part, conv, transposed)
            of_group = codes[:, g * columns : (g + 1) * columns]
            counts += plain_gemm(a, b, self._facts(g), of_group, self.threads)
        if codes is not matrix:
            matrix[...] = Operand(codes, fmt, self.exponent).values(matrix.dtype)
        if self.status is not None:
            self.status.nonfinite |= has_special(codes, fmt)
        nan = count_nan(codes, fmt) if self.events else 0
        return self._given(target, Events.of(counts, nan))

    def _result(self, plan: kernels.Plan, outcome: Outcome, target: _Target, depth: int) -> Result:
        """What the caller gets of a kernel's results."""
        fmt, matrix = self.profile.result_format, target.matrix
        assert plan.kernel is not None
        # Where overflow is proved impossible every result is a number.
        numbers = plan.kernel.form.overflow is Overflow.IMPOSSIBLE
        if self.status is not None:
            special = outcome.nonfinite or (not numbers and has_special(matrix, fmt))
            self.status.nonfinite |= special
        if not self.events:
            return self._given(target, Events())
        counts = no_counts()
        counts[: kernels.EVENTS] = outcome.counts
        counts[DRAWS] = matrix.size * self.profile.draws(depth)
        return self._given(
            target, Events.of(counts, 0 if numbers else count_nan_results(matrix, fmt))
        )

    def _given(self, target: _Target, events: Events) -> Result:
        """The result in the caller's array, and events if they are asked for."""
        results = target.shown
        if target.out is not None:
            target.out[...] = results
            results = target.out
        return (results, events) if self.events else results
