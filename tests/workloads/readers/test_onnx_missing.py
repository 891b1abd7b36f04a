"""No product of an ONNX model is lost: shapes from a run, large files, free dimensions, what is missing."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfp8sim.cli import main
from hfp8sim.errors import InputError
from hfp8sim.simulation import simulate
from hfp8sim.workloads import load_onnx, load_workload, operands, save_workload
from tests.workloads.readers.test_onnx import chain, forward, integers
from tests.workloads.readers.test_onnx_constants import constant, model_of

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT


@pytest.fixture(params=["onnx", "onnxruntime"])
def evaluator(request: pytest.FixtureRequest) -> str:
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime")
    return str(request.param)


# --- shapes that only a run finds ---------------------------------------------------------------------


def data_dependent(path: Path) -> Path:
    """Rows of x whose first element is positive, multiplied twice."""
    nodes = [
        constant("zero", np.int64([0])),
        constant("one", np.int64([1])),
        helper.make_node("Slice", ["x", "zero", "one", "one"], ["first"]),
        helper.make_node("Flatten", ["first"], ["flat"], axis=0),
        helper.make_node("Squeeze", ["flat", "zero"], ["line"]),
        constant("level", np.float32(0)),
        helper.make_node("Greater", ["line", "level"], ["chosen"]),
        helper.make_node("Compress", ["x", "chosen"], ["rows"], axis=0),
        helper.make_node("MatMul", ["rows", "w1"], ["h"], name="one"),
        helper.make_node("MatMul", ["h", "w2"], ["y"], name="two"),
    ]
    weights = {"w1": integers(5, 6), "w2": integers(6, 7, seed=2)}
    return model_of(path, nodes, {"x": (8, 5)}, weights)


def test_shape_from_a_run(tmp_path: Path, evaluator: str) -> None:
    x = integers(8, 5, seed=4)
    rows = x[x[:, 0] > 0]
    workload = load_onnx(data_dependent(tmp_path / "m.onnx"), inputs={"x": x}, evaluator=evaluator)
    assert not workload.alerts
    one, two = workload
    assert one.shape() == (1, len(rows), 6, 5)
    np.testing.assert_array_equal(forward(one)[0], rows @ integers(5, 6))
    np.testing.assert_array_equal(two.tensors["x"], rows @ integers(5, 6))
    assert any("are those of a given input" in note for note in workload.notes)
    assert any("activations computed by" in n and evaluator in n for n in workload.notes)


def test_unknown_shape_without_a_run_is_missing(tmp_path: Path) -> None:
    path = data_dependent(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="'one' of type MatMul: the shape of 'rows' is not known"):
        load_onnx(path, values=False)


def test_evaluators_agree(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = chain(tmp_path)
    ours, theirs = (load_onnx(path, evaluator=name) for name in ("onnx", "onnxruntime"))
    for a, b in zip(ours, theirs, strict=True):
        assert a.origin == b.origin
        for key in ("x", "w"):
            np.testing.assert_allclose(a.tensors[key], b.tensors[key], rtol=1e-5, atol=1e-5)
    assert "onnxruntime" in theirs.notes[-1] and "reference evaluator" in ours.notes[-1]


def test_unknown_evaluator(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="evaluator is 'torch'; it must be 'onnx' or"):
        load_onnx(chain(tmp_path), evaluator="torch")


def test_failing_node_loses_only_what_follows(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="before"),
        helper.make_node("Unheard", ["h"], ["u"], domain="com.example"),
        helper.make_node("Reshape", ["u", "s"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["y"], name="behind"),
    ]
    weights = {"w": integers(5, 6), "w2": integers(6, 7), "s": np.int64([4, 6])}
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (4, 5)}, weights)
    model = onnx.load(str(path))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("u", FLOAT, (4, 6)))
    onnx.save(model, str(path))
    workload = load_onnx(path, evaluator="onnx")
    before, behind = workload
    assert set(before.tensors) == {"x", "w"} and set(behind.tensors) == {"w"}
    assert before.origin == "from the model's initialisers and a generated input, seed 0"
    assert behind.origin == "from the model's initialisers"
    assert "Unheard" in behind.unread["x"]
    assert "activations not known (Unheard" in operands(behind, "fwd").provenance
    assert any(a.startswith("not known: activations of 'behind'") for a in workload.alerts)
    assert "the operators of 'com.example' are not known" in workload.missing[0]


# --- external weights ---------------------------------------------------------------------------------


def test_only_what_is_asked_for_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of 4 GB is a hole in its file; it is neither read nor put into a protobuf message."""
    rows = 2**20
    w = integers(1024, 6)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["e"]),
            helper.make_node("MatMul", ["e", "w"], ["y"], name="fc"),
        ],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, (3,))],
        [helper.make_empty_tensor_value_info("y")],
    )
    offset = 4 * rows * 1024
    for name, dims, start in (("table", (rows, 1024), 0), ("w", w.shape, offset)):
        tensor = graph.initializer.add(name=name, data_type=FLOAT)
        tensor.dims.extend(dims)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", "big.bin"),
            ("offset", start),
            ("length", 4 * np.prod(dims)),
        ):
            tensor.external_data.add(key=key, value=str(value))
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    try:
        with (tmp_path / "big.bin").open("wb") as file:
            file.seek(offset)
            file.write(w.tobytes())
    except OSError as error:
        pytest.skip(f"no sparse file of 4 GB here: {error}")
    (layer,) = load_onnx(tmp_path / "m.onnx")
    assert layer.shape() == (1, 3, 6, 1024)
    np.testing.assert_array_equal(layer.tensors["w"], w)
    assert "x" not in layer.tensors
    assert not layer.unread


def test_no_protobuf_message_holds_external_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message has a limit of 2 GB; one of 4 kB is enough for a model of 17 kB with external weights."""
    onnx.save_model(
        onnx.load(str(chain(tmp_path))), str(tmp_path / "m.onnx"),
        save_as_external_data=True, location="m.bin", size_threshold=0,
    )  # fmt: skip
    whole = load_onnx(tmp_path / "net.onnx", evaluator="onnx")
    infer = onnx.shape_inference.infer_shapes

    def limited(model: Any, **options: Any) -> Any:
        assert not any(tensor.raw_data for tensor in model.graph.initializer)
        return infer(model, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", limited)
    read = load_onnx(tmp_path / "m.onnx", evaluator="onnx")
    for new, old in zip(read, whole, strict=True):
        for key in ("x", "w"):
            np.testing.assert_array_equal(new.tensors[key], old.tensors[key])


def test_external_weights_in_onnxruntime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx.save_model(
        onnx.load(str(chain(tmp_path))), str(tmp_path / "m.onnx"),
        save_as_external_data=True, location="m.bin", size_threshold=0,
    )  # fmt: skip
    read = load_onnx(tmp_path / "m.onnx", evaluator="onnxruntime")
    assert all(set(layer.tensors) == {"x", "w"} for layer in read) and not read.warnings


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("location", "../m.bin", "external data not read"),
        ("offset", "9999999", "does not hold its 144 bytes"),
        ("length", "4398046511104", "does not hold its 144 bytes"),
        ("length", "4", "does not hold its 144 bytes"),
        ("offset", "x", "external data not read"),
    ],
)
def test_false_external_data(tmp_path: Path, key: str, value: str, says: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    onnx.save_model(
        onnx.load(str(chain(tmp_path))), str(folder / "m.onnx"),
        save_as_external_data=True, location="m.bin", size_threshold=0,
    )  # fmt: skip
    (tmp_path / "m.bin").write_bytes(bytes(10_000))
    model = onnx.load(str(folder / "m.onnx"), load_external_data=False)
    entry = next(e for e in model.graph.initializer[0].external_data if e.key == key)
    entry.value = value
    onnx.save(model, str(folder / "m.onnx"))
    workload = load_onnx(folder / "m.onnx", values=False)
    assert says in workload[0].unread["w"]
    assert "w" in workload[1].tensors


# --- time alone ---------------------------------------------------------------------------------------


def test_time_alone_reads_and_evaluates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save_model(
        onnx.load(str(chain(tmp_path))), str(tmp_path / "m.onnx"),
        save_as_external_data=True, location="m.bin", size_threshold=0,
    )  # fmt: skip
    (tmp_path / "m.bin").unlink()
    workload = load_workload(tmp_path / "m.onnx", values=False, weights=False)
    assert not workload.alerts and not any(layer.tensors for layer in workload)
    assert len(simulate(workload, time_only=True).layers) == 8


# --- free dimensions ----------------------------------------------------------------------------------


def free(path: Path) -> Path:
    """Two inputs whose dimension T is the same, and one dimension without a name."""
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["aw"], name="a.w"),
        helper.make_node("MatMul", ["b", "w"], ["bw"], name="b.w"),
        helper.make_node("ReduceSum", ["aw"], ["ra"], keepdims=0),
        helper.make_node("ReduceSum", ["bw"], ["rb"], keepdims=0),
        helper.make_node("Add", ["ra", "rb"], ["y"]),
    ]
    inputs = {"a": ("N", "T", 5), "b": ("N", None, "T", 5)}
    return model_of(path, nodes, inputs, {"w": integers(5, 6)})


def test_all_free_dimensions_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_onnx(free(tmp_path / "m.onnx"))
    assert (
        "input 'a' has a free dimension 'T', input 'b' has a free dimension 'b:1' and 'T'; give their "
        "sizes, as in dims={'T': 128, 'b:1': 128} or --dim T=128 --dim b:1=128" in str(caught.value)
    )


@pytest.mark.parametrize(
    ("dims", "rows"),
    [
        ({"T": 3, "b:1": 2}, (3, 6)),
        ({"a": (2, 4, 5), "b:1": 3}, (8, 24)),
        ({"b": (1, 7, 2, 5)}, (2, 14)),
        ({"a:1": 3, "b:1": 2, "N": 2}, (6, 12)),
    ],
)
def test_free_dimensions_by_name_axis_and_shape(
    tmp_path: Path, dims: dict[str, Any], rows: tuple[int, int]
) -> None:
    workload = load_onnx(free(tmp_path / "m.onnx"), dims=dims)
    assert tuple(layer.m for layer in workload) == rows


@pytest.mark.parametrize(
    ("dims", "says"),
    [
        ({"T": 3, "b:4": 2}, "input 'b' has a free dimension 'b:1'"),
        ({"T": 3, "b:1": 2, "b:4": 2}, "unknown free dimension 'b:4'"),
        ({"a": (1, 4), "b:1": 2}, "input 'a' has 2 axes; the model's has 3"),
        ({"a": (1, 4, 6), "b:1": 2}, "input 'a' has size 6 along axis 2; the model's has 5"),
        ({"a": (1, 4, 5), "b": (1, 2, 3, 5)}, "dimension 'T' is 4 in 'a' and 3 in 'b'"),
        ({"a": (1, 0, 5)}, "dimension 'a' is 0; it must be a whole number from 1"),
        ({"c": (1, 2)}, "unknown free dimension 'c'"),
    ],
)
def test_wrong_dimensions(tmp_path: Path, dims: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_onnx(
            free(tmp_path / "m.onnx"), dims={"T": 3, "b:1": 2, **dims} if "c" in dims else dims
        )
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_dimensions_with_a_sign_for_a_name(tmp_path: Path) -> None:
    """Paddle writes `?` for every free dimension; they are not equal."""
    path = chain(tmp_path, ("?", 1, "?", "?"))
    assert load_onnx(path, dims={"x": (2, 1, 8, 6)})[0].m == 96
    with pytest.raises(InputError, match="--dim x:2=128 --dim x:3=128"):
        load_onnx(path)


def unranked(path: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
    return model_of(path, nodes, {"x": None}, {"w": integers(5, 6)})


def test_unranked_input(tmp_path: Path) -> None:
    path = unranked(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="the shape of 'x' is not known"):
        load_onnx(path)
    assert load_onnx(path, dims={"x": (4, 5)})[0].m == 4
    assert load_onnx(path, inputs={"x": integers(3, 5)})[0].m == 3


# --- what is missing ----------------------------------------------------------------------------------


def with_volume(path: Path) -> Path:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="fc"),
        helper.make_node("Reshape", ["h", "s"], ["r"]),
        helper.make_node("Conv", ["r", "w3"], ["y"], name="volume"),
    ]
    weights = {"w": integers(5, 6), "s": np.int64([1, 1, 2, 3, 4]), "w3": integers(1, 1, 2, 2, 2)}
    return model_of(path, nodes, {"x": (4, 5)}, weights)


SAYS = "node 'volume' of type Conv: it has 3 spatial axes"


def test_missing_products_reach_every_form(tmp_path: Path) -> None:
    workload = load_onnx(with_volume(tmp_path / "m.onnx"))
    assert len(workload.missing) == 1 and SAYS in workload.missing[0]
    for target in ("t.npz", "t"):
        save_workload(tmp_path / target, workload)
        read = load_workload(tmp_path / target)
        assert read.missing == workload.missing
    report = simulate(read, phases=("fwd",), time_only=True)
    assert SAYS in report.alerts[0] and report.notes[0] == report.alerts[0]
    assert SAYS in report.to_json()


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the console script in this process: exit status, stdout, stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hfp8sim", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return command


def test_run_refuses_missing_products(tmp_path: Path, call: Call) -> None:
    path = with_volume(tmp_path / "m.onnx")
    command = ("run", path, "--time-only", "--phase", "fwd")
    status, out, err = call(*command)
    assert (status, out) == (2, "")
    assert SAYS in err and "1 product missing, --allow-partial runs the others" in err
    status, out, err = call(*command, "--allow-partial")
    assert status == 0
    assert out.index("missing: ") < out.index("fc")
    status, out, err = call("convert", path, tmp_path / "t.npz")
    assert status == 0 and SAYS in err
    assert call("run", tmp_path / "t.npz", "--time-only")[0] == 2


def test_unread_weights_are_said_in_row_and_on_top(tmp_path: Path) -> None:
    onnx.save_model(
        onnx.load(str(chain(tmp_path))), str(tmp_path / "m.onnx"),
        save_as_external_data=True, location="m.bin", size_threshold=0,
    )  # fmt: skip
    (tmp_path / "m.bin").unlink()
    save_workload(tmp_path / "t.npz", load_onnx(tmp_path / "m.onnx"))
    for source in (load_onnx(tmp_path / "m.onnx"), load_workload(tmp_path / "t.npz")):
        (alert, *_) = source.alerts
        assert alert.startswith("not known: weights of 'conv1', 'conv2', 'fc' are drawn instead: ")
        assert "external file m.bin is missing" in alert
        words = operands(source[0], "fwd").provenance
        assert "weights not known ('w1': external file m.bin is missing), drawn from" in words
        assert "initialisers" not in words


def test_shapes_and_inputs_on_the_command_line(tmp_path: Path, call: Call) -> None:
    path = chain(tmp_path, ("N", 1, "H", "W"))
    target = tmp_path / "t.npz"
    for options in (["--input", "x=3x1x8x6"], ["--dim", "x:2=8", "--dim", "W=6", "--batch", "3"]):
        assert call("convert", path, target, *options)[0] == 0
        assert load_workload(target)[0].m == 3 * 48
    np.save(tmp_path / "x.npy", integers(2, 1, 8, 4))
    for given in (tmp_path / "x.npy", f"x={tmp_path / 'x.npy'}"):
        assert call("convert", path, target, "--inputs", given)[0] == 0
        np.testing.assert_array_equal(
            load_workload(target)[0].tensors["x"], integers(2, 1, 8, 4).transpose(0, 2, 3, 1)
        )
    status, out, _ = call(
        "run", path, "--inputs", tmp_path / "x.npy", "--time-only", "--format", "csv"
    )
    assert status == 0 and "conv1" in out
    status, _, err = call("run", path, "--input", "x=3,1")
    assert status == 2 and "write it as name=shape, as in x=1x3x48x320" in err
    status, _, err = call("run", path, "--inputs", tmp_path / "none.npy")
    assert status == 2 and err.count("\n") == 1


def test_functions_that_swell_are_not_inlined(tmp_path: Path) -> None:
    """Each of 40 functions calls the one before twice: 2^40 nodes."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function(
            "own", "f0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], imports
        )
    ]
    for level in range(1, 41):
        calls = [
            helper.make_node(f"f{level - 1}", [source], [target], domain="own")
            for source, target in (("a", "m"), ("m", "b"))
        ]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], calls, imports))

    def model(level: int) -> Path:
        nodes = [
            helper.make_node(f"f{level}", ["x"], ["h"], domain="own", name="nest"),
            helper.make_node("MatMul", ["h", "w"], ["y"], name="fc"),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", FLOAT, (4, 5))],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(integers(5, 6), "w")],
        )
        made = helper.make_model(graph, opset_imports=imports, functions=functions[: level + 1])
        onnx.save(made, str(tmp_path / "m.onnx"))
        return tmp_path / "m.onnx"

    assert load_onnx(model(5))[0].shape() == (1, 4, 6, 5)
    with pytest.raises(InputError, match="node 'nest' of type f40: the operators of 'own' are not"):
        load_onnx(model(40), values=False)


def test_what_stops_inference_is_said(tmp_path: Path, call: Call) -> None:
    """Operands of an addition that do not fit, as for an image size that a network cannot take."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="fc"),
        helper.make_node("Add", ["h", "x"], ["s"], name="sum"),
        *(helper.make_node("MatMul", ["s", "w"], [f"y{i}"], name=f"n{i}") for i in range(9)),
    ]
    path = model_of(tmp_path / "m.onnx", nodes, {"x": (4, 5)}, {"w": integers(5, 6)})
    workload = load_onnx(path, evaluator="onnx")
    assert len(workload.missing) == 9
    assert "the shape of 's' is not known: Add" in workload.missing[0]
    assert "name: sum" in workload.warnings[0]
    status, out, err = call("run", path, "--time-only")
    assert (status, out) == (2, "")
    assert "name: sum" in err and "and 3 more" in err and "9 products missing" in err


def test_operators_of_onnxruntime(tmp_path: Path) -> None:
    """FusedMatMul is a MatMul with transpositions; its own DequantizeLinear has 16-bit integers."""
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], domain="com.microsoft"),
            helper.make_node(
                "FusedMatMul", ["x", "w"], ["y"], name="fused", domain="com.microsoft",
                transA=1, transB=1,
            ),
        ],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, (2, 5, 4))],
        [helper.make_tensor_value_info("y", FLOAT, (2, 4, 6))],
        [
            numpy_helper.from_array(integers(6, 5).astype(np.int16), "q"),
            numpy_helper.from_array(np.float32(0.5), "s"),
            numpy_helper.from_array(np.int16(1), "z"),
        ],
        value_info=[helper.make_tensor_value_info("w", FLOAT, (6, 5))],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports), str(path))
    x, w = integers(2, 5, 4, seed=2), (integers(6, 5) - 1) * np.float32(0.5)
    workload = load_onnx(path, inputs={"x": x})
    assert not workload.alerts
    np.testing.assert_array_equal(
        forward(workload[0])[0].reshape(2, 4, 6), x.transpose(0, 2, 1) @ w.T
    )


def test_model_without_layers_says_why(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="volume")]
    path = model_of(
        tmp_path / "m.onnx", nodes, {"x": (1, 2, 4, 4, 4)}, {"w": integers(2, 2, 3, 3, 3)}
    )
    with pytest.raises(
        InputError, match="no layer in it that can be read: node 'volume' of type Conv"
    ):
        load_onnx(path)
