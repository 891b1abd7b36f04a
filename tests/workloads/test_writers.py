"""Workloads written to files and read again: the same products, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import PHASES, Conv, Layer, Workload
from hfp8sim.workloads import (
    load_workload,
    save_conv_csv,
    save_gemm_csv,
    save_workload,
    workloads,
    writers,
)


def products(workload: Workload, phase: str = "fwd") -> list[tuple[int, int, int]]:
    """(m, n, k) of every product, group by group."""
    shapes = (layer.shape(phase) for layer in workload if phase in layer.phases)
    return [(s.m, s.n, s.k) for s in shapes for _ in range(s.groups)]


@pytest.mark.parametrize("name", workloads())
def test_shipped_networks_as_lists(tmp_path: Path, name: str) -> None:
    network = load_workload(name)
    rows = save_gemm_csv(tmp_path / "gemm.csv", network)
    gemms = load_workload(tmp_path / "gemm.csv")
    assert products(gemms) == products(network) and len(gemms) == rows
    assert gemms.warnings == ()
    if all(layer.conv is None or layer.conv.batch == 1 for layer in network):
        save_conv_csv(tmp_path / "conv.csv", network)
        convs = load_workload(tmp_path / "conv.csv")
        assert products(convs) == products(network) and convs.warnings == ()


def test_conv_list_text(tmp_path: Path) -> None:
    wide = Conv(1, 10, 12, 6, 8, (3, 2), (2, 2), padding=(1, 0, 1, 1), groups=2)
    deep = Conv(1, 7, 7, 4, 8, (3, 3), groups=4)
    layers = (
        Layer.from_conv("wide", wide), Layer.from_conv("deep", deep),
        Layer("ADPTER, #1", "linear", 5, 3, 70),
    )  # fmt: skip
    assert save_workload(tmp_path / "n.csv", Workload("n", layers)) == "convolution list of 4 rows"
    assert (tmp_path / "n.csv").read_text() == (
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, "
        "Strides,\n"
        "wide.1, 11, 14, 3, 2, 3, 4, 2,\n"
        "wide.2, 11, 14, 3, 2, 3, 4, 2,\n"
        "DP_deep, 7, 7, 3, 3, 4, 2, 1,\n"
        "AD_PTER_ _1, 5, 1, 1, 1, 70, 3, 1,\n"
    )


def test_gemm_list_of_all_phases(tmp_path: Path) -> None:
    network = load_workload("resnet18@8")
    description = save_workload(tmp_path / "n.csv", network, phases=PHASES)
    assert description == "GEMM list of 62 rows"
    read = load_workload(tmp_path / "n.csv")
    assert products(read) == [p for phase in PHASES for p in products(network, phase)]
    assert [layer.name for layer in read][-2:] == ["layer4.1.conv2 wgrad", "fc wgrad"]


def test_names_stay_distinct(tmp_path: Path) -> None:
    names = ["a,b", "a;b", "a#b", "a_b", " \n", "é\u00a0x"]
    layers = tuple(
        Layer(f"{n}{i}" if not n.strip() else n, "gemm", 2, 3, 4 + i) for i, n in enumerate(names)
    )
    save_gemm_csv(tmp_path / "n.csv", Workload("n", layers))
    read = load_workload(tmp_path / "n.csv")
    assert products(read) == [(2, 3, 4 + i) for i in range(len(names))] and read.warnings == ()
    assert [layer.name for layer in read][:4] == ["a_b", "a_b_2", "a_b_3", "a_b_4"]


@pytest.mark.parametrize("target", ["t.npz", "t", "sub/t.npz", "sub/t"])
def test_trace_keeps_everything(tmp_path: Path, target: str) -> None:
    network = load_workload("digits-cnn")
    description = save_workload(tmp_path / target, network)
    assert description == "trace of 5 layers with 15 tensors"
    read = load_workload(tmp_path / target)
    assert [layer.conv for layer in read] == [layer.conv for layer in network]
    for one, other in zip(read, network, strict=True):
        assert all(np.array_equal(one.tensors[key], other.tensors[key]) for key in ("x", "w", "dy"))
    save_workload(tmp_path / target, network, phases=["dgrad"])
    assert {layer.phases for layer in load_workload(tmp_path / target)} == {("dgrad",)}


CONV = Layer.from_conv("c", Conv(2, 8, 8, 3, 4, (3, 3)))
DILATED = Layer.from_conv("c", Conv(1, 8, 8, 3, 4, (3, 3), dilation=(2, 2)))
OBLONG = Layer.from_conv("c", Conv(1, 8, 8, 3, 4, (3, 3), (1, 2)))
LINEAR = Layer("l", "linear", 2, 3, 4, phases=("fwd",))


@pytest.mark.parametrize("layer", [CONV, DILATED, OBLONG], ids=["batch", "dilation", "stride"])
def test_csv_falls_back_to_gemm_list(tmp_path: Path, layer: Layer) -> None:
    network = Workload("n", (LINEAR, layer))
    assert save_workload(tmp_path / "n.csv", network) == "GEMM list of 2 rows"
    assert products(load_workload(tmp_path / "n.csv")) == products(network)


@pytest.mark.parametrize(
    ("layer", "target", "options", "message"),
    [
        (CONV, "n.csv", {"kind": "conv"}, "'c' has a batch of 2; SCALE-Sim's convolution list has no column for it"),
        (DILATED, "n.csv", {"kind": "conv"}, "dilation (2, 2)"),
        (OBLONG, "n.csv", {"kind": "conv"}, "stride (1, 2)"),
        (CONV, "n.csv", {"kind": "conv", "phases": ["wgrad"]}, "the forward pass only"),
        (LINEAR, "n.csv", {"phases": ["wgrad"]}, "no layer has such a phase"),
        (LINEAR, "n", {"phases": ["wgrad"]}, "has no layer"),
        (LINEAR, "n.csv", {"kind": "trace"}, "a trace file must end in .npz or nothing"),
        (LINEAR, "n.npz", {"kind": "gemm"}, "a gemm file must end in .csv"),
        (LINEAR, "n.csv", {"kind": "gem"}, "unknown kind of file 'gem'; did you mean gemm"),
        (LINEAR, "n.onnx", {}, "no writer for '.onnx' files; give .npz, .csv or a directory"),
        (LINEAR, "n.csv", {"phases": ["back"]}, "unknown phase 'back'"),
    ],
)  # fmt: skip
def test_errors(
    tmp_path: Path, layer: Layer, target: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        save_workload(tmp_path / target, Workload("n", (layer,)), **options)  # type: ignore[arg-type]
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_too_long_list_keeps_old_file(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("old")
    many = Layer("m", "matmul", 1, 1, 1, groups=writers.MAX_ROWS + 1)
    with pytest.raises(InputError, match="more than 100000 rows"):
        save_gemm_csv(tmp_path / "n.csv", Workload("n", (many,)))
    assert (tmp_path / "n.csv").read_text() == "old"
