"""Training and inference of PyTorch networks whose matrix products the emulator computes.

    from hfp8sim import training
    training.convert(model, "hfp8", policy="first=fp16,last=fp16")

`convert` works in place. Parameters keep their names, shapes, dtypes and values, so checkpoints load both
ways and every optimiser, scheduler and data loader works as before. docs/training.md describes what is computed.

PyTorch is imported by this package and by nothing else of hfp8sim but the reader of captured networks.
"""

from hfp8sim.errors import InputError

try:
    import torch as _torch  # noqa: F401
except ImportError:
    raise InputError("hfp8sim.training needs PyTorch: pip install 'hfp8sim[torch]'") from None

from hfp8sim.training.conversion import (
    convert,
    describe,
    emulation_of,
    quantiser_parameters,
    restore,
)
from hfp8sim.training.data import load_data
from hfp8sim.training.direct import quantise_directly
from hfp8sim.training.emulation import Emulation
from hfp8sim.training.findings import LayerFinding
from hfp8sim.training.functional import bmm, linear, matmul, scaled_dot_product_attention
from hfp8sim.training.inference import (
    Evaluation,
    calibrate,
    evaluate,
    quantise,
    retune_batchnorm,
)
from hfp8sim.training.losses import cross_entropy
from hfp8sim.training.networks import make_network
from hfp8sim.training.optimisers import SGD, Adam, make_optimiser, parameter_groups, round_updates
from hfp8sim.training.watch import Watch
from hfp8sim.training.weights import load_weights, save_quantised

__all__ = [
    "SGD",
    "Adam",
    "Emulation",
    "Evaluation",
    "LayerFinding",
    "Watch",
    "bmm",
    "calibrate",
    "convert",
    "cross_entropy",
    "describe",
    "emulation_of",
    "evaluate",
    "linear",
    "load_data",
    "load_weights",
    "make_network",
    "make_optimiser",
    "matmul",
    "parameter_groups",
    "quantise",
    "quantise_directly",
    "quantiser_parameters",
    "restore",
    "retune_batchnorm",
    "round_updates",
    "save_quantised",
    "scaled_dot_product_attention",
]
