"""Records and arrays at addresses, in compiled code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hfp8sim._numba import jit as jit_module
from hfp8sim._numba.calls import array_at, local_array, record_at, strided_at
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout

PAIR = layout(first=np.int64, second=np.int64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit_module, "_ROOT", tmp_path)


def test_array_at_an_address_is_contiguous() -> None:
    @jit
    def copy(address, i, j, k):  # type: ignore[no-untyped-def]
        array = array_at(address, (i, j, k), np.uint16)
        return array.copy(), array[
            1:, 2, ::2
        ].copy()  # only a part of an array is read by its strides

    numbers = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    whole, part = copy(numbers.ctypes.data, 3, 4, 5)
    assert (whole == numbers).all() and (part == numbers[1:, 2, ::2]).all()


def test_array_at_an_address_with_steps() -> None:
    @jit
    def copy(address, i, j, down, right):  # type: ignore[no-untyped-def]
        return strided_at(address, (i, j), (down, right), np.float32).copy()

    numbers = np.arange(60, dtype=np.float32).reshape(6, 10)
    view = numbers[4::-2, 1::3]
    assert (copy(view.ctypes.data, *view.shape, *view.strides) == view).all()


def test_record_at_an_address_is_written_in_place() -> None:
    @jit
    def swap(address):  # type: ignore[no-untyped-def]
        pair = record_at(address, PAIR)
        pair.first, pair.second = pair.second, pair.first

    pairs = np.array([(1, 2), (3, 4)], PAIR)
    swap(pairs[1:].ctypes.data)
    assert pairs.tolist() == [(1, 2), (4, 3)]


def test_local_array_is_of_one_call() -> None:
    @jit
    def reverse(x):  # type: ignore[no-untyped-def]
        copies = local_array(4, x.dtype)
        for i in range(4):
            copies[i] = x[i]
        for i in range(4):
            x[i] = copies[3 - i]
        return copies.itemsize, copies.ctypes.data % 64

    for kind in (np.uint8, np.float64):
        x = np.arange(4).astype(kind)
        assert reverse(x) == (x.itemsize, 0)
        assert x.tolist() == [3, 2, 1, 0]
