"""Layer and geometry records: shapes of the three GEMMs, counts, and refusals."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import (
    PHASES,
    Conv,
    GemmShape,
    Layer,
    Workload,
    same_padding,
)


def test_gemms_of_a_linear_layer() -> None:
    layer = Layer("fc", "linear", m=32, n=10, k=64)
    assert layer.shape("fwd") == GemmShape(1, 32, 10, 64)
    assert layer.shape("dgrad") == GemmShape(1, 32, 64, 10)
    assert layer.shape("wgrad") == GemmShape(1, 64, 10, 32)
    assert {layer.shape(phase).macs for phase in PHASES} == {32 * 10 * 64}
    assert layer.parameters == 640


def test_parameters_follow_the_kind() -> None:
    assert Layer("qk", "matmul", 128, 128, 64, groups=12).parameters == 0
    assert Layer("h", "recurrent", 20, 800, 200, groups=35).parameters == 160_000
    assert Layer("e", "gemm", 5, 7, 3, groups=4).parameters == 84


def test_a_recurrent_weight_gradient_reduces_over_all_steps() -> None:
    assert Layer("h", "recurrent", 20, 800, 200, groups=35).shape("wgrad") == (1, 200, 800, 700)


def test_convolution_geometry() -> None:
    conv = Conv(2, 224, 224, 3, 64, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3))
    assert conv.output == (112, 112)
    assert conv.gemm == GemmShape(1, 2 * 112 * 112, 64, 147)
    assert conv.gemm.macs == 2 * 118_013_952  # torchvision's ResNet stem


def test_depthwise_convolution_has_groups() -> None:
    conv = Conv(1, 14, 14, 96, 96, (3, 3), padding=(1, 1, 1, 1), groups=96)
    assert conv.depthwise
    assert conv.gemm == GemmShape(96, 196, 1, 9)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 2, 0, 1), (4, 3, 2, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_input_gradient_of_input_gradient_is_the_convolution(
    stride: int, padding: tuple[int, int, int, int], dilation: int
) -> None:
    conv = Conv(2, 9, 8, 6, 4, (3, 2), (stride, 1), padding, (dilation, 1), groups=2)
    back = conv.input_gradient()
    assert back.output == (9, 8)
    assert (back.channels, back.filters) == (4, 6)
    again = back.input_gradient()
    assert again.output == conv.output
    assert again.padding[::2] == padding[::2]
    assert (again.stride, again.gaps) == (conv.stride, conv.gaps)


def test_same_padding_rounds_the_output_up() -> None:
    assert same_padding(5, 3, 2) == (1, 1)
    assert same_padding(6, 3, 2) == (0, 1)
    assert same_padding(4, 1, 2) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"m": 0}, "m is 0; it must be from 1"),
        ({"k": -3}, "k is -3"),
        ({"n": 2.5}, "n is 2.5; it must be a whole number"),
        ({"kind": "conv3d"}, "did you mean conv2d"),
        ({"phases": ("fwd", "bwd")}, "unknown phase 'bwd'"),
        ({"phases": ()}, "no phase"),
        ({"name": " "}, "needs a name"),
        ({"tensors": {"x": np.zeros((3, 5), np.float32)}}, "shape is (3, 5); it must be (4, 5)"),
        ({"tensors": {"x": np.zeros((4, 5))}}, "dtype is float64"),
        ({"tensors": {"v": np.zeros((4, 5), np.float32)}}, "unknown tensor"),
    ],
)
def test_bad_layers_are_refused_in_one_line(fields: dict, message: str) -> None:
    good = {"name": "fc", "kind": "linear", "m": 4, "n": 3, "k": 5}
    with pytest.raises(InputError) as caught:
        Layer(**(good | fields))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_error_gives_the_first_value_that_is_not_finite(value: float) -> None:
    x = np.zeros((4, 5), np.float32)
    x[2, 3] = x[3, 0] = value
    with pytest.raises(InputError, match=r"layer 'fc', tensor x: .* at index \(2, 3\)"):
        Layer("fc", "linear", 4, 3, 5, tensors={"x": x})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"groups": 3}, "3 groups do not divide"),
        ({"kernel": (9, 1)}, "reaches over 9 pixels, but the padded input is only 8 high"),
        ({"stride": (0, 1)}, "stride is 0"),
        ({"padding": (1, 1)}, "must be 4 numbers"),
        ({"batch": True}, "whole number"),
    ],
)
def test_bad_convolutions_are_refused(fields: dict, message: str) -> None:
    good = {"batch": 1, "height": 8, "width": 8, "channels": 4, "filters": 4, "kernel": (3, 3)}
    with pytest.raises(InputError, match=message):
        Conv(**(good | fields))


def test_layers_copy_their_tensors() -> None:
    x = np.ones((4, 5), np.float32)
    layer = Layer("fc", "linear", 4, 3, 5, tensors={"x": x})
    x[0, 0] = 7
    assert layer.tensors["x"][0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.tensors["x"][0, 0] = 2


def test_workload_lookup_and_counts() -> None:
    first = Layer("a", "linear", 2, 3, 4, phases=("wgrad", "fwd"))
    workload = Workload("net", (first, Layer("b", "linear", 2, 5, 3)))
    assert first.phases == ("fwd", "wgrad")
    assert workload.macs(PHASES) == 2 * 24 + 3 * 30
    assert workload["b"].n == 5
    with pytest.raises(InputError, match="unknown layer 'c' of 'net'"):
        workload["c"]
    with pytest.raises(InputError, match="two layers are named 'a'"):
        Workload("net", (first, first))
    with pytest.raises(InputError, match="no layer"):
        Workload("net", ())


COPIES = [lambda record: pickle.loads(pickle.dumps(record)), copy.deepcopy, copy.copy]


@pytest.mark.parametrize("copied", COPIES, ids=["pickle", "deepcopy", "copy"])
def test_records_can_be_copied_and_pickled(copied: Callable) -> None:
    conv = Conv(1, 8, 8, 4, 6, (3, 3), padding=(1, 1, 1, 1))
    x = np.arange(256, dtype=np.float32).reshape(1, 8, 8, 4)
    layer = Layer.from_conv("c", conv, tensors={"x": x}, phases=("fwd",), origin="drawn by hand")
    workload = copied(Workload("net", (layer, Layer("fc", "linear", 2, 3, 4)), ("note",)))
    assert copied(conv) == conv and copied(conv.gemm) == conv.gemm
    assert [each.name for each in workload] == ["c", "fc"] and workload.notes == ("note",)
    same = workload["c"]
    assert (same.conv, same.phases, same.origin) == (conv, ("fwd",), "drawn by hand")
    np.testing.assert_array_equal(same.tensors["x"], x)
    with pytest.raises(ValueError, match="read-only"):
        same.tensors["x"][0, 0, 0, 0] = 1
    with pytest.raises(TypeError, match="does not support item assignment"):
        same.tensors["x"] = x  # type: ignore[index]
    assert same.replace(name="d").tensors["x"] is not same.tensors["x"]


def test_operation_names_what_a_layer_computes() -> None:
    def conv(**sizes: int) -> Layer:
        geometry = Conv(1, 8, 8, **({"channels": 4, "filters": 4} | sizes), kernel=(3, 5))
        return Layer.from_conv("c", geometry)

    assert conv().operation == "conv 3×5"
    assert conv(groups=2).operation == "grouped 3×5"
    assert conv(groups=4, filters=8).operation == "dw 3×5"
    assert Layer("fc", "linear", 1, 2, 3).operation == "linear"


def test_repr_of_a_workload_is_short() -> None:
    layers = [Layer(f"layer{i}", "linear", 10, 100, 1000) for i in range(200)]
    assert repr(Workload("net", tuple(layers))) == "<Workload net: 200 layers, 200.0 MMAC forward>"
    assert repr(Workload("net", tuple(layers[:1]))).startswith("<Workload net: 1 layer,")
