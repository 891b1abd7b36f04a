"""Scales of the operands of a network's layers, and PACT's α: what a training step changes beside parameters."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from hfp8sim.recipes import LayerScale, TrackedScale
from hfp8sim.recipes.record import Quantiser
from hfp8sim.recipes.scale import largest_exponent
from hfp8sim.training import encoding
from hfp8sim.training.encoding import Values
from hfp8sim.units.sites import Site

Tensor = Any  #: PyTorch's
#: A layer's name and an operand's role.
Key = tuple[str, str]

#: α is never below this.
_LEAST_ALPHA = 2.0**-20


@dataclasses.dataclass
class Scales:
    """The state of all scales. Layers note what they see; the end of a step changes the scales."""

    exponents: dict[Key, int] = dataclasses.field(default_factory=dict)  #: set by calibration
    layer_scales: dict[Key, float] = dataclasses.field(default_factory=dict)  #: of scaling `layer`
    histories: dict[Key, list[float]] = dataclasses.field(
        default_factory=dict
    )  #: of scaling `tracked`
    alphas: dict[str, Tensor] = dataclasses.field(
        default_factory=dict
    )  #: by layer; 0 before the first tensor
    #: Largest magnitude, scaling and top of what this step has seen.
    _noted: dict[Key, tuple[float, str, float]] = dataclasses.field(default_factory=dict)
    #: Largest magnitude, site and quantiser of what calibration has seen.
    _seen: dict[Key, tuple[float, Site, Quantiser | None]] = dataclasses.field(default_factory=dict)

    def exponent(self, key: Key, scaling: str, site: Site, default: int) -> int:
        """The exponent of an operand's scale in this step; `default` is the profile's."""
        default = self.exponents.get(key, default)
        if scaling == "layer":
            return round(math.log2(self.layer_scales.get(key, LayerScale().start)))
        if scaling == "tracked":
            tracked = TrackedScale(encoding.top_of(site)).exponent(self.histories.get(key, ()))
            return default if tracked is None else tracked
        return default

    def note(self, key: Key, largest: float, scaling: str, top: float) -> None:
        """A layer whose gradients are computed has seen this magnitude in an operand."""
        seen = self._noted.get(key, (0.0,))[0]
        self._noted[key] = (max(seen, largest), scaling, top)

    def advance(self) -> None:
        """The end of a step."""
        for key, (largest, scaling, top) in self._noted.items():
            if scaling == "layer":
                rule = LayerScale(top)
                self.layer_scales[key] = rule.advance(
                    self.layer_scales.get(key, rule.start), largest
                )
            else:
                history = self.histories.get(key, [])
                self.histories[key] = TrackedScale(top).advance(history, largest)
        self._noted.clear()

    # -- PACT ----------------------------------------------------------------------------------------

    def add_alpha(self, name: str) -> None:
        """A layer's α is to be trained."""
        self.alphas[name] = torch.nn.Parameter(torch.zeros(()))

    def alpha_parameter(self, name: str, x: Tensor) -> Tensor | None:
        """A layer's α as a parameter; the layer's first tensor starts it."""
        alpha = self.alphas.get(name)
        if alpha is not None:
            with torch.no_grad():
                if not alpha:
                    alpha.fill_(x.detach().abs().max() if x.numel() else 1.0)
                alpha.clamp_(min=_LEAST_ALPHA)
        return alpha

    def alpha(self, name: str) -> float | None:
        """A layer's α; None where it is the tensor's largest magnitude."""
        alpha = self.alphas.get(name)
        return None if alpha is None or not alpha else float(alpha)

    # -- calibration ---------------------------------------------------------------------------------

    def see(self, key: Key, x: Values, site: Site, quantiser: Quantiser | None) -> None:
        """Calibration has seen a tensor that shall be rounded at a site."""
        largest = max(encoding.largest_magnitude(x), self._seen.get(key, (0.0,))[0])
        self._seen[key] = (largest, site, quantiser)

    def calibrate(self) -> None:
        """Set the scales from what calibration has seen."""
        for (name, role), (largest, site, quantiser) in self._seen.items():
            if largest > 0 and quantiser is None:
                self.exponents[name, role] = largest_exponent(largest, encoding.top_of(site))
            elif largest > 0 and name in self.alphas and encoding.learns_alpha(quantiser):
                with torch.no_grad():
                    self.alphas[name].fill_(largest)

    def forget(self) -> None:
        """Calibration has ended."""
        self._seen.clear()

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Values that `torch.load(weights_only=True)` takes."""
        return {
            "exponents": [[*key, e] for key, e in self.exponents.items()],
            "layer_scales": [[*key, scale] for key, scale in self.layer_scales.items()],
            "histories": [[*key, list(history)] for key, history in self.histories.items()],
            "alphas": {name: alpha.detach().clone() for name, alpha in self.alphas.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of `state_dict`. α stay the same parameters, as an optimiser has them."""
        self.exponents = {(name, role): int(e) for name, role, e in state["exponents"]}
        self.layer_scales = {(name, role): float(s) for name, role, s in state["layer_scales"]}
        self.histories = {(name, role): list(h) for name, role, h in state["histories"]}
        if not self.load_alphas(state["alphas"]):
            raise ValueError("its layers with a trained clipping are others")

    @torch.no_grad()
    def load_alphas(self, alphas: dict[str, Tensor]) -> bool:
        """Take the α of a state, if they are of the same layers; whether they are."""
        if set(alphas) != set(self.alphas):
            return False
        for name, alpha in alphas.items():
            self.alphas[name].copy_(alpha)
        return True
