"""A task's row in the report: what it is, how long it takes, and how accurate its values are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hfp8sim.analysis import sums
from hfp8sim.analysis.accuracy import Accuracy, accuracy, retention
from hfp8sim.analysis.references import product, product_of_codes
from hfp8sim.machine import Machine
from hfp8sim.network import Layer, phase_gemm
from hfp8sim.ops import count_nan, thread_count
from hfp8sim.report.columns import Row
from hfp8sim.simulation.loss_scale import loss_scale
from hfp8sim.simulation.tasks import Task
from hfp8sim.simulation.theory import theory
from hfp8sim.simulation.values import Emulated, emulate, result_matrices, sample_events
from hfp8sim.timing import time_layer
from hfp8sim.units import Profile
from hfp8sim.units.profile import operand_roles
from hfp8sim.workloads import operands
from hfp8sim.workloads.operands import operand_matrices


def identity_columns(task: Task) -> Row:
    """The columns that need no computation."""
    shape = task.layer.shape(task.phase)
    a, b = task.profile.operand_formats(task.phase)
    return {
        "layer": task.layer.name, "phase": task.phase, "kind": task.layer.kind,
        "operation": task.layer.operation,
        "profile": task.profile.name, "rule": task.rule,
        "formats": f"{a.name} × {b.name} → {task.profile.result_format.name}",
        "scaling": task.scaling,
        "groups": shape.groups, "m": shape.m, "n": shape.n, "k": shape.k, "macs": shape.macs,
    }  # fmt: skip


def time_columns(task: Task, machine: Machine, model: str) -> Row:
    """The time of the whole layer: a function of shapes, formats, machine and model alone."""
    time = time_layer(task.layer, task.phase, task.profile, machine, model)
    return {
        "cycles": time.cycles,
        **time.parts._asdict(),
        "utilisation": time.utilisation(machine),
        "time_us": machine.seconds(time.cycles) * 1e6,
        "tflops": time.tflops(machine),
        "bytes": time.bytes,
        "bytes_compulsory": time.compulsory,
        "bytes_capacity": time.bytes - time.compulsory,
        "bound_by": time.bound_by,
    }


def measure(
    task: Task,
    machine: Machine,
    seed: int,
    threads: int | None,
    max_macs: int | None,
    events_every: int = 1,
) -> Row:
    """The value columns: accuracy, events and theory of the layer's tensors, or of a sample of its outputs.

    Args:
        seed: of drawn tensors and stochastic roundings.
        max_macs: more multiply-accumulates than these are sampled; None: no sampling.
        events_every: count the events of one of so many blocks of rows.
    """
    work = _emulated_product(task, seed, max_macs, thread_count(threads))
    emulated = emulate(
        work.layer, work.phase, work.tensors, work.profile,
        seed=seed, stream=task.stream, machine=machine, threads=threads,
        count=events_every == 1,
    )  # fmt: skip
    codes = np.ascontiguousarray(result_matrices(work.layer, work.phase, emulated.codes))
    references = work.reference_unquantised, _reference_quantised(work, emulated, threads)
    unquantised, quantised = sums.add(codes, emulated.format, references, thread_count(threads))
    macs, counted = codes.size * work.depth, 1.0
    if events_every > 1:
        events, gated, counted = sample_events(
            work.layer, work.phase, emulated.operands, work.profile, events_every,
            seed=seed, stream=task.stream, threads=threads,
        )  # fmt: skip
        events = dataclasses.replace(events, nan=count_nan(codes, emulated.format))
        emulated = dataclasses.replace(emulated, events=events, gated=gated)
    steps = codes.size * task.profile.steps(work.depth)
    return (
        _accuracy_columns(accuracy(unquantised), accuracy(quantised))
        | _operand_columns(work, emulated, task)
        | _event_columns(emulated, round(steps * counted), round(macs * counted))
        | {
            "retention": retention(quantised),
            "counted": counted,
            "sampled": macs / task.macs,
            "tensors": work.provenance,
        }
        | theory(task.profile, task.phase, work.depth)
    )


# -- what is emulated, and its references -----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Product:
    """The product that is emulated for a task.

    A layer that carries its tensors and is not sampled is emulated as it is: the machine's addresses unfold a
    convolution. Any other task becomes a plain GEMM of the drawn or sampled operand matrices.
    """

    layer: Layer  #: its geometry
    phase: str
    tensors: Mapping[str, NDArray[np.float32]]  #: what is multiplied
    profile: Profile
    depth: int  #: K, the length of the sums
    reference_unquantised: NDArray[np.float64]  #: (G, M, N) of the tensors as they are
    provenance: str


def _emulated_product(task: Task, seed: int, max_macs: int | None, threads: int) -> _Product:
    layer, phase, profile = task.layer, task.phase, task.profile
    a, b, provenance = operands(layer, phase, seed=seed, max_macs=max_macs)
    reference = product(a, b, threads)
    depth = a.shape[2]
    work, tensors = phase_gemm(layer, phase), layer.tensors
    complete = all(view.tensor in tensors for view in (work.a, work.b))
    if reference.size * depth != task.macs or not complete:
        (a_format, b_format), (a_scale, b_scale) = (
            profile.operand_formats(phase), profile.operand_scales(phase)
        )  # fmt: skip
        profile = profile.replace(
            a_format=a_format, b_format=b_format, a_scale=a_scale, b_scale=b_scale
        )
        layer, phase = _gemm_layer(layer.name, a, b), "fwd"
        tensors = {key: x.reshape(layer.tensor_shape(key)) for key, x in (("x", a), ("w", b))}
    return _Product(layer, phase, tensors, profile, depth, reference, provenance)


def _gemm_layer(name: str, a: NDArray[np.float32], b: NDArray[np.float32]) -> Layer:
    """A layer whose forward pass is the product of A (G, M, K) and B (G, K, N)."""
    return Layer(name, "gemm", a.shape[1], b.shape[2], a.shape[2], len(a), phases=("fwd",))


def _reference_quantised(
    work: _Product, emulated: Emulated, threads: int | None
) -> NDArray[np.float64]:
    """The float64 product of the quantised operands, (G, M, N)."""
    a, b = operand_matrices(work.layer, work.phase, emulated.operands)
    a_format, b_format = (operand.format for operand in emulated.quantised.values())
    return product_of_codes(a, b, a_format, b_format, thread_count(threads))


# -- columns -----------------------------------------------------------------------------------------


def _accuracy_columns(unquantised: Accuracy, quantised: Accuracy) -> Row:
    """Errors against the float64 results of the unquantised and of the quantised operands."""
    return {
        "sqnr_db": unquantised.sqnr_db,
        "relative_error": unquantised.relative_error,
        "max_error": unquantised.max_error,
        "cosine": unquantised.cosine,
        "error_ulps": list(unquantised.histogram),
        "acc_sqnr_db": quantised.sqnr_db,
        "acc_relative_error": quantised.relative_error,
        "acc_max_ulp": quantised.max_ulp,
        "acc_mean_ulp": quantised.mean_ulp,
        "acc_error_ulps": list(quantised.histogram),
    }


def _operand_columns(work: _Product, emulated: Emulated, task: Task) -> Row:
    """How much of the operands their formats cannot hold, and the loss scale for errors."""
    a, b = emulated.quantised.values()
    columns: Row = {
        "saturated_share": max(a.saturated_share, b.saturated_share),
        "flushed_share": max(a.flushed_share, b.flushed_share),
        "a_saturated_share": a.saturated_share, "b_saturated_share": b.saturated_share,
        "a_flushed_share": a.flushed_share, "b_flushed_share": b.flushed_share,
        "a_largest": a.format.max, "b_largest": b.format.max,
        "loss_scale": None, "loss_scale_lost": None,
    }  # fmt: skip
    if "error" in operand_roles(task.phase):
        place = operand_roles(task.phase).index("error")
        name, errors = list(emulated.quantised.items())[place]
        scale = work.profile.operand_scales(work.phase)[place]
        best = loss_scale(work.tensors[name], errors, scale, work.profile)
        columns |= {"loss_scale": best.exponent, "loss_scale_lost": best.lost}
    return columns


def _event_columns(emulated: Emulated, steps: int, macs: int) -> Row:
    """What was counted, in total and as shares of the emulated steps and multiply-accumulates."""
    events, gated = emulated.events, emulated.gated
    assert events is not None and gated is not None
    return {
        "saturated": emulated.saturated,
        "flushed": emulated.flushed,
        "overflowed": events.overflowed,
        "underflowed": events.underflowed,
        "nan": events.nan,
        "swamped": events.swamped,
        "steps": steps,
        "swamped_share": events.swamped / steps if steps else None,
        "gated": gated,
        "gated_share": gated / macs,
        "draws": events.draws,
    }
