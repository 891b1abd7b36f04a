"""Machine files damaged at random: each gives a machine or one line of refusal, never anything else."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.machine import get_machine
from tests import damaged

V2 = b"""[general]
run_name = "scale_example_run_32x32_os"

[architecture_presets]
ArrayHeight:    32
ArrayWidth:     32
IfmapSramSzkB:    64
FilterSramSzkB:   64
OfmapSramSzkB:    64
IfmapOffset:    0
FilterOffset:   10000000
OfmapOffset:    20000000
Dataflow : os
Bandwidth : 10
MemoryBanks: 1

[run_presets]
InterfaceBandwidth: CALC
"""
V3 = V2.replace(b"Bandwidth : 10\n", b"Bandwidth : 10,10,20\nReadRequestBuffer: 512\n") + (
    b"UseRamulatorTrace: False\n\n[layout]\nIfmapCustomLayout: False\nIfmapSRAMBankBandwidth: 10\n"
    b"\n[sparsity]\nSparsitySupport : false\nSparseRep : ellpack_block\n"
)
FILES = {
    "v2.cfg": V2,
    "v3.cfg": V3,
    "core.toml": (resources.files("hfp8sim.machine") / "presets" / "rapid-core.toml").read_bytes(),
}


def try_to_read(path: Path) -> bool:
    """Whether the file gave a machine; whatever else it gave must be one line."""
    try:
        machine = get_machine(path)
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return False
    assert machine.macs_per_cycle() > 0 and machine.peak_tflops() > 0
    assert "\n" not in "".join((machine.name, machine.summary, *machine.notes))
    return True


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(tmp_path: Path, name: str) -> None:
    damaged.read_all(tmp_path, name, FILES[name], try_to_read, range(100))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_a_thousand_times(tmp_path: Path, name: str) -> None:
    damaged.read_all(tmp_path, name, FILES[name], try_to_read, range(100, 1100))
