"""What variance-retention theory predicts for every layer's sums, as a table in the terminal, and as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hfp8sim.report.columns import Row
from hfp8sim.report.csv import csv_text
from hfp8sim.report.names import plain, shortened_names
from hfp8sim.report.table import new_table

#: The keys of a row: the layer, its sums' length and arithmetic, then retention and needed bits, as one sum
#: (`normal`) and in chunks.
PREDICTED = (
    "layer", "phase", "k", "profile", "rule", "product_bits", "accumulator_bits", "chunk_length",
    "retention_normal", "retention_chunked", "bits_normal", "bits_chunked",
)  # fmt: skip

LEGEND = (
    "acc.: fraction bits of the accumulator; bits: the fewest with which exp(n·(1 − retention)) stays "
    "below 50 (Sakr et al., ICLR 2019), of one long sum and in chunks. The theory assumes zero-mean "
    "terms: sums of one sign stall earlier. `hfp8sim run` measures."
)

#: Characters of a layer's name.
_NAME = 24


def render_csv(rows: Sequence[Row]) -> str:
    """The predictions as comma-separated rows with all digits."""
    return csv_text([PREDICTED, *([row[key] for key in PREDICTED] for row in rows)])


def print_theory(rows: Sequence[Row], console: Console) -> None:
    """The table of predictions, and what its figures mean."""
    console.print(theory_table(rows))
    console.print(Text("\n" + LEGEND, style="dim"))


def theory_table(rows: Sequence[Row]) -> Table:
    """A line for each layer and phase; needed bits that the accumulator does not have are bold."""
    table = new_table()
    ruled = any(row["rule"] for row in rows)
    for heading in ("layer", "phase", "profile", *(["rule"] if ruled else [])):
        table.add_column(heading, no_wrap=True)
    for heading in ("K", "acc.", "chunk", "retention", "chunked", "bits", "chunked"):
        table.add_column(heading, justify="right", no_wrap=True)
    short = shortened_names((row["layer"] for row in rows), _NAME)
    for row in rows:
        available, chunk = row["accumulator_bits"], row["chunk_length"]
        table.add_row(
            *plain(short[row["layer"]], row["phase"], row["profile"]),
            *(plain(row["rule"]) if ruled else []), str(row["k"]), str(available), str(chunk or "–"),
            f"{row['retention_normal']:.4f}",
            f"{row['retention_chunked']:.4f}" if chunk else "–",
            _needed(row["bits_normal"], available),
            _needed(row["bits_chunked"], available) if chunk else "–",
        )  # fmt: skip
    return table


def _needed(bits: int | None, available: int) -> str:
    """Needed fraction bits, in bold where they are more than available."""
    if bits is None:
        return "[bold]>23[/]"
    return f"[bold]{bits}[/]" if bits > available else str(bits)
