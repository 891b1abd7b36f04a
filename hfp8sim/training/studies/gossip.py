"""D-PSGD: learners that average with two neighbours, with weights exchanged in several formats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from hfp8sim.ops import mixing
from hfp8sim.training.data import load_data
from hfp8sim.training.studies import exchange
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.units.sites import BINARY32, Site
from hfp8sim.units.sites import Values as Arrays

_EIGHT = Site("hfp8-143", "nearest-away", "saturate")


class Arm(NamedTuple):
    """Whom a learner averages with, and what it sends."""

    matrix: str = "ring"
    exchange: Site = BINARY32
    how: str = "direct"


ARMS = {
    "all learners": Arm("all"),
    "ring": Arm(),
    "ring, 1-6-9": Arm(exchange=Site()),
    "ring, 1-4-3": Arm(exchange=_EIGHT),
    "ring, 1-4-3 differences": Arm(exchange=_EIGHT, how="difference"),
    "nobody": Arm("none"),
}
LOSS, DISTANCE = "loss of the mean", "consensus distance"


def _matrix(kind: str, learners: int) -> np.ndarray:
    if kind == "ring":
        return mixing.ring_matrix(learners)
    return np.full((learners, learners), 1 / learners) if kind == "all" else np.eye(learners)


def _load(model: torch.nn.Module, weights: Arrays) -> None:
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), model.parameters())


def measure(case: Case) -> Values:
    """Every learner has weights of its own; the mean of all is tested."""
    arm, learners, steps = ARMS[case.arm], int(case.at), 6 if case.quick else 100
    model = exchange.network(case.seed)
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    weights, replicas = [start.copy() for _ in range(learners)], None
    if arm.how == "difference":
        replicas = [start.copy() for _ in range(learners)]  # all know the first weights
    matrix = _matrix(arm.matrix, learners)
    distances = []
    for step, batch in enumerate(exchange.parts(learners, steps, case.seed), start=1):
        rate = np.float32(0.1 * (1 + np.cos(np.pi * step / steps)) / 2)
        directions = []
        for own, (x, y) in zip(weights, batch, strict=True):
            _load(model, own)
            gradients = exchange.gradients(model, x, y)[1]
            directions.append(np.concatenate([g.reshape(-1) for g in gradients]))
        if arm.matrix == "all":
            mean = np.mean(weights, axis=0, dtype=np.float64).astype(np.float32)
            weights = [mean] * learners
        elif arm.matrix == "ring":
            mixed = mixing.mix(
                weights, matrix, exchange=arm.exchange, how=arm.how, replicas=replicas, step=step
            )
            weights, replicas = mixed.weights, mixed.replicas
        distances.append(mixing.consensus_distance(weights) / learners)
        weights = [w - rate * d for w, d in zip(weights, directions, strict=True)]
    _load(model, np.asarray(np.mean(weights, axis=0, dtype=np.float64), np.float32))
    data = load_data("digits").train
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(data.inputs), data.targets).item()
    return {
        LOSS: loss,
        "accuracy": exchange.accuracy(model),
        DISTANCE: float(np.mean(distances[-exchange.LAST :])),
        "spectral gap": 1 - mixing.spectral(matrix) ** 2,
    }


def judge(record: StudyRecord) -> list[Check]:
    """Two neighbours are as good as all; weights in 8 bits keep learners apart, differences do not."""
    most, least = max(record.points), min(record.points)
    cost = record.difference("accuracy", "ring", "all learners", least)
    apart = {arm: record.mean(DISTANCE, arm, most) for arm in ARMS}
    direct = apart["ring, 1-4-3"] / apart["ring"]
    differences = apart["ring, 1-4-3 differences"] / apart["ring"]
    nobody = record.difference(LOSS, "nobody", "ring", most)
    return [
        Check(
            f"On a ring of {least:g}, averaging with two neighbours changes accuracy by {cost.mean:+.2f} points (95 %"
            f" margin {cost.margin:.2f}) against averaging with all; wanted: above −1",
            cost.mean > -1,
        ),
        Check(
            f"With {most:g} learners, weights sent in 1-4-3 keep learners {direct:.1f} times as far apart as in binary32,"
            f" differences in 1-4-3 {differences:.2f} times; wanted: above 2, and less than directly",
            direct > 2 and differences < direct,
        ),
        Check(
            f"Without exchange the mean's loss is {nobody.mean:+.3f} nats from the ring's (margin {nobody.margin:.3f});"
            " wanted: higher beyond the margin",
            nobody.mean > 0 and nobody.differs,
        ),
    ]


STUDY = Study(
    "gossip",
    "Averaging with two neighbours trains like averaging with all",
    "Learners that average their weights with two neighbours on a ring converge as those that average with all. That"
    " weights in 8 bits keep learners apart, and differences do not, is a claim of this project.",
    "Lian et al., NeurIPS 2017 (abstract)",
    "A network of four linear layers on digits in binary32, N learners of 16 images, plain SGD, 100 steps from rate 0.1.",
    {
        "all learners": "weights averaged with all",
        "ring": "with two neighbours, binary32",
        "ring, 1-6-9": "sent in 1-6-9, to nearest",
        "ring, 1-4-3": "sent in 1-4-3, to nearest",
        "ring, 1-4-3 differences": "differences from what neighbours have, in 1-4-3 with a scale",
        "nobody": "no exchange",
    },
    (
        Metric(LOSS, "nats", log=True), Metric("accuracy", "%", 2), Metric(DISTANCE, "", 6, log=True),
        Metric("spectral gap", "", 3),
    ),
    measure,
    judge,
    Metric("learners", log=True),
    (4, 8, 16),
    quick_points=(4,),
    seeds=3,
    quick_seeds=1,
)  # fmt: skip
