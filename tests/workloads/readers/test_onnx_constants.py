"""Weights and shapes behind constant nodes are those of the model, without running it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.workloads import load_onnx
from tests.workloads.readers.test_onnx import forward, integers, nchw

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

FLOAT = TensorProto.FLOAT


def constant(name: str, array: np.ndarray) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))


def model_of(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, Any],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    ir_version: int = 8,
) -> Path:
    output = helper.make_empty_tensor_value_info(nodes[-1].output[0])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [output],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    onnx.save(model, str(path))
    return path


def weights_of(path: Path) -> np.ndarray:
    """The weights of the only layer, without running the model."""
    (layer,) = load_onnx(path, values=False)
    assert layer.origin == "from the model's initialisers"
    return layer.tensors["w"]


MATMUL = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")


def test_constant_node_is_a_weight(tmp_path: Path) -> None:
    w = integers(5, 6)
    path = model_of(tmp_path / "m.onnx", [constant("w", w), MATMUL], {"x": (4, 5)})
    np.testing.assert_array_equal(weights_of(path), w)


def test_constant_of_shape(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.float32([0.5]))
    nodes = [
        constant("s", np.int64([5, 6])),
        helper.make_node("ConstantOfShape", ["s"], ["w"], value=value),
        MATMUL,
    ]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (4, 5)})
    np.testing.assert_array_equal(weights_of(path), np.full((5, 6), 0.5))


@pytest.mark.parametrize("ir_version", [3, 8])
def test_chain_of_constant_operators(tmp_path: Path, ir_version: int) -> None:
    """Large enough that the weight is computed only when it is asked for."""
    stored = integers(2, 100, 200)
    nodes = [
        helper.make_node("Identity", ["stored"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT16),
        helper.make_node("Transpose", ["b"], ["c"], perm=[2, 0, 1]),
        constant("shape", np.int64([200, -1])),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Cast", ["d"], ["w"], to=FLOAT),
        MATMUL,
    ]
    path = model_of(
        tmp_path / "m.onnx", nodes, {"x": (4, 200)}, {"stored": stored}, ir_version=ir_version
    )
    np.testing.assert_array_equal(weights_of(path), stored.transpose(2, 0, 1).reshape(200, 200))


def quantised(opset: int, blocked: bool = False) -> tuple[dict[str, np.ndarray], np.ndarray, dict]:
    """Stored tensors of a DequantizeLinear, its real result and its attributes."""
    w = np.random.default_rng(opset).integers(-128, 128, (6, 8)).astype(np.int8)
    if blocked:
        scale = np.float32(2.0) ** -np.arange(12, dtype=np.float32).reshape(6, 2)
        zero = np.arange(12, dtype=np.int8).reshape(6, 2)
        real = (w - np.repeat(zero, 4, 1).astype(np.float32)) * np.repeat(scale, 4, 1)
        return {"q": w, "s": scale, "z": zero}, real, {"axis": 1, "block_size": 4}
    if opset < 13:  # per tensor alone
        tensors = {"q": w, "s": np.float32(0.25), "z": np.int8(3)}
        return tensors, (w - np.float32(3)) * np.float32(0.25), {}
    scale, zero = np.float32([1, 2, 4, 8, 0.5, 0.25]), np.arange(6, dtype=np.int8)
    real = (w - zero.astype(np.float32)[:, None]) * scale[:, None]
    return {"q": w, "s": scale, "z": zero}, real, {"axis": 0}


@pytest.mark.parametrize("opset", [*range(10, 24), 25])
def test_dequantised_weights(tmp_path: Path, opset: int) -> None:
    tensors, real, attributes = quantised(opset)
    nodes = [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes), MATMUL]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (4, 6)}, tensors, opset)
    np.testing.assert_array_equal(weights_of(path), real)


@pytest.mark.parametrize("opset", [21, 23, 25])
def test_weights_dequantised_in_blocks(tmp_path: Path, opset: int) -> None:
    tensors, real, attributes = quantised(opset, blocked=True)
    nodes = [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes), MATMUL]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (4, 6)}, tensors, opset)
    np.testing.assert_array_equal(weights_of(path), real)


@pytest.mark.parametrize("opset", [10, 13, 18, 21])
def test_quantised_and_dequantised_model(tmp_path: Path, opset: int) -> None:
    """Weights and activations pass QuantizeLinear and DequantizeLinear, as exporters write it."""
    w, x = integers(6, 5) / np.float32(7), integers(4, 6, seed=2) / np.float32(3)

    def pair(name: str) -> list[Any]:
        return [
            helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}q"]),
            helper.make_node("DequantizeLinear", [f"{name}q", "s", "z"], [f"{name}d"]),
        ]

    nodes = [*pair("x"), *pair("w"), helper.make_node("MatMul", ["xd", "wd"], ["y"])]
    stored = {"w": w, "s": np.float32(0.125), "z": np.int8(2)}
    path = model_of(tmp_path / "m.onnx", nodes, {"x": x.shape}, stored, opset)
    (layer,) = load_onnx(path, inputs={"x": x})
    for key, array in (("x", x), ("w", w)):
        expected = np.clip(np.rint(array / np.float32(0.125)) + 2, -128, 127) - 2
        np.testing.assert_array_equal(layer.tensors[key], expected * np.float32(0.125))


def test_quantised_products_have_real_tensors(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (1, 3, 6, 6)).astype(np.uint8)
    w = np.random.default_rng(2).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    scales = np.float32([0.5, 1, 2, 4])
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"])
    stored = {
        "xs": np.float32(0.25), "xz": np.uint8(128), "w": w, "ws": scales,
        "wz": np.zeros(4, np.int8), "ys": np.float32(64), "yz": np.uint8(100),
    }  # fmt: skip
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    path = tmp_path / "q.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), str(path))
    (layer,) = load_onnx(path, inputs={"x": x})
    y = np.clip(np.rint(nchw(layer) / 64) + 100, 0, 255)
    np.testing.assert_array_equal(y, ReferenceEvaluator(str(path)).run(None, {"x": x})[0])


def test_integer_product(tmp_path: Path) -> None:
    a = np.random.default_rng(1).integers(0, 256, (4, 6)).astype(np.uint8)
    b = np.random.default_rng(2).integers(-128, 128, (6, 5)).astype(np.int8)
    zeros = np.arange(5, dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, a.shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(t, n) for n, t in (("b", b), ("az", np.uint8(7)), ("bz", zeros))],
    )
    path = tmp_path / "q.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    (layer,) = load_onnx(path, inputs={"a": a})
    expected = (a.astype(np.int64) - 7) @ (b.astype(np.int64) - zeros)
    np.testing.assert_array_equal(forward(layer)[0], expected)


def test_sparse_weight(tmp_path: Path) -> None:
    dense = np.zeros((5, 6), np.float32)
    dense[1, 2], dense[4, 5] = 3, -2
    values = helper.make_tensor("w", FLOAT, [2], [3.0, -2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [8, 29])
    graph = helper.make_graph(
        [MATMUL],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, (4, 5))],
        [helper.make_empty_tensor_value_info("y")],
        sparse_initializer=[helper.make_sparse_tensor(values, indices, [5, 6])],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    np.testing.assert_array_equal(weights_of(tmp_path / "m.onnx"), dense)


def test_shape_computed_from_shapes(tmp_path: Path) -> None:
    """Shape, Slice, Gather, Concat, Squeeze, Unsqueeze, Cast and Floor, as exporters write a Reshape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        constant("0", np.int64([0])),
        constant("1", np.int64([1])),
        helper.make_node("Slice", ["s", "0", "1"], ["n"]),
        helper.make_node("Gather", ["s", "1"], ["c"]),
        helper.make_node("Cast", ["c"], ["cf"], to=FLOAT),
        constant("half", np.float32([0.5])),
        helper.make_node("Mul", ["cf", "half"], ["h"]),
        helper.make_node("Floor", ["h"], ["hf"]),
        helper.make_node("Cast", ["hf"], ["hi"], to=TensorProto.INT64),
        helper.make_node("Squeeze", ["hi"], ["hs"]),
        helper.make_node("Unsqueeze", ["hs", "0"], ["hu"]),
        constant("rest", np.int64([-1])),
        helper.make_node("Concat", ["n", "hu", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (2, 6, 5)}, {"w": integers(10, 4)})
    workload = load_onnx(path, values=False)
    assert workload[0].shape() == (1, 6, 4, 10)
    assert not workload.missing


def conditional(condition: list[Any], inputs: list[Any]) -> Any:
    """A model with an If; the names in its branches clash with each other and with those outside."""
    branches = {}
    for name, scale in (("then_branch", 1), ("else_branch", 2)):
        w = numpy_helper.from_array(integers(5, 6) * np.float32(scale), "w")
        node = helper.make_node("MatMul", ["x", "w"], ["t"], name="inner")
        out = helper.make_tensor_value_info("t", FLOAT, (4, 6))
        branches[name] = helper.make_graph([node], name, [], [out], [w])
    nodes = [
        *condition,
        helper.make_node("If", ["c"], ["t1"], **branches),
        helper.make_node("MatMul", ["t1", "w"], ["y"], name="outer"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, (4, 5)), *inputs],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(integers(6, 3, seed=9), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("condition", [True, False])
def test_branch_with_constant_condition(tmp_path: Path, condition: bool) -> None:
    model = conditional([constant("c", np.array(condition))], [])
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path))
    x = integers(4, 5, seed=3)
    inner, outer = load_onnx(path, inputs={"x": x})
    assert (inner.name, outer.name) == ("inner", "outer")
    y = forward(inner)[0]
    np.testing.assert_array_equal(y, x @ integers(5, 6) * (1 if condition else 2))
    np.testing.assert_array_equal(outer.tensors["x"], y)
    np.testing.assert_array_equal(outer.tensors["w"], integers(6, 3, seed=9))


def test_branch_chosen_by_a_given_input(tmp_path: Path) -> None:
    rate = helper.make_tensor_value_info("rate", TensorProto.INT64, ())
    condition = [
        constant("high", np.int64(16000)),
        helper.make_node("Equal", ["rate", "high"], ["c"]),
    ]
    path = tmp_path / "m.onnx"
    onnx.save(conditional(condition, [rate]), str(path))
    inner, _ = load_onnx(path, inputs={"rate": np.int64(16000)})
    np.testing.assert_array_equal(inner.tensors["w"], integers(5, 6))
    inner, _ = load_onnx(path, inputs={"rate": np.int64(8000)})
    np.testing.assert_array_equal(inner.tensors["w"], integers(5, 6) * 2)
    workload = load_onnx(path)
    assert [layer.name for layer in workload] == ["outer"]
    assert "its condition depends on the input 'rate'" in workload.missing[0]


def step_body(loop: bool) -> Any:
    """h' = x·w + h and its double, as the body of a Loop or a Scan; x is (2, 5), h is (2, 5)."""
    nodes = [
        helper.make_node("MatMul", ["xt", "w"], ["p"], name="step"),
        helper.make_node("Add", ["p", "h"], ["hn"]),
        helper.make_node("Add", ["hn", "hn"], ["out"]),
    ]
    info = helper.make_tensor_value_info
    inputs, outputs = (
        [info("h", FLOAT, (2, 5))],
        [info("hn", FLOAT, (2, 5)), info("out", FLOAT, (2, 5))],
    )
    if loop:
        nodes.insert(0, helper.make_node("Gather", ["x", "i"], ["xt"], axis=0))
        nodes.append(helper.make_node("Identity", ["c"], ["co"]))
        inputs = [info("i", TensorProto.INT64, ()), info("c", TensorProto.BOOL, ()), *inputs]
        outputs = [info("co", TensorProto.BOOL, ()), *outputs]
    else:
        inputs.append(info("xt", FLOAT, (2, 5)))
    return helper.make_graph(nodes, "body", inputs, outputs)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("loop", [False, True])
def test_steps_of_a_loop(tmp_path: Path, loop: bool, backward: bool, opset: int) -> None:
    if loop:
        node = helper.make_node("Loop", ["n", "", "h0"], ["hn", "all"], body=step_body(True))
        backward = False
    else:
        node = helper.make_node(
            "Scan", ["h0", "x"], ["hn", "all"], body=step_body(False), num_scan_inputs=1,
            scan_input_directions=[int(backward)], scan_output_directions=[int(backward)],
        )  # fmt: skip
    nodes = [node, helper.make_node("MatMul", ["all", "v"], ["y"], name="after")]
    weights = {
        "w": integers(5, 5), "v": integers(5, 3, seed=2), "h0": integers(2, 5, seed=3),
        "n": np.int64(3),
    }  # fmt: skip
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (3, 2, 5)}, weights, opset)
    x = integers(3, 2, 5, seed=4)
    workload = load_onnx(path, inputs={"x": x}, evaluator="onnx")
    assert not workload.alerts
    assert [layer.name for layer in workload] == ["step[0]", "step[1]", "step[2]", "after"]
    for step in range(3):
        np.testing.assert_array_equal(
            workload[step].tensors["x"], x[2 - step if backward else step]
        )
    h, results = weights["h0"], []
    for xt in x[::-1] if backward else x:
        h = xt @ weights["w"] + h
        results.append(2 * h)
    stacked = np.stack(results[::-1] if backward else results)
    np.testing.assert_array_equal(workload["after"].tensors["x"], stacked.reshape(6, 5))


def test_nested_loops_that_swell_are_missing(tmp_path: Path) -> None:
    """A loop of 2000 steps in one of 2000 steps has four million products."""
    inner = step_body(True)
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Loop", ["n", "", "g"], ["gn", "all"], body=inner),
        helper.make_node("Identity", ["oc"], ["oco"]),
    ]
    outer = helper.make_graph(
        nodes,
        "outer",
        [
            info("oi", TensorProto.INT64, ()),
            info("oc", TensorProto.BOOL, ()),
            info("g", FLOAT, (2, 5)),
        ],
        [info("oco", TensorProto.BOOL, ()), info("gn", FLOAT, (2, 5))],
    )
    loop = helper.make_node("Loop", ["n", "", "h0"], ["hn"], body=outer)
    weights = {"w": integers(5, 5), "h0": integers(2, 5, seed=3), "n": np.int64(2000)}
    before = helper.make_node("MatMul", ["h0", "w"], ["first"], name="first")
    path = model_of(tmp_path / "m.onnx", [before, loop], {"x": (3, 2, 5)}, weights)
    workload = load_onnx(path, values=False)
    assert workload[0].name == "first" and workload.missing


def test_loop_of_many_steps_is_missing(tmp_path: Path) -> None:
    node = helper.make_node("Loop", ["n", "", "h0"], ["hn", "all"], body=step_body(True))
    nodes = [node, helper.make_node("MatMul", ["hn", "v"], ["y"], name="after")]
    weights = {
        "w": integers(5, 5), "v": integers(5, 3, seed=2), "h0": integers(2, 5, seed=3),
        "n": np.int64(2**40),
    }  # fmt: skip
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (3, 2, 5)}, weights)
    with pytest.raises(InputError) as caught:
        load_onnx(path, evaluator="onnx")
    assert "the number of its steps is not constant, or large" in str(caught.value)
    assert "'after' of type MatMul: the shape of 'hn' is not known" in str(caught.value)


@pytest.mark.parametrize("present", [False, True])
def test_attention_is_expanded(tmp_path: Path, present: bool) -> None:
    """ONNX's own definition gives both products; a missing mask before given past keys is no obstacle."""
    q, k, v = (integers(1, 2, 3, 4, seed=seed) / np.float32(4) for seed in range(3))
    past = {"pk": integers(1, 2, 2, 4, seed=5), "pv": integers(1, 2, 2, 4, seed=6)}
    names = ["q", "k", "v"] + (["", "pk", "pv"] if present else [])
    feeds = {"q": q, "k": k, "v": v} | (past if present else {})
    outputs = ["y", "presentk", "presentv"] if present else ["y"]
    graph = helper.make_graph(
        [helper.make_node("Attention", names, outputs, name="attention")],
        "g",
        [helper.make_tensor_value_info(name, FLOAT, a.shape) for name, a in feeds.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), str(path))
    workload = load_onnx(path, inputs=feeds)
    assert not workload.missing and not workload.warnings
    assert [layer.name for layer in workload] == ["attention.qk", "attention.pv"]
    y = ReferenceEvaluator(str(path)).run(["y"], feeds)[0]
    np.testing.assert_allclose(forward(workload[1]).reshape(y.shape), y, rtol=1e-5, atol=1e-6)


def test_weights_that_are_padded_expanded_and_tiled(tmp_path: Path) -> None:
    """Results as large as their operands are computed, however large the numbers in them are."""
    big = integers(500, 400)
    nodes = [
        helper.make_node("Expand", ["big", "shape"], ["e"]),
        helper.make_node("Pad", ["e", "pads"], ["p"]),
        helper.make_node("Tile", ["p", "twice"], ["w"]),
        MATMUL,
    ]
    stored = {
        "big": big, "shape": np.int64([500, 400]), "pads": np.int64([0, 0, 0, 1000]),
        "twice": np.int64([1, 2]),
    }  # fmt: skip
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (4, 500)}, stored)
    padded = np.concatenate([big, np.zeros((500, 1000))], 1)
    np.testing.assert_array_equal(weights_of(path), np.tile(padded, (1, 2)))


def test_huge_constant_is_not_computed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"]),
        constant("axes", np.int64([0, 1])),
        helper.make_node("ReduceSum", ["big", "axes"], ["sum"]),
        helper.make_node("Mul", ["sum", "w0"], ["w"]),
        MATMUL,
    ]
    stored = {"s": np.int64([2**20, 2**20]), "w0": integers(5, 6)}
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (4, 5)}, stored)
    workload = load_onnx(path, values=False)
    assert "not known: weights of 'fc' are drawn instead" in workload.alerts[0]
    assert "too large" in workload.alerts[0]
