"""Pretrained networks that packages ship: every product, real weights, and onnxruntime layer by layer.

Skipped where a package is not installed. The files are found without importing the package.
"""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from hfp8sim.workloads import load_onnx
from tests.workloads.readers.test_onnx import forward, nchw

onnx = pytest.importorskip("onnx")


class Network(NamedTuple):
    """A model file in a package, what fixes its free dimensions, and its products."""

    package: str
    file: str
    dims: dict[str, Any]
    inputs: dict[str, np.ndarray]
    layers: int


RATE = {"sr": np.array(16000, np.int64)}
STATE = {"input": (1, 512), "state": (2, 1, 128)}
NETWORKS = [
    Network(
        "rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 64, 96)}, {}, 64
    ),
    Network(
        "rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", {"x": (1, 3, 48, 96)}, {}, 51
    ),
    Network(
        "rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        {"x": (1, 3, 48, 192)}, {}, 54,
    ),
    Network("basic_pitch", "saved_models/icassp_2022/nmp.onnx", {}, {}, 32),
    Network("magika", "models/standard_v3_3/model.onnx", {}, {}, 3),
    Network("silero_vad", "data/silero_vad.onnx", STATE, RATE, 8),
    Network("silero_vad", "data/silero_vad_half.onnx", STATE, {}, 8),
    Network("silero_vad", "data/silero_vad_16k_op15.onnx", STATE, RATE, 8),
    Network("silero_vad", "data/silero_vad_op18_ifless.onnx", STATE, RATE, 8),
]  # fmt: skip


def path_of(network: Network) -> Path:
    found = importlib.util.find_spec(network.package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{network.package} is not installed")
    path = Path(found.submodule_search_locations[0]) / network.file
    if not path.exists():
        pytest.skip(f"another release of {network.package}: no {network.file}")
    return path


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: Path(n.file).stem)
def test_all_products_with_real_weights(network: Network) -> None:
    workload = load_onnx(path_of(network), dims=network.dims, inputs=network.inputs, values=False)
    assert len(workload) == network.layers
    assert not workload.missing and not workload.alerts
    for layer in workload:
        if layer.kind != "matmul":
            assert np.ptp(layer.tensors["w"]) > 0, layer.name
            assert layer.origin.startswith("from the model's initialisers")


@pytest.mark.parametrize("network", NETWORKS[:2], ids=lambda n: Path(n.file).stem)
def test_layers_equal_those_of_onnxruntime(network: Network) -> None:
    """Each convolution and each product, in binary32, against the node's output in onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path = path_of(network)
    model = onnx.load(str(path))
    constants = {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    constants |= {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {n.name or n.output[0]: n for n in model.graph.node if n.op_type in ("Conv", "MatMul")}
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(node.output[0]) for node in nodes.values()
    )
    (entry,) = model.graph.input
    x = np.random.default_rng(1).standard_normal(network.dims[entry.name], np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    outputs = dict(zip(nodes, session.run(None, {entry.name: x}), strict=True))
    workload = load_onnx(path, dims=network.dims, inputs={entry.name: x}, values=True)
    compared = 0
    for layer in workload:
        if layer.name not in nodes:
            continue
        node, y = nodes[layer.name], outputs[layer.name]
        if node.op_type == "Conv":
            product = nchw(layer).reshape(y.shape)
            if len(node.input) > 2:
                bias = onnx.numpy_helper.to_array(constants[node.input[2]])
                product = product + bias.reshape(1, -1, 1, 1)
        else:
            product, y = np.sort(forward(layer), None), np.sort(y, None)
        scale = float(np.abs(y).max())
        np.testing.assert_allclose(product, y, rtol=1e-3, atol=1e-5 * scale, err_msg=layer.name)
        compared += 1
    assert compared >= network.layers - 2
