"""The time model `multicast`: against measured times of a real chip, none of which it was fitted to."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.machine import get_machine
from hfp8sim.network import GemmShape
from hfp8sim.timing import multicast, silicon, time_gemm
from hfp8sim.timing.multicast import Split, Work

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


def test_fp8_is_faster_as_on_silicon() -> None:
    assert microseconds(1, 16) / microseconds(1, 8) == pytest.approx(2, abs=0.05)
    for m in (512, 1024, 2048):
        assert 1.65 <= microseconds(m, 16) / microseconds(m, 8) <= 1.9


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (5, 3, 70, 200), (64, 512, 128, 512), (1, 9, 9, 9)]
)
@pytest.mark.parametrize("bits", [8, 16])
def test_no_split_is_faster_than_the_machine(shape: tuple[int, ...], bits: int) -> None:
    gemm = GemmShape(*shape)
    for split in multicast.splits(gemm, SPYRE):
        assert math.prod(split) <= SPYRE.cores
        parts = multicast.time_split(gemm, SPYRE, bits, 0, split)
        assert parts.total >= gemm.macs / SPYRE.macs_per_cycle(bits)
        size = (gemm.m * gemm.k + gemm.k * gemm.n) * bits // 8 + 2 * gemm.m * gemm.n
        assert parts.total >= gemm.groups * size / SPYRE.memory.bytes_per_cycle
        assert min(parts) >= 0


def test_one_core_has_one_split() -> None:
    assert multicast.splits(GemmShape(4, 64, 512, 512), get_machine("rapid-core")) == [Split()]


def test_large_operands_are_fetched_once() -> None:
    """Both shares exceed the scratchpad: slices of K, and no operand a second time."""
    shape, split = GemmShape(1, 512, 4096, 4096), Split(1, 2, 16, 1)
    work = Work(shape, SPYRE, 16, 0, split)
    assert work.pieces == 1
    reads = 2 * (2 * 512 * 4096 + 4096 * 4096)  # 16 receivers of A: two fetches
    expected = reads / SPYRE.memory.bytes_per_cycle
    assert work.parts().stall_in == pytest.approx(expected, abs=1)


def test_batched_products_use_all_cores() -> None:
    shape = GemmShape(512, 32, 512, 128)
    split = multicast.best_split(shape, SPYRE, 16)
    assert math.prod(split) == SPYRE.cores
    assert split.k == 1
    assert split.groups > 1


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
