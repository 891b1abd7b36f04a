"""Weights of ONNX models as codes: the standard's own evaluator computes with the numbers that the codes mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import hfp8sim as hs
from hfp8sim.errors import InputError
from hfp8sim.interop.onnx_weights import TYPES

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
MATRIX = (100 * RNG.normal(size=(4, 5))).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)
X = RNG.normal(size=(2, 3, 6, 6)).astype(np.float32)
FORMATS = [*TYPES, "hfp8-143", "e2m1", "e3m4"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "net.onnx")


def save(path: Path, opset: int = 17, matrix: np.ndarray = MATRIX) -> Path:
    """A convolution with a bias, the mean over the image, and a product."""
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["c"], "conv"),
        helper.make_node("ReduceMean", ["c"], ["m"], "mean", axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"], "fc"),
    ]
    if opset >= 18:
        nodes[1] = helper.make_node("ReduceMean", ["c", "axes"], ["m"], "mean", keepdims=0)
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 5))],
        [numpy_helper.from_array(a, n) for a, n in ((KERNEL, "k"), (matrix, "w"), (BIAS, "b"))],
    )  # fmt: skip
    if opset >= 18:
        graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), str(path))
    return path


def result(path: Path) -> Any:
    return ReferenceEvaluator(onnx.load(str(path))).run(None, {"x": X})[0]


@pytest.mark.parametrize("fmt", FORMATS)
def test_evaluator_computes_with_the_codes(model: Path, tmp_path: Path, fmt: str) -> None:
    target = tmp_path / "q.onnx"
    weights = hs.quantise_onnx(model, target, fmt)
    assert set(weights) == {"k", "w"} and all(w.format.name == fmt for w in weights.values())
    written = onnx.load(str(target))
    onnx.checker.check_model(written)
    for tensor in (rounded := onnx.load(str(model))).graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].values(), tensor.name))
    expected = ReferenceEvaluator(rounded).run(None, {"x": X})[0]
    np.testing.assert_array_equal(result(target), expected)
    operators = {node.op_type for node in written.graph.node}
    assert ("DequantizeLinear" in operators) == (fmt in TYPES) != ("Gather" in operators)
    stored = {t.name: t for t in written.graph.initializer}
    kind = getattr(TensorProto, TYPES.get(fmt, "UINT8"))
    assert stored["k_codes"].data_type == kind and "k" not in stored
    assert stored["k_codes"].raw_data == weights["k"].codes.tobytes()
    assert {p.key: p.value for p in written.metadata_props} == {"hfp8sim.weights": fmt}


@pytest.mark.parametrize("fmt", ["e4m3fn", "hfp8-143"])
def test_model_is_read_back_with_the_same_weights(model: Path, tmp_path: Path, fmt: str) -> None:
    weights = hs.quantise_onnx(model, tmp_path / "q.onnx", fmt)
    loaded = hs.load_workload(tmp_path / "q.onnx")
    conv, fc = loaded
    assert not loaded.missing and not loaded.alerts
    np.testing.assert_array_equal(conv.tensors["w"], weights["k"].values().transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(fc.tensors["w"], weights["w"].values())


@pytest.mark.parametrize("fmt", FORMATS)
def test_scale_is_the_smallest_without_saturation(model: Path, tmp_path: Path, fmt: str) -> None:
    for name, operand in hs.quantise_onnx(model, tmp_path / "q.onnx", fmt).items():
        largest = float(np.abs({"k": KERNEL, "w": MATRIX}[name]).max())
        assert operand.saturated == 0
        assert operand.format.max * 2.0 ** (operand.exponent - 1) < largest
        assert largest <= operand.format.max * 2.0**operand.exponent
    plain = hs.quantise_onnx(model, tmp_path / "q.onnx", fmt, scaled=False)
    assert {w.exponent for w in plain.values()} == {0}


def test_weight_that_ends_at_the_largest_number_is_not_scaled_further(tmp_path: Path) -> None:
    matrix = np.full((4, 5), 448 * 8, np.float32)
    path = save(tmp_path / "net.onnx", matrix=matrix)
    weight = hs.quantise_onnx(path, tmp_path / "q.onnx", "e4m3fn")["w"]
    assert weight.exponent == 3 and (weight.values() == matrix).all()


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("size", [1e-5, 1e-3, 0.05])
def test_small_weights_of_binary16_keep_their_values(tmp_path: Path, fmt: str, size: float) -> None:
    """The scale is of the weight's dtype: binary16 has no 2^−25, and a scale of 0 would make all weights 0."""
    matrix = (size * MATRIX / np.abs(MATRIX).max()).astype(np.float16)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, (4, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, (4, 5))],
        [numpy_helper.from_array(matrix, "w")],
    )  # fmt: skip
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    weight = hs.quantise_onnx(path, tmp_path / "q.onnx", fmt)["w"]
    model = onnx.load(str(tmp_path / "q.onnx"))
    (weights,) = ReferenceEvaluator(model).run(None, {"x": np.eye(4, dtype=np.float16)})
    np.testing.assert_array_equal(weights, weight.values())
    assert weights.any() and weight.saturated == 0


def test_recent_model_keeps_its_opset(tmp_path: Path) -> None:
    hs.quantise_onnx(save(tmp_path / "net.onnx", 21), tmp_path / "q.onnx")
    assert onnx.load(str(tmp_path / "q.onnx")).opset_import[0].version == 21


def test_older_model_is_converted_for_float8_alone(model: Path, tmp_path: Path) -> None:
    versions = []
    for fmt in ("e5m2", "hfp8-152"):
        hs.quantise_onnx(model, tmp_path / "q.onnx", fmt)
        versions.append(onnx.load(str(tmp_path / "q.onnx")).opset_import[0].version)
    assert versions == [19, 17]


def test_what_cannot_be_quantised_is_refused(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "q.onnx"
    with pytest.raises(InputError, match="dlfloat16 has 16 bits; weights have at most 8"):
        hs.quantise_onnx(model, target, "dlfloat16")
    (tmp_path / "bad").write_bytes(b"no model")
    with pytest.raises(InputError, match="bad: not an ONNX model"):
        hs.quantise_onnx(tmp_path / "bad", target)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2,))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,))],
    )  # fmt: skip
    onnx.save(helper.make_model(graph), str(tmp_path / "relu.onnx"))
    with pytest.raises(InputError, match="no stored weight of Conv"):
        hs.quantise_onnx(tmp_path / "relu.onnx", target, "hfp8-143")
    assert not target.exists()
