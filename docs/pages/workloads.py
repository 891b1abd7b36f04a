"""The generated tables of docs/workloads.md: the files that are read, and the networks that ship."""

from __future__ import annotations

from pathlib import Path

from docs.pages.markdown import filled, table
from hfp8sim.network import PHASES
from hfp8sim.workloads import load_workload, workloads
from hfp8sim.workloads.readers.table import READERS

PAGE = Path(__file__).parents[1] / "workloads.md"


def page() -> str:
    """The page with the tables of today."""
    return filled(PAGE.read_text("utf-8"), readers=readers(), networks=networks())


def readers() -> str:
    """What `load_workload` takes: names of shipped networks, and a row for each reader."""
    shipped = (
        "a name of [the table below](#networks-that-ship), `resnet50@32` for a mini-batch of 32"
    )
    rows = [(shipped, "shipped network", "`digits-cnn` only")]
    for reader in READERS:
        paths = ", ".join(f"`{suffix}`" for suffix in reader.suffixes)
        if reader.manifest:
            paths += f", or a directory with a `{reader.manifest}`"
        rows.append((paths, reader.about, reader.tensors))
    return table(("argument", "what it is", "tensors"), rows)


def networks() -> str:
    """Layers, millions of multiply-accumulates and parameters of every shipped network."""
    rows = []
    for name in workloads():
        network = load_workload(name)
        macs = (f"{network.macs([phase]) / 1e6:,.1f}" for phase in PHASES)
        rows.append((f"`{name}`", str(len(network)), *macs, f"{network.parameters:,}"))
    titles = (*(f"MMAC {phase}" for phase in PHASES), "parameters")
    return table(("name", "layers", *titles), rows)
