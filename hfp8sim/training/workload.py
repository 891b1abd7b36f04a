"""One training step of a run as a workload of shapes: what its products take on a machine."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from hfp8sim.network import Workload
from hfp8sim.training.data import load_data
from hfp8sim.training.runs import Settings, batches_of, network_for
from hfp8sim.workloads import capture


def step_workload(settings: Settings) -> Workload:
    """The products of the first training step of a run, forward and backward, with binary32 tensors.

    Raises:
        InputError: an unknown name, data that is not installed, a layer that cannot be captured.
    """
    data = load_data(settings.data)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(settings.seed)
        model = network_for(settings.network, data)
        x, y = next(itertools.islice(batches_of(data, settings), 1))
        return capture(
            model, x,
            lambda logits: nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
            ),
            settings.network,
        )  # fmt: skip
    finally:
        torch.set_rng_state(state)
