"""Executed programs of layers equal `gemm` on explicitly unfolded operands, bit for bit."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hfp8sim._numba.interpreted import nothing_interpreted
from hfp8sim.errors import InputError
from hfp8sim.formats import get_format
from hfp8sim.lowering import Finish, lower_layer
from hfp8sim.machine import execute, get_machine, multiplier
from hfp8sim.network import PHASES, Conv, Layer
from hfp8sim.ops import gemm
from hfp8sim.testing.strategies import profiles
from hfp8sim.units.profile import get_profile
from tests.lowering.layers import expected, layer_inputs


@pytest.fixture(autouse=True)
def compiled_loop():
    """Short programs run in the compiled loop, too, which goes on from tile to tile by itself."""
    with nothing_interpreted():
        yield


def check(
    layer, phase, profile="hfp8", machine="rapid-core", tile=None, threads=1, seed=0, stream=0
):
    rng = np.random.default_rng(len(layer.name) + layer.k)
    codes = layer_inputs(layer, phase, profile, rng)
    program = lower_layer(layer, phase, machine, profile, seed=seed, stream=stream, tile=tile)
    (result,) = execute(program, codes, machine, threads=threads).outputs.values()
    reference = expected(layer, phase, codes, profile, seed, stream)
    assert np.array_equal(result.reshape(reference.shape), reference)
    return program


CONVOLUTIONS = {
    "plain": Conv(2, 6, 7, 5, 9, (3, 3), padding=(1, 1, 1, 1)),
    "strided": Conv(2, 9, 8, 6, 10, (3, 2), stride=(2, 3), padding=(1, 1, 0, 1)),
    "dilated": Conv(2, 7, 9, 4, 8, (3, 3), dilation=(2, 1), padding=(2, 2, 1, 1)),
    "grouped": Conv(1, 6, 6, 6, 9, (3, 3), padding=(1, 1, 1, 1), groups=3),
    "depthwise": Conv(2, 8, 8, 6, 6, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), groups=6),
    "pointwise": Conv(2, 5, 5, 12, 7, (1, 1)),
    "pointwise-strided": Conv(2, 9, 9, 4, 8, (1, 1), stride=(2, 2)),
    "pointwise-strided-padded": Conv(1, 6, 6, 4, 8, (1, 1), stride=(2, 2), padding=(0, 1, 0, 1)),
    "gapped": Conv(1, 5, 5, 3, 8, (3, 3), gaps=(2, 2), padding=(1, 2, 1, 2)),
    "cropped": Conv(1, 8, 8, 3, 8, (3, 3), padding=(-1, 0, -1, 0)),
    "one-dimensional": Conv(2, 1, 20, 5, 6, (1, 5), stride=(1, 2), padding=(0, 0, 2, 2)),
    "all-padding": Conv(1, 2, 2, 3, 4, (3, 3), stride=(3, 3), padding=(5, 5, 5, 5)),
    "padded-tap": Conv(1, 7, 7, 2, 3, (1, 1), stride=(3, 3), padding=(1, 1, 1, 1)),
}
MATRICES = {
    "linear": Layer("fc", "linear", 37, 45, 130),
    "vector": Layer("v", "linear", 1, 100, 70),
    "one": Layer("one", "linear", 1, 1, 1),
    "batched": Layer("qk", "matmul", 17, 9, 20, groups=3),
    "recurrent": Layer("rnn", "recurrent", 4, 24, 33, groups=5),
}
LAYERS = {name: Layer.from_conv(name, conv) for name, conv in CONVOLUTIONS.items()} | MATRICES


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", LAYERS)
def test_every_geometry_in_every_phase(name, phase):
    check(LAYERS[name], phase)
    check(LAYERS[name], phase, "rapid", "edge-8x8", threads=2)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["plain", "strided", "grouped", "linear", "recurrent"])
def test_stochastic_rounding_does_not_depend_on_tiles(name, phase):
    profile = get_profile("hfp8").replace(rounding="stochastic")
    for tile in (None, (5, 3, 8)):
        check(LAYERS[name], phase, profile, tile=tile, threads=2, seed=11, stream=5)


@pytest.mark.parametrize("name", ["strided", "grouped", "one-dimensional", "recurrent"])
@pytest.mark.parametrize("phase", PHASES)
def test_every_chunk_length(phase, name):
    """No chunks, every length up to the sum's, and one beyond it."""
    depth = LAYERS[name].shape(phase).k
    for chunk in range(depth + 2):
        for products in {1, 2 if chunk % 3 else 1}:
            profile = get_profile("rapid").replace(chunk_length=chunk, products_per_step=products)
            check(LAYERS[name], phase, profile)
            granule = chunk or products
            check(LAYERS[name], phase, profile, tile=(9, 4, min(2 * granule, depth)))


@pytest.mark.parametrize("chunk", [0, 1, 3, 8, 64, 1000])
@pytest.mark.parametrize("phase", PHASES)
def test_long_sums_in_chunks(phase, chunk):
    profile = get_profile("hfp8").replace(chunk_length=chunk)
    check(LAYERS["plain"], phase, profile)
    check(LAYERS["linear"], phase, profile, tile=(16, 16, 24 if phase == "wgrad" else 32))


CHUNKS_OF_7 = get_profile("rapid").replace(chunk_length=7)
STOCHASTIC_CHUNKS_OF_5 = get_profile("rapid").replace(rounding="stochastic", chunk_length=5)


@pytest.mark.parametrize("waiting", [1, 20_000])
@pytest.mark.parametrize(
    "profile", ["hfp8", "aiu", "hopper-fp8", CHUNKS_OF_7, STOCHASTIC_CHUNKS_OF_5]
)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["linear", "plain", "recurrent"])
def test_sums_continue_across_ranges_of_k(name, phase, profile, waiting, monkeypatch):
    """Ranges of k enter the kernel one by one or a few together; they end inside of chunks or with them."""
    monkeypatch.setattr(multiplier, "_STREAM_BYTES", waiting)
    depth, profile = LAYERS[name].shape(phase).k, get_profile(profile)
    chunk, step = profile.chunk_length, profile.products_per_step
    granule = step if step and chunk % step == 0 else chunk
    for k in (granule, 5 * granule, chunk or depth):
        check(LAYERS[name], phase, profile, tile=(20, 19, min(k, depth)), seed=2)


@pytest.mark.parametrize("profile", ["hfp8", STOCHASTIC_CHUNKS_OF_5])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["linear", "plain"])
def test_threads_split_a_tile(name, phase, profile, monkeypatch):
    """Threads share one tile if no loop is distributed over cores; the last panel is partial."""
    monkeypatch.setattr(multiplier, "MACS_WORTH_THREADS", 1)
    shape = LAYERS[name].shape(phase)
    for tile in ((shape.m, shape.n, shape.k), (shape.m, shape.n, min(35, shape.k))):
        for threads in (2, 3):
            check(LAYERS[name], phase, profile, tile=tile, threads=threads, seed=9)


@pytest.mark.parametrize("threads", [2, 6, 8])
def test_threads_split_some_tiles(threads, monkeypatch):
    """Tiles at the edge are too small for several threads, and others are not."""
    monkeypatch.setattr(multiplier, "MACS_WORTH_THREADS", 25 * 25 * 100)
    for m, n in ((30, 60), (100, 30), (30, 100)):
        layer = Layer("qk", "matmul", m, n, 128, groups=2)
        for phase in ("fwd", "dgrad"):
            check(layer, phase, tile=(25, 25, 64), threads=threads)


@pytest.mark.parametrize(
    "profile",
    [
        "fp16",
        "exact",
        "aiu",
        "fp8-2018",
        "hopper-fp8",
        get_profile("hfp8").replace(rounding="stochastic", random_source="lfsr"),
        get_profile("rapid").replace(sum_order="chain", chunk_length=7),
    ],
)
@pytest.mark.parametrize("phase", PHASES)
def test_every_kind_of_arithmetic(phase, profile):
    check(LAYERS["plain"], phase, profile, threads=2)
    tile = (7, 4, get_profile(profile).chunk_length or LAYERS["plain"].shape(phase).k)
    check(
        LAYERS["plain"], phase, profile, tile=(7, 4, min(tile[2], LAYERS["plain"].shape(phase).k))
    )


@st.composite
def convolutions(draw):
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    fields = {
        "batch": draw(st.integers(1, 3)),
        "height": draw(st.integers(1, 8)),
        "width": draw(st.integers(1, 8)),
        "channels": groups * draw(st.integers(1, 4)),
        "filters": groups * draw(st.integers(1, 4)),
        "kernel": draw(pair),
        "stride": draw(pair),
        "padding": draw(st.tuples(*[st.integers(-1, 3)] * 4)),
        "dilation": draw(pair),
        "groups": groups,
        "gaps": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
    }
    try:
        return Layer.from_conv("random", Conv(**fields))
    except InputError:
        assume(False)


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.sampled_from(PHASES), st.data())
def test_random_convolutions_tiles_and_machines(layer, phase, data):
    shape = layer.shape(phase)
    chunk = data.draw(st.sampled_from([0, 1, 4, 6, 64]))
    profile = get_profile("hfp8").replace(chunk_length=chunk)
    tile = tuple(data.draw(st.integers(1, size)) for size in (shape.m, shape.n, shape.k))
    machine = data.draw(st.sampled_from(["rapid-core", "edge-8x8"]))
    check(layer, phase, profile, machine, tile, threads=data.draw(st.integers(1, 3)))


#: Machines of every size, and of every speed.
MACHINES = st.fixed_dictionaries(
    {
        "cores": st.integers(1, 9),
        "clock_mhz": st.integers(1, 5000),
        "array.rows": st.integers(1, 40),
        "array.columns": st.integers(1, 70),
        "array.corelets": st.integers(1, 3),
        "array.macs_8bit": st.integers(1, 4),
        "memory.bytes_per_cycle": st.integers(1, 300),
        "memory.latency": st.integers(0, 5000),
        "memory.scratchpad_kib": st.sampled_from([2, 9, 64]),
        "memory.accumulators": st.sampled_from([80, 4096]),
        "post.lanes": st.integers(1, 200),
    }
)
STOCHASTIC = [
    get_profile(name).replace(rounding=f"stochastic{variant}", random_source=source, random_bits=r)
    for name, variant, source, r in (
        ("hfp8", "", "counter", 13), ("hfp8", "", "row-column", 8), ("hfp8", "", "lfsr", 10),
        ("rapid", "-b", "counter", 5), ("fp16", "-c", "row-column", 9), ("fp8-2018", "-b", "lfsr", 7),
    )
]  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(LAYERS)),
    st.sampled_from(PHASES),
    st.one_of(profiles(), st.sampled_from(STOCHASTIC)),
    MACHINES,
    st.integers(1, 4),
    st.data(),
)
def test_values_do_not_depend_on_machine_threads_or_tiles(
    name, phase, profile, machine, threads, data
):
    """Bandwidth, latency, array, memories, cores, threads and tiles change no bit under any arithmetic."""
    built = get_machine("rapid-core").replace(**machine)
    shape = LAYERS[name].shape(phase)
    tile = None
    if data.draw(st.booleans(), "fixed tile"):
        built = built.replace(**{"memory.scratchpad_kib": 64, "memory.accumulators": 65536})
        step = profile.chunk_length or profile.products_per_step or shape.k
        depths = [*range(step, shape.k, step), shape.k]
        tile = tuple(data.draw(st.sampled_from(range(1, size + 1))) for size in (shape.m, shape.n))
        tile = (*tile, data.draw(st.sampled_from(depths)))
    try:
        check(LAYERS[name], phase, profile, built, tile, threads, seed=7, stream=3)
    except InputError as error:  # too little memory for sums that cannot be cut
        assume("does not fit machine" not in str(error))
        raise


def test_program_runs_on_a_machine_it_was_not_lowered_for():
    layer, rng = LAYERS["plain"], np.random.default_rng(4)
    codes = layer_inputs(layer, "dgrad", "hfp8", rng)
    program = lower_layer(layer, "dgrad", "edge-8x8")
    there = execute(program, codes, "rapid-core").outputs["dx"]
    assert np.array_equal(there, execute(program, codes, "edge-8x8").outputs["dx"])


def test_bias_vector_is_added_to_sums_without_their_scale():
    """The operands are 2^4 times too large, the bias vector is not: y = round(sum/16 + bias)."""
    layer, fmt = Layer("fc", "linear", 5, 6, 9), get_format("dlfloat16")
    profile = get_profile("hfp8").replace(b_scale=4)
    codes = layer_inputs(layer, "fwd", profile, np.random.default_rng(2))
    bias = np.linspace(-3, 3, 6)
    finish = Finish(format="dlfloat16", bias_format="dlfloat16")
    program = lower_layer(layer, "fwd", "edge-8x8", profile, finish=finish)
    inputs = codes | {"bias": fmt.encode(bias)}
    (result,) = execute(program, inputs, "edge-8x8").outputs.values()
    sums = fmt.decode(gemm(codes["x"], codes["w"], profile))
    exact = sums / 16 + fmt.decode(fmt.encode(bias))
    assert np.array_equal(result, fmt.encode(exact, "nearest-away"))
