"""The tests that the onnx package ships, through the reader: products against published outputs."""

import functools
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Workload
from hfp8sim.workloads import load_onnx
from tests.workloads.readers.test_onnx import forward, nchw

onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
PAGE = Path(__file__).parents[3] / "docs" / "workloads.md"

#: Operators whose published output is the product, or follows from it element by element.
COMPARED = (
    "Attention", "Conv", "ConvInteger", "ConvTranspose", "Einsum", "FlexAttention", "Gemm", "MatMul",
    "MatMulInteger", "QLinearConv", "QLinearMatMul",
)  # fmt: skip


class Case(NamedTuple):
    """One test of the suite, with the first of its data sets."""

    name: str
    model: Any
    inputs: dict[str, np.ndarray]
    outputs: list[Any]


def cases() -> Iterator[Case]:
    from onnx.backend.test import loader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, in the making of onnx's own node tests
        found = [case for kind in KINDS for case in loader.load_model_tests(kind=kind)]
    for case in found:
        model = case.model
        if model is None:
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            inputs, outputs = (read(folder / "test_data_set_0", key) for key in ("input", "output"))
        else:
            inputs, outputs = case.data_sets[0]
        stored = {tensor.name for tensor in model.graph.initializer}
        names = [entry.name for entry in model.graph.input if entry.name not in stored]
        arrays = {
            name: array
            for name, array in zip(names, inputs, strict=False)
            if isinstance(array, np.ndarray | np.generic)
        }
        yield Case(case.name, model, arrays, list(outputs))


def read(folder: Path, key: str) -> list[Any]:
    """The arrays of a data set; None for what is no tensor."""
    arrays = []
    for index in range(len(list(folder.glob(f"{key}_*.pb")))):
        tensor = onnx.TensorProto()
        try:
            tensor.ParseFromString((folder / f"{key}_{index}.pb").read_bytes())
            arrays.append(numpy_helper.to_array(tensor))
        except Exception:
            arrays.append(None)
    return arrays


def reason(error: str) -> str:
    """The kind of a refusal: without file, names and numbers."""
    text = error.partition("can be read: ")[2] or error.partition(": ")[2]
    text = text.partition("; node ")[0]
    operator = re.search(r"of type (\w+): ", text)
    kind = re.sub(r"'[^']*'", "…", text[operator.end() :] if operator else text)
    kind = re.sub(r"\d+ products? inside", "products inside", re.sub(r" and \d+ more$", "", kind))
    return f"{operator[1]}: {kind}" if operator else kind


@functools.cache
def results(folder: Path) -> tuple[Counter[str], list[tuple[Case, Workload]], list[str]]:
    """Refusals by reason, the models that were read, and what was neither read nor refused."""
    refused: Counter[str] = Counter()
    done, crashes = [], []
    for case in cases():
        path = folder / f"{case.name}.onnx"
        path.write_bytes(case.model.SerializeToString())
        try:
            workload = load_onnx(path, inputs=case.inputs, evaluator="onnx")
            refused.update(
                reason(f"can be read: {text.partition(': ')[2]}") for text in workload.missing
            )
            done.append((case, workload))
        except InputError as error:
            assert "\n" not in str(error)
            if "no product among" not in str(error):
                refused[reason(str(error))] += 1
        except Exception as error:
            crashes.append(f"{case.name}: {type(error).__name__}: {error}")
        finally:
            path.unlink()
    return refused, done, crashes


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return results(tmp_path_factory.mktemp("suite"))


def test_nothing_crashes(suite: Any) -> None:
    assert suite[2] == []


def test_refusals_are_those_of_the_docs(suite: Any) -> None:
    """The table can only shrink: a reason that grows or is new fails here."""
    table = (
        PAGE.read_text("utf-8").partition("<!-- onnx refusals -->")[2].partition("<!-- end -->")[0]
    )
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| .*\| *\d+ \|", line)]
    published = {row[1].strip(): int(row[2]) for row in rows}
    if onnx.__version__.startswith("1.23."):  # others have other tests
        assert dict(suite[0]) == published
    else:
        assert set(suite[0]) <= set(published)


def products(case: Case, workload: Workload) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(operator, what the layer's product gives, the published output) where the two are comparable."""
    graph = case.model.graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer} | case.inputs
    outputs = {entry.name: array for entry, array in zip(graph.output, case.outputs, strict=False)}
    nodes = [node for node in graph.node if node.op_type in COMPARED]
    if len(nodes) != 1 or nodes[0].output[0] not in outputs:
        return
    node, layer = nodes[0], workload[len(workload) - 1]
    values = [stored.get(name) for name in node.input]
    if not {"x", "w"} <= set(layer.tensors):
        raise AssertionError(f"{case.name}: {workload.alerts}")
    y = np.asarray(outputs[node.output[0]], np.float32)
    product = forward(layer)
    if "Conv" in node.op_type:
        product = nchw(layer).reshape(y.shape)
    if len(values) > 2 and values[2] is None and node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        return  # a bias that the graph computes
    if node.op_type in ("Conv", "ConvTranspose") and len(values) > 2:
        product = product + values[2].reshape(1, -1, *[1] * (y.ndim - 2))
    elif node.op_type == "Gemm":
        attributes = {a.name: a.f for a in node.attribute if a.name in ("alpha", "beta")}
        product = product[0] if layer.tensors["x"].shape[0] == y.shape[0] else product[0].T
        product = product.reshape(y.shape) * attributes.get("alpha", 1)
        if len(values) > 2:
            product = product + values[2] * attributes.get("beta", 1)
    elif "QLinear" in node.op_type:
        limits = np.iinfo(np.asarray(outputs[node.output[0]]).dtype)
        scale, zero = (np.asarray(v, np.float32) for v in values[6:8])
        product = np.clip(np.rint(product / scale) + zero, limits.min, limits.max)
    if "Conv" not in node.op_type and node.op_type != "Gemm":  # their axes may be in another order
        product, y = np.sort(product, None), np.sort(y, None)
    yield node.op_type, product, y


def test_products_equal_the_published_outputs(suite: Any) -> None:
    compared: Counter[str] = Counter()
    wrong = []
    for case, workload in suite[1]:
        for operator, product, y in products(case, workload):
            compared[operator] += 1
            half = any(np.asarray(o).dtype.itemsize == 2 for o in case.outputs)
            tolerance = 2e-2 if half else 1e-4
            if product.shape != y.shape or not np.allclose(product, y, tolerance, tolerance):
                wrong.append(case.name)
    assert wrong == []
    assert set(compared) == set(COMPARED)
    assert compared.total() >= (178 if onnx.__version__.startswith("1.23.") else 1)
