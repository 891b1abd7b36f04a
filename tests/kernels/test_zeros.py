"""Elements that are not zero, and the largest, against NumPy's."""

import numpy as np
import pytest

from hfp8sim._numba.jit import config
from hfp8sim.kernels import zeros
from hfp8sim.kernels.zeros import count_nonzero, largest_word


@pytest.fixture(autouse=True)
def small_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeros, "_LEAST_ELEMENTS", 0)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 63, 64, 65, 1000])
def test_numbers_other_than_zero_are_counted(size: int) -> None:
    rng = np.random.default_rng(size)
    x = np.where(rng.random(size) < 0.5, rng.normal(size=size), 0).astype(np.float32)
    special = np.array([0.0, -0.0, np.nan, -np.inf, 1e-45, -1e-45], np.float32)
    for array in (x, x.astype(np.float64), np.resize(special, size), np.stack([x, x])[:, ::2]):
        assert count_nonzero(array) == np.count_nonzero(array != 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("mask", [-1, 0x7F, 1])
def test_codes_are_counted_by_the_bits_of_a_mask(dtype, mask: int) -> None:
    codes = np.random.default_rng(1).integers(0, 256, 999).astype(dtype)
    codes[::3] &= 0x80
    for array in (codes, codes[1:70], codes[:960].reshape(4, -1)[:, 1:]):
        kept = array & dtype(mask & 0xFF) if mask > 0 else array
        assert count_nonzero(array, mask) == np.count_nonzero(kept)


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [0, 1, 31, 64, 65, 1000])
def test_largest_word_is_found_at_every_place(dtype, size: int) -> None:
    words = np.random.default_rng(size).integers(0, 100, size).astype(dtype)
    for i in range(0, size, 7):
        some = words.copy()
        some[i] = 0xFF
        assert largest_word(some, 0xFF) == 0xFF
        assert largest_word(some, 0x7F) == 0x7F
    assert largest_word(words, 0x7F) == words.max(initial=0)
