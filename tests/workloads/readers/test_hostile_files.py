"""Files whose declared sizes are far beyond their own: none is unpacked or allocated."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Layer, Workload
from hfp8sim.workloads import load_trace, load_workload, save_trace
from hfp8sim.workloads.readers.npz import load_arrays

MIB = 1 << 20


def bounded(call: Callable[[], object], message: str, most: int = 150 * MIB) -> None:
    """The call is refused, and allocates no more than `most` bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            call()
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def swelling(path: Path, name: str, head: bytes, mebibytes: int) -> Path:
    """An archive of one member: `head` and then spaces."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        member.write(head)
        for _ in range(mebibytes):
            member.write(b" " * MIB)
    assert path.stat().st_size < mebibytes * MIB // 500
    return path


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def test_archive_that_swells_is_refused(tmp_path: Path) -> None:
    path = swelling(tmp_path / "t.npz", "manifest.json", b"{}", 300)
    bounded(lambda: load_trace(path), "unpacks to 314572802 bytes, more than 200 times its size")
    bounded(lambda: load_arrays(path), "unpacks to 314572802 bytes, more than 200 times its size")


def test_long_manifest_is_refused(tmp_path: Path) -> None:
    path = swelling(tmp_path / "t.npz", "manifest.json", b"{}", 70)
    bounded(lambda: load_trace(path), "manifest.json has more than 67108864 bytes")


@pytest.mark.parametrize("size", [2**24, 2**40, 2**62])
def test_array_larger_than_its_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header((size,)) + b"1234")
    bounded(lambda: load_arrays(path), f"torn: not exactly {4 * size} bytes", most=MIB)


@pytest.mark.parametrize("shape", [(-1,), (2**31, -(2**31)), ()])
def test_odd_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header(shape) + b"\0" * 4)
    if shape:
        bounded(lambda: load_arrays(path), "it must not be negative")
    else:
        assert load_arrays(path)["x"] == 0


def test_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    bounded(lambda: load_arrays(tmp_path / "a.npz"), "its values are objects")


def test_shapes_alone_need_no_array(tmp_path: Path) -> None:
    """For time alone, a trace is read whose arrays are not there."""
    x = np.ones((4, 6), np.float32)
    workload = Workload("w", (Layer("a", "linear", 4, 5, 6, tensors={"x": x}),))
    save_trace(tmp_path / "t", workload)
    (tmp_path / "t" / "0.x.npy").unlink()
    (layer,) = load_workload(tmp_path / "t", weights=False)
    assert (layer.shape(), dict(layer.tensors)) == ((1, 4, 5, 6), {})
    with pytest.raises(InputError, match=r"tensor x \(0\.x\.npy\): is missing"):
        load_workload(tmp_path / "t")
    assert not load_workload("digits-cnn", weights=False)[0].tensors


def test_half_characters_in_a_manifest(tmp_path: Path) -> None:
    save_trace(tmp_path / "t", Workload("w", (Layer("a", "linear", 4, 5, 6),)))
    manifest = tmp_path / "t" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["layers"][0]["name"] = "\ud800"
    manifest.write_text(json.dumps(document))
    assert load_trace(tmp_path / "t")[0].name == "\ud800"


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin"])
def test_external_weights_outside_the_folder_are_not_read(tmp_path: Path, location: str) -> None:
    onnx = pytest.importorskip("onnx")
    (tmp_path / "weights.bin").write_bytes(np.ones(12, np.float32).tobytes())
    (tmp_path / "net").mkdir()
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.TensorProto(name="w", data_type=kind, dims=[4, 3])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [2, 4])],
        [helper.make_tensor_value_info("y", kind, [2, 3])],
        [weight],
    )
    path = tmp_path / "net" / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    (layer,) = load_workload(path)
    assert "w" not in layer.tensors and "is outside the folder" in layer.unread["w"]


def test_large_inputs_are_not_generated_unasked(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "v"], ["y"]),
            helper.make_node("Size", ["large"], ["z"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", kind, [2, 4]),
            helper.make_tensor_value_info("v", kind, [4, 3]),
            helper.make_tensor_value_info("large", kind, [2**40]),
        ],
        [helper.make_tensor_value_info("y", kind, [2, 3])],
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    workload = load_workload(path)
    assert any("activations not computed" in note for note in workload.notes)
