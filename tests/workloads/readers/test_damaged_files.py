"""Files damaged at random: each gives a workload or an `InputError` of one line, and no other exception."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import PHASES, Conv, Layer, Workload
from hfp8sim.workloads import load_workload, save_trace
from tests import damaged
from tests.damaged import mutated

DATA = Path(__file__).parent / "data"
ZIGZAG = b"""- id: 0
  name: stem
  operator_type: Conv
  equation: O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]
  dimension_relations: [ix=2*ox+1*fx, iy=2*oy+1*fy]
  loop_dims: [B, K, C, OY, OX, FY, FX]
  loop_sizes: [1, 8, 3, 9, 9, 3, 3]
  pr_loop_dims: [IX, IY]
  padding: [[1, 1], [1, 0]]
"""
TIMELOOP = b"""problem:
  shape:
    name: layer
    dimensions: [C, K, R, P, N]
    coefficients: [{name: Stride, default: 1}]
    data_spaces:
    - {name: Weights, projection: [[[C]], [[K]], [[R]]]}
    - {name: Inputs, projection: [[[N]], [[C]], [[R], [P, Stride]]]}
    - {name: Outputs, projection: [[[N]], [[K]], [[P]]], read_write: True}
  instance: {C: 3, K: 8, R: 3, P: 9, N: 2, Stride: 2}
"""


def trace() -> Workload:
    x = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2) / 3
    conv = Conv(1, 4, 4, 2, 3, (3, 3), padding=(1, 1, 1, 1))
    return Workload(
        "t",
        (Layer.from_conv("c", conv, tensors={"x": x}), Layer("f", "linear", 2, 3, 4)),
        ("note",),
    )


def onnx_model() -> bytes:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    rng = np.random.default_rng(3)
    weights = {
        "w1": rng.standard_normal((4, 2, 3, 3), np.float32),
        "w2": rng.standard_normal((4, 2, 2, 2), np.float32),
        "w3": rng.standard_normal((72, 5), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], strides=[2, 1], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["a", "w2"], ["b"], strides=[2, 2], group=1),
        helper.make_node("MaxPool", ["b"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2, 11, 6])],
        [helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(model.SerializeToString())


def try_to_read(path: Path) -> bool:
    """Whether the file gave a workload; whatever else it gave must be one line."""
    try:
        workload = load_workload(path)
    except InputError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
        return False
    assert workload.macs(PHASES) > 0
    assert all("\n" not in line for line in (*workload.notes, *workload.warnings))
    return True


def damage(folder: Path, name: str, data: bytes, count: int, offset: int = 0) -> None:
    damaged.read_all(folder, name, data, try_to_read, range(offset, offset + count))


def files() -> dict[str, Callable[[], bytes]]:
    lists = ("plain", "optional_by_name", "odd_rows", "depthwise_mark")
    csv_files: dict[str, Callable[[], bytes]] = {
        f"{name}.csv": (DATA / f"conv_{name}.csv").read_bytes for name in lists
    }
    return csv_files | {
        "gemm.csv": lambda: b"Layer, M, N, K,\nQKV, 197, 2304, 768,\nProj, 197, 768, 768,\n",
        "zigzag.yaml": lambda: ZIGZAG,
        "timeloop.yaml": lambda: TIMELOOP,
        "model.onnx": onnx_model,
    }


@pytest.mark.parametrize("name", files())
def test_damaged_files(tmp_path: Path, name: str) -> None:
    damage(tmp_path, name, files()[name](), 100)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", files())
def test_damaged_files_exhaustive(tmp_path: Path, name: str) -> None:
    damage(tmp_path, name, files()[name](), 1000, offset=100)


def test_damaged_traces(tmp_path: Path) -> None:
    damaged_trace(tmp_path, 100, 0)


@pytest.mark.exhaustive
def test_damaged_traces_exhaustive(tmp_path: Path) -> None:
    damaged_trace(tmp_path, 1000, 100)


def edited_model(data: bytes, rng: random.Random) -> bytes:
    """A model after one to three edits of its fields; the file still parses."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(data)
    graph = model.graph
    number = rng.choice((-(2**40), -1, 0, 1, 2, 3, 7, 1000, 2**31, 2**62))
    for _ in range(rng.randint(1, 3)):
        node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        kind = rng.randrange(12)
        if kind == 0 and node.attribute:
            attribute = rng.choice(node.attribute)
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = number
            attribute.i = number
        elif kind == 1 and node.attribute:
            del node.attribute[rng.randrange(len(node.attribute))]
        elif kind == 2 and node.attribute:
            rng.choice(node.attribute).type = rng.randrange(12)
        elif kind == 3:
            node.op_type = rng.choice(("Conv", "MatMul", "Gemm", "LSTM", "Einsum", "If", "Nope"))
        elif kind == 4 and node.input:
            del node.input[rng.randrange(len(node.input))]
        elif kind == 5:
            node.input.append(rng.choice(("", "x", "w1", "y", "nowhere")))
        elif kind == 6:
            tensor.dims[rng.randrange(len(tensor.dims))] = max(number, -1)
        elif kind == 7:
            tensor.data_type = rng.randrange(24)
        elif kind == 8:
            tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
        elif kind == 9:
            rng.choice(graph.input[0].type.tensor_type.shape.dim).dim_value = number
        elif kind == 10:
            graph.node.append(graph.node[rng.randrange(len(graph.node))])
        else:
            model.opset_import[0].version = rng.choice((0, 1, 7, 25, 99))
    return bytes(model.SerializeToString())


def damage_models(folder: Path, count: int, offset: int) -> None:
    data, path, read = onnx_model(), folder / "m.onnx", 0
    for seed in range(offset, offset + count):
        path.write_bytes(edited_model(data, random.Random(seed)))
        try:
            read += try_to_read(path)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert 0 < read < count


def test_edited_models(tmp_path: Path) -> None:
    damage_models(tmp_path, 100, 0)


@pytest.mark.exhaustive
def test_edited_models_exhaustive(tmp_path: Path) -> None:
    damage_models(tmp_path, 1000, 100)


def damaged_trace(tmp_path: Path, count: int, offset: int) -> None:
    """The archive as a whole, where checksums catch nearly all, and each file of the directory."""
    folder = tmp_path / "whole"
    folder.mkdir()
    save_trace(folder / "t.npz", trace())
    damage(folder, "t.npz", (folder / "t.npz").read_bytes(), count, offset)
    save_trace(tmp_path / "t", trace())
    for member in ("manifest.json", "0.x.npy"):
        path = tmp_path / "t" / member
        whole = path.read_bytes()
        for seed in range(offset, offset + count):
            path.write_bytes(mutated(whole, random.Random(f"{member}:{seed}")))
            try_to_read(tmp_path / "t")
        path.write_bytes(whole)
        assert try_to_read(tmp_path / "t")
