"""ScaleCom: one learner's choice for all, the filtered memory, and memories in 16 bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim.ops import compressors
from hfp8sim.training.studies import exchange
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.units.sites import BINARY32, Site
from hfp8sim.units.sites import Values as Arrays


class Arm(NamedTuple):
    """Who chooses what is sent, and how memories are rounded."""

    choice: str = "leader"
    site: Site = BINARY32


ARMS = {
    "dense": Arm("all"),
    "top k of the mean": Arm("mean"),
    "local top k": Arm("own"),
    "ScaleCom": Arm(),
    "memory in 1-6-9": Arm(site=Site()),
    "memory in 1-6-9, stochastic": Arm(site=Site("dlfloat16", "stochastic")),
}
LOSS, SENT, HAMMING, COSINE = (
    "training loss",
    "indices over k",
    "Hamming distance",
    "cosine distance",
)
LEARNERS, RATE = 8, 50


def _chosen(arm: Arm, sums: list[Arrays], k: int, step: int) -> list[NDArray[np.int64]]:
    """The indices that each learner sends."""
    if arm.choice == "own":
        return [compressors.top_k(p, k) for p in sums]
    source = np.mean(sums, axis=0) if arm.choice == "mean" else sums[step % len(sums)]
    return [compressors.top_k(source, k)] * len(sums)


def measure(case: Case) -> Values:
    """A short run; weights are compressed, biases are not."""
    arm, steps = ARMS[case.arm], 8 if case.quick else 160
    beta = float(case.at)
    model = exchange.network(case.seed)
    update = exchange.Momentum(model, 0.05, steps)
    shapes = [p.shape for p in model.parameters()]
    memories = [[np.zeros(s.numel(), np.float32) for s in shapes] for _ in range(LEARNERS)]
    losses, union, hamming, cosine = [], [], [], []
    for step, learners in enumerate(exchange.parts(LEARNERS, steps, case.seed)):
        results = [exchange.gradients(model, x, y) for x, y in learners]
        losses.append(np.mean([loss for loss, _ in results]))
        mean: list[Arrays] = [
            np.mean([g[i] for _, g in results], axis=0, dtype=np.float32)
            for i in range(len(shapes))
        ]
        for i, shape in enumerate(shapes):
            if arm.choice == "all" or len(shape) < 2:
                continue
            k = max(shape.numel() // RATE, 1)
            words = [
                compressors.Words(case.seed, step + 1, i, learner) for learner in range(LEARNERS)
            ]
            sums = [
                compressors.add_memory(memories[n][i], g[i].reshape(-1), arm.site, words[n])
                for n, (_, g) in enumerate(results)
            ]
            indices = _chosen(arm, sums, k, step)
            sent = np.zeros((LEARNERS, shape.numel()), np.float32)
            for n, p in enumerate(sums):
                sent[n, indices[n]] = p[indices[n]]
                memories[n][i] = compressors.filter_memory(
                    memories[n][i], p, indices[n], beta, arm.site, words[n]
                )
            mean[i] = sent.mean(axis=0, dtype=np.float32).reshape(shape)
            union.append(np.unique(np.concatenate(indices)).size / k)
            hamming.append(compressors.hamming_share(np.mean(sums, axis=0), indices[0]))
            cosine.append(compressors.cosine_distance([m[i] for m in memories]))
        update.step(mean)
    return {
        LOSS: float(np.mean(losses[-exchange.LAST :])),
        "accuracy": exchange.accuracy(model),
        SENT: float(np.mean(union)) if union else float(RATE),
        HAMMING: float(np.mean(hamming)) if hamming else 0.0,
        COSINE: float(np.nanmean(cosine)) if cosine else 0.0,
    }


def judge(record: StudyRecord) -> list[Check]:
    """One choice for all keeps what is sent at k, and costs no accuracy; a small β swamps in 16 bits."""
    plain, filtered = max(record.points), min(record.points)
    build_up = record.mean(SENT, "local top k", plain)
    one = record.mean(SENT, "ScaleCom", plain)
    cost = record.difference("accuracy", "ScaleCom", "dense", plain)
    distance = record.mean(HAMMING, "ScaleCom", plain)
    nearest = record.difference(LOSS, "memory in 1-6-9", "ScaleCom", filtered)
    return [
        Check(
            f"{LEARNERS} learners that choose for themselves send {build_up:.1f}·k different elements, with a leader"
            f" {one:.1f}·k; wanted: above 2 and 1",
            build_up > 2 and abs(one - 1) < 1e-9,
        ),
        Check(
            f"At {RATE}-fold compression ScaleCom changes accuracy by {cost.mean:+.2f} points (95 % margin"
            f" {cost.margin:.2f}); wanted: above −1",
            cost.mean > -1,
        ),
        Check(
            f"Of the leader's choice {distance:.0%} is not in the true top k; wanted: below 100 %, so that the"
            " compression contracts",
            distance < 1,
        ),
        Check(
            f"With β = {filtered:g} a memory in 1-6-9, to nearest, ends {nearest.mean:+.4f} nats from one in binary32"
            f" (margin {nearest.margin:.4f}); wanted: beyond the margin",
            nearest.differs,
        ),
    ]


STUDY = Study(
    "scalecom",
    "One learner's choice compresses the gradients of all",
    "If learners take turns to choose the elements that all send, their sum needs no more bytes with more learners,"
    " and error feedback keeps the accuracy at 65- to 400-fold compression.",
    "Chen et al., NeurIPS 2020; that a small β swamps in 16 bits is a claim of this project",
    f"A network of four linear layers on digits in binary32, {LEARNERS} learners of 16 images, SGD with momentum, 160"
    f" steps from rate 0.05; one weight in {RATE} is sent, biases whole. β is the low-pass filter's factor.",
    {
        "dense": "no compression",
        "top k of the mean": "the true largest elements, which no learner knows",
        "local top k": "each learner sends its own largest",
        "ScaleCom": "the leader's largest, binary32 memories",
        "memory in 1-6-9": "memories rounded to 1-6-9, to nearest",
        "memory in 1-6-9, stochastic": "memories rounded to 1-6-9, stochastic",
    },
    (
        Metric(LOSS, "nats", log=True), Metric("accuracy", "%", 2), Metric(SENT, "", 2),
        Metric(HAMMING, "", 2), Metric(COSINE, "", 2),
    ),
    measure,
    judge,
    Metric("β", log=True),
    (0.1, 1.0),
    quick_seeds=1,
)  # fmt: skip
