"""ml_dtypes on all binary32 numbers, gfloat on all 16-bit ones: minutes."""

from __future__ import annotations

import numpy as np
import pytest

from hfp8sim.formats import get_format
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.verify import sweeps
from tests.formats.test_peers import (
    GFLOAT,
    ML_DTYPES,
    SATURATE,
    all_16_bit_floats,
    ml_codes,
    same_as_gfloat,
)

#: Encodings at once: all arrays of a turn stay in the processor's cache.
SPAN = 1 << 16


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in ML_DTYPES if get_format(name).bits == 8])
def test_ml_dtypes_on_binary32(name: str) -> None:
    """All 2^32 encodings; NaN payloads do not matter."""
    fmt = get_format(name)
    row = sweeps.encode_row(fmt.facts, mode_number("nearest-even"), overflow_number("special"), 13)
    nan = np.isnan(fmt.table())
    codes, flags = np.empty(SPAN, np.uint8), np.empty(SPAN, np.uint8)
    for start in range(0, 1 << 32, SPAN):
        row(sweeps.widened(start, SPAN), np.int64(0), codes, flags)
        expected = ml_codes(np.arange(start, start + SPAN, dtype=np.uint32).view(np.float32), name)
        if not np.array_equal(codes, expected):
            assert ((codes == expected) | (nan[codes] & nan[expected])).all(), hex(start)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@SATURATE
@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat_on_16_bit_floats(name: str, saturate: bool) -> None:
    """Every binary16 and every bfloat16 in every mode."""
    x = np.unique(all_16_bit_floats())
    same_as_gfloat(name, saturate, x[np.isfinite(x)].astype(np.float64))
