"""A rising floor of the loss scale: isolated overflows do not drag the scale down."""

from __future__ import annotations

import dataclasses

import torch

from hfp8sim.recipes import LossScale
from hfp8sim.training.runs import Run, Settings
from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

#: A step in so many overflows, whatever the scale.
_EVERY = 12
#: Clean steps until the scale grows: more than lie between two overflows, so it cannot recover.
_INTERVAL = 50
FLOORS = {"no overflows": 2.0**-24, "overflows, no floor": 2.0**-24, "overflows, floor 256": 256.0}
LOSS, SCALE, LOST = "training loss", "final scale", "weights without gradient"


def measure(case: Case) -> Values:
    """A run in which every twelfth step overflows."""
    scale = LossScale(
        "dynamic", start=1024.0, interval=_INTERVAL, floor=FLOORS[case.arm], cap=1024.0
    )
    recipe = dataclasses.replace(runs.changed({"rule": "master", "policy": ""}), loss_scale=scale)
    torch.set_num_threads(1)
    settings = Settings(
        runs.DEEP_MLP, recipe=recipe, rate=0.02, decay=1e-4, batch=32, seed=case.seed,
        steps=40 if case.quick else 320,
    )  # fmt: skip
    run = Run(settings, threads=1)
    if case.arm.startswith("overflows"):
        first = next(run.model.parameters())
        first.register_hook(lambda gradient: _overflowed(gradient, run.step))
    run.train()
    return runs.chosen(runs.metrics(run), LOSS, "accuracy") | {
        SCALE: run.optimiser.scale.scale,
        LOST: runs.without_gradient(run.model),
    }


def _overflowed(gradient: torch.Tensor, step: int) -> torch.Tensor:
    """A gradient with an infinity in every twelfth step, as an outlier among the images makes one."""
    return torch.full_like(gradient, torch.inf) if step % _EVERY == _EVERY - 1 else gradient


def judge(record: StudyRecord) -> list[Check]:
    """Without floor the scale falls until errors vanish; with one it stays."""
    control, bare, floor = FLOORS
    lost = record.difference(LOSS, bare, control)
    kept = record.difference(LOSS, floor, control)
    scales = [record.mean(SCALE, arm) for arm in FLOORS]
    lost_shares = [record.mean(LOST, arm) for arm in FLOORS]
    return [
        Check(
            f"Without floor the scale ends at {scales[1]:.3g}, with it at {scales[2]:.3g}; wanted: lower without",
            scales[1] < scales[2],
        ),
        Check(
            f"Weights whose gradient is 0 at the end: {lost_shares[1]:.0f} % without floor, {lost_shares[2]:.0f} % with it,"
            f" {lost_shares[0]:.0f} % without overflows; wanted: more without floor",
            lost_shares[1] > 1.2 * lost_shares[2],
        ),
        Check(
            f"Training loss against the run without overflows: {lost.mean:+.3f} nats without floor (95 % margin"
            f" {lost.margin:.3f}); wanted: higher beyond the margin",
            lost.mean > 0 and lost.differs,
        ),
        Check(
            f"With the floor {kept.mean:+.4f} nats; wanted: at most half of that",
            abs(kept.mean) <= abs(lost.mean) / 2,
        ),
    ]


STUDY = Study(
    "scale-floor",
    "A floor keeps the loss scale up",
    "A dynamic loss scale with a floor that rises during training is not dragged down by isolated overflows.",
    "Mellempudi et al., 2019, enhanced loss scaling; its steps and values were not at hand, so the floor is ours",
    f"Ten linear layers on digits without normalisation, HFP8 products, binary32 weights, 320 steps of 32 images. An"
    f" infinity in the first layer's gradient makes every {_EVERY}th step overflow, in place of outliers among the data."
    f" The scale starts at 1024, halves at an overflow and doubles after {_INTERVAL} clean steps, to 1024 at most.",
    {
        "no overflows": "the control",
        "overflows, no floor": "the scale may fall to 2^−24",
        "overflows, floor 256": "the scale never falls below 256; steps that overflow are skipped",
    },
    (
        Metric(LOSS, "nats", log=True), Metric("accuracy", "%", 2), Metric(SCALE, "", 6),
        Metric(LOST, "%", 1),
    ),
    measure,
    judge,
)  # fmt: skip
