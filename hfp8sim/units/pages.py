"""The reference pages of formats and profiles, made from the tables in the code.

    python -m hfp8sim.units.pages [DIRECTORY]

writes formats.md and profiles.md into `docs`; a test compares them with what stands there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hfp8sim.files import write_text
from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.units.profile import FIELDS, Profile, get_profile, profiles


def value_text(x: float) -> str:
    """A number in at most seven significant digits."""
    return f"{x:.7g}"


def facts_of(fmt: FloatFormat) -> dict[str, str]:
    """What the list of formats tells of one, by heading."""
    return {
        "s-E-F": f"{int(fmt.signed)}-{fmt.exponent_bits}-{fmt.fraction_bits}",
        "bias": str(fmt.bias),
        "largest": value_text(fmt.max),
        "smallest normal": value_text(fmt.min_normal),
        "smallest": value_text(fmt.min_positive),
        "zero": fmt.zero,
        "lowest binade": fmt.lowest,
        "special codes": fmt.special,
    }


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def formats_page() -> str:
    """docs/formats.md."""
    rows = [[f"`{name}`", *facts_of(get_format(name)).values()] for name in formats()]
    headings = ["format", *facts_of(get_format(formats()[0]))]
    return f"""# Formats

Made by `python -m hfp8sim.units.pages` from the registry; what the facts mean stands in
[numerics](numerics.md), section 1. `NAME@B` is the same format with exponent bias B, and every IEEE
P3109 format (interim report v4.0) is known by its name, `binary{{K}}p{{P}}{{s|u}}{{e|f}}`, as far as its
values fit a float64 (at most 10 exponent bits).

{_table(headings, rows)}

A format of your own is one call, and works wherever a shipped one does:

```python
import hfp8sim as hs
hs.register_format(hs.FloatFormat("mine-134", 3, 4, bias=5, special="none"))
```

or a TOML file for `hs.load_formats`, with `exponent_bits`, `fraction_bits`, `bias` and, where they differ
from the defaults, `signed`, `zero`, `lowest`, `special`:

```toml
[format.mine-134]
exponent_bits = 3
fraction_bits = 4
bias = 5
special = "none"
```

Tesla's guide to CFloat8 prints denormals as 0.f·2^(−bias), which would leave no number in the binade
below the smallest normal one; `cfloat8-*` take them as IEEE does, 0.f·2^(1−bias).
"""


def profiles_page() -> str:
    """docs/profiles.md."""
    text = """# Profiles

Made by `python -m hfp8sim.units.pages` from `hfp8sim/units/profile.py`. A profile names one way of
computing a matrix product; every field can be replaced, in Python by `profile.replace(field=value)`, on
the command line by `--set field=value`. What the fields mean stands in [numerics](numerics.md).
"""
    for name in profiles():
        profile = get_profile(name)
        text += f"\n## `{name}`\n\n{profile.summary[0].upper()}{profile.summary[1:]}.\n\n"
        text += _table(
            ["field", "value"], [[f"`{f}`", f"`{_field(profile, f)}`"] for f in FIELDS[1:]]
        )
        text += "\n"
    return text


def _field(profile: Profile, name: str) -> str:
    value = getattr(profile, name)
    return value.name if isinstance(value, FloatFormat) else str(value)


PAGES = {"formats.md": formats_page, "profiles.md": profiles_page}


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for page, make in PAGES.items():
        print(write_text(folder / page, make()))
