"""A learner with DistributedDataParallel and a hook; writes its gradients of three steps."""

import sys

import numpy as np
import torch
from torch import nn

from hfp8sim.training import distributed
from hfp8sim.training.distributed import hooks
from tests.training.distributed import networks


def main(out: str, name: str) -> None:
    torch.set_num_threads(1)
    ring = distributed.connect(timeout=120)
    learner, learners = ring.seats[0]
    torch.manual_seed(11)
    model = nn.parallel.DistributedDataParallel(networks.plain())
    state = hooks.HookState(bin_length=20, convolution_bins=8, rate=10, seed=5)
    model.register_comm_hook(state, getattr(hooks, name))
    gradients = []
    for x, y in networks.batches(3):
        model.zero_grad()
        size = len(x) // learners
        part = slice(learner * size, (learner + 1) * size)
        nn.functional.cross_entropy(model(x[part].clone()), y[part].clone()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]).numpy().copy())
    traffic = state.ring.traffic[0]
    sent = {name: traffic.total(name) for name in traffic.messages}
    np.savez(f"{out}/{learner}.npz", gradients=gradients, **sent)


if __name__ == "__main__":
    main(*sys.argv[1:])
    torch.distributed.destroy_process_group()
