"""docs/profiles.md: the shipped profiles and their fields, from `hfp8sim/units/profile.py`."""

from __future__ import annotations

from docs.pages.markdown import table
from hfp8sim.formats import get_format
from hfp8sim.network import PHASES
from hfp8sim.units.profile import MEANINGS, Profile, get_profile, profiles

_HEAD = """# Profiles

Generated from `hfp8sim/units/profile.py`; do not edit.

A profile is the set of choices that a GEMM is computed with; what each does to the bits stands in
[numerics](numerics.md), section 3. `--profile NAME` takes one, `--set FIELD=VALUE` changes a field, and
so does `hs.get_profile("hfp8").replace(chunk_length=32)`.

The sums have two roundings, `rounding` inside a chunk and `between_rounding` for the total of chunks. Where a profile
has the same mode for both, to change `rounding` changes both. Where they differ, as in `aiu` and the profiles of
matrix cores, `rounding` leaves `between_rounding` as it was. `sum_rounding` sets both in every profile:
`--set sum_rounding=stochastic`.
"""


def page() -> str:
    """The whole page."""
    named = [get_profile(name) for name in profiles()]
    parts = [_HEAD, "## The profiles\n"]
    parts += [f"- **{p.name}**: {p.summary}." for p in named]
    parts += ["", "## Fields\n", _fields(named), "## Operands by phase\n", _phases(named)]
    return "\n".join(parts)


def _fields(named: list[Profile]) -> str:
    rows = [
        (f"`{field}`", MEANINGS[field], *(_value(getattr(p, field)) for p in named))
        for field in MEANINGS
        if field != "name"
    ]
    return table(("field", "meaning", *(p.name for p in named)), rows)


def _value(value: object) -> str:
    return str(getattr(value, "name", value))


def _phases(named: list[Profile]) -> str:
    rows = []
    for p in named:
        pairs = [" × ".join(fmt.name for fmt in p.operand_formats(phase)) for phase in PHASES]
        rows.append((p.name, *pairs, get_format(p.result_format).name))
    return table(("profile", *PHASES, "result"), rows)
