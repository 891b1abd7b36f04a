"""Calibrated operands: the exponent bias or the scale of each tensor, put into the profile of a layer.

A format with a bias register is calibrated by its bias, every other one by a power of two that the tensor is
multiplied by. The codes are the same either way. The sums are not: with a scale they are larger by it until
POST divides them.
"""

from __future__ import annotations

from collections.abc import Iterable

from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.vocabulary import LOWEST, Lowest
from hfp8sim.network import Layer, Scaling
from hfp8sim.units import Profile
from hfp8sim.units.profile import operand_roles

#: The tensor of each role of an operand.
TENSOR_OF = {"a": "x", "b": "w", "error": "dy"}
#: The biases that the register of a 1-4-3 operand takes: with each of them it widens to FP9 without loss.
REGISTER_BIASES = range(16)


def base_name(fmt: FloatFormat) -> str:
    """The format's name without its bias."""
    return fmt.name.split("@")[0]


def has_bias_register(fmt: FloatFormat) -> bool:
    """Whether operands of this format have a bias register: four exponent bits and no subnormals, as in 1-4-3.

    With five exponent bits one bias alone fits FP9 (1-5-3), and other formats have no such register.
    """
    return (
        fmt.exponent_bits == 4 and fmt.fraction_bits <= 3 and LOWEST.index(fmt.lowest) == Lowest.NORMAL
    )  # fmt: skip


def applied(layer: Layer, profile: Profile) -> dict[str, Scaling]:
    """The layer's scalings that fit the profile's formats, by role (`a`, `b`, `error`)."""
    fitting = {}
    for role, tensor in TENSOR_OF.items():
        scaling = layer.calibration.get(tensor)
        if scaling and scaling.format == base_name(get_format(getattr(profile, f"{role}_format"))):
            fitting[role] = scaling
    return fitting


def calibrated_profile(layer: Layer, profile: Profile) -> Profile:
    """The profile with the biases and scales of the layer's tensors, where they are for its formats."""
    fields: dict[str, object] = {}
    for role, scaling in applied(layer, profile).items():
        fmt = get_format(getattr(profile, f"{role}_format"))
        fields |= {f"{role}_format": fmt.with_bias(scaling.bias), f"{role}_scale": scaling.scale}
    return profile.replace(**fields) if fields else profile


def scaling_text(layer: Layer, profile: Profile, phase: str) -> str:
    """The calibrated operands of a phase: `x@6 w@14` for biases, `dy·2^12` for a scale."""
    scalings = applied(layer, profile)
    return " ".join(
        _text(TENSOR_OF[role], scalings[role], get_format(getattr(profile, f"{role}_format")))
        for role in operand_roles(phase)
        if role in scalings
    )


def _text(tensor: str, scaling: Scaling, fmt: FloatFormat) -> str:
    if has_bias_register(fmt):
        return f"{tensor}@{scaling.bias}"
    return f"{tensor}·2^{scaling.scale}"


def unused(layers: Iterable[tuple[Layer, Profile]]) -> str:
    """An alert on layers whose calibration is for other formats than their profile has; "" if there is none."""
    names = []
    for layer, profile in layers:
        fitting = {TENSOR_OF[role] for role in applied(layer, profile)}
        if set(layer.calibration) - fitting:
            names.append(layer.name)
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    listed = ", ".join(map(repr, names[:3]))
    return f"not used: the calibration of {listed}{more} is for other formats than the profile's"
