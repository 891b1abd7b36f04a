"""Many learners: HFP8's distributed update, in one process or over torch.distributed with the same bits (docs/distributed.md)."""

from hfp8sim.training.distributed.hooks import HookState, adacomp_hook, ring_hook, scalecom_hook
from hfp8sim.training.distributed.optimisers import (
    ShardedAdam,
    ShardedSGD,
    generator_seed,
    learner_seed,
    make_optimiser,
)
from hfp8sim.training.distributed.rings import (
    LocalRing,
    LostLearner,
    ProcessRing,
    Traffic,
    connect,
    in_processes,
)

__all__ = [
    "HookState",
    "LocalRing",
    "LostLearner",
    "ProcessRing",
    "ShardedAdam",
    "ShardedSGD",
    "Traffic",
    "adacomp_hook",
    "connect",
    "generator_seed",
    "in_processes",
    "learner_seed",
    "make_optimiser",
    "ring_hook",
    "scalecom_hook",
]
