"""The ONNX reader against onnx's own reference evaluator: a layer's product is the node's output."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Layer, Workload
from hfp8sim.workloads import load_onnx, load_workload, operands

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

FLOAT = TensorProto.FLOAT


def integers(*shape: int, seed: int = 1) -> np.ndarray:
    """Small integers, so that float32 products are exact in any order."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def save(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, Any],
    weights: dict[str, np.ndarray],
    outputs: list[str],
    opset: int = 17,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    onnx.save(model, str(path))
    return path


def single(
    folder: Path, op: str, x: np.ndarray, w: np.ndarray, swap: bool = False, **attributes: Any
) -> tuple[Layer, np.ndarray]:
    """The layer read from a model of one node, and the output of that node."""
    feeds = ["w", "x"] if swap else ["x", "w"]
    node = helper.make_node(op, feeds, ["y"], name="node", **attributes)
    path = save(folder / "m.onnx", [node], {"x": x.shape}, {"w": w}, ["y"])
    y = ReferenceEvaluator(str(path)).run(["y"], {"x": x})[0]
    workload = load_onnx(path, inputs={"x": x})
    assert workload.warnings == ()
    assert len(workload) == 1
    layer = workload[0]
    assert layer.name == "node"
    assert set(layer.tensors) == {"x", "w"}
    assert layer.origin == "from the model's initialisers and a given input"
    return layer, y


def forward(layer: Layer) -> np.ndarray:
    a, b, _ = operands(layer, "fwd")
    return a @ b


def nchw(layer: Layer) -> np.ndarray:
    """A convolution's product as the framework lays it out."""
    assert layer.conv is not None
    product = forward(layer)
    n, (p, q) = layer.conv.batch, layer.conv.output
    grouped = product.reshape(layer.groups, n, p, q, layer.n)
    return grouped.transpose(1, 0, 4, 2, 3).reshape(n, -1, p, q)


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((2, 3, 7, 6), (4, 3, 3, 2), {}),
        ((1, 4, 9, 9), (6, 2, 3, 3), {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 3]}),
        ((1, 4, 9, 9), (8, 1, 3, 3), {"group": 4, "dilations": [2, 3]}),
        ((1, 2, 7, 8), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
        ((1, 2, 7, 8), (3, 2, 2, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
        ((1, 2, 7, 8), (3, 2, 3, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
        ((2, 3, 11), (5, 3, 4), {"strides": [2], "pads": [1, 2], "dilations": [2]}),
    ],
)
def test_conv(tmp_path: Path, x: tuple, w: tuple, attributes: dict) -> None:
    layer, y = single(tmp_path, "Conv", integers(*x), integers(*w, seed=2), **attributes)
    np.testing.assert_array_equal(nchw(layer).reshape(y.shape), y)
    assert layer.phases == ("fwd", "wgrad")


def scattered(
    x: np.ndarray, w: np.ndarray, size: tuple[int, int], before: tuple[int, int], **attributes: Any
) -> np.ndarray:
    """The transposed convolution by its definition: every input pixel spreads over the output."""
    stride, dilation = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    groups = attributes.get("group", 1)
    c_in, c_out = x.shape[1] // groups, w.shape[1]
    y = np.zeros((len(x), c_out * groups, *size), np.float32)
    for n, c, i, j, f, r, s in np.ndindex(*x.shape, *w.shape[1:]):
        h = i * stride[0] + r * dilation[0] - before[0]
        v = j * stride[1] + s * dilation[1] - before[1]
        if 0 <= h < size[0] and 0 <= v < size[1]:
            y[n, c // c_in * c_out + f, h, v] += x[n, c, i, j] * w[c, f, r, s]
    return y


@pytest.mark.parametrize(
    ("x", "w", "size", "before", "attributes"),
    [
        ((1, 3, 4, 5), (3, 2, 3, 3), (6, 7), (0, 0), {}),
        (
            (2, 4, 3, 4),
            (4, 3, 3, 2),
            (6, 10),
            (1, 0),
            {"group": 2, "strides": [2, 3], "pads": [1, 0, 0, 1]},
        ),
        (
            (1, 2, 4, 4),
            (2, 3, 3, 3),
            (10, 10),
            (0, 0),
            {"strides": [2, 2], "output_padding": [1, 1]},
        ),
        (
            (1, 2, 4, 4),
            (2, 3, 3, 3),
            (5, 5),
            (2, 1),
            {"dilations": [2, 2], "pads": [2, 1, 1, 2]},
        ),
        # In all 9 pixels: 1 and 2 of them are cut, the odd one before unless SAME_UPPER.
        ((1, 2, 4, 4), (2, 3, 3, 3), (8, 7), (1, 1), {"strides": [2, 2], "output_shape": [8, 7]}),
        ((1, 2, 4, 4), (2, 3, 3, 3), (8, 8), (0, 0), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((1, 2, 4, 4), (2, 3, 3, 3), (8, 8), (1, 1), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ],
)
def test_conv_transpose(
    tmp_path: Path, x: tuple, w: tuple, size: tuple, before: tuple, attributes: dict
) -> None:
    image, filters = integers(*x), integers(*w, seed=2)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attributes)
    path = save(tmp_path / "m.onnx", [node], {"x": x}, {"w": filters}, ["y"])
    layer = load_onnx(path, inputs={"x": image})[0]
    expected = scattered(image, filters, size, before, **attributes)
    np.testing.assert_array_equal(nchw(layer), expected)


def test_conv_transpose_1d(tmp_path: Path) -> None:
    shapes = (1, 2, 6), (2, 3, 3)
    x, w = integers(*shapes[0]), integers(*shapes[1], seed=2)
    layer, y = single(tmp_path, "ConvTranspose", x, w, strides=[2], pads=[1, 1])
    np.testing.assert_array_equal(nchw(layer).reshape(y.shape), y)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("swap", [False, True])
def test_gemm(tmp_path: Path, trans_a: int, trans_b: int, swap: bool) -> None:
    shapes = [(5, 4) if trans_a else (4, 5), (6, 5) if trans_b else (5, 6)]
    x, w = (integers(*shape, seed=i) for i, shape in enumerate(shapes[::-1] if swap else shapes))
    layer, y = single(tmp_path, "Gemm", x, w, swap, transA=trans_a, transB=trans_b)
    np.testing.assert_array_equal(forward(layer)[0], y.T if swap else y)
    assert layer.kind == "linear"


@pytest.mark.parametrize(
    ("x", "w", "shape"),
    [
        ((4, 5), (5, 6), (1, 4, 6, 5)),
        ((2, 3, 4, 5), (5, 6), (1, 24, 6, 5)),
        ((2, 3, 4, 5), (2, 3, 5, 6), (6, 4, 6, 5)),
        ((2, 3, 4, 5), (3, 5, 6), (3, 8, 6, 5)),
        ((3, 4, 5), (2, 1, 5, 6), (1, 12, 12, 5)),
        ((5,), (5, 6), (1, 1, 6, 5)),
        ((4, 5), (5,), (1, 4, 1, 5)),
        ((1, 1, 5), (5, 1), (1, 1, 1, 5)),
    ],
)
def test_matmul_shapes_and_sums(tmp_path: Path, x: tuple, w: tuple, shape: tuple) -> None:
    layer, y = single(tmp_path, "MatMul", integers(*x), integers(*w, seed=2))
    assert tuple(layer.shape()) == shape
    np.testing.assert_array_equal(np.sort(forward(layer), None), np.sort(y, None))
    if layer.groups == 1 and len(w) == 2:
        np.testing.assert_array_equal(forward(layer)[0].reshape(y.shape), y)


@pytest.mark.parametrize(
    ("equation", "x", "w", "shape"),
    [
        ("bqhd,bkhd->bhqk", (2, 4, 3, 5), (2, 6, 3, 5), (6, 4, 6, 5)),
        ("bsd,dhe->bshe", (2, 4, 5), (5, 3, 6), (1, 8, 18, 5)),
        ("ij,kj->ki", (4, 5), (6, 5), (1, 4, 6, 5)),
        ("...ij,...jk->...ik", (2, 3, 4, 5), (2, 3, 5, 6), (6, 4, 6, 5)),
        ("...ij,jk->...ik", (2, 3, 4, 5), (5, 6), (1, 24, 6, 5)),
        ("ij,jk", (4, 5), (5, 6), (1, 4, 6, 5)),
        ("i,i", (5,), (5,), (1, 1, 1, 5)),
    ],
)
def test_einsum(tmp_path: Path, equation: str, x: tuple, w: tuple, shape: tuple) -> None:
    layer, y = single(tmp_path, "Einsum", integers(*x), integers(*w, seed=2), equation=equation)
    assert tuple(layer.shape()) == shape
    np.testing.assert_array_equal(np.sort(forward(layer), None), np.sort(y, None))


def test_activation_product_has_no_parameters(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["q", "k"], ["y"])
    path = save(tmp_path / "m.onnx", [node], {"q": (2, 4, 5), "k": (2, 5, 6)}, {}, ["y"])
    layer = load_onnx(path)[0]
    assert (layer.kind, layer.parameters, layer.name) == ("matmul", 0, "y")
    assert set(layer.tensors) == {"x", "w"}
    assert "a generated input, seed 0" in layer.origin


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_nodes(tmp_path: Path, op: str, gates: int) -> None:
    x, w, r = (
        integers(7, 2, 5),
        integers(2, gates * 3, 5, seed=2),
        integers(2, gates * 3, 3, seed=3),
    )
    node = helper.make_node(
        op, ["x", "w", "r"], ["y"], name="rnn", hidden_size=3, direction="bidirectional"
    )
    path = save(tmp_path / "m.onnx", [node], {"x": x.shape}, {"w": w, "r": r}, ["y"])
    workload = load_onnx(path, inputs={"x": x})
    assert [layer.name for layer in workload] == [
        "rnn.0.input",
        "rnn.0.recurrent",
        "rnn.1.input",
        "rnn.1.recurrent",
    ]
    assert tuple(workload[0].shape()) == (1, 14, gates * 3, 5)
    assert tuple(workload[1].shape()) == (7, 2, gates * 3, 3)
    np.testing.assert_array_equal(forward(workload[2])[0], x.reshape(14, 5) @ w[1].T)
    np.testing.assert_array_equal(workload[3].tensors["w"], r[1].T)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_states(tmp_path: Path, op: str, gates: int, direction: str, given: bool) -> None:
    """The recurrent product's activations are the states of the step before."""
    weights = {
        "w": integers(1, gates * 3, 5) / np.float32(8),
        "r": integers(1, gates * 3, 3, seed=3) / np.float32(8),
        "h0": integers(1, 2, 3, seed=4),
    }
    x = integers(7, 2, 5)
    inputs = ["x", "w", "r", "", "", "h0"] if given else ["x", "w", "r"]
    node = helper.make_node(
        op, inputs, ["", "last"], name="rnn", hidden_size=3, direction=direction
    )
    path = save(tmp_path / "m.onnx", [node], {"x": x.shape}, weights, ["last"])
    states = load_onnx(path, inputs={"x": x}, evaluator="onnx")["rnn.recurrent"]
    if "x" not in states.tensors:  # onnx's evaluator has no backward recurrence
        assert direction == "reverse" and "x" in states.unread
        return
    # Each state is the last one of a model that stops there.
    for step in range(1, 7):
        part = x[:step] if direction == "forward" else x[-step:]
        short = save(tmp_path / "s.onnx", [node], {"x": part.shape}, weights, ["last"])
        last = ReferenceEvaluator(str(short)).run(["last"], {"x": part})[0]
        np.testing.assert_allclose(states.tensors["x"][step], last.reshape(2, 3), atol=1e-6)
    first = weights["h0"][0] if given else np.zeros((2, 3))
    np.testing.assert_array_equal(states.tensors["x"][0], first)


def chain(folder: Path, x: tuple[Any, ...] = (2, 1, 8, 8)) -> Path:
    """Two convolutions and a fully connected layer whose weight is transposed and cast on the way."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Cast", ["w3"], ["w3f"], to=FLOAT),
        helper.make_node("Transpose", ["w3f"], ["w3t"], perm=[1, 0]),
        helper.make_node("MatMul", ["f", "w3t"], ["y"], name="fc"),
    ]
    weights = {
        "w1": integers(4, 1, 3, 3),
        "w2": integers(6, 4, 3, 3, seed=2),
        "w3": integers(10, 6, seed=3).astype(np.float16),
    }
    return save(folder / "net.onnx", nodes, {"x": x}, weights, ["y"])


def test_computed_weights_and_activations(tmp_path: Path) -> None:
    workload = load_workload(chain(tmp_path))
    assert workload.name == "net"
    assert [layer.phases for layer in workload] == [("fwd", "wgrad")] + 2 * [
        ("fwd", "dgrad", "wgrad")
    ]
    conv1, conv2, fc = workload
    relu = np.maximum(nchw(conv1), 0).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(relu, conv2.tensors["x"], rtol=1e-5, atol=1e-5)  # two float32 sums
    np.testing.assert_array_equal(fc.tensors["w"], integers(10, 6, seed=3).T)
    assert fc.kind == "linear"


def test_generated_input_depends_on_seed(tmp_path: Path) -> None:
    path = chain(tmp_path)
    one, two, other = (load_onnx(path, seed=seed)[0].tensors["x"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_shapes_only(tmp_path: Path) -> None:
    workload = load_onnx(chain(tmp_path), values=False)
    assert [set(layer.tensors) for layer in workload] == [{"w"}, {"w"}, {"w"}]
    assert workload[0].origin == "from the model's initialisers"


def test_free_dimensions(tmp_path: Path) -> None:
    path = chain(tmp_path, ("N", 1, 8, 8))
    assert load_onnx(path)[0].m == 64
    assert load_workload(path, batch=3)[0].m == 3 * 64
    assert load_onnx(path, inputs={"x": integers(5, 1, 8, 8)})[0].m == 5 * 64
    path = chain(tmp_path, ("N", 1, "H", 8))
    assert load_workload(path, dims={"H": 4, "N": 2})[0].m == 2 * 32
    for options, message in (
        ({}, "free dimension 'H'; give its size, as in dims={'H': 128}"),
        ({"dims": {"H": 0}}, "dimension 'H' is 0"),
        ({"dims": {"H": 8, "W": 8}}, "unknown free dimension 'W'"),
        ({"dims": {"H": 8}, "batch": -1}, "dimension 'batch' is -1"),
        ({"inputs": {"z": integers(1)}}, "unknown input 'z'"),
        ({"inputs": {"x": integers(1)}}, "has 1 axes; the model's has 4"),
        ({"inputs": {"x": integers(1, 2, 8, 8)}}, "has size 2 along axis 1; the model's has 1"),
    ):
        with pytest.raises(InputError) as caught:
            load_onnx(path, **options)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no input has a free first dimension"):
        load_onnx(chain(tmp_path), batch=4)


def test_generated_tokens_are_valid_indices(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["e"]),
            helper.make_node("MatMul", ["e", "w"], ["y"], name="fc"),
        ],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "T"])],
        [helper.make_empty_tensor_value_info("y")],
        [
            numpy_helper.from_array(integers(11, 5), "table"),
            numpy_helper.from_array(integers(5, 6), "w"),
        ],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    layer = load_onnx(tmp_path / "m.onnx", batch=2, dims={"T": 50})[0]
    assert layer.shape() == (1, 100, 6, 5)
    assert layer.phases == ("fwd", "dgrad", "wgrad")  # the table needs its gradient
    rows = {row.tobytes() for row in layer.tensors["x"]}
    assert rows <= {row.tobytes() for row in integers(11, 5)} and len(rows) > 5


def test_external_weights(tmp_path: Path) -> None:
    whole = load_onnx(chain(tmp_path))
    model = onnx.load(str(tmp_path / "net.onnx"))
    target = tmp_path / "big.onnx"
    onnx.save_model(
        model, str(target), save_as_external_data=True, location="big.bin", size_threshold=0
    )
    read = load_onnx(target)
    for new, old in zip(read, whole, strict=True):
        np.testing.assert_array_equal(new.tensors["w"], old.tensors["w"])
    (tmp_path / "big.bin").unlink()
    without = load_onnx(target)
    assert [layer.shape() for layer in without] == [layer.shape() for layer in whole]
    assert all("w" not in layer.tensors for layer in without)
    assert "not known: weights of 'conv1', 'conv2', 'fc' are drawn instead" in without.alerts[0]
    assert "external file big.bin is missing" in without.alerts[0]


def test_quantised_convolutions(tmp_path: Path) -> None:
    scale, zero = np.float32(0.5).reshape(()), np.uint8(0).reshape(())
    weights = {"s": scale, "z": zero, "w": np.ones((4, 3, 3, 3), np.uint8)}
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 3, 8, 8))],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "q.onnx"))
    x = np.arange(192, dtype=np.uint8).reshape(1, 3, 8, 8)
    layer = load_onnx(tmp_path / "q.onnx", inputs={"x": x})[0]
    assert layer.shape() == (1, 36, 4, 27)
    assert (layer.tensors["w"] == 0.5).all()
    np.testing.assert_array_equal(layer.tensors["x"], x.transpose(0, 2, 3, 1) * np.float32(0.5))


def test_unread_nodes_warn(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x3", "w3"], ["a"], name="volume"),
        helper.make_node("FancyOp", ["x"], ["b"], name="fancy", domain="com.example"),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"),
        helper.make_node("MatMul", ["b", "w"], ["z"], name="behind"),
    ]
    inputs = {"x3": (1, 2, 4, 4, 4), "x": (4, 5)}
    weights = {"w3": integers(2, 2, 3, 3, 3), "w": integers(5, 6)}
    workload = load_onnx(save(tmp_path / "m.onnx", nodes, inputs, weights, ["a", "y", "z"]))
    assert [layer.name for layer in workload] == ["fc"]
    joined = "\n".join(workload.missing)
    assert "'volume' of type Conv: it has 3 spatial axes" in joined
    assert "'fancy' of type FancyOp: the operators of 'com.example' are not known" in joined
    assert "'behind' of type MatMul: the shape of 'b' is not known" in joined


def test_large_model_is_not_run(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save(tmp_path / "m.onnx", [node], {"x": (40_000, 300)}, {"w": integers(300, 300)}, ["y"])
    workload: Workload = load_onnx(path)
    assert set(workload[0].tensors) == {"w"}
    assert "3.6 GMAC forward" in workload.notes[1]


def test_infinite_weights(tmp_path: Path) -> None:
    w = integers(5, 6)
    w[2, 3] = np.inf
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")
    path = save(tmp_path / "m.onnx", [node], {"x": (4, 5)}, {"w": w}, ["y"])
    with pytest.raises(InputError, match=r"layer 'fc', tensor w: inf at index \(2, 3\)"):
        load_onnx(path)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x07", b"\xff" * 100])
def test_other_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(InputError, match="no ONNX model"):
        load_workload(tmp_path / "m.onnx")


def test_model_without_products(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": (4,)}, {}, ["y"]
    )
    with pytest.raises(InputError, match="no layer in it"):
        load_workload(path)
    with pytest.raises(InputError, match="no such file"):
        load_workload(tmp_path / "none.onnx")


def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = chain(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(InputError, match=r'pip install "hfp8sim\[onnx\]"'):
        load_workload(path)
