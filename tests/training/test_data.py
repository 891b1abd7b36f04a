"""Data sets: shapes, reproducible batches, and one line for what is not installed."""

import gzip

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hfp8sim import InputError  # noqa: E402
from hfp8sim.training.data import load_data, windows_at  # noqa: E402
from hfp8sim.training.networks import NETWORKS, make_network  # noqa: E402


def test_digits():
    data = load_data("digits")
    assert data.train.inputs.shape == (1397, 1, 8, 8) and data.test.inputs.shape == (400, 1, 8, 8)
    assert data.classes == 10 and sorted(set(data.test.targets.tolist())) == list(range(10))
    everything = torch.cat([data.train.inputs, data.test.inputs])
    assert abs(everything.mean()) < 1e-5 and abs(everything.std() - 1) < 1e-5


def test_batches_depend_on_the_seed_alone():
    data = load_data("digits")
    one, two = (list(data.batches(64, 5, 50)) for _ in range(2))
    assert len(one) == 50 and all(torch.equal(a, c) for (a, _), (c, _) in zip(one, two))
    assert not torch.equal(one[0][0], next(data.batches(64, 6, 1))[0])
    epoch = torch.cat([x for x, _ in one[:21]])
    assert len(torch.unique(epoch.flatten(1), dim=0)) > 1300  # an epoch repeats no image


def test_batch_is_at_most_the_training_set():
    data = load_data("digits")
    assert len(next(data.batches(1397, 0, 1))[0]) == 1397
    with pytest.raises(InputError, match="1398 images, must have at most the 1397 that digits has"):
        next(data.batches(1398, 0, 1))


def test_windows_of_a_text():
    data = load_data("help-text")
    assert data.classes == 94 and len(data.train) > 400_000 and int(data.train.inputs.max()) < 94
    x, y = next(data.windows(4, 16, seed=0, count=1))
    assert x.shape == y.shape == (4, 16) and torch.equal(x[:, 1:], y[:, :-1])
    x, y = windows_at(torch.arange(10), torch.tensor([2, 5]), 3)
    assert x.tolist() == [[2, 3, 4], [5, 6, 7]] and y.tolist() == [[3, 4, 5], [6, 7, 8]]


def idx(array):
    header = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for prefix, count in (("train", 20), ("t10k", 5)):
        images = np.arange(count * 784).reshape(count, 28, 28) % 256
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(count) % 10))
    monkeypatch.setenv("HFP8SIM_DATA", str(tmp_path))
    return folder


def test_fashion_mnist_from_a_folder(fashion):
    data = load_data("fashion-mnist")
    assert data.train.inputs.shape == (20, 1, 28, 28) and data.test.targets.tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]
    pixel = data.train.inputs[0, 0, 1, 2].item()
    assert pixel == pytest.approx((30 / 255 - 0.2860) / 0.3530)


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"no gzip", "Not a gzipped file"), (gzip.compress(b"\0\0\x0d\x01", mtime=0), "not an IDX file of bytes"),
     (gzip.compress(b"\0\0\x08\x01\0\0\0\x09abc", mtime=0), "3 bytes, its header tells 9")],
)  # fmt: skip
def test_damaged_files_are_named(fashion, content, text):
    (fashion / "t10k-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match=f"t10k-labels.*{text}"):
        load_data("fashion-mnist")


def test_missing_and_unknown_data_sets(monkeypatch, tmp_path):
    monkeypatch.setattr("hfp8sim.training.data._FASHION", tmp_path / "none")
    monkeypatch.delenv("HFP8SIM_DATA", raising=False)
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        load_data("fashion-mnist")
    with pytest.raises(InputError, match="unknown data set 'mnist'"):
        load_data("mnist")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_scores(name):
    if name == "transformer":
        assert make_network(name, 94)(torch.zeros(2, 64, dtype=torch.long)).shape == (2, 64, 94)
        return
    assert make_network(name, 1, 10)(torch.zeros(2, 1, 16, 16)).shape == (2, 10)


def test_resnet20_has_the_published_size():
    """He et al., CVPR 2016: 0.27 M parameters, 20 layers with weights on the way through."""
    model = make_network("resnet20")
    assert sum(p.numel() for p in model.parameters()) // 10_000 == 27
    with pytest.raises(InputError, match="unknown network 'resnet21'"):
        make_network("resnet21")
