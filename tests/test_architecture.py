"""Two extensions that docs/architecture.md quotes: each adds one thing and uses it."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest

import hfp8sim as hs
from hfp8sim.machine import Machine
from hfp8sim.network import GemmShape, Layer, Workload
from hfp8sim.timing import MODELS, Parts, TimeModel, register
from hfp8sim.workloads.readers.table import READERS, Reader


@pytest.fixture(autouse=True)
def restore_tables() -> Iterator[None]:
    """Both tables are as before when a test has run."""
    readers, models = list(READERS), dict(MODELS)
    yield
    READERS[:] = readers
    MODELS.clear()
    MODELS.update(models)


def test_new_reader(tmp_path: Path) -> None:
    def load_sizes(path: Path) -> Workload:
        """Read a file with `M N K` on each line."""
        rows = [map(int, line.split()) for line in path.read_text("utf-8").splitlines()]
        layers = (Layer(f"line {n}", "gemm", *sizes) for n, sizes in enumerate(rows, start=1))
        return Workload(path.stem, tuple(layers))

    READERS.append(Reader((".sizes",), load_sizes, about="sizes of GEMMs", tensors="no"))

    (tmp_path / "net.sizes").write_text("32 64 128\n32 10 64\n")
    network = hs.load_workload(tmp_path / "net.sizes")
    assert [layer.n for layer in network] == [64, 10]
    report = hs.simulate(network, phases=["fwd"], time_only=True)
    assert report.total["macs"] == 32 * 64 * 128 + 32 * 10 * 64


def test_new_time_model() -> None:
    def roofline(shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int) -> Parts:
        """The longer of computing at peak and of moving every byte once."""
        compute = ceil(shape.macs / machine.macs_per_cycle(operand_bits))
        transfer = ceil(compulsory / machine.memory.bytes_per_cycle)
        return Parts(compute=compute, stall_in=max(0, transfer - compute))

    register(TimeModel("roofline", "peak or bandwidth", closed_form=roofline, knows_memory=True))

    report = hs.simulate("resnet18", phases=["fwd"], time_only=True, time_model="roofline")
    assert report.total["cycles"] >= report.total["macs"] / hs.get_machine().macs_per_cycle(8)
