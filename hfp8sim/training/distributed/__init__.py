"""Many learners: HFP8's distributed update, in one process or over torch.distributed with the same bits (docs/distributed.md)."""

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
    "LocalRing",
    "LostLearner",
    "ProcessRing",
    "ShardedAdam",
    "ShardedSGD",
    "Traffic",
    "connect",
    "generator_seed",
    "in_processes",
    "learner_seed",
    "make_optimiser",
]
