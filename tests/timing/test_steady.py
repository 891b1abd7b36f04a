"""Skipped periods of loops: the times are those of the model that executes every instruction."""

import random

import pytest

from hfp8sim._numba.interpreted import nothing_interpreted
from hfp8sim.errors import InputError
from hfp8sim.isa import assemble
from hfp8sim.isa.segments import segments
from hfp8sim.lowering.programs import Finish, lower_gemm
from hfp8sim.machine import check, get_machine
from hfp8sim.network import PHASES, Conv, Layer, phase_gemm
from hfp8sim.timing import pipelined_driver, time_layer
from hfp8sim.timing.pipelined_driver import time_segments
from hfp8sim.units.profile import get_profile

SEED = 7
PROGRAMS = 250
LONGEST = 60_000  # instructions


def both(program, machine, monkeypatch):
    """The times of a program with and without the skip."""
    with nothing_interpreted():
        times = time_segments(program, machine)
        monkeypatch.setattr(pipelined_driver, "SKIPPING", False)
        plain = time_segments(program, machine)
        monkeypatch.setattr(pipelined_driver, "SKIPPING", True)
    return times, plain


def logarithmic(rng, high):
    """A number from 1 to `high`, small ones more often."""
    return round(high ** rng.random())


def random_layer(rng):
    """A product or a convolution, of any sizes, batches, groups, strides and paddings."""
    if rng.random() < 0.4:
        sizes = (logarithmic(rng, high) for high in (20_000, 5000, 5000))
        return Layer("g", "gemm", *sizes, logarithmic(rng, 60) if rng.random() < 0.3 else 1)
    height, width = logarithmic(rng, 300), logarithmic(rng, 300)
    groups = rng.choice((1, 1, 1, 2, 24))
    return Layer.from_conv(
        "c",
        Conv(
            batch=logarithmic(rng, 64), height=height, width=width,
            channels=groups * logarithmic(rng, 256 // groups),
            filters=groups * logarithmic(rng, 512 // groups),
            kernel=(min(height, rng.randint(1, 11)), min(width, rng.randint(1, 11))),
            stride=(rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2, 3))),
            padding=(rng.choice((0, 0, 1, 3)),) * 4, dilation=(rng.choice((1, 1, 2)),) * 2,
            groups=groups,
        ),
    )  # fmt: skip


def random_machine(rng):
    """One of several machines with another array, memory and number of cores."""
    size = rng.choice((8, 8, 16, 32))
    settings = {
        "array.rows": size,
        "array.columns": size,
        "post.lanes": rng.choice((1, 2, 8, 64)),
        "memory.bytes_per_cycle": rng.choice((1, 2, 3, 4, 7, 16, 64, 512)),
        "memory.latency": rng.choice((0, 1, 10, 100, 700, 5000)),
        "memory.scratchpad_kib": rng.choice((32, 64, 200, 512)),
        "ring.turnaround": 0,
        "cores": rng.choice((1, 1, 1, 2, 3, 5)),
    }
    if rng.random() < 0.3:
        settings |= {"memory.refresh_ns": 100, "memory.refresh_interval_ns": 700}
    return get_machine(rng.choice(("rapid-core", "edge-8x8", "spyre-32core"))).replace(**settings)


def random_programs(rng, count):
    """Programs of some hundred to `LONGEST` instructions, with their machines."""
    while count:
        profile = get_profile(rng.choice(("hfp8", "fp16")))
        finish = Finish(bias_format="dlfloat16") if rng.random() < 0.2 else None
        phase = rng.choice(PHASES)
        try:
            machine, work = random_machine(rng), phase_gemm(random_layer(rng), phase)
            program = lower_gemm(work, phase, machine, profile, finish=finish)
        except InputError:  # no tile fits, or no such convolution
            continue
        if 300 <= pipelined_driver._count_instructions(program.words.astype("int64")) <= LONGEST:
            count -= 1
            yield program, machine


def test_skip_changes_no_time(monkeypatch):
    for program, machine in random_programs(random.Random(SEED), PROGRAMS):
        times, plain = both(program, machine, monkeypatch)
        assert times == plain, (machine, segments(program))


#: A product whose tiles of k take 256 cycles of an 8×8 array. Both operands have two slots.
HEAD = """
.input "x" @0 hfp8-143 64x32000
.input "w" @16000 hfp8-143 32000x16
.output "y" @20000 dlfloat16 64x16
csrw m, 64
csrw n, 16
csrw k, 32000
csrw tile.k, 16
csrw a.pitch, 32000
csrw a.format, hfp8-143
csrw a.slots, 2
csrw a.slot_rows, 128
csrw b.base, 16000
csrw b.pitch, 16
csrw b.format, hfp8-143
csrw b.slots, 2
csrw b.slot_rows, 32
csrw c.base, 20000
csrw c.pitch, 16
csrw c.format, dlfloat16
csrw acc.format, dlfloat16
csrw total.format, dlfloat16
csrw acc.slots, 3
csrw acc.slot_rows, 128
csrw chunk, 8
"""


def sums(count=2000):
    """The first tiles of k."""
    steps = "ld a, s[0]\nld b, s[300]\nldw s[300]\nmm c[0], s[0]"
    return f"clr c[0]\nloop k, {count} {{\n{steps}\n}}\n"


@pytest.mark.parametrize("bandwidth", [4, 6, 8, 12])
@pytest.mark.parametrize("tiles", [60, 2000])
@pytest.mark.parametrize("count", [20, 40, 60, 230, 400, 2000])
def test_skip_keeps_gaps_of_the_channel_for_later_stores(bandwidth, tiles, count, monkeypatch):
    """POST ends before a loop that only loads. Stores behind the loop take the cycles that its loads left free."""
    stores = "st s[500]\n" * (count // 2)
    # The second sums are not finished: nothing reads them.
    head, count = HEAD.replace("csrw k, 32000", f"csrw k, {16 * tiles}"), min(count, tiles)
    program = assemble(f"{head}{sums(tiles)}post s[500], c[0]\n{sums(count)}{stores}halt\n")
    machine = get_machine("edge-8x8").replace(**{"memory.bytes_per_cycle": bandwidth})
    check(program, machine)
    times, plain = both(program, machine, monkeypatch)
    assert times == plain


@pytest.mark.parametrize("count", [98, 99, 100, 101])
def test_skip_keeps_slots_that_take_no_time(count, monkeypatch):
    """CLR takes no time, and every third one selects the accumulators that POST still reads."""
    idle = f"loop k, {count} {{\nld a, s[0]\nclr c[0]\n}}\n"
    program = assemble(
        f"{HEAD}{sums()}post s[500], c[0]\n{idle}{sums()}post s[500], c[0]\nst s[500]\nhalt\n"
    )
    machine = get_machine("edge-8x8").replace(
        **{"memory.bytes_per_cycle": 1024, "memory.latency": 0, "post.lanes": 1}
    )
    check(program, machine)
    times, plain = both(program, machine, monkeypatch)
    assert times == plain


def test_skip_counts_blocks_of_operand_b(monkeypatch):
    """Tiles of k cross two or three blocks of operand B, which is loaded in whole ones."""
    for filters in (24, 40, 56, 72, 88):
        conv = Conv(1, 9, 9, 2048, filters, (9, 9), padding=(4, 4, 4, 4))
        work = phase_gemm(Layer.from_conv("c", conv), "dgrad")
        machine, profile = get_machine("edge-8x8"), get_profile("hfp8")
        program = lower_gemm(work, "dgrad", machine, profile, tile=(81, 8, 64))
        times, plain = both(program, machine, monkeypatch)
        assert times == plain


def test_long_loops_are_skipped():
    """Programs end whose execution instruction by instruction would take many minutes; each further row of tiles is as long."""
    machine = get_machine("edge-8x8")
    layers = [Layer("g", "gemm", m, 3000, 2560) for m in (60_000_000, 69_600_000, 79_200_000)]
    times = [time_layer(layer, "dgrad", "hfp8", machine) for layer in layers]
    assert times[0].instructions > 3_000_000_000
    assert times[1].cycles - times[0].cycles == times[2].cycles - times[1].cycles


@pytest.mark.parametrize("phase", PHASES)
def test_count_of_instructions_is_that_of_the_model(phase):
    machine = get_machine("edge-8x8")
    layer = Layer("g", "gemm", 300, 200, 500, 3)
    program = lower_gemm(phase_gemm(layer, phase), phase, machine, get_profile("hfp8"))
    counted = pipelined_driver._count_instructions(program.words.astype("int64"))
    (layer_time,) = time_segments(program, machine)
    assert layer_time.instructions == counted - 1  # HALT is behind the last segment
