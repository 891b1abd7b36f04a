"""Machines: presets, ranges, wrong files and SCALE-Sim configurations."""

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from docs.pages.machine import keys, page, presets
from hfp8sim.errors import InputError
from hfp8sim.machine import Machine, get_machine, machines
from hfp8sim.machine.config import from_toml, number_fields

_PRESET = """
name = "mine"
cores = 2
clock_mhz = 1000
[array]
rows = 16
columns = 32
corelets = 1
macs_8bit = 2
macs_16bit = 1
[memory]
scratchpad_kib = 256
accumulators = 8192
bytes_per_cycle = 32
latency = 100
[post]
lanes = 32
"""


def _toml(old: str = "", new: str = "") -> Machine:
    assert old in _PRESET
    return from_toml(_PRESET.replace(old, new, 1).encode(), "mine.toml")


@pytest.mark.parametrize("name", machines())
def test_presets_list_their_assumed_keys(name):
    machine = get_machine(name)
    assert machine.name == name and machine.summary and machine.assumed
    assert get_machine(machine) is machine


def test_default_machine_is_rapid_core():
    core, chip = get_machine(), get_machine("rapid-4core")
    assert machines()[0] == core.name == "rapid-core"
    assert core.macs_per_cycle(8) == 2048 and core.macs_per_cycle(16) == 1024
    assert (
        chip.peak_tflops() == pytest.approx(26.2144)
        and core.peak_tflops() * 4 == chip.peak_tflops()
    )
    assert core.scratchpad_rows * 64 == 2 << 20
    assert not set(core.assumed) & {
        "array.rows",
        "array.columns",
        "clock_mhz",
        "memory.scratchpad_kib",
    }


def test_machine_file_is_read(tmp_path):
    (tmp_path / "mine.toml").write_text(_PRESET)
    machine = get_machine(tmp_path / "mine.toml")
    assert (
        machine == _toml()
        and machine["memory.latency"] == 100
        and machine.time_model == "pipelined"
    )
    assert machine.seconds(500) == 5e-7


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("rows = 16", "rows = 0", r"mine\.toml: .*array\.rows is 0, must be an integer 1\.\.1024"),
        ("rows = 16", "rows = true", "array.rows is True, must be an integer"),
        ("rows = 16", "rows = 1.5", "array.rows is 1.5, must be an integer"),
        ("rows = 16", "row = 16", "unknown key 'array.row'; did you mean array.rows"),
        ("rows = 16\n", "", "key 'array.rows' is missing"),
        ("cores = 2\n", "", "key 'cores' is missing"),
        ("cores = 2", "cores = 'two'", "cores is 'two', must be an integer"),
        ("[post]", "[posts]", "unknown key 'posts'; did you mean post"),
        ("cores = 2", "cores = 2\ntime_model = 'scalesim'", "unknown time_model 'scalesim' of machine mine"),
        ("cores = 2", "cores = 2\nassumed = ['core']", "unknown key in `assumed` of machine mine 'core'"),
        ("cores = 2", "cores = 2\nassumed = 'cores'", "assumed must be a list of strings"),
        ("cores = 2", "cores = 2\npost = 3", "not a TOML file"),
        ('"mine"', "3", "name must be a string"),
        ("scratchpad_kib = 256", "scratchpad_kib = 4096", "gives 131072 rows of 32, must be 1..65536"),
        ("accumulators = 8192", "accumulators = 16", "memory.accumulators gives 0 rows"),
    ],
)  # fmt: skip
def test_wrong_machine_files_are_refused(old, new, reason):
    with pytest.raises(InputError, match=reason):
        _toml(old, new)


def test_unknown_machines_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown machine 'rapid-cor'; did you mean rapid-core"):
        get_machine("rapid-cor")
    with pytest.raises(InputError, match="No such file"):
        get_machine(tmp_path / "none.toml")


def test_replace_takes_dotted_keys():
    machine = get_machine().replace(
        **{"memory.latency": 3, "memory.accumulators": 4096, "cores": 2}
    )
    assert (machine.memory.latency, machine.memory.accumulators, machine.cores) == (3, 4096, 2)
    assert "memory.latency" not in machine.assumed and "post.lanes" in machine.assumed
    with pytest.raises(
        InputError, match=r"unknown machine key 'latency'; did you mean memory\.latency"
    ):
        machine.replace(latency=3)
    with pytest.raises(InputError, match=r"cores is 0, must be an integer 1\.\.1024"):
        machine.replace(cores=0)


def test_refresh_leaves_a_share_of_the_channel():
    machine = get_machine()
    assert machine.memory.refresh_ns == 0
    assert machine.memory.sustained_bytes_per_cycle == 64
    keys = {"memory.refresh_ns": 280, "memory.refresh_interval_ns": 3500}
    assert machine.replace(**keys).memory.sustained_bytes_per_cycle == pytest.approx(64 * 0.92)


@pytest.mark.parametrize(("refresh", "interval"), [(100, 100), (3906, 3906), (2, 1)])
def test_refresh_without_end_is_refused(refresh, interval):
    keys = {"memory.refresh_ns": refresh, "memory.refresh_interval_ns": interval}
    with pytest.raises(
        InputError, match=f"refresh_ns is {refresh}, must be less than .*_interval_ns, {interval}"
    ):
        get_machine().replace(**keys)


@pytest.mark.parametrize("name", machines())
def test_published_values_of_presets_are_written(name):
    """A value that a preset leaves to the default has no source."""
    machine = get_machine(name)
    content = resources.files("hfp8sim.machine").joinpath(f"presets/{name}.toml").read_bytes()
    table = tomllib.loads(content.decode())
    for key, _ in number_fields():
        section, _, field = key.rpartition(".")
        written = field in (table.get(section, {}) if section else table)
        assert written or machine.status(key) != "published", key
    assert not set(machine.assumed) & set(machine.inferred)


def test_every_number_has_range_and_meaning():
    for key, field in number_fields():
        assert field.metadata["low"] <= field.metadata["high"] and field.metadata["meaning"], key


_CFG = """[general]
run_name = GoogleTPU_v1_os
[architecture_presets]
ArrayHeight: 256
ArrayWidth: 256
IfmapSramSzkB: 6144
FilterSramSzkB: 6144
OfmapSramSzkB: 2048
IfmapOffset: 0
Dataflow: os
Bandwidth: 10,10
[layout]
IfmapCustomLayout: False
[run_presets]
InterfaceBandwidth: CALC
"""


def test_scalesim_configuration_is_read(tmp_path):
    path = tmp_path / "google.cfg"
    path.write_text(_CFG)
    machine = get_machine(path)
    assert (machine.name, machine.time_model) == ("GoogleTPU_v1_os", "scalesim-os")
    assert (machine.array.rows, machine.array.columns) == (256, 256)
    assert machine.memory.scratchpad_kib == 14336 and machine.memory.bytes_per_cycle == 10
    assert any("[layout] ignored" in note for note in machine.notes)


def test_scalesim_run_names_are_one_line(tmp_path):
    path = tmp_path / "x.cfg"
    path.write_text(_CFG.replace("GoogleTPU_v1_os", '"50% of\n  %(a)s"'))
    assert get_machine(path).name == "50% of %(a)s"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Dataflow: os", "Dataflow: rs", "unknown Dataflow 'rs'; did you mean"),
        ("ArrayWidth: 256\n", "", "key 'ArrayWidth' is missing"),
        ("ArrayWidth: 256", "ArrayWidth: wide", "ArrayWidth is 'wide', must be an integer"),
        ("ArrayHeight: 256", "ArrayHeight: 0", "array.rows is 0, must be an integer"),
        ("[architecture_presets]", "[architecture]", "section .architecture_presets. is missing"),
        ("[general]", "general", "not a SCALE-Sim configuration"),
    ],
)
def test_wrong_scalesim_configurations_are_refused(tmp_path, old, new, reason):
    path = tmp_path / "x.cfg"
    path.write_text(_CFG.replace(old, new))
    with pytest.raises(InputError, match=rf"x\.cfg: .*{reason}"):
        get_machine(path)


def test_machine_page_is_current():
    text = (Path(__file__).parents[2] / "docs" / "machine.md").read_text(encoding="utf-8")
    assert text == page(), "stale: run python -m docs.pages machine.md"
    assert keys() in text and presets() in text
