"""AdaComp: compression that adapts itself, by bin length, threshold and the residue's format."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hfp8sim.ops import compressors
from hfp8sim.training.studies import exchange
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values
from hfp8sim.units.sites import BINARY32, Site
from hfp8sim.units.sites import Values as Arrays


class Arm(NamedTuple):
    """How gradients are compressed."""

    soft: float = 2.0  #: 0: not at all
    site: Site = BINARY32


ARMS = {
    "dense": Arm(0.0),
    "AdaComp": Arm(),
    "hard threshold": Arm(1.0),
    "residue in 1-6-9": Arm(site=Site()),
    "residue in 1-5-2": Arm(site=Site("hfp8-152", "nearest-away", "saturate")),
}
LOSS, RATE, SWAMPED = "training loss", "compression", "swamped"
LEARNERS = 4


def measure(case: Case) -> Values:
    """A short run; weights are compressed, biases are not."""
    arm, steps = ARMS[case.arm], 10 if case.quick else 240
    model = exchange.network(case.seed)
    update = exchange.Momentum(model, 0.05, steps)
    residues = [
        [np.zeros(p.shape, np.float32) for p in model.parameters()] for _ in range(LEARNERS)
    ]
    losses, dense, sent, swamped, nonzero = [], 0, 0, 0, 0
    for learners in exchange.parts(LEARNERS, steps, case.seed):
        total: list[list[Arrays]] = []
        for k, (x, y) in enumerate(learners):
            loss, gradients = exchange.gradients(model, x, y)
            losses.append(loss)
            total.append(gradients)
            for i, gradient in enumerate(gradients):
                if arm.soft == 0 or gradient.ndim < 2:
                    continue
                packet, residues[k][i] = compressors.adacomp(
                    residues[k][i], gradient, bin_length=int(case.at), soft=arm.soft, site=arm.site
                )
                gradients[i] = packet.values.reshape(gradient.shape)
                dense += 4 * gradient.size
                sent += len(packet.pack())
                swamped += packet.swamped
                nonzero += int(np.count_nonzero(gradient))
        update.step([np.mean(each, axis=0, dtype=np.float32) for each in zip(*total, strict=True)])
    return {
        LOSS: float(np.mean(losses[-LEARNERS * exchange.LAST :])),
        "accuracy": exchange.accuracy(model),
        RATE: dense / sent if sent else 1.0,
        SWAMPED: 100 * swamped / nonzero if nonzero else 0.0,
    }


def judge(record: StudyRecord) -> list[Check]:
    """At the paper's bin length compression costs little; the coarser the residue, the more swamps."""
    at = 500 if 500 in record.points else max(record.points)
    cost = record.difference("accuracy", "AdaComp", "dense", at)
    rate = record.mean(RATE, "AdaComp", at)
    hard = record.mean(RATE, "hard threshold", at)
    shares = [
        record.mean(SWAMPED, arm, at) for arm in ("AdaComp", "residue in 1-6-9", "residue in 1-5-2")
    ]
    return [
        Check(
            f"In bins of {at:g}, AdaComp compresses {rate:.0f}-fold and changes accuracy by {cost.mean:+.2f} points"
            f" (95 % margin {cost.margin:.2f}); wanted: above 20-fold, and above −1",
            rate > 20 and cost.mean > -1,
        ),
        Check(
            f"The hard threshold compresses {hard:.0f}-fold; wanted: more than the soft one, which sends more",
            hard > rate,
        ),
        Check(
            f"Of the elements {shares[0]:.2f} % swamp in a binary32 residue, {shares[1]:.2f} % in 1-6-9,"
            f" {shares[2]:.1f} % in 1-5-2; wanted: more in each",
            shares[0] < shares[1] < shares[2],
        ),
    ]


STUDY = Study(
    "adacomp",
    "Gradients compress by their own activity, with a residue kept",
    "Sending the elements that reach the largest of their bin, and keeping the rest as a residue, compresses gradients"
    " 40-fold (convolutions) to 200-fold (linear layers) without loss of accuracy.",
    "Chen et al., AAAI 2018 (abstract)",
    "A network of four linear layers on digits in binary32, 4 learners of 16 images, SGD with momentum, 240 steps from"
    " rate 0.05; weights are compressed, biases are not. Layers are small: 640 to 4096 weights.",
    {
        "dense": "no compression",
        "AdaComp": "soft threshold of factor 2, binary32 residue",
        "hard threshold": "factor 1",
        "residue in 1-6-9": "residue rounded to 1-6-9, to nearest",
        "residue in 1-5-2": "residue rounded to 1-5-2, to nearest",
    },
    (
        Metric(LOSS, "nats", log=True), Metric("accuracy", "%", 2), Metric(RATE, "×", 0),
        Metric(SWAMPED, "%", 2),
    ),
    measure,
    judge,
    Metric("bin length", log=True),
    (50, 500, 2000),
    quick_points=(500,),
    quick_seeds=1,
)  # fmt: skip
