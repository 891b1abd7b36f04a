"""The test kit: its laws hold for every shipped format and profile, and each catches a planted bug."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.ops import gemm
from hfp8sim.testing import boundary_values, laws
from hfp8sim.units import profiles

ROOT = Path(__file__).parents[2]
E5M2 = get_format("e5m2")


@pytest.mark.parametrize(
    "name", [*formats(), "hfp8-143@3", "binary6p3ue", "binary16p7se", "binary5p1sf"]
)
def test_formats_obey_the_laws(name: str) -> None:
    laws.check_format(name)


@pytest.mark.parametrize(
    "fmt",
    [
        FloatFormat("flush", 5, 2, 15, lowest="flush"),
        FloatFormat("scale", 4, 3, 7, signed=False, zero="none", lowest="normal", special="fn"),
        FloatFormat("one-bit", 1, 5, 0, special="none"),
    ],
    ids=lambda f: f.name,
)
def test_unusual_records_obey_the_laws(fmt: FloatFormat) -> None:
    laws.check_format(fmt)


@pytest.mark.parametrize("name", profiles("exact"))
def test_profiles_obey_the_laws(name: str) -> None:
    laws.check_gemm(name)


test_for_format = laws.for_format("hfp8-152")
test_for_gemm = laws.for_gemm("fp8-2018")


def test_boundary_values() -> None:
    numbers = np.unique(E5M2.table()[np.isfinite(E5M2.table())])
    expected = np.concatenate([numbers, (numbers[1:] + numbers[:-1]) / 2])
    assert np.isin(expected, boundary_values(E5M2)).all()


# -- bugs, one for each law ----------------------------------------------------------------------------


def twice(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    """Rounds to binary16 first."""
    with np.errstate(over="ignore"):
        halves = np.asarray(x, np.float64).astype(np.float16)
    return E5M2.encode(halves, rounding, overflow, random_bits, bits)


def away_at_ties(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    mode = "nearest-away" if rounding == "nearest-even" else rounding
    return E5M2.encode(x, mode, overflow, random_bits, bits)


def truncating(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    return E5M2.encode(x, "toward-zero", overflow)


def floor(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    """A two's complement truncation of the magnitude: toward −∞ whatever the sign."""
    return E5M2.encode(x, "toward-negative", overflow)


def infinite(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    """Ignores the overflow policy."""
    return E5M2.encode(x, rounding, "special", random_bits, bits)


def plus_zero(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    codes = E5M2.encode(x, rounding, overflow, random_bits, bits)
    return np.where(codes == 0x80, 0, codes).astype(np.uint8)


def lost_random_bits(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    """Below the smallest normal number stochastic rounding truncates (a bug of several libraries)."""
    codes = E5M2.encode(x, rounding, overflow, random_bits, bits)
    if rounding.startswith("stochastic"):
        small = np.abs(x) < E5M2.min_normal
        codes = np.where(small, E5M2.encode(x, "toward-zero", overflow), codes)
    return codes


def folded(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    """One code is out of order."""
    codes = E5M2.encode(x, rounding, overflow, random_bits, bits)
    return np.where(codes == 0x40, 0x44, codes).astype(np.uint8)


def unstable(x, rounding="nearest-even", overflow="saturate", random_bits=None, bits=13):
    """Moves what is already a number."""
    codes = E5M2.encode(x, rounding, overflow, random_bits, bits)
    exact = (E5M2.decode(codes) == x) & (codes == 0x3D)
    return np.where(exact, 0x3E, codes).astype(np.uint8)


BUGS = {
    "decode_after_encode": folded,
    "monotone": folded,
    "sign_symmetry": floor,
    "faithful": twice,
    "nearest_is_nearest": twice,
    "idempotent": unstable,
    "saturation": infinite,
    "nan_and_zero": plus_zero,
    "stochastic_mean": lost_random_bits,
}


def test_every_law_has_a_bug() -> None:
    assert set(BUGS) == set(laws.FORMAT_LAWS)


@pytest.mark.parametrize("law", BUGS)
def test_law_catches_bug(law: str) -> None:
    subject = laws._subject("e5m2", BUGS[law], None, None)
    with pytest.raises(laws.LawBroken):
        laws.FORMAT_LAWS[law](subject)


@pytest.mark.parametrize(
    ("bug", "modes", "message"),
    [
        (
            twice,
            ("nearest-even",),
            r"^nearest_is_nearest: nearest-even: .* lies between .*, but became",
        ),
        (
            away_at_ties,
            ("nearest-even",),
            r"^nearest_is_nearest: nearest-even: the tie .* odd code",
        ),
        (truncating, ("nearest-away",), r"^nearest_is_nearest: nearest-away"),
        (truncating, ("toward-positive",), r"^faithful: toward-positive"),
        (lost_random_bits, ("stochastic-a",), r"^stochastic_mean: stochastic-a: .* of the time"),
    ],
)
def test_error_names_law_mode_and_fault(bug, modes: tuple[str, ...], message: str) -> None:
    with pytest.raises(laws.LawBroken, match=message):
        laws.check_format("e5m2", encode=bug, modes=modes)


def test_wrong_decoder() -> None:
    with pytest.raises(laws.LawBroken, match="decode_after_encode"):
        laws.check_format("e5m2", decode=lambda codes: 2 * E5M2.decode(codes))


def mutate(change):
    def implementation(a, b, profile, *, a_format, b_format, seed):
        result = gemm(a, b, profile, a_format=a_format, b_format=b_format, seed=seed)
        return change(result, a, b, profile, a_format, b_format, seed)

    return implementation


GEMM_BUGS = {
    # A's format is taken for both operands.
    "commutes": lambda r, a, b, p, fa, fb, s: gemm(a, b, p, a_format=fa, b_format=fa, seed=s),
    "rows_are_independent": lambda r, a, b, *_: np.roll(r, 1, 0) if len(a) == 7 else r,
    "negation": lambda r, *_: r | 1,
    # The last product is left out.
    "zeros_add_nothing": lambda r, a, b, p, fa, fb, s: gemm(
        a[:, :-1], b[:-1], p, a_format=fa, b_format=fb, seed=s
    ),
    "small_integers_are_exact": lambda r, *_: r + (r != 0),
    "seeded": lambda r, *_: r ^ np.random.default_rng().integers(0, 2, r.shape, r.dtype),
}  # fmt: skip


def test_every_gemm_law_has_a_bug() -> None:
    assert set(GEMM_BUGS) == set(laws.GEMM_LAWS)


@pytest.mark.parametrize("law", GEMM_BUGS)
def test_gemm_law_catches_bug(law: str) -> None:
    with pytest.raises(laws.LawBroken):
        laws.GEMM_LAWS[law](laws.GemmSubject(laws.get_profile("hfp8"), mutate(GEMM_BUGS[law])))
    with pytest.raises(laws.LawBroken):
        laws.check_gemm("hfp8", mutate(GEMM_BUGS[law]))


# -- the documentation ---------------------------------------------------------------------------------


def test_worked_example() -> None:
    """The example of docs/testing.md: its planted bug gives the error that the page prints."""
    text = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    section = text.split("## A worked example")[1]
    blocks = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    programs = [code for language, code in blocks if language == "python"]
    printed = next(code for language, code in blocks if language == "text").strip()
    scope: dict[str, object] = {}
    exec(programs[0], scope)
    with pytest.raises(laws.LawBroken) as caught:
        exec(programs[1], scope)
    assert f"LawBroken: {caught.value}" == printed
    exec(programs[2], scope)


def test_page_lists_laws() -> None:
    text = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    for name, law in {**laws.FORMAT_LAWS, **laws.GEMM_LAWS}.items():
        assert law.__doc__ is not None
        first = " ".join(law.__doc__.split("\n\n")[0].split())
        assert f"| `{name}` | {first} |" in text
