"""The native trace: round trips, writing whole or not at all, and one-line errors."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Conv, Layer, Workload
from hfp8sim.workloads import load_trace, load_workload, save_trace


def sample() -> Workload:
    rng = np.random.default_rng(5)
    conv = Conv(1, 4, 4, 2, 3, (3, 3), (1, 2), (1, 1, 0, 1))
    tensors = {
        "x": rng.integers(0, 17, (1, 4, 4, 2)).astype(np.float32),  # exact in float16
        "w": rng.standard_normal((3, 3, 2, 3)).astype(np.float32),
        "dy": rng.standard_normal((1, 4, 2, 3)).astype(np.float32) * np.float32(1e-30),
    }
    tensors["x"][0, 0, 0, 0] = -0.0
    layers = (
        Layer.from_conv("conv, ümlaut/..", conv, phases=("fwd", "wgrad"), tensors=tensors),
        Layer("fc", "matmul", 2, 3, 4, 5, origin="made up"),
    )
    return Workload("sample", layers, ("one note",))


@pytest.mark.parametrize("name", ["trace.npz", "folder"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    workload = sample()
    save_trace(tmp_path / name, workload)
    save_trace(tmp_path / name, workload)  # replaces
    read = load_workload(tmp_path / name)
    assert (read.name, read.notes, len(read)) == ("sample", ("one note",), 2)
    for new, old in zip(read, workload, strict=True):
        for key in ("name", "kind", "m", "n", "k", "groups", "conv", "phases", "origin"):
            assert getattr(new, key) == getattr(old, key)
        assert list(new.tensors) == list(old.tensors)
        for key, value in old.tensors.items():
            assert new.tensors[key].dtype == np.float32
            np.testing.assert_array_equal(new.tensors[key].view(np.uint32), value.view(np.uint32))
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing temporary is left


def test_bytes_are_reproducible(
    tmp_path: Path,
) -> None:
    for name in ("a.npz", "b.npz"):
        save_trace(tmp_path / name, sample())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert [arrays[f"0.{key}"].dtype for key in ("x", "w", "dy")] == ["f2", "f4", "f4"]


@pytest.mark.parametrize("name", ["trace.npz", "folder"])
def test_failed_write_keeps_old_trace(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / name
    save_trace(target, sample())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr("hfp8sim.files._exchange", full)
    with pytest.raises(InputError, match="No space left on device"):
        save_trace(target, Workload("other", sample().layers))
    monkeypatch.undo()
    assert load_trace(target).name == "sample"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_other_directory_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists and is no trace"):
        save_trace(tmp_path / "thesis", sample())
    assert (tmp_path / "thesis" / "chapter.tex").exists()


@pytest.mark.parametrize("name", ["t.npz", "t"])
def test_parent_folders(tmp_path: Path, name: str) -> None:
    save_trace(tmp_path / "new" / name, sample())
    assert load_trace(tmp_path / "new" / name).name == "sample"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*(File exists|Not a directory)"):
        save_trace(tmp_path / "file" / name, sample())


def set_key(*path: str | int, value: Any) -> Callable[[dict], None]:
    def edit(manifest: dict) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return edit


def drop_key(*path: str | int) -> Callable[[dict], None]:
    def edit(manifest: dict) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        del manifest[path[-1]]

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_key("version", value=2), "version is 2; this release reads version 1"),
        (set_key("version", value="1"), "version is '1'; it must be a whole number"),
        (set_key("format", value="other"), "format is 'other'; it must be 'hfp8sim-trace'"),
        (set_key("nots", value=[]), "unknown key 'nots'; did you mean notes?"),
        (drop_key("layers"), "key 'layers' is missing"),
        (set_key("layers", value=[]), "has no layer"),
        (set_key("notes", value=[1]), "notes must be a list of texts"),
        (set_key("layers", 0, value=3), "layer 0: '3' must be an object"),
        (drop_key("layers", 0, "kind"), "key 'kind' is missing"),
        (
            set_key("layers", 1, "kind", value="mathmul"),
            "unknown layer kind 'mathmul'; did you mean matmul",
        ),
        (set_key("layers", 1, "stride", value=1), "layer 'fc': unknown key 'stride'"),
        (drop_key("layers", 1, "m"), "layer 'fc': key 'm' is missing"),
        (set_key("layers", 1, "n", value=0), "layer 'fc': n is 0; it must be from 1"),
        (set_key("layers", 1, "n", value=True), "n is True; it must be a whole number"),
        (set_key("layers", 1, "k", value=2**31), "k is 2147483648; it must be from 1 to"),
        (set_key("layers", 0, "m", value=4), "has conv, so 'm' must not be given as well"),
        (
            set_key("layers", 0, "conv", "strid", value=1),
            "unknown key 'strid'; did you mean stride",
        ),
        (drop_key("layers", 0, "conv", "kernel"), "key 'kernel' is missing"),
        (set_key("layers", 0, "conv", "kernel", value=3), "kernel is 3; it must be 2 numbers"),
        (
            set_key("layers", 0, "conv", "kernel", value=[3, "a"]),
            "kernel is 'a'; it must be a whole",
        ),
        (set_key("layers", 0, "conv", "height", value=-1), "height is -1"),
        (
            set_key("layers", 0, "conv", "height", value=9),
            "shape is (1, 4, 4, 2); it must be (1, 9",
        ),
        (set_key("layers", 0, "kind", value="gemm"), "its kind must be 'conv2d', not 'gemm'"),
        (set_key("layers", 0, "phases", value=["bwd"]), "unknown phase 'bwd'"),
        (set_key("layers", 0, "tensors", value=["z"]), "unknown tensor 'z'"),
        (set_key("layers", 1, "tensors", value=["x"]), "tensor x (1.x.npy): is missing"),
        (set_key("layers", 1, "name", value="conv, ümlaut/.."), "two layers are named"),
        (set_key("calibration", value=3), "calibration is 3; it must be a text"),
        (set_key("layers", 1, "calibration", value=[]), "calibration is []; it must be a object"),
        (
            set_key("layers", 1, "calibration", value={"z": {"format": "hfp8-143", "bias": 4}}),
            "layer 'fc': unknown tensor 'z'",
        ),
        (
            set_key("layers", 1, "calibration", value={"x": {"format": "hfp8-143"}}),
            "layer 'fc': calibration of x: key 'bias' is missing",
        ),
        (
            set_key("layers", 1, "calibration", value={"x": {"format": "hfp8-143", "bias": 1e9}}),
            "layer 'fc': calibration of x: bias is 1000000000.0; it must be a whole number",
        ),
        (
            set_key("layers", 1, "calibration", value={"x": {"format": "a", "bias": 10**9}}),
            "layer 'fc', calibration of x: bias is 1000000000; it must be in −1023..1023",
        ),
    ],
)
def test_manifest_errors(tmp_path: Path, edit: Callable[[dict], None], message: str) -> None:
    save_trace(tmp_path / "t", sample())
    file = tmp_path / "t" / "manifest.json"
    manifest = json.loads(file.read_text())
    edit(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(InputError) as caught:
        load_trace(tmp_path / "t")
    line = str(caught.value)
    assert message in line and line.startswith(str(tmp_path / "t")) and "\n" not in line
    assert line.count(str(tmp_path)) == 1


def test_manifest_without_json(tmp_path: Path) -> None:
    save_trace(tmp_path / "t", sample())
    for text in (b"{", b"[" * 100_000, b"\xff\xfe", b"[]", b"null"):
        (tmp_path / "t" / "manifest.json").write_bytes(text)
        with pytest.raises(InputError):
            load_trace(tmp_path / "t")


def npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


GOOD = np.ones((3, 3, 2, 3), np.float32)
HOLE = GOOD.copy()
HOLE[1, 2, 0, 1] = np.nan


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(GOOD.astype(np.float64)), "dtype is float64; it must be little-endian float32"),
        (npy(GOOD.astype(">f4")), "dtype is >f4"),
        (npy(GOOD.astype(np.int32)), "dtype is int32"),
        (npy(GOOD[..., :2]), "shape is (3, 3, 2, 2); it must be (3, 3, 2, 3)"),
        (npy(HOLE), "layer 'conv, ümlaut/..', tensor w: nan at index (1, 2, 0, 1)"),
        (npy(GOOD)[:-1], "torn: not exactly 216 bytes"),
        (npy(GOOD) + b"\0", "torn: not exactly 216 bytes"),
        (npy(GOOD)[:20], "torn"),
        (b"", "torn"),
        (b"PK\3\4 something else", "torn"),
        (npy(np.array([{}], object)), "dtype is object"),
        (npy(GOOD, version=(2, 0)), ".npy version (2, 0)"),
    ],
)
def test_tensor_errors(tmp_path: Path, data: bytes, message: str) -> None:
    save_trace(tmp_path / "t", sample())
    (tmp_path / "t" / "0.w.npy").write_bytes(data)
    with pytest.raises(InputError) as caught:
        load_trace(tmp_path / "t")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_fortran_order(tmp_path: Path) -> None:
    save_trace(tmp_path / "t", sample())
    w = np.arange(54, dtype=np.float32).reshape(3, 3, 2, 3)
    (tmp_path / "t" / "0.w.npy").write_bytes(npy(np.asfortranarray(w)))
    np.testing.assert_array_equal(load_trace(tmp_path / "t").layers[0].tensors["w"], w)


def test_truncation_at_every_length(tmp_path: Path) -> None:
    save_trace(tmp_path / "t.npz", sample())
    whole = (tmp_path / "t.npz").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "t.npz").write_bytes(whole[:length])
        with pytest.raises(InputError, match="torn"):
            load_trace(tmp_path / "t.npz")


def test_archives_that_are_no_trace(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", w=GOOD)
    with pytest.raises(InputError, match=r"no manifest\.json in it"):
        load_trace(tmp_path / "weights.npz")
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(InputError, match="key 'format' is missing"):
        load_trace(tmp_path / "p.npz")
