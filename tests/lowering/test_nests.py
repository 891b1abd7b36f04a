"""Loop nests: chosen nests fit and are short, their traffic, and the error if nothing fits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat
from hfp8sim.isa import decode, disassemble
from hfp8sim.lowering import LayerPhase, lower_layer, lower_workload
from hfp8sim.machine import check, get_machine, machines
from hfp8sim.network import PHASES, Conv, Layer
from hfp8sim.timing import time_layer
from hfp8sim.units.profile import get_profile
from hfp8sim.workloads import load_workload


@pytest.mark.parametrize("name", machines())
def test_programs_of_real_networks_are_short(name):
    machine = get_machine(name)
    for network in ("resnet50", "mobilenet-v2"):
        for layer in load_workload(network):
            for phase in layer.phases:
                program = lower_layer(layer, phase, machine)
                assert len(program) < 80
                check(program, machine)


def test_layers_with_different_formats_in_one_program():
    network = load_workload("resnet50")
    first, second = network.layers[0], network.layers[1]
    program = lower_workload(
        [LayerPhase(first, "fwd", "fp16", 0), LayerPhase(second, "fwd", "hfp8", 0)]
    )
    text = disassemble(program)
    assert text.index("csrw  a.format, dlfloat16") < text.index("csrw  a.format, hfp8-143")
    check(program, get_machine())


dims = st.integers(1, 400)


@settings(max_examples=60, deadline=None)
@given(dims, dims, dims, st.sampled_from(PHASES), st.sampled_from(machines()), st.integers(0, 300))
def test_lowered_programs_pass_the_check(m, n, k, phase, name, chunk):
    machine = get_machine(name).replace(**{"memory.scratchpad_kib": 4, "memory.accumulators": 300})
    profile = get_profile("hfp8").replace(chunk_length=chunk)
    check(lower_layer(Layer("x", "linear", m, n, k), phase, machine, profile), machine)


def test_tensors_that_fit_are_loaded_once():
    """One tensor each, read and written once: no capacity traffic."""
    for layer in (
        Layer("x", "linear", 256, 128, 512),
        Layer.from_conv("c", Conv(1, 8, 8, 32, 32, (3, 3), padding=(1, 1, 1, 1))),
    ):
        for phase in PHASES:
            program = lower_layer(layer, phase, "tpu-like-128", tile=(10**6, 10**6, 10**6))
            assert program.layers[0].compulsory == sum(s.bytes for s in program.symbols)
            time = time_layer(layer, phase, "hfp8", "tpu-like-128")
            assert time.bytes >= time.compulsory


def test_capacity_traffic_grows_as_the_scratchpad_shrinks():
    layer = Layer("x", "linear", 2048, 2048, 2048)
    sizes = (64, 256, 1024, 2048)
    times = [
        time_layer(layer, "fwd", "hfp8", get_machine().replace(**{"memory.scratchpad_kib": kib}))
        for kib in sizes
    ]
    moved = [time.bytes for time in times]
    assert moved == sorted(moved, reverse=True) and moved[0] > 1.5 * moved[-1]
    assert len({time.compulsory for time in times}) == 1


def test_error_if_no_tile_fits():
    machine = get_machine("rapid-core").replace(**{"memory.scratchpad_kib": 1})
    layer = Layer.from_conv("wide", Conv(1, 4, 4096, 3, 64, (3, 3), padding=(1, 1, 1, 1)))
    with pytest.raises(
        InputError,
        match=r"layer 'wide' \(fwd\): does not fit machine rapid-core: even tiles of .* need "
        r"\d+ scratchpad rows of 64 bytes and \d+ accumulator rows; it has 16 and 2048",
    ):
        lower_layer(layer, "fwd", machine)


def test_sums_that_cannot_be_cut_keep_all_of_k_in_a_tile():
    """Exact sums of a whole GEMM have no state between tiles of k."""
    machine = get_machine().replace(**{"memory.scratchpad_kib": 64})
    with pytest.raises(
        InputError, match=r"does not fit machine rapid-core: even tiles of \d+×\d+×99999"
    ):
        lower_layer(Layer("x", "linear", 8, 8, 99999), "fwd", machine, "exact")
    lower_layer(Layer("x", "linear", 8, 8, 99999), "fwd", machine, "hfp8")
    with pytest.raises(InputError, match="tile k is 10, must be 40"):
        lower_layer(Layer("x", "linear", 8, 8, 40), "fwd", machine, "exact", tile=(8, 8, 10))
    rapid = get_profile("rapid").replace(chunk_length=6)
    with pytest.raises(InputError, match="tile k is 9, must be a multiple of 2, or 40"):
        lower_layer(Layer("x", "linear", 8, 8, 40), "fwd", machine, rapid, tile=(8, 8, 9))
    lower_layer(Layer("x", "linear", 8, 8, 40), "fwd", machine, rapid, tile=(8, 8, 10))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"phase": "bwd"}, "unknown phase 'bwd'"),
        ({"machine": "rapid"}, "unknown machine 'rapid'"),
        ({"profile": "hfp9"}, "unknown profile 'hfp9'; did you mean hfp8"),
        ({"seed": -1}, "seed is -1, must be 0 ≤ seed < 2"),
        ({"stream": 1 << 64}, "stream is 18446744073709551616, must be"),
        ({"tile": (0, 1, 1)}, "must have positive sizes"),
        ({"profile": get_profile("hfp8").replace(overflow="error")}, "cannot stop at an overflow"),
    ],
)
def test_wrong_arguments(arguments, reason):
    with pytest.raises(InputError, match=reason):
        lower_layer(Layer("x", "linear", 8, 8, 40), **arguments)


@pytest.mark.parametrize(
    ("tensor", "fields"),
    [
        ("x", {"a_format": FloatFormat("mine", 4, 3, 9)}),
        ("w", {"b_format": FloatFormat("hfp8-143", 4, 3, 9)}),
    ],
)
def test_formats_without_a_name_are_lowered_and_not_written(tensor, fields, tmp_path):
    """A file names formats. A record that no name finds would come back as another one."""
    profile = get_profile("hfp8").replace(**fields)
    program = lower_layer(Layer("x", "linear", 8, 8, 40), profile=profile)
    check(program, get_machine())
    (fmt,) = fields.values()
    assert program[tensor].record == fmt
    for write in (disassemble, lambda program: program.save(tmp_path / "program")):
        with pytest.raises(
            InputError, match=f"{tensor}'s, '{fmt.name}', is not registered; hs.register_format"
        ):
            write(program)
    assert not list(tmp_path.iterdir())


def test_empty_workload_is_refused():
    with pytest.raises(InputError, match="no layer to lower; give at least one"):
        lower_workload([])


def test_groups_become_a_loop():
    conv = Conv(4, 16, 16, 96, 96, (3, 3), padding=(1, 1, 1, 1), groups=96)
    program = lower_layer(Layer.from_conv("dw", conv), "fwd")
    text = disassemble(program)
    assert "csrw  groups, 96" in text and "csrw  k, 9" in text and "loop  g, 96" in text
    time = time_layer(Layer.from_conv("dw", conv), "fwd")
    assert time.shape.macs == 4 * 16 * 16 * 96 * 9


def test_largest_loop_is_distributed_over_cores():
    program = lower_layer(Layer("x", "linear", 4096, 64, 64), "fwd")
    loops = [d for w in program.words if (d := decode(int(w))) and d.row.mnemonic == "loop"]
    spread = [d for d in loops if "spread" in d.flags]
    assert len(spread) == 1
    assert spread[0].operands["count"] == max(d.operands["count"] for d in loops)
