"""`hfp8sim formats`: the registry, and one format's facts, codes and number line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfp8sim.commands import app, console

if TYPE_CHECKING:
    from hfp8sim.formats import FloatFormat

_LINE = 96  # characters of a number line


@app.command()
def formats(
    name: Annotated[
        str | None, typer.Argument(help="a format; all of them are listed without")
    ] = None,
) -> None:
    """List the number formats, or show one: facts, code table and number line."""
    from rich.table import Table

    from hfp8sim.formats import formats as names
    from hfp8sim.formats import get_format
    from hfp8sim.units.pages import facts_of

    out = console()
    if name is None:
        made = Table(box=None, header_style="bold", pad_edge=False)
        made.add_column("format")
        for heading in facts_of(get_format("hfp8-143")):
            made.add_column(heading)
        for known in names():
            made.add_row(known, *facts_of(get_format(known)).values())
        out.print(made)
        return
    fmt = get_format(name)
    out.print(f"[bold]{fmt.name}[/], {fmt.bits} bits")
    for heading, value in facts_of(fmt).items():
        out.print(f"  {heading:<16} {value}")
    if fmt.bits <= 8:
        out.print(code_table(fmt))
        out.print(f"positive numbers, by exponent:\n{number_line(fmt)}")


def code_table(fmt: FloatFormat) -> Any:
    """The values of all codes, eight to a line."""
    from rich.table import Table

    made = Table(box=None, header_style="bold", pad_edge=False)
    columns = min(8, 1 << fmt.bits)
    made.add_column("code")
    for low in range(columns):
        made.add_column(f"+{low}", justify="right")
    values = fmt.table()
    for first in range(0, values.size, columns):
        made.add_row(f"0x{first:02X}", *(f"{v:.6g}" for v in values[first : first + columns]))
    return made


def number_line(fmt: FloatFormat) -> str:
    """The positive numbers on a line of logarithms: one mark where there is a number."""
    import numpy as np

    values = fmt.table()
    values = values[np.isfinite(values) & (values > 0)]
    low, high = np.floor(np.log2(values.min())), np.ceil(np.log2(values.max()))
    places = ((np.log2(values) - low) / (high - low) * (_LINE - 1)).astype(int)
    line = [" "] * _LINE
    for place in places:
        line[place] = "|"
    left, right = f"2^{low:.0f}", f"2^{high:.0f}"
    return "".join(line) + "\n" + left + " " * (_LINE - len(left) - len(right)) + right
