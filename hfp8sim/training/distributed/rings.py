"""Two rings of learners: in this process, and over processes by torch.distributed.

A ring runs the generators of `hfp8sim.training.distributed.protocol` and counts what each learner sends. A message has a fixed
sender and receiver at each hop, so neither ring can change a bit.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed

from hfp8sim.errors import InputError, check_whole_number, one_line
from hfp8sim.training.distributed.protocol import Bytes, Message, Part, Seat

T = TypeVar("T")


class LostLearner(InputError):
    """A learner has ended, or does not answer."""


@dataclasses.dataclass
class Traffic:
    """What one learner has sent."""

    bytes: Counter[tuple[str, int]] = dataclasses.field(default_factory=Counter)
    #: by collective and number of the tensor; −1 for what belongs to no tensor
    messages: Counter[str] = dataclasses.field(default_factory=Counter)  #: by collective

    def add(self, message: Message) -> None:
        """Count a message that is sent; an empty one is none."""
        if not message.content.size:
            return
        self.messages[message.collective] += 1
        for number, size in message.tensors or ((-1, message.content.size),):
            self.bytes[message.collective, number] += size

    def total(self, collective: str) -> int:
        """Bytes of a collective."""
        return sum(size for (name, _), size in self.bytes.items() if name == collective)


class LocalRing:
    """All learners in this process, hop by hop."""

    def __init__(self, learners: int) -> None:
        check_whole_number(learners, "learners", 1)
        self.seats = [Seat(k, learners) for k in range(learners)]
        self.traffic = [Traffic() for _ in self.seats]

    @property
    def learners(self) -> int:
        """N."""
        return len(self.seats)

    def run(self, parts: Sequence[Part[T]]) -> list[T]:
        """Run one collective.

        Args:
            parts: of every learner that this ring has here, in the order of `seats`.

        Returns:
            What each learner has afterwards.
        """
        results: list[Any] = [None] * len(parts)
        received: list[Any] = [None] * len(parts)
        while True:
            messages: list[Message] = []
            for k, part in enumerate(parts):
                try:
                    messages.append(part.send(received[k]))
                except StopIteration as end:
                    results[k] = end.value
            if not messages:
                return results
            for traffic, message in zip(self.traffic, messages, strict=True):
                traffic.add(message)
            received = [messages[k - 1].content for k in range(len(messages))]


class ProcessRing:
    """One learner in each process of torch.distributed.

    Args:
        group: a process group whose backend sends from the CPU, such as gloo; the default group for None.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        rank, size = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
        self.seats = [Seat(rank, size)]
        self.traffic = [Traffic()]

    @property
    def learners(self) -> int:
        """N."""
        return self.seats[0].learners

    def run(self, parts: Sequence[Part[T]]) -> list[T]:
        """Run one collective; `parts` has the one of this learner.

        Raises:
            LostLearner: a neighbour has ended, or does not answer.
        """
        (part,) = parts
        received: Any = None
        while True:
            try:
                message = part.send(received)
            except StopIteration as end:
                return [end.value]
            self.traffic[0].add(message)
            received = self._shift(message)

    def _shift(self, message: Message) -> Bytes:
        """Send to the next learner and receive from the one before."""
        learner, learners = self.seats[0]
        after, before = (learner + 1) % learners, (learner - 1) % learners
        received = np.empty(message.expected, np.uint8)
        transfers: list[tuple[int, Any]] = []
        try:
            if message.content.size:
                content = torch.from_numpy(np.array(message.content))
                work = torch.distributed.isend(content, self._rank(after), self.group)
                transfers.append((after, work))
            if message.expected:
                buffer = torch.from_numpy(received)
                work = torch.distributed.irecv(buffer, self._rank(before), self.group)
                transfers.append((before, work))
            while transfers:
                transfers[-1][1].wait()
                transfers.pop()
        except RuntimeError as error:
            neighbour = transfers[-1][0] if transfers else after
            raise LostLearner(
                f"learner {learner} lost learner {neighbour} in {message.collective}: {one_line(error, 80)}"
            ) from None
        return received

    def _rank(self, learner: int) -> int:
        """The global rank of a learner of the group."""
        if self.group is None:
            return learner
        return int(torch.distributed.get_global_rank(self.group, learner))


Ring = LocalRing | ProcessRing


def in_processes() -> bool:
    """Whether a launcher such as `torchrun` has started this process as one of several learners."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def connect(timeout: float = 300.0) -> ProcessRing:
    """The ring of the processes that `torchrun`, or another launcher with its environment, has started.

    Args:
        timeout: seconds after which a neighbour that does not answer is lost.

    Raises:
        InputError: no launcher has started this process, or the processes do not find each other.
    """
    if not in_processes():
        raise InputError("no launcher has started this process: use torchrun --nproc-per-node N")
    if not torch.distributed.is_initialized():
        try:
            torch.distributed.init_process_group(
                "gloo", timeout=datetime.timedelta(seconds=timeout)
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"learners do not find each other: {one_line(error)}") from None
    return ProcessRing()
