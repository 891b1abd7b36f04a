"""The records of a network: layers, each of them one or several GEMMs in up to three phases.

Of a layer with activations X (M×K), weights W (K×N) and errors dY (M×N), training computes

    fwd      Y  = X · W        M×N, reduction over K
    dgrad    dX = dY · Wᵀ      M×K, reduction over N
    wgrad    dW = Xᵀ · dY      K×N, reduction over M

A convolution is the same GEMM with X unfolded: row m is an output position (n, p, q), reduction index
k runs over (r, s, c) with c fastest. Its input gradient is again a convolution, of the errors with the
filters rotated by 180° (`Conv.input_gradient`), as an accelerator without a scatter unit computes it.
Its reduction therefore runs over (r, s, f), not over f alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from hfp8sim.arrays import checked_array, coded_name, widened
from hfp8sim.errors import InputError, unknown

PHASES = ("fwd", "dgrad", "wgrad")
"""The three GEMMs of training: forward, gradient of the input, gradient of the weights."""

KINDS = {
    "gemm": "a matrix product whose B operand is a weight",
    "linear": "a fully connected layer",
    "conv2d": "a convolution (grouped and depthwise included)",
    "matmul": "a product of two activations, such as attention's; it has no parameters",
    "recurrent": "one weight matrix used at every time step; groups counts the steps",
}

TENSORS = ("x", "w", "dy")
"""Activations, weights, errors: the tensors that a layer may carry."""

MAX_SIZE = 2**31 - 1


class GemmShape(NamedTuple):
    """`groups` independent products of an m×k matrix and a k×n matrix, in the order of an array (G, M, N)."""

    groups: int
    m: int
    n: int
    k: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates, including those with zeros of padding and gaps."""
        return self.groups * self.m * self.n * self.k


def _size(owner: str, key: str, value: object, least: int = 1) -> int:
    """`value` as an int in [least, MAX_SIZE]; `InputError` that names the number otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{owner}: {key} is {value!r}; it must be a whole number")
    if not least <= value <= MAX_SIZE:
        raise InputError(f"{owner}: {key} is {value}; it must be from {least} to {MAX_SIZE}")
    return int(value)


def _sizes(key: str, value: object, length: int, least: int) -> tuple[int, ...]:
    """`length` numbers of a convolution, each in [least, MAX_SIZE]; `InputError` otherwise."""
    if not isinstance(value, tuple | list) or len(value) != length:
        raise InputError(f"convolution: {key} is {value!r}; it must be {length} numbers")
    return tuple(_size("convolution", key, number, least) for number in value)


@dataclass(frozen=True)
class Conv:
    """Geometry of a two-dimensional convolution over an NHWC tensor with (R, S, C/groups, F) filters.

    Pairs are (vertical, horizontal). `padding` is (top, bottom, left, right); a negative entry crops.
    `gaps` is the input's own dilation: `gaps - 1` zeros lie between neighbouring input pixels. The input
    gradient of a strided convolution and a transposed convolution need it. Padding and gaps are +0
    operands. One-dimensional convolutions have height 1.
    """

    batch: int
    height: int
    width: int
    channels: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    gaps: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        for key in ("batch", "height", "width", "channels", "filters", "groups"):
            object.__setattr__(self, key, _size("convolution", key, getattr(self, key)))
        for key, length, least in (
            ("kernel", 2, 1),
            ("stride", 2, 1),
            ("padding", 4, -MAX_SIZE),
            ("dilation", 2, 1),
            ("gaps", 2, 1),
        ):
            object.__setattr__(self, key, _sizes(key, getattr(self, key), length, least))
        if self.channels % self.groups or self.filters % self.groups:
            raise InputError(
                f"convolution: {self.groups} groups do not divide {self.channels} channels "
                f"and {self.filters} filters"
            )
        for axis, extent, reach in zip(("high", "wide"), self.padded, self._reach, strict=True):
            if extent < reach:
                raise InputError(
                    f"convolution: the filter reaches over {reach} pixels, but the padded input "
                    f"is only {extent} {axis}"
                )

    @property
    def _reach(self) -> tuple[int, int]:
        """Height and width of the filter with its dilation."""
        return (
            self.dilation[0] * (self.kernel[0] - 1) + 1,
            self.dilation[1] * (self.kernel[1] - 1) + 1,
        )

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the input with its gaps and padding."""
        top, bottom, left, right = self.padding
        return (
            (self.height - 1) * self.gaps[0] + 1 + top + bottom,
            (self.width - 1) * self.gaps[1] + 1 + left + right,
        )

    @property
    def output(self) -> tuple[int, int]:
        """Height P and width Q of the result: floor((padded - reach) / stride) + 1."""
        (h, w), (r, s) = self.padded, self._reach
        return (h - r) // self.stride[0] + 1, (w - s) // self.stride[1] + 1

    @property
    def depthwise(self) -> bool:
        """One input channel per group, and more than one group."""
        return self.groups > 1 and self.groups == self.channels

    @property
    def gemm(self) -> GemmShape:
        """The forward pass as a GEMM: M = batch·P·Q, N = F/groups, K = R·S·C/groups."""
        p, q = self.output
        return GemmShape(
            self.groups,
            self.batch * p * q,
            self.filters // self.groups,
            self.kernel[0] * self.kernel[1] * (self.channels // self.groups),
        )

    def input_gradient(self) -> Conv:
        """The convolution that maps errors (batch, P, Q, F) to input gradients (batch, H, W, C).

        Its filters are this one's, rotated by 180°, with C and F exchanged in every group. The stride
        becomes the gaps between errors, and the gaps become the stride.
        """

        def padding(axis: int, before: int, size: int, out: int) -> tuple[int, int]:
            span = self._reach[axis] - 1
            inner = (out - 1) * self.stride[axis] + 1
            outer = (size - 1) * self.gaps[axis] + 1
            return span - before, outer - inner + before

        p, q = self.output
        return Conv(
            batch=self.batch,
            height=p,
            width=q,
            channels=self.filters,
            filters=self.channels,
            kernel=self.kernel,
            stride=self.gaps,
            padding=(
                *padding(0, self.padding[0], self.height, p),
                *padding(1, self.padding[2], self.width, q),
            ),
            dilation=self.dilation,
            groups=self.groups,
            gaps=self.stride,
        )


class Scaling(NamedTuple):
    """How a tensor is fitted into the range of an operand format: by the bias, or by a power of two."""

    format: str  #: the format's name, without a bias
    bias: int  #: exponent bias of the format
    scale: int = 0  #: s: the tensor is multiplied by 2^s before it is rounded


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """(before, after) such that the output has ceil(size / stride) pixels; the odd one goes after."""
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: its name, its GEMM, and its tensors where they are known.

    `m`, `n`, `k` are the forward GEMM's, per group; `Layer.from_conv` derives those of a convolution.
    `phases` are those that training computes: a network's first layer has no dgrad, since nothing uses
    the gradient of its input. `tensors` holds float32 arrays, any of

        x    activations   conv (batch, H, W, C)          else ([groups,] M, K)
        w    weights       conv (R, S, C/groups, F)       else ([groups,] K, N); recurrent (K, N)
        dy   errors        conv (batch, P, Q, F)          else ([groups,] M, N)

    where `[groups,]` is present when groups > 1. `origin` says in words where they came from.
    `unread` holds, by tensor, why one that the source has could not be read. `calibration` holds, by
    tensor, its `Scaling`; `hfp8sim.calibrate` chooses them. Layers can be pickled and deep-copied.
    """

    name: str
    kind: str
    m: int
    n: int
    k: int
    groups: int = 1
    conv: Conv | None = None
    phases: tuple[str, ...] = PHASES
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    origin: str = "captured"
    unread: Mapping[str, str] = field(default_factory=dict)
    calibration: Mapping[str, Scaling] = field(default_factory=dict)

    @classmethod
    def from_conv(cls, name: str, conv: Conv, **fields: Any) -> Layer:
        """A `conv2d` layer whose GEMM follows from its geometry."""
        groups, m, n, k = conv.gemm
        return cls(name, "conv2d", m, n, k, groups, conv, **fields)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f"layer name {self.name!r} is empty; every layer needs a name")
        if self.kind not in KINDS:
            raise unknown("layer kind", self.kind, list(KINDS))
        self._set_shape(f"layer {self.name!r}")
        phases = tuple(check_phase(phase) for phase in self.phases)
        if not phases:
            raise InputError(
                f"layer {self.name!r}: no phase; give at least one of {', '.join(PHASES)}"
            )
        object.__setattr__(self, "phases", tuple(p for p in PHASES if p in phases))
        tensors = {key: self._tensor(key, value) for key, value in self.tensors.items()}
        object.__setattr__(self, "tensors", MappingProxyType(tensors))
        for key in (*self.unread, *self.calibration):
            if key not in TENSORS:
                raise unknown("tensor", key, list(TENSORS), of=f"layer {self.name!r}")
        object.__setattr__(self, "unread", dict(self.unread))
        scalings = {key: self._scaling(key, value) for key, value in self.calibration.items()}
        object.__setattr__(self, "calibration", scalings)

    def _scaling(self, key: str, value: Scaling) -> Scaling:
        """`value` with a bias and a scale that registers hold."""
        where = f"layer {self.name!r}, calibration of {key}"
        if not isinstance(value, Scaling) or not isinstance(value.format, str):
            raise InputError(f"{where} is {value!r}; it must be a Scaling")
        for name, number, most in (("bias", value.bias, 1023), ("scale", value.scale, 256)):
            if isinstance(number, bool) or not isinstance(number, int) or abs(number) > most:
                raise InputError(f"{where}: {name} is {number!r}; it must be in −{most}..{most}")
        return value

    def _set_shape(self, owner: str) -> None:
        """Check the GEMM's sizes, and that they are those of the convolution if there is one."""
        for key in ("m", "n", "k", "groups"):
            object.__setattr__(self, key, _size(owner, key, getattr(self, key)))
        if (self.kind == "conv2d") != (self.conv is not None):
            raise InputError(
                f"{owner}: kind conv2d goes with a convolution's geometry, and only it"
            )
        if self.conv is not None and self.conv.gemm != (self.groups, self.m, self.n, self.k):
            raise InputError(f"{owner}: m, n, k, groups are not those of its convolution")

    def __getstate__(self) -> dict[str, Any]:
        """The fields as pickle and copy can handle them: a mapping proxy can be neither."""
        return {**self.__dict__, "tensors": dict(self.tensors)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the fields; the tensors are read-only again."""
        for array in state["tensors"].values():
            array.setflags(write=False)
        self.__dict__.update(state, tensors=MappingProxyType(state["tensors"]))

    def _tensor(self, key: str, value: np.ndarray) -> np.ndarray:
        """`value` as read-only finite float32 of the right shape."""
        if key not in TENSORS:
            raise unknown("tensor", key, list(TENSORS), of=f"layer {self.name!r}")
        where = f"layer {self.name!r}, tensor {key}"
        array = checked_array(value, where)
        if coded_name(array.dtype):
            array = widened(array)
        if array.dtype not in (np.float16, np.float32):
            raise InputError(f"{where}: dtype is {array.dtype}; it must be float32 or float16")
        expected = self.tensor_shape(key)
        if array.shape != expected:
            raise InputError(f"{where}: shape is {array.shape}; it must be {expected}")
        finite = np.isfinite(array)
        if not finite.all():
            index = tuple(int(i) for i in np.unravel_index(np.argmin(finite), array.shape))
            raise InputError(
                f"{where}: {array[index]} at index {index}; every value must be finite"
            )
        array = array.astype(np.float32, order="C")  # a copy: the caller may change its own array
        array.setflags(write=False)
        return array

    def tensor_shape(self, key: str) -> tuple[int, ...]:
        """The shape that tensor `key` ("x", "w" or "dy") must have."""
        conv = self.conv
        if conv is not None:
            return {
                "x": (conv.batch, conv.height, conv.width, conv.channels),
                "w": (*conv.kernel, conv.channels // conv.groups, conv.filters),
                "dy": (conv.batch, *conv.output, conv.filters),
            }[key]
        lead = (self.groups,) if self.groups > 1 else ()
        if key == "w" and self.kind == "recurrent":
            lead = ()
        return lead + {"x": (self.m, self.k), "w": (self.k, self.n), "dy": (self.m, self.n)}[key]

    def shape(self, phase: str = "fwd") -> GemmShape:
        """The GEMM of one phase. A recurrent layer's wgrad reduces over all steps at once."""
        g, m, n, k = self.groups, self.m, self.n, self.k
        if phase == "fwd":
            return GemmShape(g, m, n, k)
        if phase == "dgrad":
            return self.conv.input_gradient().gemm if self.conv else GemmShape(g, m, k, n)
        if phase == "wgrad":
            steps = g if self.kind == "recurrent" else 1
            return GemmShape(g // steps, k, n, m * steps)
        raise unknown("phase", phase, PHASES)

    @property
    def operation(self) -> str:
        """What the layer computes: `conv 3×3`, `dw 3×3` (depthwise), `grouped 3×3`, or else its kind."""
        conv = self.conv
        if conv is None:
            return self.kind
        word = "dw" if conv.depthwise else "grouped" if conv.groups > 1 else "conv"
        return f"{word} {conv.kernel[0]}×{conv.kernel[1]}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass."""
        return self.shape("fwd").macs

    @property
    def parameters(self) -> int:
        """Weights, biases not counted; 0 for a product of two activations."""
        copies = {"matmul": 0, "recurrent": 1}.get(self.kind, self.groups)
        return copies * self.n * self.k

    def replace(self, **fields: Any) -> Layer:
        """A copy with the given fields changed."""
        return replace(self, **fields)


@dataclass(frozen=True, eq=False, repr=False)
class Workload:
    """A named sequence of layers, with what its reader has to say.

    Attributes:
        notes: on the workload's origin.
        warnings: what is not as the source has it, such as values that could not be read.
        missing: products of the source that are no layers here, each with the reason.
        calibration: how the layers' `calibration` was chosen; "" without one.
    """

    name: str
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    calibration: str = ""

    def __post_init__(self) -> None:
        kinds = {"layers": Layer, "notes": str, "warnings": str, "missing": str}
        for name, kind in kinds.items():
            object.__setattr__(self, name, self._records(name, kind))
        if not self.layers:
            raise InputError(f"workload {self.name!r} has no layer; it needs at least one")
        seen: set[str] = set()
        for layer in self.layers:
            if layer.name in seen:
                raise InputError(f"workload {self.name!r}: two layers are named {layer.name!r}")
            seen.add(layer.name)

    def _records(self, name: str, kind: type) -> tuple[Any, ...]:
        """A field that holds records of one kind, as a tuple; `InputError` for anything else."""
        value = getattr(self, name)
        if isinstance(value, Iterable) and not isinstance(value, str):
            records = tuple(value)
            if all(isinstance(record, kind) for record in records):
                return records
        wanted = "Layer records" if kind is Layer else "a list of texts"
        raise InputError(
            f"workload {self.name!r}: its {name} are {value!r:.60}; they must be {wanted}"
        )

    def __repr__(self) -> str:
        layers = "1 layer" if len(self) == 1 else f"{len(self)} layers"
        return f"<Workload {self.name}: {layers}, {self.macs() / 1e6:,.1f} MMAC forward>"

    @property
    def alerts(self) -> tuple[str, ...]:
        """What makes the workload differ from its source: products that are missing, values not known."""
        lines = [f"missing: {reason}" for reason in self.missing]
        for key, role in (("w", "weights"), ("x", "activations"), ("dy", "errors")):
            unread = {layer.name: layer.unread[key] for layer in self.layers if key in layer.unread}
            if unread:
                names = _listed([repr(name) for name in unread])
                reasons = _listed(list(dict.fromkeys(unread.values())), "; ")
                lines.append(f"not known: {role} of {names} are drawn instead: {reasons}")
        return tuple(lines)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, key: str | int) -> Layer:
        if isinstance(key, int):
            return self.layers[key]
        for layer in self.layers:
            if layer.name == key:
                return layer
        raise unknown("layer", key, [layer.name for layer in self.layers], of=repr(self.name))

    def macs(self, phases: Iterable[str] = ("fwd",)) -> int:
        """Multiply-accumulates of the given phases, over the layers that have them."""
        selected = check_phases(phases)
        return sum(
            layer.shape(phase).macs
            for layer in self.layers
            for phase in selected
            if phase in layer.phases
        )

    @property
    def parameters(self) -> int:
        """Weights of all layers; biases, normalisation and embeddings are not counted."""
        return sum(layer.parameters for layer in self.layers)


def _listed(texts: list[str], separator: str = ", ", most: int = 6) -> str:
    """The first few texts, and the number of the others."""
    rest = len(texts) - most
    return separator.join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")


def distinct(names: Iterable[str]) -> list[str]:
    """The names, with `#2`, `#3`, ... appended to repeated ones."""
    used: set[str] = set()
    result = []
    for name in names:
        unique, count = name, 1
        while unique in used:
            count += 1
            unique = f"{name}#{count}"
        used.add(unique)
        result.append(unique)
    return result


def check_phase(phase: str) -> str:
    """The phase, if it is one of `PHASES`; `InputError` otherwise."""
    if phase not in PHASES:
        raise unknown("phase", phase, PHASES)
    return phase


def check_phases(phases: Iterable[str]) -> tuple[str, ...]:
    """The phases, if all are among `PHASES` and there is at least one; `InputError` otherwise."""
    if isinstance(phases, str):
        raise InputError(f"phases is {phases!r:.60}; it must be a list, as in ['fwd']")
    if not isinstance(phases, Iterable):
        raise InputError(f"phases is {phases!r:.60}; it must be a list of {', '.join(PHASES)}")
    checked = tuple(check_phase(phase) for phase in phases)
    if not checked:
        raise InputError(f"no phase given; choose from {', '.join(PHASES)}")
    return checked
