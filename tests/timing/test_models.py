"""Time models: closed forms to the cycle, sums of parts, and what the pipeline hides."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfp8sim.errors import InputError
from hfp8sim.isa import Program, assemble
from hfp8sim.isa.table import UNITS
from hfp8sim.lowering import LayerPhase, lower_layer, lower_workload
from hfp8sim.machine import get_machine
from hfp8sim.network import PHASES, Conv, GemmShape, Layer
from hfp8sim.timing import Parts, time_layer, time_program, timeline
from hfp8sim.timing.scalesim import DATAFLOWS
from hfp8sim.workloads import load_workload


def square(size, **more):
    """A machine with one square array of single cells."""
    array = {"array.rows": size, "array.columns": size, "memory.scratchpad_kib": 512}
    return get_machine("tpu-like-128").replace(**array, **more)


# -- closed forms --------------------------------------------------------------------------------------

#: M, N, K, array, cycles OS, cycles WS: what SCALE-Sim 3.0.0 itself reports for these.
SCALESIM = [
    (64, 64, 64, 8, 4991, 5503),
    (64, 64, 64, 32, 503, 631),
    (64, 64, 64, 128, 317, 445),
    (512, 512, 512, 32, 146943, 155135),
    (512, 512, 512, 128, 12255, 14303),
    (197, 768, 768, 32, 139439, 167615),
    (197, 768, 768, 128, 12263, 20843),
    (1, 4096, 4096, 128, 139199, 392191),
]


@pytest.mark.parametrize(("m", "n", "k", "size", "output", "weight"), SCALESIM)
def test_scalesim_totals_to_the_cycle(m, n, k, size, output, weight):
    layer, machine = Layer("x", "linear", m, n, k), square(size)
    assert time_layer(layer, "fwd", "hfp8", machine, "scalesim-os").cycles == output
    assert time_layer(layer, "fwd", "hfp8", machine, "scalesim-ws").cycles == weight
    turned = Layer("x", "linear", n, m, k)  # input-stationary is weight-stationary transposed
    assert time_layer(turned, "fwd", "hfp8", machine, "scalesim-is").cycles == weight
    program = lower_layer(layer, "fwd", machine)
    assert time_program(program, machine, "scalesim-os").cycles == output


sizes = st.integers(1, 300)


@given(sizes, sizes, sizes, st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))
def test_parts_of_closed_forms(m, n, k, groups, rows, columns):
    shape = GemmShape(groups, m, n, k)
    for model, along, across, stream, loading in (
        ("scalesim-os", m, n, k, 1),
        ("scalesim-ws", k, n, m, 2),
        ("scalesim-is", k, m, n, 2),
    ):
        folds = groups * -(-along // rows) * -(-across // columns)
        parts = DATAFLOWS[model].fold_serial(shape, rows, columns)
        assert parts.total == folds * (stream + loading * rows + columns - 2) - 1
        assert min(parts) >= 0 and parts.stall_in == parts.stall_out == parts.post == 0


def test_closed_form_of_a_convolution():
    conv = Conv(4, 14, 14, 32, 48, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), groups=2)
    layer, machine = Layer.from_conv("c", conv), square(16)
    for phase in PHASES:
        g, m, n, k = layer.shape(phase)
        expected = g * -(-m // 16) * -(-n // 16) * (k + 30) - 1
        assert time_layer(layer, phase, "hfp8", machine, "scalesim-os").cycles == expected


def test_array_size_of_a_closed_form():
    layer = Layer("x", "linear", 256, 256, 256)
    # 8 rows of two multiply-accumulates, 64 lanes in each of two corelets: 16 × 128
    assert (
        time_layer(layer, "fwd", "hfp8", "rapid-core", "scalesim-ws").cycles == 32 * (256 + 158) - 1
    )
    assert (
        time_layer(layer, "fwd", "fp16", "rapid-core", "scalesim-ws").cycles == 64 * (256 + 142) - 1
    )
    # Four cores take a quarter of the rows each.
    assert (
        time_layer(layer, "fwd", "hfp8", "rapid-4core", "scalesim-ws").cycles == 32 * (64 + 158) - 1
    )


# -- the pipeline --------------------------------------------------------------------------------------


def test_one_tile_by_hand():
    """LD B, LD A, one block, POST, ST: each waits for the one before; LDW runs during LD A."""
    machine = square(16, **{"memory.bytes_per_cycle": 4, "memory.latency": 100, "post.lanes": 8})
    program = lower_layer(Layer("x", "linear", 40, 16, 16), "fwd", machine, tile=(40, 16, 16))
    (time,) = time_program(program, machine).layers
    assert time.parts == Parts(
        fill=15,
        compute=40,
        drain=15,
        stall_in=40 * 16 // 4 + 16 * 16 // 4 + 100,
        stall_out=40 * 16 * 2 // 4,
        post=40 * 16 // 8,
    )
    assert (time.bytes_in, time.bytes_out, time.compulsory) == (896, 1280, 896 + 1280)


def test_refresh_by_hand():
    """A quarter of the time goes to refresh: 64 and 160 cycles of loading and 320 of storing last a third longer."""
    memory = {"memory.bytes_per_cycle": 4, "memory.latency": 100, "post.lanes": 8}
    program = lower_layer(Layer("x", "linear", 40, 16, 16), "fwd", square(16), tile=(40, 16, 16))
    times = [
        time_program(program, square(16, **memory | refresh), "pipelined").layers[0]
        for refresh in (
            {},
            {"memory.refresh_interval_ns": 4000},
            {"memory.refresh_ns": 1000, "memory.refresh_interval_ns": 4000},
        )
    ]
    assert times[0] == times[1]
    assert times[2].parts == times[0].parts._replace(stall_in=86 + 214 + 100, stall_out=427)
    assert (times[2].bytes_in, times[2].bytes_out) == (896, 1280)


def test_unlimited_memory_gives_the_systolic_closed_form():
    """With unlimited bandwidth a weight-stationary GEMM takes R cycles for the first weights, max(m, R)
    cycles for every block, and R + C − 2 cycles for fill and drain."""
    machine = square(
        8, **{"memory.bytes_per_cycle": 65536, "memory.latency": 0, "post.lanes": 65536}
    )
    for m, n, k in ((64, 64, 64), (5, 64, 40), (100, 24, 80)):
        program = lower_layer(Layer("x", "linear", m, n, k), "fwd", machine, tile=(m, n, k))
        (time,) = time_program(program, machine).layers
        blocks = -(-n // 8) * -(-k // 8)
        parts = time.parts
        assert parts.fill + parts.drain == 14
        assert parts.compute == blocks * m
        assert parts.weight_load == 8 + blocks * max(0, 8 - m)
        assert parts.stall_in + parts.stall_out + parts.post <= 6


def test_array_waits_until_accumulators_are_free():
    """With two buffers of accumulators, the tile after next starts once POST has read the sums of a tile."""
    machine = square(16, **{"post.lanes": 1})
    program = lower_layer(Layer("x", "linear", 16, 64, 16), "fwd", machine, tile=(16, 16, 16))
    spans = timeline(program, machine)
    array, post = ([s for s in spans if s.unit == unit] for unit in ("array", "post"))
    assert len(array) == len(post) == 4
    for multiplication, conversion in zip(array[2:], post):
        assert multiplication.start >= conversion.end


def test_rate_of_sixteen_bit_operands():
    layer = Layer("x", "linear", 2048, 512, 512)
    eight, sixteen = (time_layer(layer, "fwd", profile) for profile in ("hfp8", "fp16"))
    assert sixteen.parts.compute == 2 * eight.parts.compute
    machine = get_machine()
    assert 0.9 < eight.utilisation(machine) <= 1 and 0.9 < sixteen.utilisation(machine) <= 1


def test_large_convolution_is_compute_bound():
    conv = Conv(32, 14, 14, 256, 256, (3, 3), padding=(1, 1, 1, 1))
    for phase in PHASES:
        time = time_layer(Layer.from_conv("c", conv), phase)
        assert time.bound_by == "compute" and time.utilisation(get_machine()) > 0.95


def test_vector_product_is_memory_bound():
    machine = get_machine()
    time = time_layer(Layer("x", "linear", 1, 4096, 4096), "fwd", "hfp8", machine)
    assert time.bound_by == "stall_in"
    assert time.cycles >= 4096 * 4096 // machine.memory.bytes_per_cycle


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(sizes, sizes, sizes),
    st.sampled_from(PHASES),
    st.integers(1, 6).map(lambda bits: 1 << bits),
    st.integers(0, 500),
    st.integers(1, 4),
)
def test_cycles_are_at_least_traffic_over_bandwidth(shape, phase, bandwidth, latency, cores):
    machine = get_machine("rapid-core").replace(
        **{"memory.bytes_per_cycle": bandwidth, "memory.latency": latency, "cores": cores}
    )
    layer = Layer("x", "linear", *shape)
    time = time_layer(layer, phase, "hfp8", machine)
    assert min(time.parts) >= 0
    assert time.cycles >= time.bytes // bandwidth
    assert time.cycles >= time.shape.macs // machine.macs_per_cycle()
    assert time.bytes >= time.compulsory


def test_cores_share_the_channel():
    """More cores do not speed up a memory-bound layer; they do speed up a compute-bound one."""
    layer = Layer("x", "linear", 8, 4096, 4096)
    one, four = (
        time_layer(layer, "fwd", "hfp8", get_machine("rapid-4core").replace(cores=cores))
        for cores in (1, 4)
    )
    assert four.bytes >= one.bytes and four.cycles > 0.9 * one.cycles
    busy = Layer("x", "linear", 4096, 1024, 4096)
    one, four = (
        time_layer(busy, "fwd", "hfp8", get_machine("rapid-4core").replace(cores=cores))
        for cores in (1, 4)
    )
    assert 3.5 < one.cycles / four.cycles <= 4


def test_program_time_is_the_sum_of_its_layers():
    layers = [Layer("a", "linear", 64, 96, 128), Layer("b", "linear", 300, 20, 50)]
    work = [
        LayerPhase(layer, phase, profile, stream=0)
        for layer in layers
        for phase, profile in (("fwd", "hfp8"), ("wgrad", "fp16"))
    ]
    together = time_program(lower_workload(work))
    assert [(t.name, t.phase) for t in together.layers] == [(w.layer.name, w.phase) for w in work]
    alone = [time_layer(w.layer, w.phase, w.profile) for w in work]
    assert [t.parts for t in together.layers] == [t.parts for t in alone]
    assert together.cycles == sum(t.cycles for t in alone) == together.parts.total


def test_executed_instructions_of_resnet50():
    """ResNet-50 executes fewer than 10^5 instructions at batch 32."""
    network = load_workload("resnet50", batch=32)
    executed = [time_layer(layer, "fwd").instructions for layer in network]
    assert sum(executed) < 100_000


# -- the timeline --------------------------------------------------------------------------------------


def test_spans_of_a_unit_do_not_overlap():
    conv = Conv(2, 14, 14, 16, 32, (3, 3), padding=(1, 1, 1, 1))
    layer = Layer.from_conv("c", conv)
    program = lower_workload([LayerPhase(layer, phase, "hfp8", 0) for phase in PHASES])
    machine = get_machine("rapid-4core")
    spans, total = timeline(program, machine), time_program(program, machine)
    assert {span.unit for span in spans} == set(UNITS)
    assert {span.layer for span in spans} == {"c fwd", "c dgrad", "c wgrad"}
    assert max(span.end for span in spans) <= total.cycles
    for core in range(4):
        for unit in UNITS:
            mine = [span for span in spans if (span.core, span.unit) == (core, unit)]
            for before, after in itertools.pairwise(mine):
                assert before.start <= before.end <= after.start


def test_channel_serves_requests_in_order_of_time():
    """A load is served before a store that precedes it in the program but requests the channel later."""
    layers = [
        Layer.from_conv("c", Conv(32, 8, 8, 1, 16, (3, 3), padding=(1, 1, 1, 1))),
        Layer.from_conv("d", Conv(2, 16, 16, 24, 24, (3, 3), stride=(2, 2), groups=24)),
        Layer("fc", "linear", 3136, 256, 64),
    ]
    reordered = 0
    for layer, phase in itertools.product(layers, PHASES):
        program = lower_layer(layer, phase)
        moved = [s for s in timeline(program) if s.unit in ("DMA in", "DMA out") and s.bytes]
        asked = sorted(moved, key=lambda span: span.start)
        assert [s.end for s in asked] == sorted(s.end for s in asked)
        assert sum(-(-s.bytes // 64) for s in moved) <= asked[-1].end
        reordered += moved != asked
    assert reordered  # in at least one layer this is not the program's order


def test_loads_of_the_next_group_overlap_computation():
    for layer in (
        Layer("qk", "matmul", 128, 64, 128, groups=12),
        Layer.from_conv("dw", Conv(1, 56, 56, 48, 48, (3, 3), padding=(1, 1, 1, 1), groups=48)),
    ):
        for phase in PHASES:
            time = time_layer(layer, phase)
            busy = max(time.parts.compute + time.parts.weight_load, time.bytes // 64)
            assert time.cycles < 1.15 * busy + 600


def test_timing_refuses_invalid_programs():
    with pytest.raises(InputError, match="no accumulators have been cleared"):
        time_program(
            assemble("csrw c.format, binary16\ncsrw acc.format, binary16\npost s[0], c[0]\nhalt")
        )
    with pytest.raises(InputError, match="does not end with halt"):
        time_program(Program([]))
    program = lower_layer(Layer("x", "linear", 64, 64, 64), "fwd", "rapid-core")
    for function in (time_program, timeline):
        with pytest.raises(InputError, match=r"scratchpad rows .* are touched, the machine has 32"):
            function(program, get_machine().replace(**{"memory.scratchpad_kib": 2}))
