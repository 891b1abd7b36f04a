"""The time model `multicast`: against measured times of a real chip, none of which it was fitted to."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.lowering import lower_layer
from hfp8sim.lowering.splits import Split, Work, best_split, splits
from hfp8sim.machine import Machine, get_machine
from hfp8sim.network import GemmShape, Layer
from hfp8sim.timing import Parts, multicast, silicon, time_gemm, time_program
from hfp8sim.timing.silicon import Measurement

DATA = Path(__file__).parents[1] / "data/spyre_gemm.csv"
SPYRE = get_machine("spyre-32core")
ROWS = silicon.read_measurements(DATA, SPYRE)
BEST = silicon.best_rows(ROWS)


def microseconds(m: int, bits: int) -> float:
    """Of an M×4096×4096 product with the best split."""
    time = time_gemm(GemmShape(1, m, 4096, 4096), SPYRE, "multicast", bits)
    return time.cycles / SPYRE.clock_mhz


def test_times_agree_with_silicon() -> None:
    best = silicon.Agreement.of([row.ratio for row in BEST])
    every = silicon.Agreement.of([row.ratio for row in ROWS])
    assert (best.rows, every.rows) == (26, 103)
    assert best.median_log <= 0.10
    assert every.median_log <= 0.15
    assert best.within_30 >= 0.90
    assert every.within_30 >= 0.80
    assert all(0.75 <= row.ratio <= 1.25 for row in BEST if row.shape.m >= 512)


def test_products_bound_by_memory() -> None:
    """Within 9 %, and most within 6 %. The device's own rates differ by more than ± 6 % covers."""
    small = [row.ratio for row in BEST if row.shape.m <= 256]
    assert len(small) == 19
    assert min(small) >= 0.91 and max(small) <= 1.065
    assert sum(abs(ratio - 1) <= 0.06 for ratio in small) >= 11
    assert max(small) / min(small) > 1.06 / 0.94


def test_times_agree_better_than_a_roofline() -> None:
    for rows in (BEST, ROWS):
        bare = silicon.Agreement.of([silicon.roofline(row, SPYRE) / row.device for row in rows])
        ours = silicon.Agreement.of([row.ratio for row in rows])
        assert ours.median_log < bare.median_log
        assert ours.within_30 > bare.within_30


def test_splits_are_ranked_as_silicon_ranks_them() -> None:
    groups = [rows for rows in silicon.products(ROWS).values() if len(rows) >= 5]
    assert len(groups) == 4
    for rows in groups:
        assert silicon.rank_correlation(rows) >= 0.75
        assert silicon.rank_correlation([row for row in rows if row.split.k == 1]) >= 0.85
        assert silicon.regret(rows) <= 1.1
        bits, shape = rows[0].product
        chosen = best_split(shape, SPYRE, bits)
        assert min(row.device for row in rows if row.split == chosen) <= 1.1 * rows[0].device


# -- programs ----------------------------------------------------------------------------------------


def program_time(row: Measurement) -> Measurement:
    """The measurement with the time of the lowered program under the model `pipelined`."""
    return silicon.with_program(row, SPYRE)


def test_programs_agree_with_silicon() -> None:
    """The programs that run, instruction by instruction, with the splits that were measured."""
    rows = [program_time(row) for row in ROWS if row.split.k == 1]
    best = silicon.best_rows(rows)
    every = silicon.Agreement.of([row.ratio for row in rows])
    fastest = silicon.Agreement.of([row.ratio for row in best])
    assert (every.rows, fastest.rows) == (46, 26)
    assert every.median_log <= 0.10
    assert every.within_30 >= 0.90
    assert fastest.median_log <= 0.06
    assert all(0.75 <= row.ratio <= 1.25 for row in best)
    for measured in silicon.products(rows).values():
        if len(measured) >= 5:
            assert silicon.rank_correlation(measured) >= 0.85
            assert silicon.regret(measured) <= 1.1


def small_ring(receivers: int, **more: int) -> Machine:
    """Four cores with one 16 × 16 array each, and a channel of four bytes a cycle."""
    keys = {"array.rows": 16, "array.columns": 16, "memory.scratchpad_kib": 512}
    keys |= {"memory.bytes_per_cycle": 4, "memory.latency": 100, "post.lanes": 8}
    keys |= {"ring.receivers": receivers} | more
    return get_machine("tpu-like-128").replace(cores=4, **keys)


@pytest.mark.parametrize(("receivers", "fetches"), [(1, 2), (2, 1), (4, 1)])
def test_cores_share_a_fetch_by_hand(receivers: int, fetches: int) -> None:
    """A grid of 2 × 2: two cores need each tile of A, two each tile of B. All four store."""
    machine = small_ring(receivers)
    program = lower_layer(
        Layer("x", "linear", 32, 32, 16), "fwd", machine, tile=(16, 16, 16), split=Split(1, 2, 2)
    )
    (time,) = time_program(program, machine, "pipelined").layers
    load = 4 * 16 * 16 * fetches // 2 // 4
    assert time.parts == Parts(
        fill=15,
        compute=16,
        drain=15,
        weight_load=16,  # B comes last
        stall_in=2 * load + 100,
        stall_out=4 * 512 // 4,
        post=32,
    )
    assert time.bytes_in == fetches * 2 * 512
    assert time.bytes_out == 2048


def test_turnaround_by_hand() -> None:
    """1024 bytes are read and 2048 written; a cycle is lost for each byte of the smaller."""
    machine, layer = small_ring(2), Layer("x", "linear", 32, 32, 16)
    program = lower_layer(layer, "fwd", machine, tile=(16, 16, 16), split=Split(1, 2, 2))
    times = [
        time_program(program, machine.replace(**{"ring.turnaround": turnaround}), "pipelined")
        for turnaround in (0, 1 << 20)
    ]
    assert times[1].parts.stall_out == times[0].parts.stall_out + 1024
    assert dataclasses.replace(times[1].layers[0], parts=times[0].parts) == times[0].layers[0]


REFRESH = {"memory.refresh_ns": 1000, "memory.refresh_interval_ns": 4000}


def test_refresh_prolongs_the_turnaround_by_hand() -> None:
    """Four cores store 512 bytes each at four a cycle, 1024 of them turn the channel; a quarter goes to refresh."""
    layer = Layer("x", "linear", 32, 32, 16)
    machine = small_ring(2, **{"ring.turnaround": 1 << 20})
    program = lower_layer(layer, "fwd", machine, tile=(16, 16, 16), split=Split(1, 2, 2))
    before, after = (
        time_program(program, each, "pipelined").layers[0].parts
        for each in (machine, machine.replace(**REFRESH))
    )
    assert before.stall_out == 512 + 1024
    assert after.stall_out == (512 + 1024) * 4 // 3
    assert after.stall_in == 100 + 2 * math.ceil(128 * 4 / 3)


@pytest.mark.parametrize("split", [Split(1, 1, 32), Split(1, 4, 8), Split(1, 2, 4, 4)])
def test_refresh_prolongs_every_transfer_of_the_closed_form(split: Split) -> None:
    """A product of few rows moves bytes all the time: B, then the result. Partial sums are on the ring."""
    shape = GemmShape(1, 4, 4096, 4096)
    before, after = (
        Work(shape, machine, 8, 0, split).cycles() for machine in (SPYRE, SPYRE.replace(**REFRESH))
    )
    reduction = Work(shape, SPYRE, 8, 0, split).reduction
    arrays = before.compute + before.weight_load
    assert (after.compute, after.weight_load) == (before.compute, before.weight_load)
    assert after.stall_in + arrays == pytest.approx(4 / 3 * (before.stall_in + arrays), rel=0.02)
    assert after.stall_out - reduction == pytest.approx(
        4 / 3 * (before.stall_out - reduction), abs=2
    )


def test_ring_limits_transfers_by_hand() -> None:
    """A ring of two bytes a cycle beside a channel of four: every transfer takes twice as long. Turning hides."""
    layer, machine = Layer("x", "linear", 32, 32, 16), small_ring(2)
    program = lower_layer(layer, "fwd", machine, tile=(16, 16, 16), split=Split(1, 2, 2))
    keys: list[dict[str, int]] = [
        {},
        {"ring.bytes_per_cycle": 4},
        {"ring.bytes_per_cycle": 2},
        {"ring.bytes_per_cycle": 2, "ring.turnaround": 1 << 19},
    ]
    parts = [
        time_program(program, machine.replace(**more), "pipelined").layers[0].parts for more in keys
    ]
    assert parts[0] == parts[1]
    assert parts[2] == parts[0]._replace(stall_in=100 + 2 * 256, stall_out=1024)
    assert parts[3] == parts[2]


def test_ring_limits_transfers_of_the_closed_form() -> None:
    shape = GemmShape(1, 64, 4096, 4096)
    narrow, turning = SPYRE.replace(**{"ring.bytes_per_cycle": 68}), SPYRE.memory.bytes_per_cycle
    works = [Work(shape, each, 16, 0, Split(1, 4, 8)) for each in (SPYRE, narrow)]
    before, after = (work.cycles() for work in works)
    arrays = before.compute + before.weight_load
    assert turning == 136
    assert after.stall_in + arrays == pytest.approx(2 * (before.stall_in + arrays), rel=0.02)
    assert after.stall_out == math.ceil(64 * 4096 * 2 / 68)


def test_core_without_a_tile_loads_nothing() -> None:
    """A grid of 1 × 3 on a machine with four cores."""
    machine, layer = small_ring(4), Layer("x", "linear", 16, 48, 16)
    program = lower_layer(layer, "fwd", machine, tile=(16, 16, 16), split=Split(1, 1, 3))
    (time,) = time_program(program, machine, "pipelined").layers
    assert time.bytes_in == 16 * 16 + 16 * 48
    assert time.parts.stall_out == 3 * 512 // 4


def test_program_is_timed_with_its_own_split() -> None:
    """The closed form takes the split from the program, not the best one."""
    layer = Layer("x", "linear", 512, 4096, 1024)
    for split in (Split(1, 4, 8), Split(1, 32, 1)):
        program = lower_layer(layer, "fwd", SPYRE, split=split)
        (time,) = time_program(program, SPYRE).layers
        assert time.parts == multicast.time_split(layer.shape(), SPYRE, 8, time.compulsory, split)


def test_fp8_is_faster_as_on_silicon() -> None:
    assert microseconds(1, 16) / microseconds(1, 8) == pytest.approx(2, abs=0.05)
    for m in (512, 1024, 2048):
        assert 1.65 <= microseconds(m, 16) / microseconds(m, 8) <= 1.9


def test_fp8_is_faster_as_on_silicon_with_its_splits() -> None:
    by_product = {row.product: row for row in BEST}
    for m in (512, 1024, 2048):
        shape = GemmShape(1, m, 4096, 4096)
        assert 1.65 <= by_product[16, shape].model / by_product[8, shape].model <= 1.9


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (5, 3, 70, 200), (64, 512, 128, 512), (1, 9, 9, 9)]
)
@pytest.mark.parametrize("bits", [8, 16])
def test_no_split_is_faster_than_the_machine(shape: tuple[int, ...], bits: int) -> None:
    gemm = GemmShape(*shape)
    for split in splits(gemm, SPYRE):
        assert math.prod(split) <= SPYRE.cores
        parts = multicast.time_split(gemm, SPYRE, bits, 0, split)
        assert parts.total >= gemm.macs / SPYRE.macs_per_cycle(bits)
        size = (gemm.m * gemm.k + gemm.k * gemm.n) * bits // 8 + 2 * gemm.m * gemm.n
        assert parts.total >= gemm.groups * size / SPYRE.memory.bytes_per_cycle
        assert min(parts) >= 0


def test_one_core_has_one_split() -> None:
    assert splits(GemmShape(4, 64, 512, 512), get_machine("rapid-core")) == (Split(),)


def test_large_operands_are_fetched_once() -> None:
    """Both shares exceed the scratchpad: slices of K, and no operand a second time."""
    shape, split = GemmShape(1, 512, 4096, 4096), Split(1, 2, 16, 1)
    work = Work(shape, SPYRE, 16, 0, split)
    assert work.pieces == 1
    # 2 MiB less 256 KiB of sums have room for two slices of 896 rows of A and B.
    assert work.slices == math.ceil(4096 / 896)
    reads = 2 * (2 * 512 * 4096 + 4096 * 4096)  # 16 receivers of A: two fetches
    loading = reads / SPYRE.memory.bytes_per_cycle
    array = work.arrays + work.weight_blocks
    expected = max(loading + array / 5, array + loading / 5) - array
    assert work.cycles().stall_in == pytest.approx(expected, abs=1)


def test_batched_products_use_all_cores() -> None:
    shape = GemmShape(512, 32, 512, 128)
    split = best_split(shape, SPYRE, 16)
    assert math.prod(split) == SPYRE.cores
    assert split.k == 1
    assert split.groups > 1


@pytest.mark.parametrize(
    ("shape", "device"), [((512, 32, 512, 128), 731.0), ((32, 512, 128, 512), 198.0)]
)
def test_batched_products_take_the_faster_reported_time(
    shape: tuple[int, int, int, int], device: float
) -> None:
    """Two products of attention's size in FP16, in microseconds, by the source of tests/data/spyre_gemm.csv."""
    time = time_gemm(GemmShape(*shape), SPYRE, "multicast", 16)
    assert time.cycles / SPYRE.clock_mhz == pytest.approx(device, rel=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'format' is missing"),
        ("format,m,n,k,split_m,split_n,split_k,device_us\n", "it has no row"),
        ("format,m,n,k,split_m,split_n,split_k,device_us\nfp4,1,1,1,1,1,1,1\n", ":2: format is 'fp4'"),
        ("format,m,n,k,split_m,split_n,split_k,device_us\nfp8,1,x,1,1,1,1,1\n", ":2: .* must be numbers"),
        ("format,m,n,k,split_m,split_n,split_k,device_us\nfp8,1,1,1,1,0,1,1\n", "splits too or all 0"),
        ("format,m,n,k,split_m,split_n,split_k,device_us\nfp8,1,1,1,1,1,1,nan\n", "must be positive"),
    ],
)  # fmt: skip
def test_damaged_measurements_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        silicon.read_measurements(tmp_path / "t.csv", SPYRE)
