"""A learner in a process of its own: trains, and writes what it has. `python -m …worker OUT RECIPE`."""

import sys

import numpy as np
import torch

from hfp8sim.training import distributed
from tests.training.distributed import networks


def main(out: str, name: str) -> None:
    torch.set_num_threads(1)
    ring = distributed.connect(timeout=120)
    recipe = getattr(networks, name)
    model = networks.converted(recipe)
    optimiser = distributed.make_optimiser(
        model, recipe, ring=ring, lr=0.05, momentum=0.9, weight_decay=5e-4, seed=3
    )
    losses = networks.train(model, optimiser)
    traffic = optimiser.traffic[0]
    sent = {name: traffic.total(name) for name in sorted(traffic.messages)}
    np.savez(
        f"{out}/{ring.seats[0].learner}.npz",
        weights=networks.weights(model).numpy(), state=networks.state(optimiser).numpy(), losses=losses,
        buffers=torch.cat([b.flatten().double() for b in model.buffers()]).numpy(),
        sent=[*sent.values()], messages=[traffic.messages[name] for name in sent], names=[*sent],
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
    torch.distributed.destroy_process_group()
