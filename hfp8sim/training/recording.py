"""The operands of one training step's products, recorded as a workload that a report can be made of.

While a network's emulation has a `Recorder`, every emulated product adds a `Use`: its tensors as they are before
they are rounded. Nothing that is computed changes.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.network import Conv, Layer, Workload
from hfp8sim.network.records import distinct
from hfp8sim.units.profile import Profile
from hfp8sim.workloads.readers import tensor_layouts

Values = NDArray[np.float32]


class Form(enum.Enum):
    """What a use computes, and in which layout its tensors are."""

    LINEAR = enum.auto()  #: x (M, K) · w (N, K) transposed
    MATRIX = enum.auto()  #: x (M, K) · w (K, N), or batches (G, M, K) · (G, K, N)
    CONVOLUTION = enum.auto()  #: x (N, C, …), w (F, C/groups, …)
    TRANSPOSED = enum.auto()  #: x (N, C, …), w (C, F/groups, …)


@dataclasses.dataclass
class Use:
    """One product of a forward pass, and its error once the backward pass has come by."""

    name: str  #: of the layer
    profile: Profile
    form: Form
    x: Values
    w: Values
    geometry: dict[str, Any]  #: of a convolution
    error: Values | None = None
    phases: tuple[str, ...] = ("fwd",)

    def end(self, error: Values, scale: int, phases: Sequence[str]) -> None:
        """The backward pass: the error, the exponent of its scale, and the gradients that are wanted."""
        self.error = error.copy()
        self.profile = self.profile.replace(error_scale=scale)
        self.phases = ("fwd", *phases)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for the time steps of one layer."""
        return self.name, self.form, self.x.shape, self.w.shape

    def layer(self) -> Layer:
        """The layer with its tensors."""
        if self.form in (Form.CONVOLUTION, Form.TRANSPOSED):
            return self._convolution()
        x, w = self.x, self.w.T if self.form is Form.LINEAR else self.w
        groups = x.shape[0] if x.ndim == 3 else 1
        if groups == 1:
            x, w = x.reshape(x.shape[-2:]), w.reshape(w.shape[-2:])
        kind = "linear" if self.form is Form.LINEAR else "matmul"
        layer = Layer(self.name, kind, x.shape[-2], w.shape[-1], x.shape[-1], groups)
        return self._filled(layer, x, w, self.error)

    def _filled(self, layer: Layer, x: Values, w: Values, error: Values | None) -> Layer:
        tensors = {"x": np.ascontiguousarray(x), "w": np.ascontiguousarray(w)}
        if error is not None:
            shape = layer.tensor_shape("dy")
            tensors["dy"] = np.ascontiguousarray(error).reshape(shape)
        return layer.replace(tensors=tensors, phases=self.phases)

    def _convolution(self) -> Layer:
        """A convolution of images, NHWC; a signal is an image of height 1."""
        one = self.x.ndim == 3
        x, w = (t[:, :, None] if one else t for t in (self.x, self.w))
        stride, dilation = (_pair(self.geometry[key], one) for key in ("stride", "dilation"))
        pad, groups = _sides(self.geometry["padding"], one), self.geometry["groups"]
        if self.form is Form.TRANSPOSED:
            conv = tensor_layouts.transposed_conv(x.shape, w.shape, stride, pad, dilation, groups)
            height, width = _pair(self.geometry["size"], one)
            rest = height - conv.output[0], width - conv.output[1]  # PyTorch's output_padding
            grown = (
                conv.padding[0],
                conv.padding[1] + rest[0],
                conv.padding[2],
                conv.padding[3] + rest[1],
            )
            conv = dataclasses.replace(conv, padding=grown)
            weights = tensor_layouts.rotated_filters(w, groups)
        else:
            batch, channels, height, width = x.shape
            conv = Conv(
                batch, height, width, channels, w.shape[0], (w.shape[2], w.shape[3]), stride, pad,
                dilation, groups,
            )  # fmt: skip
            weights = tensor_layouts.filters(w)
        error = self.error
        if error is not None:
            error = tensor_layouts.nhwc(error[:, :, None] if one else error)
        return self._filled(
            Layer.from_conv(self.name, conv), tensor_layouts.nhwc(x), weights, error
        )


def _pair(value: Any, one: bool) -> tuple[int, int]:
    """(height, width) of one number for both, or of a number for each axis; a signal has height 1."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * (1 if one else 2)
    return (1, int(values[0])) if one else (int(values[0]), int(values[1]))


def _sides(padding: Any, one: bool) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a padding of every side, of each axis or of all."""
    axes = 1 if one else 2
    values = tuple(padding) if isinstance(padding, tuple | list) else (padding,) * axes
    if len(values) == axes:
        values = tuple(value for value in values for _ in range(2))
    top, bottom, left, right = (0, 0, *values) if one else values
    return int(top), int(bottom), int(left), int(right)


class Recorder:
    """The uses of one step, in the order of the forward pass."""

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self.missing: list[str] = []  #: products that a report cannot have, with the reason

    def leave_out(self, reason: str) -> None:
        """Note a product that a report cannot have, once."""
        if reason not in self.missing:
            self.missing.append(reason)

    def begin(
        self,
        name: str,
        profile: Profile,
        form: Form,
        x: Values,
        w: Values,
        geometry: dict[str, Any],
    ) -> Use:
        """Record a product of the forward pass; the tensors are copied."""
        use = Use(name, profile, form, x.copy(), w.copy(), geometry)
        self.uses.append(use)
        return use

    def workload(self, name: str) -> tuple[Workload, list[tuple[str, Profile]]]:
        """The step as a workload, and the profile of each layer.

        Of a product that ran twice, as under activation checkpointing, the use with an error counts. Several uses of
        a linear layer are time steps of it.
        """
        groups: dict[tuple[Any, ...], list[Use]] = {}
        for use in self.uses:
            groups.setdefault(use.key, []).append(use)
        chosen = [[u for u in uses if u.error is not None] or uses[-1:] for uses in groups.values()]
        layers = [layer for uses in chosen for layer in _layers(uses)]
        names = distinct(layer.name for layer in layers)
        named = [layer.replace(name=name) for name, layer in zip(names, layers)]
        profiles = {uses[0].name: uses[0].profile for uses in chosen}
        rules = [(new, profiles[old.name]) for new, old in zip(names, layers)]
        notes = ("tensors of the step that was recorded",)
        return Workload(name, tuple(named), notes, missing=tuple(self.missing)), rules


def _layers(uses: Sequence[Use]) -> list[Layer]:
    """The layer of some uses of one product: the time steps of one, or one for each."""
    first = uses[0]
    if len(uses) == 1 or first.form is not Form.LINEAR:
        return [use.layer() for use in uses]
    layer = Layer(first.name, "recurrent", *_sizes(first), groups=len(uses))
    x = np.stack([use.x for use in uses])
    errors = [use.error for use in uses if use.error is not None]
    error = np.stack(errors) if len(errors) == len(uses) else None
    return [first._filled(layer, x, first.w.T, error)]


def _sizes(use: Use) -> tuple[int, int, int]:
    """M, N and K of a linear product."""
    return use.x.shape[0], use.w.shape[0], use.x.shape[1]
