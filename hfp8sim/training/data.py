"""Data sets for training: what packages install, looked for where they put it.

`digits` comes with scikit-learn, `help-text` with Python, `fashion-mnist` with a Debian package or in the
folder `$HFP8SIM_DATA`. Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfp8sim.errors import InputError, unknown

Tensor = Any  #: PyTorch's

#: Symbols of a window of a text.
WINDOW = 64
#: Where the Debian package dataset-fashion-mnist puts its files.
_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs and targets: images (N, C, H, W) float32 and classes (N,), or tokens (N,) for a language model."""

    inputs: Tensor
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, split into what is trained on and what is tested on."""

    name: str
    train: Examples
    test: Examples
    classes: int  #: classes, or symbols of a text

    def training_batches(self, size: int, seed: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of training images, or windows of the training text; arguments as `batches`."""
        if self.train.targets is None:
            return self.windows(size, WINDOW, seed, count)
        return self.batches(size, seed, count)

    def batches(self, size: int, seed: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of training images in random order, epoch after epoch.

        Args:
            size: images of a batch; the rest of an epoch that is smaller is left out.
            seed: of the order. Equal seeds give equal batches.
            count: batches.

        Raises:
            InputError: for a batch that is larger than the training set.
        """
        assert self.train.targets is not None
        if size > len(self.train):
            raise InputError(
                f"a batch has {size} images, must have at most the {len(self.train)} that {self.name} has for training"
            )
        generator = torch.Generator().manual_seed(seed)
        made = 0
        while made < count:
            order = torch.randperm(len(self.train), generator=generator)
            for start in range(0, len(order) - size + 1, size):
                if made == count:
                    return
                chosen = order[start : start + size]
                yield self.train.inputs[chosen], self.train.targets[chosen]
                made += 1

    def windows(
        self, size: int, length: int, seed: int, count: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of a text: `size` windows of `length` symbols, and the symbols that follow each."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            starts = torch.randint(len(self.train) - length - 1, (size,), generator=generator)
            yield windows_at(self.train.inputs, starts, length)


def windows_at(text: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The windows of a text that begin at `starts`, and the same windows one symbol later."""
    places = starts[:, None] + torch.arange(length)
    return text[places], text[places + 1]


def _digits() -> Data:
    """1797 images of handwritten digits, 8×8, in ten classes; 400 of them for testing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("data set digits needs scikit-learn: pip install scikit-learn") from None
    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32))[:, None]
    return _split("digits", images, torch.from_numpy(digits.target.astype(np.int64)), 400)


def _split(name: str, images: Tensor, classes: Tensor, test: int) -> Data:
    """Normalised images in a fixed random order; the last `test` of them are for testing."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1234))
    images, classes = (images[order] - images.mean()) / images.std(), classes[order]
    return Data(
        name,
        Examples(images[:-test], classes[:-test]),
        Examples(images[-test:], classes[-test:]),
        int(classes.max()) + 1,
    )


def _fashion_mnist() -> Data:
    """60 000 images of clothes, 28×28, in ten classes, and 10 000 for testing (Xiao et al., 2017)."""
    folder = _folder("fashion-mnist", _FASHION, "apt-get install dataset-fashion-mnist")
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = _idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        classes = _idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        values = torch.from_numpy(images.astype(np.float32) / 255)[:, None]
        # Mean and deviation of the training images.
        parts[part] = Examples(
            (values - 0.2860) / 0.3530, torch.from_numpy(classes.astype(np.int64))
        )
    return Data("fashion-mnist", parts["train"], parts["test"], 10)


def _folder(name: str, usual: Path, install: str) -> Path:
    """The folder of a data set's files."""
    own = os.environ.get("HFP8SIM_DATA")
    for folder in ([Path(own) / name] if own else []) + [usual]:
        if folder.is_dir():
            return folder
    raise InputError(
        f"data set {name} is not installed: {install}, or put it in $HFP8SIM_DATA/{name}"
    )


def _idx(path: Path) -> np.ndarray:
    """An array of bytes in the IDX format: 00 00 08, the number of axes, their sizes (big-endian), the bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: {error}") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise InputError(f"{path}: not an IDX file of bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).astype(np.int64)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if values.size != np.prod(shape):
        raise InputError(f"{path}: {values.size} bytes, its header tells {np.prod(shape)}")
    return values.reshape(shape)


def _help_text() -> Data:
    """The characters of Python's own help topics; the last tenth is for testing."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    symbols = sorted({c for c in text if ord(c) < 128})
    number = {symbol: index for index, symbol in enumerate(symbols)}
    tokens = torch.tensor([number[c] for c in text if c in number])
    cut = len(tokens) * 9 // 10
    return Data("help-text", Examples(tokens[:cut]), Examples(tokens[cut:]), len(symbols))


#: The data sets by name.
DATA: dict[str, Callable[[], Data]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "help-text": _help_text,
}


def load_data(name: str) -> Data:
    """A data set by name.

    Raises:
        InputError: an unknown name, or a set that is not installed; the text says how to install it.
    """
    loader = DATA.get(name)
    if loader is None:
        raise unknown("data set", name, [*DATA])
    return loader()
