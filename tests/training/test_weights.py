"""Files of weights: what is read, what is written, and what is refused."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import hfp8sim as hs  # noqa: E402
from hfp8sim import InputError, get_format, training  # noqa: E402
from hfp8sim.interop.safetensors import load_with_metadata  # noqa: E402
from hfp8sim.training.weights import (  # noqa: E402
    load_weights,
    read_weights,
    save_quantised,
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

#: The header of a safetensors file of codes with one scale that is none.
CODES = json.dumps(
    {
        "__metadata__": {"w.format": "hfp8-143", "w.scales": "1 one"},
        "w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    }
).encode()


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
    arrays, metadata = load_with_metadata(path)
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


def test_saved_codes_are_read_as_their_values(quantised, tmp_path):
    """Codes in place of weights would load without an error, and be a thousand times too large."""
    coded = load_weights(Net(), save_quantised(quantised, tmp_path / "net.safetensors"))
    plain = load_weights(Net(), save_quantised(quantised, tmp_path / "net.pt"))
    for name, value in plain.state_dict().items():
        assert torch.equal(coded.state_dict()[name], value), name


def test_codes_of_other_libraries_are_read_as_their_values(tmp_path):
    """BF16 is the dtype of most weights that are published."""
    linear = nn.Linear(2, 3).to(torch.bfloat16)
    state = linear.state_dict() | {"bias": hs.Operand.encode([0.5, 1.0, -2.0], "hfp8-143")}
    path = hs.save_safetensors(tmp_path / "net.safetensors", state)
    loaded = load_weights(nn.Linear(2, 3), path)
    assert torch.equal(loaded.weight, linear.weight.float())
    assert loaded.bias.tolist() == [0.5, 1.0, -2.0]


def test_model_of_bfloat16_is_saved_as_codes(tmp_path):
    model = training.quantise(nn.Linear(4, 2).to(torch.bfloat16), "hfp8")
    read = read_weights(save_quantised(model, tmp_path / "net.safetensors")).state
    assert torch.equal(read["bias"], model.bias.float())


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
        ("x.safetensors", (2).to_bytes(8, "little") + b"[]", "the header must be an object"),
        (
            "x.safetensors",
            (58).to_bytes(8, "little")
            + b'{"y":{"dtype":"I64","shape":[1],"data_offsets":[0,80]}}   ',
            "are not those of I64",
        ),
        (
            "x.safetensors",
            (len(CODES)).to_bytes(8, "little") + CODES + bytes(4),
            "x.safetensors: tensor 'w': its scales are '1 one'; they must be numbers",
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


def test_file_with_objects_is_refused_without_advice_to_run_it(tmp_path):
    """PyTorch's own error is long, and says how to run the file's code."""
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(InputError, match="it must hold tensors, numbers and texts") as error:
        read_weights(tmp_path / "x.pt")
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("codes", "scales", "text"),
    [
        (np.zeros(4, np.uint8), "", "tensor 'w': its scales are ''; they must be numbers"),
        (np.zeros(4, np.uint8), "1 2 3", r"tensor 'w': its shape \(4,\) has no 3 equal parts"),
        (np.zeros((), np.uint8), "1", r"tensor 'w': its shape \(\) has no 1 equal parts"),
        (np.zeros(4, np.float32), "1", "tensor 'w': codes must hold hfp8-143 codes"),
    ],
)
def test_codes_that_do_not_fit_their_scales_are_refused(tmp_path, codes, scales, text):
    texts = {"w.format": "hfp8-143", "w.scales": scales}
    path = hs.save_safetensors(tmp_path / "x.safetensors", {"w": codes}, texts)
    with pytest.raises(InputError, match=text):
        read_weights(path)


def test_state_dict_without_names_is_refused(tmp_path):
    torch.save({3: torch.zeros(2)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="no state_dict: it must hold tensors by name"):
        read_weights(tmp_path / "x.pt")
