"""The one shape a time model needs to know."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class GemmShape:
    """`groups` independent products of an m × k and a k × n matrix."""

    m: int
    n: int
    k: int
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those with zeros included."""
        return self.groups * self.m * self.n * self.k
