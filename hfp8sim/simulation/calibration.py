"""Calibration: the exponent bias, or the power-of-two scale, of every operand tensor from its values.

docs/accuracy.md says what each method is good for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import InputError, unknown
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.network import PHASES, Layer, Scaling, Workload, check_phases
from hfp8sim.simulation.quantise import quantise
from hfp8sim.simulation.scaling import REGISTER_BIASES, TENSOR_OF, base_name, has_bias_register
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.accumulator import check_source
from hfp8sim.units.policy import PolicyLike, assign, parse
from hfp8sim.units.profile import MAX_SCALE, operand_roles
from hfp8sim.workloads import load_workload
from hfp8sim.workloads.operands import tensor_values

#: What `--calibrate` takes.
METHODS = ("none", "max", "percentile", "mse")
#: The share of elements, in per cent, that `percentile` keeps unless another is given.
PERCENTILE = 99.9
#: Operands wider than this are not calibrated: their range is wide enough.
MAX_BITS = 8


@dataclasses.dataclass(frozen=True)
class Method:
    """How a range is chosen."""

    name: str  #: one of `METHODS`
    percentile: float = PERCENTILE

    @classmethod
    def of(cls, text: str) -> Method:
        """The method of `none`, `max`, `percentile`, `percentile=99.5` or `mse`."""
        name, equals, share = str(text).partition("=")
        if name not in METHODS:
            raise unknown("calibration", text, METHODS)
        if not equals:
            return cls(name)
        try:
            percentile = float(share)
        except ValueError:
            percentile = math.nan
        if name != "percentile" or not 0 < percentile <= 100:
            raise InputError(
                f"calibration {text!r}: write percentile=P with a P above 0 and at most 100, as in "
                "percentile=99.9"
            )
        return cls(name, percentile)

    def __str__(self) -> str:
        return f"{self.name} {self.percentile:g}" if self.name == "percentile" else self.name


@standard_arithmetic
def calibrate(
    workload: Workload | str,
    profile: str | Profile = "hfp8",
    method: str = "max",
    *,
    phases: Iterable[str] = PHASES,
    policy: PolicyLike | None = None,
    seed: int = 0,
    on: Workload | str | None = None,
) -> Workload:
    """The workload with an exponent bias, or a scale, for every 8-bit operand tensor.

    `simulate`, `lower` and traces take them from there. A format with a bias register (1-4-3 without
    subnormals) gets a bias of 0..15. Another format gets the exponent s of a scale: the tensor is multiplied by
    2^s, and the result divided. Scales leave room for the sums: |sum| ≤ K·max|a|·max|b| fits the accumulator.

    Args:
        workload: a record, or what `load_workload` takes.
        profile, policy: the arithmetic of each layer, as `simulate` takes it.
        method: `max`: no element saturates. `percentile` or `percentile=P`: P per cent of the elements do not
            saturate, 99.9 by default. `mse`: the least Σ(rounded − value)². `none`: no calibration.
        phases: whose operands are calibrated.
        seed: of tensors that the workload does not carry and of stochastic rounding.
        on: another workload with layers of the same names; its tensors are calibrated on where it has them.

    Raises:
        InputError: an unknown name or method, or an `on` that lacks a layer.
    """
    if not isinstance(workload, Workload):
        workload = load_workload(workload)
    batch = on if on is None or isinstance(on, Workload) else load_workload(on)
    chosen, selected = Method.of(method), check_phases(phases)
    check_source(seed, 0)
    profiles = assign(workload, get_profile(profile), parse(policy))
    if chosen.name == "none":
        plain = tuple(layer.replace(calibration={}) for layer in workload)
        return dataclasses.replace(workload, layers=plain, calibration="")
    layers = tuple(
        layer.replace(calibration=_scalings(layer, own, chosen, selected, seed, batch))
        for layer, (own, _) in zip(workload, profiles, strict=True)
    )
    words = str(chosen) if batch is None else f"{chosen} on {batch.name}"
    return dataclasses.replace(workload, layers=layers, calibration=words)


def _scalings(
    layer: Layer,
    profile: Profile,
    method: Method,
    selected: tuple[str, ...],
    seed: int,
    batch: Workload | None,
) -> dict[str, Scaling]:
    """The scaling of each calibrated tensor of a layer, by the tensor's name."""
    ranges: dict[str, _Range] = {}
    phases = [phase for phase in layer.phases if phase in selected]
    for role in dict.fromkeys(role for phase in phases for role in operand_roles(phase)):
        fmt = get_format(getattr(profile, f"{role}_format"))
        if fmt.bits <= MAX_BITS:
            values = _values(layer, TENSOR_OF[role], seed, batch)
            ranges[role] = _Range(fmt, values, profile, method, seed)
    for phase in phases:
        _leave_room(layer.shape(phase).k, phase, profile, ranges)
    return {TENSOR_OF[role]: chosen.scaling for role, chosen in ranges.items()}


def _values(layer: Layer, tensor: str, seed: int, batch: Workload | None) -> NDArray[np.float32]:
    if batch is not None and tensor in batch[layer.name].tensors:
        layer = batch[layer.name]
    return tensor_values(layer, tensor, seed)


class _Range:
    """The range chosen for a tensor: its values are rounded after a multiplication by 2^shift."""

    def __init__(
        self, fmt: FloatFormat, values: NDArray[Any], profile: Profile, method: Method, seed: int
    ) -> None:
        self.fmt, self.in_register = fmt, has_bias_register(fmt)
        magnitudes = np.abs(values)
        self.largest = float(magnitudes.max(initial=0))
        low, high = (
            (REGISTER_BIASES[0] - fmt.bias, REGISTER_BIASES[-1] - fmt.bias)
            if self.in_register
            else (-MAX_SCALE, MAX_SCALE)
        )
        self.shift = 0
        if self.largest:
            kept = kept_magnitude(magnitudes, method)
            self.shift = min(max(fitting_shift(kept, fmt), low), high)
            if method.name == "mse":
                self.shift = least_error(values, fmt, profile, range(self.shift, high + 1), seed)

    @property
    def scaling(self) -> Scaling:
        bias, scale = (self.shift, 0) if self.in_register else (0, self.shift)
        return Scaling(base_name(self.fmt), self.fmt.bias + bias, scale)

    @property
    def magnitude(self) -> float:
        """log2 of the largest number that enters the products; a bias leaves numbers as large as they are."""
        clipped = min(math.ldexp(self.largest, self.shift), self.fmt.max)
        return math.log2(clipped) - (self.shift if self.in_register else 0)


def kept_magnitude(magnitudes: NDArray[Any], method: Method) -> float:
    """The magnitude that must not saturate: the largest, or the percentile if that is not zero."""
    if method.name != "percentile":
        return float(magnitudes.max())
    place = max(math.ceil(method.percentile / 100 * magnitudes.size) - 1, 0)
    kept = float(np.partition(magnitudes, place, axis=None)[place])
    return kept or float(magnitudes.max())


def fitting_shift(magnitude: float, fmt: FloatFormat) -> int:
    """The largest s with magnitude·2^s at most the format's largest number."""
    (fraction, exponent), (top, highest) = math.frexp(magnitude), math.frexp(fmt.max)
    return highest - exponent - (fraction > top)


def least_error(
    values: NDArray[Any], fmt: FloatFormat, profile: Profile, shifts: range, seed: int = 0
) -> int:
    """The shift with the least Σ(rounded − value)²; of equal ones the smallest.

    Larger shifts saturate more elements. They are not tried once the error of the largest one alone is too
    large.
    """
    best, least = shifts[0], math.inf
    exact = values.astype(np.float64)
    largest = float(np.abs(exact).max())
    for shift in shifts:
        shifted = fmt.with_bias(fmt.bias + shift)
        if largest > shifted.max and (largest - shifted.max) ** 2 >= least:
            break
        difference = quantise(values, shifted, profile, seed=seed).values - exact
        error = float(np.vdot(difference, difference))
        if error < least:
            best, least = shift, error
    return best


def _leave_room(k: int, phase: str, profile: Profile, ranges: Mapping[str, _Range]) -> None:
    """Make the scales of a phase smaller until no sum of length k can exceed the accumulator's formats."""
    roles = operand_roles(phase)
    if any(role not in ranges or not ranges[role].largest for role in roles):
        return
    operands = [ranges[role] for role in roles]
    scaled = [operand for operand in operands if not operand.in_register]
    accumulators = get_format(profile.accumulator), profile.result_format
    room = math.log2(min(fmt.max for fmt in accumulators)) - math.log2(k)
    while scaled and (excess := sum(x.magnitude for x in operands) - room) > 0:
        for operand in scaled:
            operand.shift -= math.ceil(excess / len(scaled))
