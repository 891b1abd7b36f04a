"""The generated tables of docs/rtl.md: gates and depth of the units, from rtl/area.json, and the planted bugs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.area import VARIANTS, Variant, stored
from docs.pages.markdown import filled, table
from hfp8sim.formats import get_format
from tests.mutants.bugs import FOLDER, load_file

PAGE = Path(__file__).parents[1] / "rtl.md"
_143, _169 = "hfp8-143", "dlfloat16"


def page() -> str:
    """The page with the stored numbers."""
    tool = f"Measured with {stored()['tool']}.\n"
    parts = {"costs": costs(), "area": area(), "tool": tool, "bugs": bugs()}
    return filled(PAGE.read_text("utf-8"), **parts)


def bugs() -> str:
    """Every planted bug of rtl/, with the tests that must fail."""
    rows = [
        (f"`{Path(bug.file).stem}`", bug.what, ", ".join(f"`{_test(test)}`" for test in bug.tests))
        for bug in load_file(FOLDER / "rtl.toml")
    ]
    return table(("module", "bug", "found by"), rows)


def _test(test: str) -> str:
    """The name of a test without its folder and its parameters."""
    path, _, name = test.partition("[")[0].partition("::")
    return f"{Path(path).name}::{name}"


def area() -> str:
    """Every variant that was measured."""
    headings = ("unit", "formats", "modes", "random bits", "gates", "flip-flops", "depth")
    rows = []
    for variant in VARIANTS:
        numbers = _numbers(variant)
        rows.append(
            (
                f"`{variant.unit}`" + (", 2 products" if variant.products == 2 else ""),
                ", ".join(map(_short, variant.formats)) or "–",
                " or ".join(variant.modes) or "all nine",
                str(variant.random_bits) if variant.is_stochastic else "–",
                f"{numbers['gates']:,}",
                f"{numbers['flip_flops']:,}" if numbers["flip_flops"] else "–",
                str(numbers["depth"]),
            )
        )
    return table(headings, rows)


def costs() -> str:
    """What a choice costs: a variant beside another one."""
    fma = Variant("hfp8_fma", (_143, _143, _169), ("nearest-away",))
    even = Variant("hfp8_fma", (_143, _143, _169), ("nearest-even",))
    stochastic = Variant("hfp8_fma", (_143, _143, _169), ("stochastic-a",))
    both = Variant("hfp8_fma", (_143, _143, _169), ("nearest-away", "stochastic-a"))
    pair = Variant("hfp8_fmma", (_143, _143, _169), ("nearest-away",))
    fp9 = Variant("hfp8_fma", ("fp9-153", "fp9-153", _169), ("nearest-away",))
    rows = [
        _cost("nearest-even instead of nearest-away", fma, even),
        _cost("stochastic rounding, 13 random bits, instead of nearest-away", fma, stochastic),
        _cost("nearest-away and stochastic rounding, selected by a wire", fma, both),
        _cost("all nine modes, selected by a port", fma, _with(fma, modes=())),
        _cost("24 random bits instead of 13", stochastic, _with(stochastic, random_bits=24)),
        _cost("FP9 operands, 1-5-3, instead of 1-4-3", fma, fp9),
        _cost("a second product, one rounding", fma, pair),
        _cost("subnormals and infinities in the 1-6-9 accumulator", even, _accumulator("ieee-169")),
        _cost("a bfloat16 accumulator instead of 1-6-9", even, _accumulator("bfloat16")),
        _cost("a binary32 accumulator instead of 1-6-9", even, _accumulator("binary32")),
    ]
    return table(("choice", "gates before", "gates", "change", "depth before", "depth"), rows)


def _accumulator(name: str) -> Variant:
    return Variant("hfp8_fma", (_143, _143, name), ("nearest-even",))


def _with(variant: Variant, **changes: object) -> Variant:
    return dataclasses.replace(variant, **changes)  # type: ignore[arg-type]


def _cost(choice: str, before: Variant, after: Variant) -> tuple[str, ...]:
    one, other = _numbers(before), _numbers(after)
    change = round(100 * (other["gates"] / one["gates"] - 1))
    return (
        choice, f"{one['gates']:,}", f"{other['gates']:,}", f"{change:+} %",
        str(one["depth"]), str(other["depth"]),
    )  # fmt: skip


def _numbers(variant: Variant) -> dict[str, int]:
    numbers: dict[str, int] = stored()["variants"][variant.name]  # type: ignore[index]
    return numbers


def _short(name: str) -> str:
    """`1-4-3` for a format of HFP8 or the 1-6-9 accumulator, else the name."""
    fmt = get_format(name)
    digits = f"1-{fmt.exponent_bits}-{fmt.fraction_bits}"
    return digits if name in ("hfp8-143", "hfp8-152", "fp9-153", "dlfloat16") else name
