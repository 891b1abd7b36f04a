"""Shipped networks against published counts.

Published parameter counts include biases, normalisation and embeddings, which are no GEMMs; each test
adds them from the network's own dimensions and then asks for equality.
"""

from pathlib import Path

import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import PHASES, Workload
from hfp8sim.workloads import load_workload, workloads
from hfp8sim.workloads.models import MODELS


def filters(workload: Workload) -> int:
    return sum(layer.conv.filters for layer in workload if layer.conv)


def biases(workload: Workload) -> int:
    return sum(layer.n for layer in workload if layer.kind == "linear")


# torchvision's weights carry the counts: num_params, and _ops in units of 10⁹ multiply-accumulates.
@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("alexnet", 0.714),
        ("resnet18", 1.814),
        ("resnet50", 4.089),
        ("mobilenet-v2", 0.301),
        ("densenet121", 2.834),
        ("vit-b16", 17.564),
    ],
)
def test_macs_equal_torchvision(name: str, gmacs: float) -> None:
    assert round(load_workload(name).macs() / 1e9, 3) == gmacs


def test_alexnet_parameters() -> None:
    net = load_workload("alexnet")
    assert net.parameters + filters(net) + biases(net) == 61_100_840


@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet18", 11_689_512), ("resnet50", 25_557_032), ("mobilenet-v2", 3_504_872)],
)
def test_parameters_with_batch_norm(name: str, published: int) -> None:
    net = load_workload(name)
    assert net.parameters + 2 * filters(net) + biases(net) == published


def test_densenet_parameters() -> None:
    net = load_workload("densenet121")
    before = sum(layer.conv.channels for layer in net.layers[1:] if layer.conv)
    assert net.parameters + 2 * (64 + before + 1024) + biases(net) == 7_978_856


def test_vit_parameters() -> None:
    net = load_workload("vit-b16")
    norms, tokens = 2 * 768 * 25, 768 + 197 * 768  # class token and positions
    assert net.parameters + filters(net) + biases(net) + norms + tokens == 86_567_656


def test_gpt2_counts() -> None:
    """124,439,808 parameters, the head tied to the embedding; FLOPs as nanoGPT's sizing notebook."""
    net = load_workload("gpt2-small")
    norms, positions, no_bias = 2 * 768 * 25, 1024 * 768, 50_257
    assert net.parameters + biases(net) - no_bias + norms + positions == 124_439_808
    assert 2 * net.macs() == 291_648_307_200


def test_bert_counts() -> None:
    """109,482,240 parameters with 30522 words, 512 positions, 2 segments; the paper says 110M."""
    net = load_workload("bert-base")
    embeddings, norms = (30_522 + 512 + 2) * 768, 2 * 768 * 25
    assert net.parameters + biases(net) + embeddings + norms == 109_482_240
    assert net.macs() == 12 * (128 * 12 * 768**2 + 2 * 128**2 * 768) + 768**2


def test_transformer_counts() -> None:
    """The paper's table 3 says 65 million, with "about 37000" words."""
    net = load_workload("transformer-base")
    assert abs(net.parameters / 65e6 - 1) < 0.04
    per_token = 6 * (4 * 512**2 + 2 * 512 * 2048) + 6 * (8 * 512**2 + 2 * 512 * 2048)
    assert net.macs() == 32 * (per_token + 512 * 37_000) + 18 * 2 * 32**2 * 512


def test_lstm_counts() -> None:
    """20 million parameters with the embedding, as the literature rounds Zaremba's medium model."""
    net = load_workload("lstm-ptb")
    assert round((net.parameters + 10_000 * 650) / 1e6) == 20
    assert net.macs() == 35 * (2 * 8 * 650**2 + 650 * 10_000)


@pytest.mark.parametrize("name", MODELS)
def test_batch_multiplies_macs(name: str) -> None:
    one, many = load_workload(name), load_workload(f"{name}@8")
    assert many.macs(PHASES) == 8 * one.macs(PHASES)
    assert many.parameters == one.parameters
    assert load_workload(name, batch=8).macs() == many.macs()
    assert workloads()[name] in one.notes


def test_depthwise_shapes() -> None:
    layer = load_workload("mobilenet-v2")["block2.depthwise"]
    assert tuple(layer.shape()) == (96, 56 * 56, 1, 9)
    assert layer.conv is not None and layer.conv.depthwise


def test_first_layer_has_no_dgrad() -> None:
    for name in MODELS:
        first, *others = load_workload(name)
        assert ("dgrad" in first.phases) == (first.conv is None)
        assert all(layer.phases == PHASES for layer in others)


@pytest.mark.parametrize(
    ("name", "batch", "message"),
    [
        ("resnet5", None, "did you mean resnet50"),
        ("resnet50@0", None, "batch is 0"),
        ("resnet50@many", None, "as in resnet50@32"),
        ("resnet50@4", 8, "disagree"),
        ("resnet50", True, "batch is True"),
        ("resnet50@2147483648", None, "batch is 2147483648"),
        ("resnet50@2147483647", None, "resnet50 with batch 2147483647: layer 'conv1'"),
        ("digits-cnn", 4, "batch and dims are for ONNX models and for alexnet"),
    ],
)
def test_errors(name: str, batch: int | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_workload(name, batch)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_documented_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "workloads.md").read_text()
    for name in workloads():
        net = load_workload(name)
        macs = " | ".join(f"{net.macs([phase]) / 1e6:,.1f}" for phase in PHASES)
        assert f"| `{name}` | {len(net)} | {macs} | {net.parameters:,} |" in text
