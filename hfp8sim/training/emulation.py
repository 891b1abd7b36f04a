"""What the layers of one network share, and how a layer's three products are computed.

Nothing here depends on the order of calls: random words are functions of the seed, the step's number, the
layer's number, the phase and the element (docs/numerics.md, sections 4 and 6).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hfp8sim import ops
from hfp8sim.errors import InputError
from hfp8sim.network import PHASES
from hfp8sim.network.streams import STREAMS_PER_PHASE, phase_stream
from hfp8sim.ops import Operand, convolutions, updates
from hfp8sim.recipes import Recipe
from hfp8sim.training.recording import Recorder
from hfp8sim.units.profile import Profile, get_profile
from hfp8sim.units.random import step_stream
from hfp8sim.units.sites import Site

Values = NDArray[np.float32]

#: Operands of a layer, as `Products.encode` names them.
ROLES = ("x", "w", "error")
#: The profile's exponent of the scale of each operand.
_SCALES = {"x": "a_scale", "w": "b_scale", "error": "error_scale"}
#: Tensors of a layer that are rounded; a tensor's number enters its random words.
_TENSORS = (*ROLES, *PHASES)
_OF_IMAGES = {"layout": "NCHW"}


@dataclasses.dataclass
class Emulation:
    """The state that all layers of one network share."""

    seed: int = 0  #: of all stochastic roundings
    threads: int | None = None  #: worker threads of a product; None: as many as PyTorch uses
    step: int = 1  #: number of the current training step; an optimiser's step adds one
    recorder: Recorder | None = None  #: while there is one, every product's operands are recorded

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


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """What a recipe rounds in a layer: the products, their operands before and their results after."""

    profile: Profile
    operands: Mapping[str, Site]  #: by role
    results: Mapping[str, Site]  #: by phase; only those that are rounded again

    @classmethod
    def of(cls, recipe: Recipe, profile: Profile) -> Arithmetic:
        """The arithmetic of a layer that is computed with a profile.

        The recipe's sites hold for layers with the recipe's own profile. A layer with another one has that
        profile's operand formats, and its results are not rounded again.
        """
        own = profile == get_profile(recipe.profile)
        recipe = recipe if own else Recipe(profile.name, profile=profile)
        if recipe.quantisers:
            name = next(iter(recipe.quantisers.values()))
            raise InputError(f"recipe {recipe.name}: quantiser {name} is not available in training")
        operands = {role: recipe.site(role) for role in ROLES}
        results = {phase: recipe.site(f"{phase}-result") for phase in PHASES}
        return cls(
            profile,
            {role: site for role, site in operands.items() if site is not None},
            {phase: site for phase, site in results.items() if site is not None},
        )

    @property
    def reported(self) -> Profile:
        """The profile with the formats of the operands' sites, for reports; rounding is that of `x`."""
        x, w, error = (self.operands[role] for role in ROLES)
        return self.profile.replace(
            a_format=x.record, b_format=w.record, error_format=error.record,
            operand_rounding=x.rounding, operand_overflow=x.overflow,
        )  # fmt: skip


@dataclasses.dataclass
class Products:
    """The three products of one layer; its number enters its random words.

    Arrays are float32 in and out. An operand is encoded once and multiplied as often as it is needed.
    """

    name: str  #: of the layer, in errors and reports
    arithmetic: Arithmetic
    number: int
    emulation: Emulation
    shares: dict[str, Share] = dataclasses.field(
        default_factory=dict
    )  #: of the last operand of each role

    @property
    def profile(self) -> Profile:
        """How a product is computed."""
        return self.arithmetic.profile

    def encode(self, x: Values, role: str) -> Operand:
        """Round a tensor into the format of an operand.

        Args:
            x: float32, any shape and strides.
            role: `x`, `w` or `error`; of a product of two activations, `w` is the second.

        Raises:
            InputError: a NaN that the format has no code for. The text names the layer and the operand.
        """
        site = self.arithmetic.operands[role]
        scale = getattr(self.profile, _SCALES[role])
        try:
            operand = Operand.encode(
                x, site.record, rounding=site.rounding, overflow=site.overflow, bits=site.random_bits,
                seed=self.emulation.seed, stream=self._tensor_stream(role, site), exponent=-scale,
                threads=self.threads,
            )  # fmt: skip
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
        return Products(
            f"{self.name}.{name}", self.arithmetic, self.number + number, self.emulation
        )

    def keys(self, phase: str) -> dict[str, int]:
        """Seed and stream of a phase's product, as arguments of `ops.gemm`."""
        if not self.profile.stochastic:
            return {"seed": self.emulation.seed, "stream": 0}
        stream = self.emulation.stream(phase_stream(self.number, phase))
        return {"seed": self.emulation.seed, "stream": stream & -STREAMS_PER_PHASE}

    def _tensor(self, name: str) -> int:
        """The number of one of the layer's tensors."""
        return len(_TENSORS) * self.number + _TENSORS.index(name)

    def _tensor_stream(self, name: str, site: Site) -> int:
        return self.emulation.stream(self._tensor(name)) if site.stochastic else 0

    # -- products ------------------------------------------------------------------------------------

    def multiply(self, a: Operand, b: Operand, phase: str) -> Values:
        """A product of matrices (M, K) and (K, N), or of batches of them (G, M, K) and (G, K, N)."""
        return self._values(ops.gemm if a.ndim == 2 else ops.batched, a, b, phase)

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
        settings = {"threads": self.threads, "out_dtype": "float32", **self.keys(phase), **geometry}
        values: Values = call(a, b, profile=self.profile, **settings)
        site = self.arithmetic.results.get(phase)
        if site is None:
            return values
        seed, step = self.emulation.seed, self.emulation.step
        return updates.round_result(values, site, seed=seed, step=step, tensor=self._tensor(phase))
