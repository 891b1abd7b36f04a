"""The link of a chip to the others."""

from __future__ import annotations

import dataclasses
import math

from hfp8sim.errors import InputError


@dataclasses.dataclass(frozen=True)
class Link:
    """The link of a chip to the others. A message takes latency + bytes / bandwidth.

    Raises:
        InputError: a bandwidth that is not positive, or a negative latency.
    """

    gb_per_s: float  #: 10⁹ bytes a second, in each direction
    latency_us: float = 0.0  #: microseconds of a message, whatever its size

    def __post_init__(self) -> None:
        for name, value, least in (
            ("gb_per_s", self.gb_per_s, "more than 0"),
            ("latency_us", self.latency_us, "0 or more"),
        ):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < math.inf or (value == 0 and name == "gb_per_s"):
                raise InputError(f"link.{name} is {value!r}, must be a number of {least}")

    def seconds(self, messages: int, size: int) -> float:
        """The time of some messages, one after the other, of `size` bytes together."""
        return messages * self.latency_us * 1e-6 + size / (self.gb_per_s * 1e9)
