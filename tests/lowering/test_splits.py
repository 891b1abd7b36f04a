"""Splits over the cores of a machine: the bits are those of `gemm`, and what no program can split is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfp8sim._numba.interpreted import nothing_interpreted
from hfp8sim.errors import InputError
from hfp8sim.isa import decode, disassemble
from hfp8sim.isa.segments import segments
from hfp8sim.lowering import Split, lower_layer
from hfp8sim.lowering.splits import Work, best_split, splits
from hfp8sim.machine import check, execute, get_machine
from hfp8sim.network import PHASES, Conv, GemmShape, Layer
from hfp8sim.units.profile import get_profile
from tests.lowering.layers import expected, layer_inputs

SPYRE = get_machine("spyre-32core")
#: Eight cores with a small scratchpad, of which two take what one fetch brings.
RING = get_machine("edge-8x8").replace(cores=8, **{"ring.receivers": 2})
LAYERS = {
    "linear": Layer("fc", "linear", 37, 45, 130),
    "batched": Layer("qk", "matmul", 17, 9, 20, groups=3),
    "recurrent": Layer("rnn", "recurrent", 4, 24, 33, groups=5),
    "plain": Layer.from_conv("c", Conv(2, 6, 7, 5, 9, (3, 3), padding=(1, 1, 1, 1))),
    "strided": Layer.from_conv("s", Conv(2, 9, 8, 6, 10, (3, 2), (2, 3), (1, 1, 0, 1))),
    "grouped": Layer.from_conv("g", Conv(1, 6, 6, 6, 9, (3, 3), padding=(1, 1, 1, 1), groups=3)),
}
PROFILES = [
    "hfp8",
    "fp16",
    "exact",
    "aiu",
    "fp8-2018",
    "hopper-fp8",
    get_profile("hfp8").replace(rounding="stochastic"),
    get_profile("hfp8").replace(rounding="stochastic", random_source="lfsr"),
    get_profile("rapid").replace(sum_order="chain", chunk_length=7),
]
GRIDS = [(1, 4, 2), (1, 2, 4), (1, 1, 8), (1, 8, 1), (3, 2, 1), (2, 2, 2), (3, 1, 2), (1, 3, 2)]


@pytest.fixture(autouse=True)
def compiled_loop() -> Iterator[None]:
    """Short programs run in the compiled loop, too, which goes on from tile to tile by itself."""
    with nothing_interpreted():
        yield


def assert_bits(layer, phase, profile, split, machine=RING, threads=1, tile=None, seed=0):  # type: ignore[no-untyped-def]
    """The program of a split computes what `gemm` computes."""
    codes = layer_inputs(layer, phase, profile, np.random.default_rng(layer.k))
    program = lower_layer(layer, phase, machine, profile, split=split, tile=tile, seed=seed)
    (result,) = execute(program, codes, machine, threads=threads).outputs.values()
    reference = expected(layer, phase, codes, profile, seed)
    assert np.array_equal(result.reshape(reference.shape), reference)
    return program


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", LAYERS)
def test_split_changes_no_bit(name: str, phase: str, grid: tuple[int, int, int]) -> None:
    layer = LAYERS[name]
    shape = layer.shape(phase)
    split = Split(*(min(pair) for pair in zip(grid, shape, strict=False)))
    program = assert_bits(layer, phase, "rapid", split, threads=1 + math.prod(grid) % 4)
    segment = segments(program)[0]
    assert segment.cores == math.prod(max(size, 1) for size in segment.grid)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PROFILES), st.sampled_from(PHASES), st.sampled_from(list(LAYERS)), st.data())
def test_split_changes_no_bit_of_any_profile(profile, phase, name, data):  # type: ignore[no-untyped-def]
    layer, draw = LAYERS[name], data.draw
    shape = layer.shape(phase)
    parts = draw(st.permutations([draw(st.integers(1, 3)), draw(st.integers(1, 2)), 1]))
    split = Split(*(min(pair) for pair in zip(parts, shape, strict=False)))
    tile = draw(st.none() | st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(shape.k)))
    machine = get_machine("rapid-core").replace(cores=8, **{"ring.receivers": 4})
    assert_bits(layer, phase, profile, split, machine, draw(st.integers(1, 7)), tile, seed=3)


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8, 12])
def test_any_number_of_threads_is_a_grid(threads: int) -> None:
    profile = get_profile("hfp8").replace(rounding="stochastic")
    assert_bits(LAYERS["linear"], "fwd", profile, Split(1, 4, 2), threads=threads, tile=(5, 9, 64))


def test_both_loops_are_spread() -> None:
    program = lower_layer(Layer("x", "linear", 512, 4096, 256), "fwd", SPYRE, split=Split(1, 4, 8))
    text = disassemble(program)
    for line in ("split.g, 1", "split.i, 4", "split.j, 8"):
        assert f"csrw  {line}\n" in text
    assert sorted(re.findall(r"loop {2}(\w), \d+, spread", text)) == ["i", "j"]
    check(program, SPYRE)


def test_lowering_takes_the_best_split() -> None:
    """What is timed is what runs: the split of the time model is the program's grid."""
    for shape in ((512, 4096, 512), (64, 1024, 512), (1, 4096, 512)):
        layer = Layer("x", "linear", *shape)
        program = lower_layer(layer, "fwd", SPYRE)
        segment = segments(program)[0]
        split = best_split(layer.shape(), SPYRE, 8, segment.compulsory)
        assert segment.grid == split[:3]


def test_machine_without_a_ring_spreads_one_loop() -> None:
    machine = SPYRE.replace(**{"ring.receivers": 1})
    program = lower_layer(Layer("x", "linear", 512, 4096, 256), "fwd", machine)
    loops = [d for w in program.words if (d := decode(int(w))) and d.row.mnemonic == "loop"]
    assert sum("spread" in d.flags for d in loops) == 1
    assert segments(program)[0].grid == (0, 0, 0)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(k=2), "split 1×1×1×2 cuts K: its partial sums would be added in another order"),
        (Split(m=9), "must have positive shares for at most 8 cores"),
        (Split(m=0), "must have positive shares"),
        (Split(m=2, n=8), "at most 8 cores"),
        (Split(groups=2), "split cuts groups into 2 shares, but it has only 1"),
        (Split(n=8), "split cuts n into 8 shares, but it has only 5"),
    ],
)
def test_impossible_split_is_refused(split: Split, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lower_layer(Layer("x", "linear", 40, 5, 64), "fwd", RING, split=split)


def test_k_is_cut_where_operands_exceed_the_scratchpad() -> None:
    """512×4096×12800 in FP16: both operands of a core are larger than its scratchpad. Each is loaded once."""
    layer = Layer("x", "linear", 512, 4096, 12800)
    program = lower_layer(layer, "fwd", SPYRE, "fp16", split=Split(1, 4, 8))
    match = re.search(r"loop {2}k, (\d+)", disassemble(program))
    assert match and int(match[1]) > 1
    work = Work(layer.shape(), SPYRE, 16, 0, Split(1, 4, 8))
    assert work.reads == (512 * 12800 * 2, 4096 * 12800 * 2)
    assert work.pieces == 1
    assert work.slices > 1


shapes = st.tuples(st.integers(1, 9), *[st.integers(1, 5000)] * 3)


@settings(max_examples=50, deadline=None)
@given(shapes, st.sampled_from([8, 16]))
def test_best_split_is_among_the_fastest(sizes: tuple[int, int, int, int], bits: int) -> None:
    shape = GemmShape(*sizes)
    best = best_split(shape, SPYRE, bits)
    totals = {s: Work(shape, SPYRE, bits, 0, s).cycles().total for s in splits(shape, SPYRE)}
    assert best.k == 1
    assert totals[best] <= 1.1 * min(totals.values())


def test_best_split_fetches_least_of_equally_fast_ones() -> None:
    """N cut 32 ways is a little faster by the estimate, but fetches A four times."""
    shape = GemmShape(1, 2048, 4096, 4096)
    best, wide = best_split(shape, SPYRE, 16), Split(1, 1, 32)
    works = [Work(shape, SPYRE, 16, 0, split) for split in (best, wide)]
    assert best == Split(1, 4, 8)
    assert works[1].cycles().total < works[0].cycles().total
    assert sum(works[1].reads) > sum(works[0].reads)
