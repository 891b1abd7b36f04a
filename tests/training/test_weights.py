"""Files of weights: what is read, what is written, and what is refused."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hfp8sim import InputError, get_format, training  # noqa: E402
from hfp8sim.training.weights import (  # noqa: E402
    load_weights,
    read_safetensors,
    read_weights,
    save_quantised,
    write_safetensors,
)


class Net(nn.Module):
    """A layer of each kind of weight."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.norm = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.dims = nn.MultiheadAttention(8, 2, kdim=5, vdim=7)
        self.lstm = nn.LSTM(8, 4, 2, batch_first=True, bidirectional=True)
        self.cell, self.head = nn.GRUCell(8, 4), nn.Linear(4, 3)

    def forward(self, x):
        y = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        y = self.attention(y, y, y)[0]
        return self.head(self.cell(self.lstm(y)[0][:, -1]))


X = torch.ones(2, 1, 4, 4)


@pytest.fixture(scope="module")
def quantised():
    return training.quantise(Net(), "hfp8", policy="head=fp16", calibrate=[X])


def test_saved_values_load_into_the_plain_network(quantised, tmp_path):
    path = save_quantised(quantised, tmp_path / "net.pt")
    plain = load_weights(Net(), path)
    for name, value in plain.state_dict().items():
        original = quantised.state_dict()[name]
        is_weight = value.ndim > 1
        assert torch.equal(value, original) != is_weight, name
        if is_weight:
            fmt = get_format("dlfloat16" if name.startswith("head") else "hfp8-143")
            scale = 2.0 ** np.ceil(np.log2(original.abs().max().item()))
            step = scale / 8  # of 1-4-3 in the top binade
            assert (value - original).abs().max() <= (1e-3 if fmt.bits > 8 else step / 2), name
    again = training.quantise(plain, "hfp8", policy="head=fp16")
    state = training.emulation_of(quantised).state_dict()
    training.emulation_of(again).load_state_dict(state)
    assert torch.equal(again(X), quantised(X))  # rounding again changes nothing


def test_saved_codes_have_named_formats(quantised, tmp_path):
    path = save_quantised(quantised, tmp_path / "net.safetensors")
    arrays, metadata = read_safetensors(path)
    values = load_weights(Net(), save_quantised(quantised, tmp_path / "net.pt")).state_dict()
    assert set(arrays) == set(values)
    assert arrays["conv.weight"].dtype == np.uint8 and arrays["head.weight"].dtype == np.uint16
    coded = [name for name in arrays if f"{name}.format" in metadata]
    assert len(coded) == 1 + 2 + 4 + 8 + 2 + 1
    for name in arrays:
        if name not in coded:
            assert np.array_equal(arrays[name], values[name].numpy())
            continue
        scales = [float(scale) for scale in metadata[f"{name}.scales"].split()]
        fmt, parts = get_format(metadata[f"{name}.format"]), np.split(arrays[name], len(scales))
        decoded = [fmt.decode(part) * scale for part, scale in zip(parts, scales)]
        assert np.array_equal(np.concatenate(decoded), values[name].numpy()), name
    assert len(metadata["attention.in_proj_weight.scales"].split()) == 3


def test_safetensors_are_those_of_the_library(tmp_path):
    """The layout of the format's documentation, byte by byte; a file of the library is read."""
    path = tmp_path / "x.safetensors"
    x = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_safetensors(path, {"x": x, "n": np.array(7, np.uint8)}, {"k": "v"})
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    assert size % 8 == 0
    assert json.loads(content[8 : 8 + size]) == {
        "__metadata__": {"k": "v"},
        "x": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]},
        "n": {"dtype": "U8", "shape": [], "data_offsets": [24, 25]},
    }
    assert np.array_equal(np.frombuffer(content, "<f4", 6, 8 + size), [0, 3, 1, 4, 2, 5])
    arrays, metadata = read_safetensors(path)
    assert np.array_equal(arrays["x"], x) and arrays["n"] == 7 and metadata == {"k": "v"}
    header = b'{"y":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + (5).to_bytes(8, "little"))
    assert torch.equal(read_weights(path).state["y"], torch.tensor([5]))


def test_onnx_initialisers_are_weights(tmp_path):
    onnx = pytest.importorskip("onnx")
    linear = nn.Linear(2, 3)
    initialisers = [
        onnx.numpy_helper.from_array(p.detach().numpy(), name)
        for name, p in linear.named_parameters()
    ]
    graph = onnx.helper.make_graph([], "g", [], [], initialisers)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "net.onnx")
    other = load_weights(nn.Linear(2, 3), tmp_path / "net.onnx")
    assert torch.equal(other.weight, linear.weight) and torch.equal(other.bias, linear.bias)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("x.pt", None, "No such file"),
        ("x.safetensors", None, "No such file"),
        ("x.pt", b"no file", "not a file of torch.save"),
        ("x.onnx", b"no file", "not an ONNX file"),
        ("x.safetensors", b"short", "not a safetensors file"),
        ("x.safetensors", (99).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        ("x.safetensors", (2).to_bytes(8, "little") + b"[]", "damaged safetensors file"),
        (
            "x.safetensors",
            (58).to_bytes(8, "little")
            + b'{"y":{"dtype":"I64","shape":[1],"data_offsets":[0,80]}}   ',
            "damaged safetensors file",
        ),
    ],
)
def test_damaged_files_are_one_line(tmp_path, name, content, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=text) as error:
        read_weights(tmp_path / name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_files_of_other_networks_are_refused(tmp_path):
    torch.save({"weight": torch.ones(3, 2)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r'not weights of this network: Missing key.*"bias"'):
        load_weights(nn.Linear(2, 3), tmp_path / "x.pt")
    torch.save([torch.ones(2)], tmp_path / "x.pt")
    with pytest.raises(InputError, match="no state_dict"):
        read_weights(tmp_path / "x.pt")


def test_full_disk_leaves_the_old_file(quantised, tmp_path, monkeypatch):
    path = save_quantised(quantised, tmp_path / "net.safetensors")
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr("os.rename", full)
    with pytest.raises(InputError, match="No space left"):
        save_quantised(quantised, path)
    assert path.read_bytes() == before
