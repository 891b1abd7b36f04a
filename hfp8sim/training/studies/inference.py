"""Networks trained in binary32, for studies of inference: each is trained once in a process."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from hfp8sim.formats import FloatFormat
from hfp8sim.training.inference import Evaluation, evaluate, quantise, retune_batchnorm
from hfp8sim.training.runs import Run, batches_of_test_set
from hfp8sim.training.studies import runs
from hfp8sim.units.profile import get_profile

#: Steps of training, in the quick size and in the default one.
_STEPS = (8, 315)
#: Batches that re-tune the normalisations.
_RETUNING = 20


@functools.lru_cache(8)
def trained(network: str, seed: int, quick: bool) -> Run:
    """A network trained on digits in binary32."""
    return runs.train(network, "fp32", seed, steps=_STEPS[not quick])


def quantised(
    network: str, seed: int, quick: bool, fmt: str | FloatFormat, depthwise: str = ""
) -> Any:
    """A copy of the trained network with activations and weights in a format; first and last layer in 16 bits."""
    profile = get_profile("hfp8").replace(a_format=fmt, b_format=fmt)
    policy = "first=fp16,last=fp16" + (f",depthwise={depthwise}" if depthwise else "")
    model = trained(network, seed, quick).model
    return quantise(model, runs.changed({"profile": profile, "policy": policy}), threads=1)


def score(model: Any, network: str, seed: int, quick: bool) -> Evaluation:
    """Test loss, accuracy and logit SQNR against the trained network."""
    run = trained(network, seed, quick)
    result: Evaluation = evaluate(model, batches_of_test_set(run.data), run.model)
    return result


def retune(model: Any, seed: int) -> None:
    """Re-tune the normalisations of a model on training images, all at once."""
    retune_batchnorm(model, _images(seed), "one-pass")


def _images(seed: int) -> Iterator[Any]:
    from hfp8sim.training.data import load_data

    for images, _ in load_data("digits").batches(64, seed, _RETUNING):
        yield images
