"""DistributedDataParallel's hooks give what the compressors give on arrays, at every learner."""

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hfp8sim.ops import compressors  # noqa: E402
from hfp8sim.ops.updates import reduce  # noqa: E402
from hfp8sim.systems import wire  # noqa: E402
from hfp8sim.units.sites import BINARY32  # noqa: E402
from tests.training.distributed import networks  # noqa: E402

ROOT = Path(__file__).parents[3]


def by_hand(name, learners):
    """The mean gradients of three steps from the functions on arrays, and the bytes of all packets of compressors."""
    packed = 0
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(11)
    model = networks.plain()
    parameters = list(model.parameters())
    kept = [[np.zeros(p.numel(), np.float32) for p in parameters] for _ in range(learners)]
    steps = []
    for step, (x, y) in enumerate(networks.batches(3), start=1):
        size = len(x) // learners
        every = []
        for k in range(learners):
            model.zero_grad()
            part = slice(k * size, (k + 1) * size)
            nn.functional.cross_entropy(model(x[part].clone()), y[part].clone()).backward()
            every.append([p.grad.numpy().reshape(-1).copy() for p in parameters])
        means = []
        for i, parameter in enumerate(parameters):
            own = [gradients[i] for gradients in every]
            if name == "ring_hook" or parameter.ndim < 2:
                means.append(reduce(own, BINARY32, step=step) / np.float32(learners))
            elif name == "adacomp_hook":
                length = 8 if parameter.ndim > 2 else 20
                packets = []
                for k in range(learners):
                    packet, kept[k][i] = compressors.adacomp(kept[k][i], own[k], bin_length=length)
                    packets.append(packet)
                    packed += len(packet.pack())
                means.append(compressors.sum_of_packets(packets) / np.float32(learners))
            else:
                k = -(-parameter.numel() // 10)
                result = compressors.scalecom([m[i] for m in kept], own, k, step, chunks=True)
                for memories, new in zip(kept, result.memories):
                    memories[i] = new
                means.append(result.mean)
        steps.append(np.concatenate(means))
    torch.set_num_threads(before)
    return np.stack(steps), packed


@pytest.mark.parametrize("name", ["adacomp_hook", "scalecom_hook", "ring_hook"])
def test_hook_gives_the_functions_of_arrays(tmp_path, name):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
        "-m", "tests.training.distributed.hook_worker", str(tmp_path), name,
    ]  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    expected, packed = by_hand(name, 2)
    sent = Counter()
    for k in range(2):
        result = np.load(tmp_path / f"{k}.npz")
        np.testing.assert_array_equal(result["gradients"], expected)
        sent.update({key: int(result[key]) for key in result.files if key != "gradients"})
    assert sent == account(name, 2, packed)


def account(name, learners, packed):
    """What all learners send in three steps, by the wire account; lengths of packets are status."""
    shapes = [p.shape for p in networks.plain().parameters()]
    layers = [
        wire.Weights(str(i), math.prod(shape), linear=len(shape) == 2)
        for i, shape in enumerate(shapes)
    ]
    whole = [x for x, s in zip(layers, shapes, strict=True) if name == "ring_hook" or len(s) < 2]
    rest = [layer for layer in layers if layer not in whole]
    rows = wire.all_reduce(whole, learners, 4)
    if name == "scalecom_hook":
        rows += wire.scalecom(rest, learners, rate=10, width=4)
    names = {"broadcast of indices": "packets"}
    sent = Counter()
    for row in rows:
        halves = ["reduce-scatter", "all-gather"] if row.collective == "all-reduce of values" else [names.get(row.collective, row.collective)]  # fmt: skip
        for half in halves:
            sent[half] += round(3 * learners * row.bytes / len(halves))
    if name == "adacomp_hook":
        sent["packets"] = (learners - 1) * packed
    if rest:
        sent["status"] = 3 * len(rest) * learners * (learners - 1) * 4
    return sent
