"""The shipped recipes. `choices` lists what a recipe sets though its source does not say it."""

from __future__ import annotations

from hfp8sim.recipes.record import POWERS_OF_TWO, Recipe, register_recipe
from hfp8sim.recipes.scale import LossScale
from hfp8sim.units.sites import BINARY32, Site

_IEEE_169 = Site("ieee-169", "stochastic")
_FIXED = Site("fixed8.8", "stochastic", "saturate")
_E5M2 = Site("e5m2", "nearest-even", "saturate")
_E5M2_STOCHASTIC = Site("e5m2", "stochastic", "saturate")
_INT4 = Site("fixed4.0", "nearest-even", "saturate")

for _recipe in (
    Recipe(
        "hfp8",
        "Sun et al., NeurIPS 2019: 8-bit weights with a 16-bit residual, dynamic loss scale",
        choices=(
            "the residual rule's order, and 1-6-9 with stochastic rounding before it",
            "start, interval and cap of the loss scale",
            "16-bit weights in layers of 16 bits",
        ),
    ),
    Recipe(
        "rapid",
        "the same on the 7 nm chip's units (Agrawal et al., ISSCC 2021)",
        profile="rapid",
        sites={"update": Site("hfp8-143-hw", "nearest-away", "saturate")},
        choices=("everything outside the products: nothing public on it was found",),
    ),
    Recipe(
        "fp8-2018",
        "Wang et al., NeurIPS 2018: 1-5-2 products, three stochastic 1-6-9 sums of the update, scale 1000",
        profile="fp8-2018",
        rule="axpy",
        loss_scale=LossScale("static", start=1000.0),
        sites={
            "unscale": Site("ieee-169", "nearest-even"), "decay": _IEEE_169, "momentum": _IEEE_169,
            "update": _IEEE_169, "reduce": Site("ieee-169", "nearest-even"),
            "softmax": Site("ieee-169", "nearest-even"),
        },
        choices=(
            "one rounding of momentum, and one of the gradient divided by the scale",
            "24 random bits",
            "the whole first layer in 16 bits, where the paper has the input image",
        ),
    ),
    Recipe(
        "mixed-fp8-2019",
        "Mellempudi et al., 2019: e5m2 products in binary32 sums, binary16 weights, rising floor of the loss scale",
        profile="e5m2-fp32",
        rule="axpy",
        loss_scale=LossScale(floors=((0, 1.0), (10_000, 1024.0))),
        sites={
            "x": _E5M2, "w": _E5M2, "error": _E5M2_STOCHASTIC, "wgrad-result": _E5M2_STOCHASTIC,
            "unscale": BINARY32, "decay": BINARY32, "momentum": BINARY32,
            "update": Site("binary16", "stochastic"), "softmax": BINARY32,
        },
        choices=(
            "stochastic rounding of the gradient tensors alone, as in the authors' later toolkit",
            "steps and values of the floor", "16-bit layers in DLFloat16",
        ),
    ),
    Recipe(
        "fixed-2015",
        "Gupta et al., ICML 2015: 16-bit fixed point, one stochastic rounding of each result",
        profile="exact",
        policy="",
        rule="axpy",
        loss_scale=LossScale("none"),
        sites=dict.fromkeys(
            (
                "x", "w", "error", "fwd-result", "dgrad-result", "wgrad-result", "unscale", "decay",
                "momentum", "update", "reduce", "softmax",
            ),
            _FIXED,
        ),
        choices=(
            "8 integer and 8 fraction bits, and sign and magnitude in place of two's complement",
            "sums rounded to binary32 before fixed point", "24 random bits",
            "biases in binary32 (`bias` and `other_rule` round them)",
        ),
    ),
    Recipe(
        "int4-2020",
        "Sun et al., NeurIPS 2020: 4-bit integers forward, powers of 4 backward, sums in 16 bits",
        profile="fp16",
        rule="master",
        sites={"x": _INT4, "w": _INT4, "error": Site(POWERS_OF_TWO, "nearest-even", "saturate")},
        quantisers={"x": "pact", "w": "sawb", "error": "radix4"},
        choices=(
            "binary32 weights, first and last layer in 16 bits",
            "DLFloat16 with chunks of 64 as the 16-bit sums", "a scale for each layer that starts at 2^10",
            "α starts as the first batch's largest activation; activations below zero: levels from −α to α",
        ),
    ),
    Recipe(
        "fp32",
        "binary32, not emulated: the control",
        profile="",
        policy="",
        rule="master",
        loss_scale=LossScale("none"),
    ),
):  # fmt: skip
    register_recipe(_recipe)
