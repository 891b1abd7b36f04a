"""POST against the oracle in exact fractions: bias, scale, one rounding, relu and clamp."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfp8sim.errors import InputError
from hfp8sim.formats import get_format
from hfp8sim.formats.vocabulary import MODES, OVERFLOW
from hfp8sim.isa.table import FLAG
from hfp8sim.lowering import Finish, lower_layer
from hfp8sim.machine import execute
from hfp8sim.machine.arithmetic import Conversion
from hfp8sim.machine.insns.post import post_code, post_facts, post_table
from hfp8sim.network import Conv, Layer
from hfp8sim.units.profile import get_profile
from tests import oracle
from tests.lowering.layers import expected, layer_inputs, random_codes

SUMS = ("dlfloat16", "binary32", "bfloat16", "ieee-169")
RESULTS = ("hfp8-143", "hfp8-152-hw", "e4m3fn", "e5m2", "e4m3fnuz", "dlfloat16", "binary32")


def expected_code(code, bias, conversion, active, random):
    """The result of a sum as docs/isa.md defines POST, in exact fractions."""
    fmt, sums = conversion.result, conversion.sums
    mode, policy = MODES[conversion.mode], OVERFLOW[conversion.policy]
    plain = not active & FLAG.bias
    x = oracle.decode(sums, code)
    if plain and conversion.copies:
        result = code
    else:
        if not plain:
            x = oracle.total([x, oracle.decode(conversion.bias, bias)])
        if x.kind == "number":
            x = oracle.number(x.value * oracle.power(conversion.scale))
        if x.kind == "nan" and not fmt.has_nan:
            result = 0
        else:
            result, _ = oracle.round_code(fmt, x, mode, policy, conversion.random_bits, random)
    value = oracle.decode(fmt, result)
    if value.kind == "nan":
        return result
    sign = 1 << (fmt.exponent_bits + fmt.fraction_bits)
    if active & FLAG.relu and result & sign:
        result = 0

    def order(code):
        magnitude = code & (sign - 1)
        return -magnitude if code & sign else magnitude

    if active & FLAG.clamp:
        if order(result) < order(conversion.low):
            result = conversion.low
        if order(result) > order(conversion.high):
            result = conversion.high
    return result


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_every_conversion_rounds_once(data):
    sums, result = (get_format(data.draw(st.sampled_from(names))) for names in (SUMS, RESULTS))
    bias = get_format(data.draw(st.sampled_from(SUMS)))
    policies = ["saturate"] + (["special"] if result.has_nan or result.has_inf else [])
    active = data.draw(st.integers(0, 7)) << 48
    assert active & ~(FLAG.bias | FLAG.relu | FLAG.clamp) == 0
    low, high = sorted(data.draw(st.tuples(*[st.integers(0, (1 << result.bits) - 1)] * 2)))
    conversion = Conversion(
        sums, result, bias,
        MODES.index(data.draw(st.sampled_from(MODES))),
        OVERFLOW.index(data.draw(st.sampled_from(policies))),
        data.draw(st.integers(1, 24)), data.draw(st.sampled_from([0, 0, 3, -3, 40, -200])), low, high,
    )  # fmt: skip
    code = data.draw(st.integers(0, (1 << sums.bits) - 1))
    second = data.draw(st.integers(0, (1 << bias.bits) - 1))
    random = data.draw(st.integers(0, (1 << conversion.random_bits) - 1))
    computed = post_code(code, second, active, post_facts(conversion), random)
    assert computed == expected_code(code, second, conversion, active, random)


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("mode", ["nearest-even", "nearest-away", "toward-zero", "to-odd"])
def test_table_equals_conversion(result, mode):
    sums, fmt = get_format("dlfloat16"), get_format(result)
    conversion = Conversion(sums, fmt, None, MODES.index(mode), 0, 13, -2, 3, 40)
    table = post_table(conversion, FLAG.relu | FLAG.clamp)
    assert table.shape == (1 << 16,)
    for code in range(0, 1 << 16, 37):
        assert table[code] == expected_code(code, 0, conversion, FLAG.relu | FLAG.clamp, 0)
    assert post_table(conversion, FLAG.bias).size == 0


LAYERS = [
    Layer("fc", "linear", 21, 18, 40),
    Layer.from_conv("c", Conv(2, 5, 6, 4, 6, (3, 3), padding=(1, 1, 1, 1), groups=2)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize(
    "finish",
    [
        Finish(format="hfp8-143"),
        Finish(format="hfp8-143", relu=True, bias_format="dlfloat16"),
        Finish(format="hfp8-152", scale=10, rounding="nearest-even", overflow="saturate"),
        Finish(
            format="e4m3fn", rounding="stochastic-a", bias_format="binary32", overflow="special"
        ),
        Finish(format="hfp8-143@7", clamp=(0, 0x50)),
        Finish(relu=True),
    ],
)
def test_layer_with_every_post_option(layer, finish):
    rng, seed, stream = np.random.default_rng(1), 9, 4
    codes = layer_inputs(layer, "fwd", "hfp8", rng)
    sums = expected(layer, "fwd", codes, "hfp8", seed, stream).reshape(-1, layer.n * layer.groups)
    biases = np.zeros(sums.shape[1], np.uint32)
    if finish.bias_format:
        biases = random_codes(finish.bias_format, sums.shape[1], rng)
        codes["bias"] = biases
    result = get_format(finish.format or "dlfloat16")
    conversion = Conversion(
        get_format("dlfloat16"), result, get_format(finish.bias_format) if finish.bias_format else None,
        MODES.index(finish.rounding), OVERFLOW.index(finish.overflow), 13, finish.scale,
        *(finish.clamp or (0, 0)),
    )  # fmt: skip
    active = FLAG.bias * bool(finish.bias_format) | FLAG.relu * finish.relu
    active |= FLAG.clamp * (finish.clamp is not None)
    for tile in (None, (5, 3, 8)):
        program = lower_layer(layer, "fwd", finish=finish, seed=seed, stream=stream, tile=tile)
        computed = execute(program, codes, threads=2).outputs["y"].reshape(sums.shape)
        for m, n in np.ndindex(sums.shape):
            own = stream + n // layer.n  # each group draws from a stream of its own
            random = oracle.conversion_random(9, own, m * sums.shape[1] + n, 13)
            reference = expected_code(int(sums[m, n]), int(biases[n]), conversion, active, random)
            assert computed[m, n] == reference


def test_impossible_result_formats_are_refused():
    for finish, reason in (
        (Finish(format="e8m0"), "has no zero"),
        (Finish(format="hfp8-143", overflow="special"), "neither infinity nor NaN"),
        (Finish(format="hfp8-143", overflow="error"), "c.overflow would be 2"),
        (Finish(scale=513), r"post.scale would be 513; the register holds -512..512"),
        (Finish(rounding="up"), "unknown rounding mode 'up'"),
    ):
        with pytest.raises(InputError, match=reason):
            program = lower_layer(LAYERS[0], finish=finish)
            execute(program, layer_inputs(LAYERS[0], "fwd", "hfp8", np.random.default_rng(0)))


def test_next_layer_reads_post_result():
    """The hfp8 result of one layer is the operand of the next."""
    rng = np.random.default_rng(2)
    one, two = Layer("one", "linear", 10, 12, 30), Layer("two", "linear", 10, 8, 12)
    first = layer_inputs(one, "fwd", "hfp8", rng)
    program = lower_layer(one, finish=Finish(format="hfp8-143", relu=True))
    middle = execute(program, first).outputs["y"]
    second = {"x": middle, "w": layer_inputs(two, "fwd", "hfp8", rng)["w"]}
    computed = execute(lower_layer(two), second).outputs["y"]
    assert np.array_equal(computed, expected(two, "fwd", second, get_profile("hfp8"))[0])
