"""The update of a tensor of weights, in place, and sums over learners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import config
from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.kernels import update as kernel
from hfp8sim.kernels.workers import share, slices
from hfp8sim.ops.threads import thread_count
from hfp8sim.units.sites import Draw, Op, Place, Site, Values, invalid_elements, round_site
from hfp8sim.units.update import Constants, Counts, Slot, Step, Update, plain_update
from hfp8sim.units.update import Term as UpdateTerm

#: Elements of a thread's part: enough to pay for starting it.
_PART = 1 << 16


@standard_arithmetic
def update(
    rule: Update,
    constants: Constants,
    weight: Values,
    gradient: Values,
    *,
    residual: Values | None = None,
    momentum: Values | None = None,
    second: Values | None = None,
    seed: int = 0,
    step: int,
    tensor: int = 0,
    part: slice | None = None,
    stuck: bool = False,
    threads: int | None = None,
) -> Counts:
    """Update a tensor of weights and its state in place (docs/numerics.md, section 6).

    Tensors are float32 of one shape and hold numbers of their site's format. An element's random words depend
    on the seed, the step, the tensor's number, the site and the element's row-major number, and on nothing else.

    Args:
        rule: which roundings, in which formats.
        constants: rate, decay, momentum, loss scale of this step.
        weight: W, written.
        gradient: G as the product gave it, times the loss scale; it is not changed.
        residual, momentum, second: r, v and n, written; those that `rule.state(constants)` names.
        seed, step, tensor: integers from 0 to 2^64 − 1. Steps count from 1; 0 is the start.
        part: row-major numbers of the elements to update, `slice(first, stop)`; all for None. The others are not read.
            With it, tensors must be contiguous.
        stuck: count the elements that stay though binary32 would have moved them; it costs a third more.
        threads: all cores for None.

    Returns:
        Counts of what overflowed, underflowed and was stuck.

    Raises:
        InputError: a tensor that is missing, not wanted, not float32, read-only or of another shape; a NaN that
            its format has no code for. The text names the first such element. It and its like stay as they
            were; the others are updated.
    """
    wanted = rule.state(constants)
    given = {
        Slot.WEIGHT: weight, Slot.GRADIENT: gradient, Slot.RESIDUAL: residual,
        Slot.MOMENTUM: momentum, Slot.SECOND: second,
    }  # fmt: skip
    tensors = _check_tensors(rule, given, wanted)
    if part is not None and not all(x.flags.c_contiguous for x in tensors.values()):
        raise InputError("a part of an update needs contiguous tensors")
    flat = {slot: np.ascontiguousarray(x).reshape(-1) for slot, x in tensors.items()}
    counts = update_flat(
        rule, constants, flat, Draw(seed, step, tensor), stuck, thread_count(threads), part
    )
    for slot in (Slot.WEIGHT, *wanted):
        if not np.shares_memory(flat[slot], tensors[slot]):
            tensors[slot][...] = flat[slot].reshape(weight.shape)
    if counts.invalid >= 0:
        place = ", ".join(str(int(i)) for i in np.unravel_index(counts.invalid, weight.shape))
        raise InputError(f"NaN at [{place}] of the update: its format has no code for it")
    return counts


@standard_arithmetic
def start(
    rule: Update, weight: NDArray[Any], *, seed: int = 0, tensor: int = 0
) -> tuple[Values, Values | None]:
    """The start of training: W and r of weights w (docs/numerics.md, section 6, "Start").

    Args:
        rule: its sites `update` and `residual` round, with the random words of step 0.
        weight: w, any shape, in a dtype that binary32 holds exactly, else it is rounded to binary32 first.

    Returns:
        W and r, float32 of w's shape; None for r where the rule has no residual.
    """
    w = np.ascontiguousarray(weight, np.float32).reshape(np.shape(weight))
    draw = Draw(seed, 0, tensor)
    new = _round(Place.UPDATE, rule.sites["update"], [(1.0, w)], draw)
    if not rule.residual:
        return new, None
    return new, _round(Place.RESIDUAL, rule.sites["residual"], [(1.0, new), (-1.0, w)], draw)


@standard_arithmetic
def round_at(
    place: Place, x: NDArray[np.float32], site: Site, *, seed: int = 0, step: int, tensor: int = 0
) -> Values:
    """A tensor rounded at one place of a training step: float32 of x's shape."""
    return _round(place, site, [(1.0, x)], Draw(seed, step, tensor))


def round_result(
    x: NDArray[np.float32], site: Site, *, seed: int = 0, step: int, tensor: int = 0
) -> Values:
    """A product's result, rounded at the site `result`: float32 of x's shape."""
    return round_at(Place.RESULT, x, site, seed=seed, step=step, tensor=tensor)


@standard_arithmetic
def softmax_input(
    z: NDArray[np.float32],
    site: Site,
    *,
    axis: int = -1,
    seed: int = 0,
    step: int,
    tensor: int = 0,
) -> Values:
    """z − max z, rounded at the site `softmax` (Sun et al., NeurIPS 2019: subtract first, then quantise).

    Args:
        z: float32, any shape.
        site: how to round; the rounding to the operand's format is the caller's next step.
        axis: of which the maximum is taken.

    Returns:
        float32 of z's shape. Elements of −∞ are masked: they stay.

    Raises:
        InputError: a row with NaN or +∞ at a site whose format has no NaN.
    """
    z = np.asarray(z, np.float32)
    largest = np.broadcast_to(z.max(axis=axis, keepdims=True), z.shape)
    masked = np.isneginf(z)
    if not masked.any():
        return _round(Place.SOFTMAX, site, [(1.0, z), (-1.0, largest)], Draw(seed, step, tensor))
    shown = np.where(masked, np.float32(0), z)
    subtracted = np.where(masked, np.float32(0), largest)
    result = _round(
        Place.SOFTMAX, site, [(1.0, shown), (-1.0, subtracted)], Draw(seed, step, tensor)
    )
    result[masked] = -np.inf
    return result


@standard_arithmetic
def reduce(
    gradients: Sequence[NDArray[np.float32]],
    site: Site,
    *,
    seed: int = 0,
    step: int,
    tensor: int = 0,
    encoded: bool = False,
) -> Values:
    """The sum of a gradient over learners, in ring order, each hop rounded (docs/numerics.md, section 6).

    Args:
        gradients: one array of each learner, float32 of one shape.
        site: how a hop rounds.
        encoded: what learners send are codes of the site's format. So the elements with which a sum starts are rounded too,
            as hop 0 (docs/distributed.md).

    Returns:
        float32 of that shape. One learner's gradient is returned as it is.

    Raises:
        InputError: no learner, or shapes that differ.
    """
    if not len(gradients) or any(np.shape(x) != np.shape(gradients[0]) for x in gradients):
        raise InputError("a sum over learners needs one gradient of each, all of one shape")
    flat = [np.ascontiguousarray(x, np.float32).reshape(-1) for x in gradients]
    learners, size, draw = len(flat), flat[0].size, Draw(seed, step, tensor)
    result = np.empty(size, np.float32)
    for c in range(learners):
        first, stop = c * size // learners, (c + 1) * size // learners
        total = flat[(c + 1) % learners][first:stop]
        if encoded and learners > 1:
            total = _round(Place.REDUCE, site, [(1.0, total)], draw, 0, first)
        for hop in range(1, learners):
            x = flat[(c + 1 + hop) % learners][first:stop]
            total = _round(Place.REDUCE, site, [(1.0, total), (1.0, x)], draw, hop, first)
        result[first:stop] = total
    return result.reshape(np.shape(gradients[0]))


@standard_arithmetic
def rounded_sum(
    place: Place,
    site: Site,
    terms: list[tuple[float, NDArray[np.float32]]],
    *,
    seed: int = 0,
    step: int = 0,
    tensor: int = 0,
    hop: int = 0,
    first: int = 0,
) -> Values:
    """A sum of one to three constants times arrays, formed exactly and rounded once at a place of a training step.

    Args:
        place, site: whose random words, and how to round.
        terms: pairs of a constant, a binary32 number, and a float32 array; arrays of one shape.
        seed, step, tensor: as `update`.
        hop: number of the addition in a sum over learners, or 0; it enters the random words.
        first: the number of the first element in its tensor.

    Returns:
        float32 of the arrays' shape.

    Raises:
        InputError: a NaN that the format has no code for.
    """
    return _round(place, site, terms, Draw(seed, step, tensor), hop, first)


def _round(
    place: Place,
    site: Site,
    terms: list[tuple[float, NDArray[np.float32]]],
    draw: Draw,
    hop: int = 0,
    first: int = 0,
) -> Values:
    """A sum of terms, rounded at one site; `first` is the number of the first element in its tensor.

    Raises:
        InputError: a NaN that the format has no code for.
    """
    shape = terms[0][1].shape
    arrays = [np.ascontiguousarray(x, np.float32).reshape(-1) for _, x in terms]
    out = _round_fast(place, site, [c for c, _ in terms], arrays, draw, hop, first)
    if isinstance(out, int):
        index = ", ".join(str(int(i)) for i in np.unravel_index(out, shape))
        raise InputError(
            f"NaN at [{index}] of the {place.text}: {site.record.name} has no code for it"
        )
    return out.reshape(shape)


def _round_fast(
    place: Place,
    site: Site,
    constants: list[float],
    arrays: list[NDArray[np.float32]],
    draw: Draw,
    hop: int,
    first: int,
) -> Values | int:
    """The rounded values, or the first element without a code."""
    step = Step(Slot(3), place, Op.SUM, tuple(UpdateTerm(Slot(i)) for i in range(len(arrays))))
    record = None
    if not config.DISABLE_JIT:
        record = kernel.sum_record(step, site, constants, draw, hop)
    if record is None:
        random = draw.words(place, site, arrays[0].size, hop, first)
        terms = list(zip(constants, arrays, strict=True))
        values, flags = round_site(Op.SUM, terms, site, random)
        bad = invalid_elements(site, flags)
        return int(bad[0]) if bad.size else values
    out, none = np.empty(arrays[0].size, np.float32), np.empty(0, np.float32)
    x, y, z = (*arrays, none, none)[:3]
    invalid = kernel.sum_range(
        record, x, y, z, out, 0, out.size, first, *kernel.scratch(1)
    )  # fmt: skip
    return out if invalid < 0 else int(invalid)


def _check_tensors(
    rule: Update, given: dict[Slot, Values | None], wanted: Sequence[Slot]
) -> dict[Slot, Values]:
    """The tensors of an update that it uses."""
    shape = np.shape(given[Slot.WEIGHT])  # type: ignore[arg-type]
    used = (Slot.WEIGHT, Slot.GRADIENT, *wanted)
    tensors = {}
    for slot, x in given.items():
        name = slot.name.lower()
        if slot not in used:
            if x is not None:
                raise InputError(f"update rule {rule.rule} with {rule.optimiser} takes no {name}")
            continue
        if x is None:
            raise InputError(f"update rule {rule.rule} with {rule.optimiser} needs a {name}")
        if not isinstance(x, np.ndarray) or x.dtype != np.float32:
            kind = getattr(x, "dtype", type(x).__name__)
            raise InputError(f"{name} of an update must be a float32 array, not {kind}")
        if x.shape != shape:
            raise InputError(
                f"{name} of an update has shape {x.shape}, must be the weight's, {shape}"
            )
        if slot != Slot.GRADIENT and not x.flags.writeable:
            raise InputError(f"{name} of an update is read-only: it is updated in place")
        tensors[slot] = x
    return tensors


def update_flat(
    rule: Update, constants: Constants, tensors: dict[Slot, Values], draw: Draw, stuck: bool,
    threads: int, part: slice | None = None,
) -> Counts:  # fmt: skip
    """`update` of checked 1-D tensors; what has no code is in the counts."""
    first, stop = (0, tensors[Slot.WEIGHT].size) if part is None else (part.start, part.stop)
    program = None if config.DISABLE_JIT else kernel.program(rule, constants, draw, stuck)
    if program is None:
        tensors = {slot: x[first:stop] for slot, x in tensors.items()}
        return plain_update(rule, constants, tensors, draw, stuck=stuck, first=first)
    none = np.empty(0, np.float32)
    weight, gradient = tensors[Slot.WEIGHT], tensors[Slot.GRADIENT]
    residual = tensors.get(Slot.RESIDUAL, none)
    momentum, second = tensors.get(Slot.MOMENTUM, none), tensors.get(Slot.SECOND, none)
    results: list[tuple[int, int, NDArray[np.int64]]] = []

    def work(some: slice) -> None:
        slots, counts, bad = kernel.scratch(program.steps.size)
        total, invalid = kernel.update_range(
            program.steps, weight, residual, momentum, second, gradient, first + some.start,
            first + some.stop, stuck, slots, counts, bad,
        )  # fmt: skip
        results.append((total, invalid, counts))

    share(work, slices(stop - first, _PART), threads)
    return _merged(rule.steps(constants, stuck=stuck), results)


def _merged(steps: Sequence[Step], results: Sequence[tuple[int, int, NDArray[np.int64]]]) -> Counts:
    """The counts of all parts."""
    counts = Counts()
    for i, step in enumerate(steps):
        over, under = (sum(int(c[i, j]) for _, _, c in results) for j in (0, 1))
        counts.add(step.place, over, under)
    counts.stuck = sum(total for total, _, _ in results)
    counts.invalid = min((first for _, first, _ in results if first >= 0), default=-1)
    return counts
