"""What the layers of one network share, and how a layer's three products are computed.

Nothing here depends on the order of calls: random words are functions of the seed, the step's number, the
layer's number, the phase and the element (docs/numerics.md, sections 4 and 6).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hfp8sim import ops
from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.network import PHASES
from hfp8sim.network.streams import STREAMS_PER_PHASE, phase_stream
from hfp8sim.ops import convolutions, updates
from hfp8sim.recipes import Recipe
from hfp8sim.recipes.record import Quantiser
from hfp8sim.training import encoding, volumes
from hfp8sim.training.encoding import Encoded
from hfp8sim.training.recording import Recorder
from hfp8sim.training.scales import Scales
from hfp8sim.units.accumulator import check_source
from hfp8sim.units.profile import Profile, get_profile
from hfp8sim.units.random import step_stream
from hfp8sim.units.sites import BINARY32, Draw, Place, Site

Values = NDArray[np.float32]

#: Numbers of one module: the module's own product, then those that its code computes; softmaxes have the second half.
NUMBERS_PER_MODULE = 1 << 18
#: Operands of a layer, as `Products.encode` names them.
ROLES = ("x", "w", "error")
#: The profile's exponent of the scale of each operand.
_SCALES = {"x": "a_scale", "w": "b_scale", "error": "error_scale"}
#: Tensors of a layer that are rounded; a tensor's number enters its random words.
_TENSORS = (*ROLES, *PHASES)
#: Of the loss's softmax among the numbers of the last layer; products have smaller ones.
_LOSS = NUMBERS_PER_MODULE - 1
_OF_IMAGES = {"layout": "NCHW"}


@dataclasses.dataclass
class Emulation:
    """The state that all layers of one network share."""

    seed: int = 0  #: of all stochastic roundings
    threads: int | None = None  #: worker threads of a product; None: as many as PyTorch uses
    step: int = 1  #: number of the current training step; an optimiser's step adds one
    recorder: Recorder | None = None  #: while there is one, every product's operands are recorded
    scales: Scales = dataclasses.field(default_factory=Scales)  #: of operands, and PACT's α
    #: Whether operands are binary32 and sums exact, while calibration looks at them.
    observing: bool = False

    def __post_init__(self) -> None:
        check_source(self.seed, 0)
        if self.threads is not None:
            check_whole_number(self.threads, "threads", 1)
        check_whole_number(self.step, "first_step", 0)

    @contextlib.contextmanager
    def observe(self) -> Iterator[None]:
        """Inside, operands are binary32 and sums exact. Then the scales are set from the operands' largest magnitudes."""
        self.observing = True
        try:
            yield
            self.scales.calibrate()
        finally:
            self.observing = False
            self.scales.forget()

    def end_step(self) -> None:
        """An optimiser has updated the weights."""
        self.step += 1
        self.scales.advance()

    def stream(self, number: int) -> int:
        """The random stream of tensor or phase number `number` in the current step."""
        words: Any = step_stream
        return int(words(np.uint64(self.step), np.uint64(number)))

    def state_dict(self) -> dict[str, Any]:
        """What a training step changes beside parameters, as values that `torch.load(weights_only=True)` takes."""
        return {"step": self.step, "scales": self.scales.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self.step = int(state["step"])
        self.scales.load_state_dict(state["scales"])


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
    quantisers: Mapping[str, Quantiser] = dataclasses.field(default_factory=dict)  #: by role
    scalings: Mapping[str, str] = dataclasses.field(default_factory=dict)  #: by role; if not fixed
    softmax: Site | None = None  #: of a softmax's input; None: not rounded
    bias: Site | None = None  #: of a result plus the bias; None: binary32
    norm: Site | None = None  #: of a normalisation's result; None: binary32

    @classmethod
    def of(cls, recipe: Recipe, exception: Profile | None = None) -> Arithmetic:
        """The arithmetic of a layer.

        Args:
            exception: the profile that the policy gives the layer. It then has that profile's operand formats, no quantiser, and its
                results are not rounded again. None: the recipe's profile and sites.
        """
        others = {name: _rounding(recipe, name) for name in ("softmax", "bias", "norm")}
        if exception is not None:
            recipe = Recipe(exception.name, profile=exception)
        profile = get_profile(recipe.profile)
        operands = {role: recipe.site(role) for role in ROLES}
        results = {phase: recipe.site(f"{phase}-result") for phase in PHASES}
        return cls(
            profile,
            {role: site for role, site in operands.items() if site is not None},
            {phase: site for phase, site in results.items() if site is not None},
            {role: q for role in ROLES if (q := recipe.quantiser(role)) is not None},
            {role: recipe.scaling(role) for role in ROLES if recipe.scaling(role) != "fixed"},
            **others,
        )

    @property
    def reported(self) -> Profile:
        """The profile with the formats of the operands' sites, for reports; rounding is that of `x`."""
        x, w, error = (self.operands[role] for role in ROLES)
        return self.profile.replace(
            a_format=x.record, b_format=w.record, error_format=error.record,
            operand_rounding=x.rounding, operand_overflow=x.overflow,
        )  # fmt: skip


def _rounding(recipe: Recipe, name: str) -> Site | None:
    """A recipe's site; None if it is binary32."""
    site = recipe.site(name)
    return None if site == BINARY32 else site


def _exact() -> Arithmetic:
    """binary32 operands and exact sums."""
    names = ("a_format", "b_format", "error_format")
    profile = get_profile("exact").replace(
        **dict.fromkeys(names, "binary32"), operand_rounding="nearest-even"
    )
    return Arithmetic.of(Recipe("exact", profile=profile, sites={"softmax": BINARY32}))


_EXACT = _exact()  #: computes while operands are observed


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
    )  #: of the last operand of each role; of a layer's part, the role is `PART.ROLE`
    prefix: str = ""  #: of roles in `shares`

    @property
    def profile(self) -> Profile:
        """How a product is computed."""
        return self.arithmetic.profile

    @property
    def _computed(self) -> Arithmetic:
        """The arithmetic of products now: exact while operands are observed."""
        return _EXACT if self.emulation.observing else self.arithmetic

    # -- operands --------------------------------------------------------------------------------------

    def encode(self, x: Values, role: str) -> Encoded:
        """Round a tensor into the format of an operand of the forward product.

        Args:
            x: float32, any shape and strides.
            role: `x` or `w`; of a product of two activations, `w` is the second.

        Raises:
            InputError: a NaN that the format has no code for. The text names the layer and the operand.
        """
        return self._encode(x, role, 1)[0]

    def encode_error(self, x: Values) -> tuple[Encoded, Encoded]:
        """Round an error into the operands of dgrad and wgrad: one for both, unless its quantiser has two phases.

        Raises:
            InputError: as `encode`.
        """
        first, second = self._encode(x, "error", 2)
        return first, second

    def _encode(self, x: Values, role: str, count: int) -> tuple[Encoded, ...]:
        key = (self.name, role)
        if self.emulation.observing:
            quantiser = self.arithmetic.quantisers.get(role)
            self.emulation.scales.see(key, x, self.arithmetic.operands[role], quantiser)
        arithmetic = self._computed
        site, quantiser = arithmetic.operands[role], arithmetic.quantisers.get(role)
        exponent = getattr(arithmetic.profile, _SCALES[role])
        scaling = arithmetic.scalings.get(role, "fixed")
        if not self.emulation.observing:
            exponent = self.emulation.scales.exponent(key, scaling, site, exponent)
        largest = encoding.largest_magnitude(x) if scaling != "fixed" else None
        try:
            if quantiser is None:
                stream = self._tensor_stream(role, site)
                one = encoding.rounded(
                    x, site, self.emulation.seed, stream, exponent=exponent, threads=self.threads
                )
                encoded: tuple[Encoded, ...] = (one,) * count
            else:
                alpha = self.emulation.scales.alpha(self.name)
                draw = Draw(self.emulation.seed, self.emulation.step, self._tensor(role))
                encoded = encoding.quantised(
                    x, quantiser, role, draw, alpha=alpha, exponent=exponent
                )
                encoded = encoded if len(encoded) == count else encoded * count
        except InputError as error:
            raise InputError(f"layer {self.name}, operand {role}: {error}") from None
        operand = encoded[0].operand
        self.shares[self.prefix + role] = Share(
            operand.size, operand.saturated, operand.underflowed
        )
        if largest is None:
            return encoded
        return tuple(dataclasses.replace(one, largest=largest) for one in encoded)

    def end_backward(self, x: Encoded, w: Encoded, error: Encoded) -> None:
        """Note the largest magnitudes of a layer whose gradients are computed: they set the next step's scales."""
        for role, encoded in zip(ROLES, (x, w, error)):
            if encoded.largest is not None:
                scaling, site = self.arithmetic.scalings[role], self.arithmetic.operands[role]
                top = encoding.top_of(site, self.arithmetic.quantisers.get(role))
                self.emulation.scales.note((self.name, role), encoded.largest, scaling, top)

    def softmax_input(self, z: Values, axis: int) -> Values:
        """z − max z, rounded at the site `softmax` and then as an activation (docs/numerics.md, section 6)."""
        site = self._computed.softmax
        if site is None:
            return z
        seed, step, tensor = self.emulation.seed, self.emulation.step, self._tensor("x")
        try:
            result = updates.softmax_input(z, site, axis=axis, seed=seed, step=step, tensor=tensor)
        except InputError as error:
            raise InputError(f"layer {self.name}, softmax: {error}") from None
        if "x" in self.arithmetic.quantisers:
            return result
        masked = np.isneginf(result)
        values = self.encode(np.where(masked, np.float32(0), result), "x").operand.values()
        return np.where(masked, np.float32(-np.inf), values)

    def add_bias(self, z: Values, bias: Values) -> Values | None:
        """z + b rounded at the site `bias`, of arrays that broadcast; None if the sum is binary32."""
        site = self._computed.bias
        if site is None:
            return None
        return self._rounded_sum(
            Place.BIAS, site, [(1.0, z), (1.0, np.broadcast_to(bias, z.shape))]
        )

    def round_norm(self, x: Values) -> Values:
        """The result of a normalisation, rounded at the site `norm`."""
        site = self._computed.norm
        return x if site is None else self._rounded_sum(Place.NORM, site, [(1.0, x)])

    def _rounded_sum(self, place: Place, site: Site, terms: list[tuple[float, Values]]) -> Values:
        seed, step, tensor = self.emulation.seed, self.emulation.step, self._tensor("fwd")
        try:
            return updates.rounded_sum(place, site, terms, seed=seed, step=step, tensor=tensor)
        except InputError as error:
            raise InputError(f"layer {self.name}: {error}") from None

    @property
    def threads(self) -> int:
        """Worker threads of a product."""
        if self.emulation.threads is not None:
            return self.emulation.threads
        return int(torch.get_num_threads())

    def part(self, number: int, name: str) -> Products:
        """The arithmetic of one of several products of a layer; each draws random words of its own."""
        if number >= NUMBERS_PER_MODULE:
            raise InputError(
                f"layer {self.name}: its layers, directions and time steps need more than {NUMBERS_PER_MODULE} products"
            )
        return Products(
            f"{self.name}.{name}", self.arithmetic, self.number + number, self.emulation, self.shares,
            f"{name}.",
        )  # fmt: skip

    @property
    def softmax_of_loss(self) -> Products:
        """The arithmetic of a softmax of the layer's results."""
        return self.part(_LOSS, "loss")

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

    def multiply(self, a: Encoded, b: Encoded, phase: str) -> Values:
        """A product of matrices (M, K) and (K, N), or of batches of them (G, M, K) and (G, K, N)."""
        return self._values(ops.gemm if a.ndim == 2 else ops.batched, a, b, phase)

    def convolve(self, x: Encoded, w: Encoded, phase: str = "fwd", **geometry: Any) -> Values:
        """`convolutions.conv_fwd` of images (N, C, H, W); the input's gradient of a transposed convolution is one, too."""
        if x.ndim == 5:
            return volumes.convolve(functools.partial(self.convolve, phase=phase), x, w, geometry)
        return self._values(convolutions.conv_fwd, x, w, phase, **_OF_IMAGES, **geometry)

    def convolve_gradient(
        self, error: Encoded, w: Encoded, input_size: tuple[int, ...], phase: str = "dgrad", **geometry: Any
    ) -> Values:  # fmt: skip
        """`convolutions.conv_dgrad` of images (N, C, H, W); a transposed convolution is one, too."""
        if error.ndim == 5:
            call = functools.partial(self.convolve_gradient, phase=phase)
            return volumes.convolve_gradient(call, error, w, input_size, geometry)
        geometry |= {"input_size": input_size}
        return self._values(convolutions.conv_dgrad, error, w, phase, **_OF_IMAGES, **geometry)

    def correlate(
        self, x: Encoded, error: Encoded, kernel_size: tuple[int, ...], **geometry: Any
    ) -> Values:
        """`convolutions.conv_wgrad` of images (N, C, H, W): the gradient of the weights."""
        if x.ndim == 5:
            return volumes.correlate(self.correlate, x, error, kernel_size, geometry)
        geometry |= {"kernel_size": kernel_size}
        return self._values(convolutions.conv_wgrad, x, error, "wgrad", **_OF_IMAGES, **geometry)

    def _values(self, call: Any, a: Encoded, b: Encoded, phase: str, **geometry: Any) -> Values:
        """The values of a product in the machine's arithmetic."""
        settings = {"threads": self.threads, "out_dtype": "float32", **self.keys(phase), **geometry}
        arithmetic = self._computed
        values: Values = call(a.operand, b.operand, profile=arithmetic.profile, **settings)
        factor = np.float32(a.step * b.step)
        if factor != 1:
            with np.errstate(over="ignore", under="ignore"):
                values *= factor
        site = arithmetic.results.get(phase)
        if site is None:
            return values
        seed, step = self.emulation.seed, self.emulation.step
        return updates.round_result(values, site, seed=seed, step=step, tensor=self._tensor(phase))
