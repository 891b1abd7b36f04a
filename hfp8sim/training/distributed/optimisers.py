"""Optimisers of many learners: gradients are summed round a ring, each learner updates its chunk, weights are gathered.

docs/distributed.md has the protocol. The learners are in this process, or one in each process of torch.distributed: the
caller's code is the same for both.

    optimiser = distributed.make_optimiser(model, "hfp8", "sgd", learners=4, lr=0.05)
    for x, y in batches:
        for xs, ys in optimiser.parts(x, y):
            optimiser.backward(loss(model(xs), ys))
        optimiser.step()
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import get_format
from hfp8sim.recipes import Recipe, get_recipe
from hfp8sim.training import steps
from hfp8sim.training.distributed.protocol import (
    Bundle,
    Seat,
    all_gather,
    broadcast,
    reduce_scatter,
    share,
)
from hfp8sim.training.distributed.rings import LocalRing, ProcessRing, Ring, Traffic
from hfp8sim.training.optimisers import SGD, Adam, Optimiser, StepCounts, settings_of_recipe
from hfp8sim.units.random import step_stream
from hfp8sim.units.sites import BINARY32, Place, Site, Values
from hfp8sim.units.update import Update

Tensor = Any  #: PyTorch's
#: A learner's status before the sum: its loss, whether a gradient is not finite, which tensors it has.
_STATUS = struct.Struct("<dBI")
_PLACES = [place.text for place in Place]


@standard_arithmetic
def learner_seed(seed: int, learner: int) -> int:
    """The seed of the random words of a learner's products: the run's own for learner 0."""
    words: Any = step_stream
    return seed if learner == 0 else int(words(np.uint64(seed), np.uint64(learner)))


@standard_arithmetic
def generator_seed(seed: int, step: int, learner: int) -> int:
    """The seed of PyTorch's generator for a learner's part of a step, as of dropout."""
    words: Any = step_stream
    first = int(words(np.uint64(seed), np.uint64(step)))
    return int(words(np.uint64(first), np.uint64(learner)))


class Sharded(Optimiser):
    """What the optimisers of many learners add to `training.SGD` and `training.Adam`.

    Args:
        model: whose buffers learners share.
        ring: of all learners.
        reduce: how a hop of a sum of gradients is rounded; of tensors with rule `master` it is binary32.
        args, settings: as those of the optimiser of one learner.

    `traffic` has what each learner of this process has sent since the start, `loss` the mean of the last step's losses.
    """

    def __init__(
        self, model: nn.Module, ring: Ring, reduce: Site, *args: Any, **settings: Any
    ) -> None:
        self.model, self.ring, self.reduce_site = model, ring, reduce
        self.loss = float("nan")
        self._losses: list[float] = []
        self._gradients: list[dict[int, Values]] = []
        super().__init__(*args, **settings)
        if isinstance(ring, ProcessRing):
            self._keep_own_chunks()

    @property
    def learners(self) -> int:
        """N."""
        return self.ring.learners

    @property
    def traffic(self) -> list[Traffic]:
        """What each learner of this process has sent."""
        return self.ring.traffic

    @property
    def divisor(self) -> float:
        """What sums of gradients are divided by before the update: the loss scale times N."""
        return self.scale.scale * self.learners

    # -- gradients -----------------------------------------------------------------------------------

    def parts(self, *batch: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The part of each learner of this process, in turn. The loop's body must call `backward` on its loss.

        Args:
            batch: tensors whose first axis is the batch's; each learner gets as many examples.

        Raises:
            InputError: a batch that the number of learners does not divide.
        """
        size = len(batch[0])
        if size % self.learners:
            raise InputError(
                f"a batch of {size} examples does not divide among {self.learners} learners"
            )
        share_size = size // self.learners
        self._gradients, self._losses = [], []
        self._share_buffers()
        start = [buffer.clone() for buffer in self.model.buffers()]
        kept = start
        for seat in self.ring.seats:
            self._begin(seat)
            examples = slice(seat.learner * share_size, (seat.learner + 1) * share_size)
            yield tuple(tensor[examples].clone() for tensor in batch)
            self._collect()
            if seat is self.ring.seats[0]:
                kept = [buffer.clone() for buffer in self.model.buffers()]
            self._set_buffers(start if seat is not self.ring.seats[-1] else kept)
        for emulation in steps.emulations(self):
            emulation.seed = self.seed
        torch.manual_seed(generator_seed(self.seed, self.steps_taken + 1, self.learners))

    def backward(self, loss: Tensor) -> None:
        """The gradients of a learner's mean loss, times the loss scale."""
        self._losses.append(loss.item())
        super().backward(loss)

    def _begin(self, seat: Seat) -> None:
        """Seeds of a learner, and no gradients."""
        seed, step = self.seed, self.steps_taken + 1
        for emulation in steps.emulations(self):
            emulation.seed = learner_seed(seed, seat.learner)
        torch.manual_seed(generator_seed(seed, step, seat.learner))
        self.zero_grad()

    def _collect(self) -> None:
        """Take a learner's gradients."""
        gradients = {}
        for number, (_, parameter) in enumerate(self._parameters()):
            if parameter.grad is not None:
                gradients[number] = parameter.grad.contiguous().numpy().reshape(-1)
        self._gradients.append(gradients)
        self.zero_grad()

    def _share_buffers(self) -> None:
        """Every learner begins with learner 0's buffers; in one process it does anyway."""
        buffers = list(self.model.buffers())
        if not buffers or self.learners == 1:
            return
        content = np.concatenate(
            [b.contiguous().numpy().reshape(-1).view(np.uint8) for b in buffers]
        )
        for received in self.ring.run([broadcast(content, seat) for seat in self.ring.seats])[:1]:
            if not isinstance(self.ring, ProcessRing):
                return
            start = 0
            for buffer in buffers:
                size = buffer.numel() * buffer.element_size()
                part = received[start : start + size].copy()
                buffer.copy_(torch.from_numpy(part).view(buffer.dtype).reshape(buffer.shape))
                start += size

    def _set_buffers(self, values: list[Tensor]) -> None:
        for buffer, value in zip(self.model.buffers(), values, strict=True):
            buffer.copy_(value)

    # -- the step ------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Sum, update and gather, unless a gradient or a sum holds an infinity or a NaN.

        Raises:
            InputError: a closure; learners without a gradient, or with gradients of different parameters.
            LostLearner: in many processes: a neighbour has ended, or does not answer.
        """
        if closure is not None:
            raise InputError("an optimiser of many learners takes no closure: see its parts()")
        if len(self._gradients) != len(self.ring.seats) or len(self._losses) != len(
            self.ring.seats
        ):
            raise InputError(
                "call backward once for each part of optimiser.parts(batch), then step"
            )
        self.counts, self.stuck = StepCounts(), {}
        finite = self._agree()
        sums: list[list[Values]] = []
        if finite:
            sums, finite = self._sum()
        if finite:
            self.steps_taken += 1
            self._update_chunks(sums)
        self._add_counts()
        self.counts.skipped = not finite
        self.scale = self.loss_scale.advance(self.scale, self.counts.skipped)
        self._gradients, self._losses = [], []

    def _agree(self) -> bool:
        """Exchange losses and whether gradients are finite; returns whether all are."""
        contents = []
        for loss, gradients in zip(self._losses, self._gradients, strict=True):
            bad = not all(bool(np.isfinite(g).all()) for g in gradients.values())
            numbers = zlib.crc32(struct.pack(f"<{len(gradients)}I", *gradients))
            contents.append(_STATUS.pack(loss, bad, numbers))
        known = [_STATUS.unpack(content) for content in self._share(contents)]
        if len({numbers for _, _, numbers in known}) > 1:
            raise InputError("learners have gradients of different parameters")
        total = 0.0
        for loss, _, _ in known:
            total += loss
        self.loss = total / self.learners
        return not any(bad for _, bad, _ in known)

    def _share(self, contents: list[bytes]) -> list[bytes]:
        """A few bytes of every learner, at every learner."""
        parts = [
            share(content, seat) for content, seat in zip(contents, self.ring.seats, strict=True)
        ]
        return self.ring.run(parts)[0]

    def _bundles(self) -> list[Bundle]:
        """The tensors that have a gradient, by their formats on the wire."""
        used = self._gradients[0]
        found: dict[tuple[Site, str], list[tuple[int, int]]] = {}
        for number, (group, parameter) in enumerate(self._parameters()):
            if number not in used:
                continue
            update: Update = group["update"]
            site = BINARY32 if update.rule == "master" else self.reduce_site
            fmt = update.sites["update"].record
            found.setdefault((site, fmt.name), []).append((number, parameter.numel()))
        return [
            Bundle(tuple(n for n, _ in each), tuple(s for _, s in each), site, get_format(name))
            for (site, name), each in found.items()
        ]

    def _sum(self) -> tuple[list[list[Values]], bool]:
        """The sums of each learner's chunks by bundle, and whether they are finite at all learners."""
        step = self.steps_taken + 1
        seats = self.ring.seats
        sums = [
            self.ring.run([
                reduce_scatter(
                    bundle, [gradients[n] for n in bundle.numbers], seat, self.seed, step
                )
                for gradients, seat in zip(self._gradients, seats, strict=True)
            ])
            for bundle in self._bundles()
        ]  # fmt: skip
        flags = [
            bytes([not all(bool(np.isfinite(total[k]).all()) for total in sums)])
            for k in range(len(seats))
        ]
        return sums, not any(flag[0] for flag in self._share(flags))

    def _update_chunks(self, sums: list[list[Values]]) -> None:
        """Every learner of this process updates its chunk of all tensors; then weights are gathered."""
        parameters = self._parameters()
        for bundle, totals in zip(self._bundles(), sums, strict=True):
            weights = [_flat(parameters[n][1]) for n in bundle.numbers]
            gradients = [np.zeros(size, np.float32) for size in bundle.sizes]
            for seat, total in zip(self.ring.seats, totals, strict=True):
                bundle.paste(gradients, total, seat, 0)
                for index, part in enumerate(bundle.spans(seat, 0)):
                    number = bundle.numbers[index]
                    group, parameter = parameters[number]
                    shape = parameter.shape
                    self._update_part(
                        number, group, parameter, weights[index].reshape(shape),
                        gradients[index].reshape(shape), part,
                    )  # fmt: skip
            self.ring.run(
                [all_gather(bundle, weights, seat, bundle.gather) for seat in self.ring.seats]
            )
            for number, weight in zip(bundle.numbers, weights, strict=True):
                parameter = parameters[number][1]
                if np.shares_memory(weight, parameter.detach().numpy()):
                    torch.autograd.graph.increment_version(parameter)
                else:
                    parameter.copy_(torch.from_numpy(weight.reshape(parameter.shape)))

    def _add_counts(self) -> None:
        """`counts` of all learners, at each of them."""
        if isinstance(self.ring, LocalRing):
            own = [_numbers(self.counts)] + [_numbers(StepCounts())] * (self.learners - 1)
        else:
            own = [_numbers(self.counts)]
        total = np.sum([np.frombuffer(x, "<i8") for x in self._share(own)], axis=0)
        self.counts = _counts(total, self.counts)

    def any_learner(self, flag: bool) -> bool:
        """Whether any learner says yes, at every learner; all learners must call it."""
        content = bytes([flag])
        return any(answer[0] for answer in self._share([content] * len(self.ring.seats)))

    # -- state ---------------------------------------------------------------------------------------

    def _keep_own_chunks(self) -> None:
        """Residuals of other learners' chunks take no memory here."""
        for _, parameter in self._parameters():
            state = self.state[parameter]
            for name, tensor in list(state.items()):
                own = np.zeros(tensor.shape, np.float32)
                part = self.ring.seats[0].chunk(own.size)
                own.reshape(-1)[part] = tensor.numpy().reshape(-1)[part]
                state[name] = torch.from_numpy(own)

    @torch.no_grad()
    def gather_state(self) -> None:
        """Give every learner the momentum and residuals of all chunks, as before a checkpoint; all learners must call it."""
        if isinstance(self.ring, LocalRing):
            return
        arrays = [
            tensor.numpy().reshape(-1)
            for _, parameter in self._parameters()
            for tensor in self.state[parameter].values()
        ]
        if not arrays:
            return
        sizes = tuple(array.size for array in arrays)
        bundle = Bundle(tuple(range(len(arrays))), sizes, BINARY32, BINARY32.record)
        seat = self.ring.seats[0]
        self.ring.run([all_gather(bundle, arrays, seat, BINARY32.record, "checkpoint")])


def _flat(parameter: Any) -> Values:
    """A parameter's memory, 1-D; a copy where it is not contiguous."""
    values: Values = parameter.detach().contiguous().numpy().reshape(-1)
    return values


def _numbers(counts: StepCounts) -> bytes:
    """Counts as little-endian integers of 64 bits."""
    by_place = [counts.overflowed.get(place, 0) for place in _PLACES]
    by_place += [counts.underflowed.get(place, 0) for place in _PLACES]
    return np.array([counts.weights, counts.stuck, *by_place], "<i8").tobytes()


def _counts(numbers: Any, own: StepCounts) -> StepCounts:
    """Counts of integers; of the sites that this learner has counted."""
    weights, stuck, *by_place = (int(n) for n in numbers)
    over = dict(zip(_PLACES, by_place[: len(_PLACES)], strict=True))
    under = dict(zip(_PLACES, by_place[len(_PLACES) :], strict=True))
    return StepCounts(
        False, weights, stuck,
        {place: over[place] for place in own.overflowed},
        {place: under[place] for place in own.underflowed},
    )  # fmt: skip


class ShardedSGD(Sharded, SGD):
    """`training.SGD` of many learners."""


class ShardedAdam(Sharded, Adam):
    """`training.Adam` of many learners."""


def make_optimiser(
    model: nn.Module, recipe: str | Recipe, kind: str = "sgd", *, learners: int | None = None,
    ring: Ring | None = None, lr: float, **settings: Any,
) -> ShardedSGD | ShardedAdam:  # fmt: skip
    """The optimiser of a converted model for many learners, as a recipe says.

    Args:
        recipe, kind, lr, settings: as `training.make_optimiser`.
        learners: so many in this process.
        ring: or the learners of a ring, as `connect()` gives it.

    Raises:
        InputError: an unknown recipe or kind; neither learners nor a ring.
    """
    if learners is not None and ring is None:
        ring = LocalRing(learners)
    elif ring is None or learners is not None:
        raise InputError("an optimiser of many learners needs either learners= or ring=")
    record = get_recipe(recipe)
    settings = settings_of_recipe(model, record, kind, **settings)
    classes: dict[str, Any] = {"sgd": ShardedSGD, "adam": ShardedAdam}
    reduce = record.site("reduce") or Site()
    result: ShardedSGD | ShardedAdam = classes[kind](model, ring, reduce, lr=lr, **settings)
    return result
