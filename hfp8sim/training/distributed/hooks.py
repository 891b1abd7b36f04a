"""Communication hooks for PyTorch's DistributedDataParallel: gradients through AdaComp, ScaleCom, or a 16-bit ring.

    model = torch.nn.parallel.DistributedDataParallel(network)
    state = HookState(seed=0)
    model.register_comm_hook(state, adacomp_hook)

A hook computes what the functions of `hfp8sim.ops.compressors` do, on a process group that sends from the CPU, such as gloo. State
is kept by parameter: DDP rebuilds its buckets after the first step. Parameters with one axis are summed whole.
DDP reads the annotations of hooks, so they are no strings in this file.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch.distributed import GradBucket

from hfp8sim.ops import compressors
from hfp8sim.training.distributed.protocol import (
    Bundle,
    Message,
    Part,
    all_gather,
    reduce_scatter,
    share,
)
from hfp8sim.training.distributed.rings import ProcessRing
from hfp8sim.units.sites import BINARY32, Site, Values

Tensor = Any  #: PyTorch's


@dataclasses.dataclass
class HookState:
    """What a hook keeps, and how it compresses.

    `ring.traffic` counts what this learner sends.
    """

    bin_length: int = 500  #: of AdaComp, of matrices; convolutions take `convolution_bins`
    convolution_bins: int = 50
    soft: float = 2.0  #: of AdaComp's threshold
    rate: int = 100  #: of ScaleCom: one element in so many is sent
    chunks: bool = True  #: of ScaleCom: the largest of each chunk
    beta: float = 1.0  #: of ScaleCom's low-pass filter
    site: Site = BINARY32  #: of residues and memories
    reduce: Site = BINARY32  #: of a hop of a sum over learners
    seed: int = 0  #: of stochastic sites
    group: Any = None  #: the process group; the default group for None
    kept: dict[int, Values] = dataclasses.field(default_factory=dict)  #: by number of the parameter
    steps: dict[int, int] = dataclasses.field(default_factory=dict)  #: by number of the parameter
    numbers: dict[int, int] = dataclasses.field(default_factory=dict)  #: of parameters, by identity
    _ring: ProcessRing | None = None

    @property
    def ring(self) -> ProcessRing:
        """The ring of the process group."""
        if self._ring is None:
            self._ring = ProcessRing(self.group)
        return self._ring

    def words(self, parameter: Tensor) -> compressors.Words:
        """Whose random words a parameter's compression draws in this step; its steps are counted."""
        number = self.numbers.setdefault(id(parameter), len(self.numbers))
        self.steps[number] = self.steps.get(number, 0) + 1
        return compressors.Words(self.seed, self.steps[number], number, self.ring.seats[0].learner)


def adacomp_hook(state: HookState, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """AdaComp: residues stay here, packets go to all learners; the future holds the mean of what was sent."""

    def compress(parameter: Tensor, gradient: Values, words: compressors.Words) -> Values:
        length = state.convolution_bins if parameter.ndim > 2 else state.bin_length
        residue = state.kept.get(words.tensor, np.zeros_like(gradient))
        packet, state.kept[words.tensor] = compressors.adacomp(
            residue, gradient, bin_length=length, soft=state.soft, site=state.site, words=words
        )
        packets = [
            compressors.Packet.unpack(content, gradient.size, length)
            for content in _gather(state.ring, packet.pack())
        ]
        total = compressors.sum_of_packets(
            packets, state.reduce, seed=words.seed, step=words.step, tensor=words.tensor
        )
        return total / np.float32(state.ring.learners)

    return _hooked(state, bucket, compress)


def scalecom_hook(state: HookState, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """ScaleCom: the leader's indices, a ring sum of the values; the future holds the mean on these indices."""

    def compress(parameter: Tensor, gradient: Values, words: compressors.Words) -> Values:
        ring, size = state.ring, gradient.size
        k = max(-(-size // state.rate), 1)
        memory = state.kept.get(words.tensor, np.zeros_like(gradient))
        p = compressors.add_memory(memory, gradient, state.site, words)
        own = compressors.pack_indices(
            compressors.top_k(p, k, chunks=state.chunks), size, k, chunks=state.chunks
        )
        # Every learner's choice has as many bytes; the leader's is used.
        leader = words.step % ring.learners
        seat = ring.seats[0]
        chosen = own if seat.learner == leader else bytes(len(own))
        content = _gather(ring, chosen, leader)[leader]
        indices = compressors.unpack_indices(content, size, k, chunks=state.chunks)
        total = _ring_sum(state, p[indices], words)
        state.kept[words.tensor] = compressors.filter_memory(
            memory, p, indices, state.beta, state.site, words
        )
        mean = np.zeros(size, np.float32)
        mean[indices] = total / np.float32(ring.learners)
        return mean

    return _hooked(state, bucket, compress)


def ring_hook(state: HookState, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """The mean over learners in ring order, each hop rounded at `state.reduce`: an all-reduce with stated bits."""

    def compress(parameter: Tensor, gradient: Values, words: compressors.Words) -> Values:
        return _ring_sum(state, gradient, words) / np.float32(state.ring.learners)

    return _hooked(state, bucket, compress, whole=True)


def _hooked(
    state: HookState, bucket: GradBucket, compress: Any, whole: bool = False
) -> torch.futures.Future[torch.Tensor]:
    """A future of the bucket whose gradients are compressed and summed, parameter by parameter."""
    for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
        words = state.words(parameter)
        values = gradient.detach().contiguous().numpy().reshape(-1)
        if parameter.ndim < 2 and not whole:
            mean = _ring_sum(state, values, words) / np.float32(state.ring.learners)
        else:
            mean = compress(parameter, values, words)
        gradient.copy_(torch.from_numpy(mean.reshape(gradient.shape)))
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def _ring_sum(state: HookState, values: Values, words: compressors.Words) -> Values:
    """The sum over learners in ring order, at every learner."""
    ring = state.ring
    bundle = Bundle((words.tensor,), (values.size,), state.reduce, state.reduce.record)
    seat = ring.seats[0]
    own = ring.run([reduce_scatter(bundle, [values], seat, words.seed, words.step)])[0]
    total = np.zeros(values.size, np.float32)
    bundle.paste([total], own, seat, 0)
    ring.run([all_gather(bundle, [total], seat, bundle.gather)])
    return total


def _gather(ring: ProcessRing, content: bytes, leader: int | None = None) -> list[bytes]:
    """Content of every learner, of any length; with a leader only its content travels."""
    seat = ring.seats[0]
    size = len(content)
    lengths = ring.run([share(size.to_bytes(4, "little"), seat)])[0]
    sizes = [int.from_bytes(length, "little") for length in lengths]
    return ring.run([_passed_on(content, sizes, ring, leader)])[0]


def _passed_on(
    content: bytes, sizes: list[int], ring: ProcessRing, leader: int | None
) -> Part[list[bytes]]:
    """Pass contents round the ring; without those of others than the leader."""
    learner, learners = ring.seats[0]
    result = {learner: content}
    for hop in range(1, learners):
        out, back = (learner - hop + 1) % learners, (learner - hop) % learners
        sends = leader is None or out == leader
        sent = np.frombuffer(result[out] if sends else b"", np.uint8)
        expected = sizes[back] if leader is None or back == leader else 0
        received = yield Message("packets", sent, expected)
        result[back] = received.tobytes()
    return [result[k] for k in range(learners)]
