"""Normal deviates against NumPy's generator, of which they must have every bit."""

import numpy as np
import pytest

from hfp8sim.kernels import normals

#: A size with some thousand deviates of the tail, and sizes about a buffer of words.
SIZES = [3_000_001, 0, 1, 5, 1023, 1024, 1025]


def numpy_normals(key: list[int], size: int) -> np.ndarray:
    return np.random.default_rng(key).standard_normal(size, np.float32)


def test_words_are_those_of_pcg64() -> None:
    generator = np.random.PCG64([3, 5])
    source = normals.source_of(generator)
    for _ in range(3):
        normals.fill_words(source)
        expected = generator.random_raw(source.words.size // 2)
        np.testing.assert_array_equal(source.words[::2], expected & 0xFFFFFFFF)
        np.testing.assert_array_equal(source.words[1::2], expected >> 32)


def test_product_has_its_upper_half() -> None:
    edges = [0, 1, (1 << 32) - 1, 1 << 32, (1 << 63) + 12345, (1 << 64) - 1]
    for a in edges:
        for b in edges:
            assert int(normals.multiply_high(np.uint64(a), np.uint64(b))) == a * b >> 64


@pytest.mark.parametrize("size", SIZES)
def test_deviates_are_those_of_numpy(size: int) -> None:
    deviates, expected = normals.normals([7, size], [size]), numpy_normals([7, size], size)
    np.testing.assert_array_equal(deviates.view(np.uint32), expected.view(np.uint32))


def test_deviates_are_scaled_and_rectified() -> None:
    expected = numpy_normals([1], 6000).reshape(3, 2000) * np.float32(0.3)
    np.testing.assert_array_equal(normals.normals([1], (3, 2000), 0.3), expected)
    rectified = normals.normals([1], (3, 2000), 0.3, rectified=True)
    np.testing.assert_array_equal(rectified, np.maximum(expected, 0))
    assert not np.signbit(rectified).any()
