"""docs/formats.md: the registered formats, their facts and notable codes, from `hfp8sim/formats/`."""

from __future__ import annotations

from docs.pages.markdown import table
from hfp8sim.formats import describe
from hfp8sim.formats.fixed import FIXED_MODES
from hfp8sim.formats.mx import ELEMENTS, element_format, top_exponent
from hfp8sim.formats.record import FloatFormat
from hfp8sim.formats.registry import formats, get_format, p3109

_HEAD = """# Formats

Generated from `hfp8sim/formats/`; do not edit.

What the facts mean, and how numbers are rounded into a format, stands in [numerics](numerics.md).
`hfp8sim formats NAME` shows a format's facts, code table and number line. `NAME@B` is the format with
exponent bias B wherever a format is named: `hfp8-143@7`.
"""

_OWN = """## Formats of your own

In Python, one call; from then on the name works everywhere:

```python
import hfp8sim as hs
hs.register_format(hs.FloatFormat("mine-134", exponent_bits=3, fraction_bits=4, bias=3, special="fn"))
```

In TOML, one table (`hs.load_formats(path)`, or `hfp8sim --formats FILE COMMAND …`). The keys are the
facts of the record; `exponent_bits`, `fraction_bits` and `bias` must be given:

```toml
[format.mine-134]
exponent_bits = 3
fraction_bits = 4
bias = 3
special = "fn"          # none, ieee (default), fn, fnuz, nan-inf, p3109-extended, p3109-finite
lowest = "subnormal"    # subnormal (default), normal, flush
zero = "signed"         # signed (default), unsigned, none
signed = true
source = "a paper"      # where it is defined, for `hfp8sim formats`
```

Prove it before you use it: the laws of [testing](testing.md) take three lines.

Limits: 1 to 11 exponent bits, at most 23 fraction bits, and numbers that float64 holds exactly.
"""


def page() -> str:
    """The whole page."""
    overview = table(describe.OVERVIEW_HEADINGS, describe.overview_rows())
    parts = [_HEAD, "## Registered formats\n", overview]
    parts += [
        "## IEEE P3109\n",
        _p3109(),
        "## Microscaling\n",
        _mx(),
        "## Fixed point\n",
        _fixed(),
        _OWN,
    ]
    parts += ["## Codes worth knowing\n", *(_codes(get_format(name)) for name in formats())]
    return "\n".join(parts)


def _p3109() -> str:
    rows = []
    for p in range(1, 8):
        fmt, finite = p3109(8, p), p3109(8, p, extended=False)
        rows.append(
            (str(p), f"`{fmt.name}`", str(fmt.bias), describe.exact_text(fmt.max), describe.exact_text(finite.max),
             describe.exact_text(fmt.min_normal), describe.exact_text(fmt.min_positive))
        )  # fmt: skip
    head = (
        "P",
        "name",
        "bias",
        "largest, extended",
        "largest, finite",
        "smallest normal",
        "smallest",
    )
    return (
        "The whole family of the interim report v4.0 is built on demand: `binary{K}p{P}{s|u}{e|f}` with K = 3..16\n"
        "bits, precision P, signed or unsigned, extended (with infinities) or finite. float64 holds what has at\n"
        "most 11 exponent bits; others are refused by name. All of K = 8, signed:\n\n"
        + table(head, rows)
    )


def _mx() -> str:
    rows = [
        (
            f"`{name}`",
            getattr(element, "name", str(element)),
            str(top_exponent(element_format(name))),
        )
        for name, element in ELEMENTS.items()
    ]
    return (
        "`hfp8sim.formats.mx` quantises blocks of 32 with an `e8m0` scale and back (OCP MX v1.0): the scale is\n"
        "2^(floor(log2 max|v|) − emax), elements saturate, a NaN or an infinity makes the scale NaN.\n\n"
        + table(("name", "element", "emax"), rows)
    )


def _fixed() -> str:
    return (
        "`hs.formats.FixedPoint(IL, FL)` is Gupta et al.'s (ICML 2015) ⟨IL, FL⟩: two's complement, IL integer bits with\n"
        "the sign, FL fraction bits, saturating. Modes: "
        + ", ".join(f"`{mode}`" for mode in FIXED_MODES)
        + ".\n`nearest-down` is the paper's; `stochastic` takes its random bits as an argument.\n\n"
        "`fixed{IL}.{FL}`, as `fixed8.8`, is built on demand as a format of products and sites: the same numbers as sign\n"
        "and magnitude, without −2^(IL−1).\n"
    )


def _codes(fmt: FloatFormat) -> str:
    digits = -(-fmt.bits // 4)
    codes = [
        f"{name} `{code:0{digits}X}` = {describe.exact_text(value)}"
        for name, code, value in describe.notable_codes(fmt)
    ]
    return f"**{fmt.name}**: " + ", ".join(codes) + ".\n"
