"""The last layer in 8 bits: its products, and the input of its softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hfp8sim.training.data import load_data
from hfp8sim.training.studies import runs
from hfp8sim.training.studies.frame import Case, Check, Metric, Study, StudyRecord, Values

_DATA = "help-text"
_WIDTH, _CONTEXT = 32, 4
WIDE, PRODUCTS, ALL = "16-bit last layer", "8-bit products", "8-bit softmax input, too"
RECIPES = {
    WIDE: runs.changed({"policy": "last=fp16"}, "fp8-2018"),
    PRODUCTS: runs.changed({"policy": ""}, "fp8-2018"),
    ALL: runs.changed(
        {"policy": "", "softmax.format": "hfp8-152", "softmax.overflow": "saturate"}, "fp8-2018"
    ),
}
LOSS = "test loss"


class Windows(nn.Module):
    """A language model of two linear layers on the last four characters, without attention."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, _WIDTH)
        self.hidden = nn.Linear(_CONTEXT * _WIDTH, 128)
        self.head = nn.Linear(128, symbols)

    def forward(self, tokens: Any) -> Any:
        """Scores of the symbol after each."""
        x = self.symbol(tokens)
        earlier = [
            nn.functional.pad(x, (0, 0, shift, 0))[:, : x.shape[1]] for shift in range(_CONTEXT)
        ]
        return self.head(torch.relu(self.hidden(torch.cat(earlier, -1))))


def network() -> nn.Module:
    """The model for the characters of Python's help topics."""
    return Windows(load_data(_DATA).classes)


def measure(case: Case) -> Values:
    """A short run."""
    run = runs.train(
        f"{__name__}:network", RECIPES[case.arm], case.seed, data=_DATA, optimiser="adam", rate=4e-3, decay=0.0,
        batch=8, steps=5 if case.quick else 300,
    )  # fmt: skip
    return runs.chosen(runs.metrics(run), LOSS, "training loss", "accuracy")


def judge(record: StudyRecord) -> list[Check]:
    """The softmax's input does the damage."""
    products, whole = (record.difference(LOSS, arm, WIDE) for arm in (PRODUCTS, ALL))
    return [
        Check(
            f"With its softmax's input in 8 bits, too, the last layer ends {whole.mean:+.4f} nats from 16 bits (95 % margin"
            f" {whole.margin:.4f}); wanted: higher beyond the margin",
            whole.mean > 0 and whole.differs,
        ),
        Check(
            f"With 8-bit products alone it ends {products.mean:+.4f} nats from it (margin {products.margin:.4f}); wanted: at"
            " most a quarter of that",
            products.mean <= whole.mean / 4,
        ),
    ]


STUDY = Study(
    "softmax-input",
    "The last layer's damage is in its softmax's input",
    "8 bits in the last layer cost accuracy through the softmax's input, and hardly through the layer's products.",
    "Wang et al., NeurIPS 2018",
    "A language model of two linear layers on the characters of Python's help topics, 94 classes, recipe fp8-2018,"
    " Adam from rate 0.004, 300 steps of 8 windows of 64 characters. The maximum is subtracted before the input is rounded.",
    {
        WIDE: "the last layer's products and its softmax's input in 16 bits",
        PRODUCTS: "its products in 1-5-2, the softmax's input in 16 bits",
        ALL: "both in 1-5-2",
    },
    (Metric(LOSS, "nats"), Metric("training loss", "nats"), Metric("accuracy", "%", 2)),
    measure,
    judge,
    seeds=5,
)
