"""The tables of docs/machine.md: `python -m docs.pages.machine PATH` puts them into the page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from hfp8sim.machine.config import get_machine, machines, number_fields


def keys() -> str:
    """Every key of a machine: range and meaning."""
    lines = ["| key | range | meaning |", "|---|---|---|"]
    for key, field in number_fields():
        low, high = field.metadata["low"], field.metadata["high"]
        lines.append(f"| `{key}` | {low}..{high} | {field.metadata['meaning']} |")
    return "\n".join(lines)


def presets() -> str:
    """The shipped machines side by side; an assumed value has a star."""
    shipped = [get_machine(name) for name in machines()]
    lines = [
        "| | " + " | ".join(f"`{m.name}`" for m in shipped) + " |",
        "|---" * (len(shipped) + 1) + "|",
    ]
    for key, _ in number_fields():
        cells = [f"{machine[key]}{'*' if key in machine.assumed else ''}" for machine in shipped]
        lines.append(f"| `{key}` | {' | '.join(cells)} |")
    peaks = [f"{machine.peak_tflops(8):g} / {machine.peak_tflops(16):g}" for machine in shipped]
    lines.append(f"| peak TFLOPS, 8 / 16 bits | {' | '.join(peaks)} |")
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its tables as they should be."""
    for name, table in (("keys", keys()), ("presets", presets())):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page = re.sub(pattern, lambda m: m[1] + table + "\n" + m[2], page, flags=re.DOTALL)  # noqa: B023
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
