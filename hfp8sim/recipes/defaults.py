"""What a training takes for the settings that its caller leaves out."""

from __future__ import annotations

from typing import NamedTuple


class Defaults(NamedTuple):
    """Settings that depend on the kind of network."""

    data: str  #: a data set of `hfp8sim.training.data`
    optimiser: str  #: sgd or adam
    rate: float  #: the learning rate at the first step
    decay: float  #: weight decay


#: Networks that classify images.
IMAGES = Defaults("digits", "sgd", 0.05, 5e-4)
#: Networks that predict a text.
TEXT = Defaults("help-text", "adam", 2e-3, 0.0)


def training_defaults(network: str) -> Defaults:
    """The defaults for a network, by its name."""
    return TEXT if network == "transformer" else IMAGES
