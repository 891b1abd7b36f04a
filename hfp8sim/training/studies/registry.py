"""All studies by name, in the order of the list."""

from __future__ import annotations

from hfp8sim.errors import unknown
from hfp8sim.training.studies import (
    adacomp,
    batchnorm,
    bits,
    bitstream,
    chunks,
    clipping,
    fixed_point,
    forward_format,
    four_bit,
    gossip,
    hybrid,
    last_layer,
    learners,
    loss_scale,
    parity,
    random_bits,
    residual,
    scale_floor,
    scalecom,
    softmax_input,
    updates,
)
from hfp8sim.training.studies.frame import Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        parity, updates, residual, random_bits, loss_scale, hybrid, forward_format, scale_floor, chunks, bits,
        last_layer, softmax_input, fixed_point, four_bit, clipping, batchnorm,
        learners, adacomp, scalecom, gossip, bitstream,
    )
}  # fmt: skip


def studies() -> list[str]:
    """The names of all studies."""
    return list(STUDIES)


def get_study(name: str) -> Study:
    """A study by name; `InputError` for an unknown one."""
    if name not in STUDIES:
        raise unknown("study", name, list(STUDIES))
    return STUDIES[name]
