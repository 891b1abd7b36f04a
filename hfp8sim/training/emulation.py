"""What the layers of one network share, and how a layer's three products are computed.

Nothing here depends on the order of calls: random words are functions of the seed, the step's number, the
layer's number, the phase and the element (docs/numerics.md, sections 4 and 6).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hfp8sim import ops
from hfp8sim.errors import InputError
from hfp8sim.formats.vocabulary import is_stochastic, mode_number
from hfp8sim.network.streams import STREAMS_PER_PHASE, phase_stream
from hfp8sim.ops import Operand, convolutions
from hfp8sim.units.profile import Profile
from hfp8sim.units.random import step_stream

Values = NDArray[np.float32]

#: Operands of a layer, as `Products.encode` names them; an operand's number enters its random words.
ROLES = ("x", "w", "error")
_OF_IMAGES = {"layout": "NCHW"}
#: The two operands of each phase's product.
OPERANDS = {"fwd": ("x", "w"), "dgrad": ("error", "w"), "wgrad": ("x", "error")}


@dataclasses.dataclass
class Emulation:
    """The state that all layers of one network share."""

    seed: int = 0  #: of all stochastic roundings
    threads: int | None = None  #: worker threads of a product; None: as many as PyTorch uses
    step: int = 1  #: number of the current training step; an optimiser's step adds one

    def stream(self, number: int) -> int:
        """The random stream of tensor or phase number `number` in the current step."""
        words: Any = step_stream
        return int(words(np.uint64(self.step), np.uint64(number)))


@dataclasses.dataclass(frozen=True)
class Share:
    """How much of an operand its conversion saturated or flushed to zero."""

    size: int
    saturated: int
    underflowed: int


@dataclasses.dataclass
class Products:
    """The arithmetic of one layer: its profile, and its number, which enters its random words.

    Arrays are float32 in and out. An operand is encoded once and multiplied as often as it is needed.
    """

    name: str  #: of the layer, in errors and reports
    profile: Profile
    number: int
    emulation: Emulation
    shares: dict[str, Share] = dataclasses.field(
        default_factory=dict
    )  #: of the last operand of each role

    def encode(self, x: Values, role: str) -> Operand:
        """Round a tensor into the format of an operand.

        Args:
            x: float32, any shape and strides.
            role: `x`, `w` or `error`; of a product of two activations, `w` is the second.

        Raises:
            InputError: a NaN that the format has no code for. The text names the layer and the operand.
        """
        phase = "dgrad" if role == "error" else "fwd"
        side = OPERANDS[phase].index(role)
        fmt = self.profile.operand_formats(phase)[side]
        scale = self.profile.operand_scales(phase)[side]
        try:
            operand = Operand.encode(
                x,
                fmt,
                rounding=self.profile.operand_rounding,
                overflow=self.profile.operand_overflow,
                bits=self.profile.random_bits,
                seed=self.emulation.seed,
                stream=self._operand_stream(role),
                exponent=-scale,
                threads=self.threads,
            )
        except InputError as error:
            raise InputError(f"layer {self.name}, operand {role}: {error}") from None
        self.shares[role] = Share(operand.size, operand.saturated, operand.underflowed)
        return operand

    @property
    def threads(self) -> int:
        """Worker threads of a product."""
        if self.emulation.threads is not None:
            return self.emulation.threads
        return int(torch.get_num_threads())

    def part(self, number: int, name: str) -> Products:
        """The arithmetic of one of several products of a layer; each draws random words of its own."""
        return Products(f"{self.name}.{name}", self.profile, self.number + number, self.emulation)

    def keys(self, phase: str) -> dict[str, int]:
        """Seed and stream of a phase's product, as arguments of `ops.gemm`."""
        if not self.profile.stochastic:
            return {"seed": self.emulation.seed, "stream": 0}
        stream = self.emulation.stream(phase_stream(self.number, phase))
        return {"seed": self.emulation.seed, "stream": stream & -STREAMS_PER_PHASE}

    def _operand_stream(self, role: str) -> int:
        if not is_stochastic(mode_number(self.profile.operand_rounding)):
            return 0
        return self.emulation.stream(len(ROLES) * self.number + ROLES.index(role))

    # -- products ------------------------------------------------------------------------------------

    def multiply(self, a: Operand, b: Operand, phase: str) -> Values:
        """A product of matrices (M, K) and (K, N), or of batches of them (G, M, K) and (G, K, N)."""
        return self._values(ops.gemm if a.ndim == 2 else _batched, a, b, phase)

    def convolve(self, x: Operand, w: Operand, phase: str = "fwd", **geometry: Any) -> Values:
        """`convolutions.conv_fwd` of images (N, C, H, W); the input's gradient of a transposed convolution is one, too."""
        return self._values(convolutions.conv_fwd, x, w, phase, **_OF_IMAGES, **geometry)

    def convolve_gradient(
        self, error: Operand, w: Operand, input_size: tuple[int, ...], phase: str = "dgrad", **geometry: Any
    ) -> Values:  # fmt: skip
        """`convolutions.conv_dgrad` of images (N, C, H, W); a transposed convolution is one, too."""
        geometry |= {"input_size": input_size}
        return self._values(convolutions.conv_dgrad, error, w, phase, **_OF_IMAGES, **geometry)

    def correlate(
        self, x: Operand, error: Operand, kernel_size: tuple[int, ...], **geometry: Any
    ) -> Values:
        """`convolutions.conv_wgrad` of images (N, C, H, W): the gradient of the weights."""
        geometry |= {"kernel_size": kernel_size}
        return self._values(convolutions.conv_wgrad, x, error, "wgrad", **_OF_IMAGES, **geometry)

    def _values(self, call: Any, a: Operand, b: Operand, phase: str, **geometry: Any) -> Values:
        """The values of a product in the machine's arithmetic."""
        settings = {
            "a_format": a.format,
            "b_format": b.format,
            "threads": self.threads,
            **self.keys(phase),
        }
        codes = call(a.codes, b.codes, profile=self.profile, **settings, **geometry)
        return Operand(codes, self.profile.result_format, a.exponent + b.exponent).values()


def _batched(a: Any, b: Any, stream: int, **settings: Any) -> Any:
    return np.stack(
        [ops.gemm(x, y, stream=stream + g, **settings) for g, (x, y) in enumerate(zip(a, b))]
    )
