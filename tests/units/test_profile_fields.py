"""Fields of a profile that change together."""

from __future__ import annotations

import pytest

from hfp8sim.errors import InputError
from hfp8sim.simulation.variants import changed_profile
from hfp8sim.units.profile import get_profile


def roundings(profile: object) -> tuple[str, str]:
    return profile.rounding, profile.between_rounding  # type: ignore[attr-defined]


def test_rounding_sets_both_where_they_are_equal() -> None:
    changed = get_profile("hfp8").replace(rounding="toward-zero")
    assert roundings(changed) == ("toward-zero", "toward-zero")
    changed = get_profile("aiu").replace(rounding="toward-zero")
    assert roundings(changed) == ("toward-zero", "nearest-even")


@pytest.mark.parametrize("name", ["hfp8", "aiu", "hopper-fp8"])
def test_sum_rounding_sets_both(name: str) -> None:
    profile = get_profile(name)
    assert roundings(profile.replace(sum_rounding="to-odd")) == ("to-odd", "to-odd")
    assert profile.replace(sum_rounding="to-odd") == changed_profile(name, ["sum_rounding=to-odd"])


@pytest.mark.parametrize("field", ["rounding", "between_rounding"])
def test_sum_rounding_beside_a_field_it_sets_is_refused(field: str) -> None:
    with pytest.raises(InputError, match=f"sum_rounding sets {field}; give one of the two"):
        get_profile("hfp8").replace(sum_rounding="to-odd", **{field: "nearest-even"})


def test_unknown_field_suggests_the_word() -> None:
    with pytest.raises(InputError, match="did you mean sum_rounding"):
        get_profile("hfp8").replace(sum_roundin="to-odd")


def test_field_has_its_name_in_sweeps_too() -> None:
    """`hfp8sim sweep` varies `profile.chunk_length`; `--set` and `--vary` take both names."""
    changed = changed_profile("hfp8", ["profile.chunk_length=8"])
    assert changed == changed_profile("hfp8", [" chunk_length=8"])
    assert changed.chunk_length == 8
