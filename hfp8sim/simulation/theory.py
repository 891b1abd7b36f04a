"""Variance-retention theory applied to layers and profiles: no tensor is needed."""

from __future__ import annotations

from collections.abc import Iterable

from hfp8sim.analysis.variance import chunked_retention, needed_bits
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import get_format
from hfp8sim.network import PHASES, Workload, check_phases
from hfp8sim.report.columns import Row
from hfp8sim.report.theory import PREDICTED
from hfp8sim.simulation.tasks import Task, list_tasks
from hfp8sim.units import Profile, get_profile
from hfp8sim.units.policy import PolicyLike, parse
from hfp8sim.workloads import load_workload


@standard_arithmetic
def predictions(
    workload: Workload | str,
    profile: str | Profile = "hfp8",
    phases: Iterable[str] = PHASES,
    policy: PolicyLike | None = None,
) -> list[Row]:
    """What variance-retention theory predicts for every layer's sums. It needs shapes alone.

    A row has the keys of `report.theory.PREDICTED`: the retention of the profile's accumulator and the
    fraction bits that would be enough, as one sum (`normal`) and in chunks of the profile's length.

    Raises:
        InputError: an unknown name, or a policy that does not fit the workload.
    """
    if not isinstance(workload, Workload):
        workload = load_workload(workload)
    tasks = list_tasks(workload, check_phases(phases), get_profile(profile), parse(policy))
    return [_prediction(task) for task in tasks]


def _prediction(task: Task) -> Row:
    k, chunk = task.layer.shape(task.phase).k, task.profile.chunk_length
    accumulator, products = fraction_bits(task.profile, task.phase)
    predicted = theory(task.profile, task.phase, k)
    values = (
        task.layer.name, task.phase, k, task.profile.name, task.rule, products, accumulator, chunk,
        chunked_retention(accumulator, products, k, 0),
        chunked_retention(accumulator, products, k, chunk) if chunk else None,
        predicted["bits_normal"], predicted["bits_chunked"],
    )  # fmt: skip
    return dict(zip(PREDICTED, values, strict=True))


def theory(profile: Profile, phase: str, k: int) -> Row:
    """The report's columns of theory for sums of length k: retained variance and needed fraction bits.

    Chunks that are summed exactly retain everything.
    """
    accumulator, products = fraction_bits(profile, phase)
    chunk, exact = profile.chunk_length, profile.products_per_step == 0
    return {
        "retention_theory": 1.0 if exact else chunked_retention(accumulator, products, k, chunk),
        "bits_normal": needed_bits(products, k),
        "bits_chunked": needed_bits(products, k, chunk) if chunk else None,
    }


def fraction_bits(profile: Profile, phase: str) -> tuple[int, int]:
    """Fraction bits of the accumulator, and of the products as they enter it."""
    a, b = profile.operand_formats(phase)
    accumulator = get_format(profile.accumulator).fraction_bits
    return accumulator, min(a.fraction_bits + b.fraction_bits + 1, accumulator)
