"""The executor: hand-written programs, the log, counts, several layers and cores, and bad inputs."""

import itertools
import os
import signal
import time

import numpy as np
import pytest

from hfp8sim import kernels
from hfp8sim._numba.interpreted import nothing_interpreted
from hfp8sim.errors import InputError
from hfp8sim.isa import assemble, disassemble
from hfp8sim.lowering import LayerPhase, lower_layer, lower_workload
from hfp8sim.machine import execute, get_machine, interpreter, multiplier
from hfp8sim.network import Conv, Layer, phase_stream
from hfp8sim.ops import Events, gemm
from hfp8sim.simulation.values import count_gated
from hfp8sim.units.profile import get_profile
from tests.lowering.layers import expected, layer_inputs, unfolded
from tests.machine.test_check import BODY, HEAD


@pytest.fixture(autouse=True)
def compiled_loop():
    """Short programs run in the compiled loop, too, which goes on from tile to tile by itself."""
    with nothing_interpreted():
        yield


def operands(rng=None, m=8, k=32, n=16):
    rng = rng or np.random.default_rng(5)
    a = rng.integers(0, 256, (m, k), np.uint8)
    return {"x": a, "w": rng.integers(0, 256, (k, n), np.uint8)}


def product(inputs, chunk=8):
    profile = get_profile("hfp8").replace(chunk_length=chunk, rounding="nearest-even")
    return gemm(inputs["x"], inputs["w"], profile)


def test_hand_written_program():
    inputs = operands()
    execution = execute(assemble(HEAD + BODY), inputs)
    assert np.array_equal(execution.outputs["y"], product(inputs))
    assert execution.macs == 8 * 32 * 16 and execution.events is None and execution.gated is None


def test_log_lists_instructions_in_order():
    inputs, lines = operands(), []
    execution = execute(assemble(HEAD + BODY), inputs, log=lines.append)
    assert np.array_equal(execution.outputs["y"], product(inputs))
    assert len(lines) == execution.instructions == 40
    assert [int(line.split()[0]) for line in lines] == list(range(40))
    assert lines[16].split()[1:] == ["16", "loop", "i,", "2", "{"]
    assert "a → s[0..1] = 128 bytes, crc " in lines[17]
    assert "c[0..0] m 0+4 n 0+16 k 0+16" in lines[22] and "crc" not in lines[22]
    assert "k 16+16, crc " in lines[25]
    assert "DRAM = 128 bytes of s[20..21]" in lines[27]
    other = []
    execute(assemble(HEAD + BODY), operands(np.random.default_rng(6)), log=other.append)
    assert other[17] != lines[17] and other[18] == lines[18]


def test_events_and_gated_macs_are_counted():
    rng = np.random.default_rng(7)
    layer = Layer.from_conv("c", Conv(2, 6, 6, 3, 5, (3, 3), padding=(1, 1, 1, 1)))
    for profile in ("hfp8", "rapid", "aiu", "fp8-2018", "hopper-fp8"):
        codes = layer_inputs(layer, "fwd", profile, rng)
        a, b = unfolded(layer, "fwd", codes)
        _, events = gemm(a[0], b[0], profile, events=True)
        program = lower_layer(layer, "fwd", profile=profile)
        execution = execute(program, codes, count=True, threads=2)
        assert execution.events == events
        assert execution.gated == count_gated(
            a[0], b[0], *get_profile(profile).operand_formats("fwd")
        )
        assert execution.macs == layer.macs


@pytest.mark.parametrize("stream_bytes", [1, 1 << 20])
@pytest.mark.parametrize("profile", ["hfp8", "rapid"])
def test_k_ranges_count_their_own_events(profile, stream_bytes, monkeypatch):
    """Tiles of rows, columns and k, whose sums continue from range to range, on one thread and on several.

    Panels hold one range of k, or all.
    """
    formats = get_profile(profile).operand_formats("fwd")
    monkeypatch.setattr(multiplier, "_STREAM_BYTES", stream_bytes)
    monkeypatch.setattr(multiplier, "MACS_WORTH_THREADS", 1)
    layer = Layer("fc", "linear", 50, 33, 200)
    codes = layer_inputs(layer, "fwd", profile, np.random.default_rng(11))
    _, events = gemm(codes["x"], codes["w"], profile, events=True)
    gated = count_gated(codes["x"], codes["w"], *formats)
    assert gated > 0 and events.swamped > 0
    for tile in ((50, 33, 64), (20, 19, 24)):  # ranges that end with a chunk, and within one
        program = lower_layer(layer, "fwd", profile=profile, tile=tile)
        for threads in (1, 4):
            execution = execute(program, codes, count=True, threads=threads)
            assert (execution.events, execution.gated) == (events, gated)


@pytest.mark.parametrize("profile", ["hfp8", "fp8-2018"])
def test_tiles_leave_out_zeros(profile, monkeypatch):
    """Tiles of an A with many zeros have the events of `gemm`, on one thread and on several."""
    monkeypatch.setattr(multiplier, "_LEAST_MACS", 1)
    monkeypatch.setattr(multiplier, "MACS_WORTH_THREADS", 1)
    rng, conv = np.random.default_rng(12), Conv(2, 6, 6, 16, 70, (3, 3), padding=(1, 1, 1, 1))
    for layer in (Layer("fc", "linear", 50, 130, 200), Layer.from_conv("c", conv)):
        codes = layer_inputs(layer, "fwd", profile, rng)
        codes["x"][rng.random(codes["x"].shape) < 0.5] = 0
        a, b = unfolded(layer, "fwd", codes)
        product, events = gemm(a[0], b[0], profile, events=True)
        program = lower_layer(layer, "fwd", profile=profile)
        for threads in (1, 4):
            execution = execute(program, codes, count=True, threads=threads)
            assert execution.events == events
            np.testing.assert_array_equal(execution.outputs["y"].reshape(product.shape), product)


@pytest.mark.parametrize("zeros, least_macs, leaves_out", [
    (0.5, 1, True), (0.5, 50 * 200 * 130 + 1, False), (0.1, 1, False), (0.2, 1, True),
])  # fmt: skip
def test_few_zeros_and_small_products_need_no_other_kernel(
    zeros, least_macs, leaves_out, monkeypatch
):
    monkeypatch.setattr(multiplier, "_LEAST_MACS", least_macs)
    chosen, get = [], multiplier.Plans.get
    monkeypatch.setattr(
        multiplier.Plans, "get", lambda *args: chosen.append(get(*args)) or chosen[-1]
    )
    rng, layer = np.random.default_rng(13), Layer("fc", "linear", 50, 130, 200)
    codes = layer_inputs(layer, "fwd", "hfp8", rng)
    codes["x"][...] = np.maximum(codes["x"] & 0x7F, 1)
    codes["x"].reshape(-1)[rng.permutation(codes["x"].size) < zeros * codes["x"].size] = 0
    execute(lower_layer(layer, "fwd", profile="hfp8"), codes, count=True, threads=1)
    can = bool(kernels.host_target().sparse)
    assert {plan.sparse for plan in chosen} == {leaves_out and can}


def test_csrw_between_tiles_changes_the_stream():
    """A program repeats its tiles without a fence: the second sums draw from another stream."""
    head = HEAD + "csrw acc.rounding, stochastic-a\ncsrw random.bits, 13\n"
    tiles = BODY.replace("halt", "")
    inputs = operands()
    profile = get_profile("hfp8").replace(chunk_length=8, rounding="stochastic-a")
    profile = profile.replace(between_rounding="nearest-even")
    once, again = (gemm(inputs["x"], inputs["w"], profile, stream=stream) for stream in (0, 5))
    assert not np.array_equal(once, again)
    for text, reference in ((tiles, once), (tiles + "csrw stream.low, 5" + tiles, again)):
        result = execute(assemble(head + text + "halt\n"), inputs).outputs["y"]
        assert np.array_equal(result, reference)


SQUARE = """
.input "x" @0 hfp8-143 32x32
.input "w" @16 hfp8-143 32x32
.output "y" @32 dlfloat16 32x32
csrw m, 32
csrw n, 32
csrw k, 32
csrw tile.m, 16
csrw tile.k, 16
csrw a.pitch, 32
csrw a.format, hfp8-143
csrw b.base, 16
csrw b.pitch, 32
csrw b.format, hfp8-143
csrw c.base, 32
csrw c.pitch, 32
csrw c.format, dlfloat16
csrw acc.format, dlfloat16
csrw total.format, dlfloat16
csrw chunk, 8
"""


def test_sums_without_an_end_count_no_events(monkeypatch):
    """CLR starts sums again after three of four ranges of k. The compiled loop counts the second tile."""
    monkeypatch.setattr(multiplier, "_STREAM_BYTES", 1)
    add = "clr c[0]\nloop k, {} {{\nld a, s[0]\nld b, s[40]\nldw s[40]\nmm c[0], s[0]\n}}\n"
    post = "post s[80], c[0]\nst s[80]\n"
    head = SQUARE + "csrw tile.k, 8\nloop i, 2 {\n"
    whole, partial = add.format(4), add.format(3)
    inputs = operands(m=32, n=32)
    once, again = (
        execute(assemble(f"{head}{text}{post}}}\nhalt\n"), inputs, count=True, threads=1)
        for text in (whole, partial + whole)
    )
    assert once.events.swamped > 0
    assert again.events == once.events and once.gated < again.gated < 2 * once.gated


def test_results_that_are_nan_are_counted():
    """In every tile, of sums of the largest numbers, which overflow; every third row is zero."""
    profile, layer = get_profile("fp16"), Layer("fc", "linear", 32, 16, 300)
    a, b = profile.operand_formats("fwd")
    x = np.full((32, 300), a.encode(np.array(a.max)), a.dtype)
    x[::3] = 0
    codes = {"x": x, "w": np.full((300, 16), b.encode(np.array(b.max)), b.dtype)}
    program = lower_layer(layer, "fwd", profile=profile, tile=(8, 8, 64))
    events = execute(program, codes, count=True, threads=1).events
    assert events.nan == 21 * 16 and events == gemm(*codes.values(), profile, events=True)[1]


@pytest.mark.parametrize("port", ["a", "b"])
def test_operand_loaded_plain_and_transposed(port):
    """The program loads an operand as stored, and then transposed, without writing a register in between."""
    plain = (
        "loop i, 2 {\nclr c[0]\nloop k, 2 {\nld a, s[0]\nld b, s[40]\nldw s[40]\nmm c[0], s[0]\n}\n"
    )
    plain += "post s[80], c[0]\nst s[80]\n}\n"
    row, name = {"a": ("s[0]", "x"), "b": ("s[40]", "w")}[port]
    turned = plain.replace(f"ld {port}, {row}", f"ld {port}, {row}, t")
    inputs = operands(m=32, n=32)
    other = inputs | {name: inputs[name].T}
    for text, reference in (
        (plain, inputs), (turned, other), (plain + turned, other), (turned + plain, inputs)
    ):  # fmt: skip
        result = execute(assemble(SQUARE + text + "halt\n"), inputs).outputs["y"]
        assert np.array_equal(result, product(reference))


def test_compiled_loop_returns_for_interrupts(monkeypatch):
    """The loop returns after a number of multiply-accumulates, and continues with the same bits."""
    layer = Layer("fc", "linear", 50, 33, 200)
    codes = layer_inputs(layer, "fwd", "hfp8", np.random.default_rng(12))
    program = lower_layer(layer, "fwd", tile=(10, 11, 64))
    calls, run = [], interpreter._run
    monkeypatch.setattr(interpreter, "_run", lambda *args: calls.append(args) or run(*args))
    execution = execute(program, codes, threads=1)
    assert len(calls) < 5 * 3
    assert np.array_equal(execution.outputs["y"], gemm(codes["x"], codes["w"]))
    monkeypatch.setattr(interpreter, "_MACS_PER_CALL", 1)
    calls.clear()
    assert np.array_equal(execute(program, codes, threads=1).outputs["y"], execution.outputs["y"])
    assert len(calls) >= 5 * 3 * 4


def test_interrupt_ends_all_cores(monkeypatch):
    """Not the whole program: each core ends at its next return from compiled code."""
    layer = Layer("fc", "linear", 40, 33, 200)
    codes = layer_inputs(layer, "fwd", "hfp8", np.random.default_rng(12))
    program = lower_layer(layer, "fwd", tile=(10, 11, 8))
    calls, run, numbers = [], interpreter._run, itertools.count(1)

    def run_slowly(*args):
        calls.append(args)
        if next(numbers) == 20:  # each number once, whichever core asks
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(
            0.01 if len(calls) <= 20 else 0.1
        )  # the main thread may have to wait for a processor
        return run(*args)

    execute(program, codes, threads=2)  # compiles
    monkeypatch.setattr(interpreter, "_run", run_slowly)
    monkeypatch.setattr(interpreter, "_MACS_PER_CALL", 1)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            execute(program, codes, threads=2)
    finally:
        signal.signal(signal.SIGINT, before)
    count = len(calls)
    assert 20 <= count < 100 < 4 * 3 * 25
    time.sleep(0.2)
    assert len(calls) == count  # no core runs on


def test_layers_and_phases_in_one_program():
    rng = np.random.default_rng(8)
    conv = Layer.from_conv("conv", Conv(2, 5, 5, 4, 6, (3, 3), padding=(1, 1, 1, 1)))
    work = [
        LayerPhase(conv, "fwd", "fp16", phase_stream(0, "fwd")),
        LayerPhase(conv, "wgrad", "hfp8", phase_stream(0, "wgrad")),
        LayerPhase(Layer("fc", "linear", 9, 20, 33), "dgrad", "rapid", phase_stream(1, "dgrad")),
    ]
    program = lower_workload(work, seed=3)
    inputs, references = {}, {}
    for layer, phase, profile, stream in work:
        codes = layer_inputs(layer, phase, profile, rng)
        inputs |= {f"{layer.name}.{phase}.{name}": value for name, value in codes.items()}
        output = {"fwd": "y", "dgrad": "dx", "wgrad": "dw"}[phase]
        references[f"{layer.name}.{phase}.{output}"] = expected(
            layer, phase, codes, profile, 3, stream
        )
    for threads in (1, 3):
        execution = execute(program, inputs, threads=threads)
        assert execution.outputs.keys() == references.keys()
        for name, reference in references.items():
            assert np.array_equal(execution.outputs[name].reshape(reference.shape), reference)


def test_layers_of_one_program_count_together():
    """The larger second layer needs another stream than the first."""
    rng, inputs, events, gated = np.random.default_rng(9), {}, Events(), 0
    layers = Layer("a", "linear", 9, 20, 130), Layer("b", "linear", 50, 40, 130)
    for layer in layers:
        codes = layer_inputs(layer, "fwd", "hfp8", rng)
        inputs |= {f"{layer.name}.fwd.{name}": value for name, value in codes.items()}
        events += gemm(codes["x"], codes["w"], events=True)[1]
        formats = get_profile("hfp8").operand_formats("fwd")
        gated += count_gated(codes["x"], codes["w"], *formats)
    program = lower_workload([LayerPhase(layer, "fwd", "hfp8", 0) for layer in layers])
    execution = execute(program, inputs, count=True, threads=1)
    assert (execution.events, execution.gated) == (events, gated)


def test_undistributed_layer_runs_once():
    rng = np.random.default_rng(9)
    single, many = Layer("one", "linear", 3, 4, 5), Layer("many", "linear", 2000, 64, 64)
    inputs = {
        f"{name}.fwd.{key}": codes
        for name, layer in (("one", single), ("many", many))
        for key, codes in layer_inputs(layer, "fwd", "hfp8", rng).items()
    }
    first, second = (LayerPhase(layer, "fwd", "hfp8", 0) for layer in (single, many))
    with pytest.raises(InputError, match="two symbols are named"):
        lower_workload([first, first])
    program = lower_workload([first, second])
    runs = [execute(program, inputs, threads=threads) for threads in (1, 2, 5)]
    assert {run.macs for run in runs} == {single.macs + many.macs}
    assert len({run.dram.tobytes() for run in runs}) == 1


def test_result_overwrites_operand_in_dram():
    """The first tile's result is stored over rows of x that the second tile loads later."""
    text = HEAD.replace("csrw c.base, 12", "csrw c.base, 2")
    inputs = operands()
    execution = execute(assemble(text + BODY), inputs)
    x = inputs["x"].copy()
    first = product({"x": x[:4], "w": inputs["w"]})
    # Rows 0..3 of y (128 bytes from line 2 on) lie where rows 4..7 of x were.
    x.reshape(-1)[128:256] = first.reshape(-1).view(np.uint8)
    second = product({"x": x[4:], "w": inputs["w"]})
    written = execution.dram[128:384].view(np.uint16).reshape(8, 16)
    assert np.array_equal(written, np.concatenate([first, second]))


def test_odd_row_width_holds_16_bit_codes():
    rng = np.random.default_rng(10)
    machine = get_machine().replace(**{"array.columns": 7, "memory.scratchpad_kib": 256})
    layer = Layer.from_conv("c", Conv(1, 5, 4, 3, 5, (2, 2)))
    for phase in ("fwd", "dgrad", "wgrad"):
        codes = layer_inputs(layer, phase, "fp16", rng)
        program = lower_layer(layer, phase, machine, "fp16", tile=(3, 2, 4))
        (result,) = execute(program, codes, machine).outputs.values()
        reference = expected(layer, phase, codes, "fp16")
        assert np.array_equal(result.reshape(reference.shape), reference)


def test_bad_inputs_are_refused():
    with pytest.raises(InputError, match="input 'w' is missing"):
        execute(assemble(HEAD + BODY), {"x": operands()["x"]})
    with pytest.raises(InputError, match="threads is 0, must be at least 1"):
        execute(lower_layer(Layer("x", "linear", 2000, 64, 64)), {
            "x": np.zeros((2000, 64), np.uint8), "w": np.zeros((64, 64), np.uint8)}, threads=0)  # fmt: skip
    with pytest.raises(InputError, match="unknown machine"):
        execute(assemble(HEAD + BODY), operands(), "rapid")


def test_threads_share_a_tile():
    """One output tile with enough work for threads gives the same bits and counts."""
    rng = np.random.default_rng(11)
    layer = Layer.from_conv("c", Conv(8, 24, 24, 16, 48, (3, 3), padding=(1, 1, 1, 1)))
    for profile in ("hfp8", "hopper-fp8"):
        codes = layer_inputs(layer, "wgrad", profile, rng)
        program = lower_layer(layer, "wgrad", profile=profile, tile=(144, 48, 2304))
        assert not any("spread" in line for line in disassemble(program).splitlines())
        runs = [execute(program, codes, threads=threads, count=True) for threads in (1, 4)]
        assert runs[0].events == runs[1].events and runs[0].gated == runs[1].gated
        assert np.array_equal(runs[0].outputs["dw"], runs[1].outputs["dw"])
        if profile == "hfp8":
            reference = expected(layer, "wgrad", codes, profile)
            assert np.array_equal(runs[0].outputs["dw"].reshape(reference.shape), reference)


def test_post_overwrites_operand_in_scratchpad():
    """POST writes to the rows of operand a: the second tile of columns reads results as operands."""
    text = HEAD.replace("csrw tile.m, 4", "csrw tile.n, 8").replace(
        "csrw tile.k, 16", "csrw chunk, 8"
    )
    body = """
ld a, s[0]
loop j, 2 {
ld b, s[10]
clr c[0]
ldw s[10]
mm c[0], s[0]
post s[0], c[0]
st s[0]
}
halt
"""
    inputs = operands()
    execution = execute(assemble(text + body), inputs)
    x = inputs["x"].copy()
    first = product({"x": x, "w": inputs["w"][:, :8]})
    x.reshape(-1)[:128] = np.ascontiguousarray(first).reshape(-1).view(np.uint8)
    second = product({"x": x, "w": inputs["w"][:, 8:]})
    assert np.array_equal(execution.outputs["y"], np.concatenate([first, second], axis=1))


def test_operand_loaded_under_other_registers():
    """The base register changes after the load: the array still reads the loaded rows."""
    text = HEAD.replace('"x" @0 hfp8-143 8x32', '"x" @0 hfp8-143 8x32') + BODY
    text = text.replace("csrw tile.m, 4\n", "").replace(
        "loop i, 2 {\nld a, s[0]", "ld a, s[0]\ncsrw a.base, 4"
    )
    text = text.replace("st s[20]\n}", "st s[20]")
    inputs = operands()
    inputs["x"] |= 0x70  # large numbers, unlike those of w
    inputs["w"] &= 0x8F
    execution = execute(assemble(text), inputs)
    assert np.array_equal(execution.outputs["y"], product(inputs))
