"""docs/isa.md, generated: `python -m docs.pages.isa PATH` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from hfp8sim.isa import assembly, format_words, program
from hfp8sim.isa.table import (
    CSRS,
    ENUMERATIONS,
    FLAGS_LOW,
    INSTRUCTIONS,
    OPCODE_LOW,
    Csr,
    Instruction,
)

_HEAD = """# Instruction set

Generated from `hfp8sim/isa/table.py`; do not edit.

An instruction is one 64-bit word. Meaning is strictly in order: an instruction sees everything before
it and nothing after it, on whatever machine it runs. How long it takes is the business of the time
models ([machine](machine.md)), which read the same stream.

Bits 63..56 of a word are the opcode, bits 55..48 its flags. Bits without a meaning are zero; a word that
has others set is no instruction. Scratchpad and accumulators are addressed in rows of array width;
positions of fields do not depend on it. DRAM is addressed in lines of 64 bytes.

The machine works on *tiles*. Control registers say how large the GEMM is and how large a tile; loops
say which tile is current; LD, ST, LDW, MM, CV, CLR and POST work on the current tile. So a layer is a few
dozen words, whatever its size. Buffers turn through slots (`.slots`, `.slot_rows`): LD, CLR and POST
turn theirs before they fill it, and who reads reads the slot that was filled last. With two slots the
next tile comes in while this one computes.
"""


def page() -> str:
    """The whole reference page."""
    parts = [_HEAD, _overview()]
    parts += ["## Instructions\n", *(_instruction(row) for row in INSTRUCTIONS)]
    parts += ["## Control registers\n", _registers()]
    parts += ["## Formats as words\n", _quoted(format_words), "## Assembly\n", _quoted(assembly)]
    parts += ["## Program files\n", _quoted(program)]
    return "\n".join(parts)


def _quoted(module: object) -> str:
    return (module.__doc__ or "").strip() + "\n"


def _overview() -> str:
    rows = ["| opcode | instruction | |", "|---|---|---|"]
    rows += [f"| `0x{row.opcode:02x}` | `{_syntax(row)}` | {row.summary} |" for row in INSTRUCTIONS]
    return "\n".join(rows) + "\n"


def _syntax(row: Instruction) -> str:
    shown = {"scratchpad": "s[{}]", "accumulator": "c[{}]"}
    fields = [shown.get(f.kind, "{}").format(f.name) for f in row.fields if f.name != "body"]
    text = f"{row.mnemonic} {', '.join(fields)}".strip()
    text += "".join(f" [, {flag.name}]" for flag in row.flags)
    return text + (" { … }" if row.mnemonic == "loop" else "")


def _instruction(row: Instruction) -> str:
    lines = [f"### `{row.mnemonic}`: {row.summary}\n", row.semantics + "\n"]
    lines += ["| bits | field | |", "|---|---|---|"]
    top = OPCODE_LOW + 7
    lines.append(f"| {top}..{OPCODE_LOW} | opcode | `0x{row.opcode:02x}` |")
    lines += [f"| {FLAGS_LOW + f.bit} | flag `{f.name}` | {f.meaning} |" for f in row.flags]
    for field in sorted(row.fields, key=lambda f: -f.low):
        high = field.low + field.width - 1
        lines.append(f"| {high}..{field.low} | `{field.name}` | {field.meaning} |")
    return "\n".join(lines) + "\n"


def _registers() -> str:
    lines = ["| number | name | values | reset | |", "|---|---|---|---|---|"]
    lines += [
        f"| `0x{csr.address:02x}` | `{csr.name}` | {_values(csr)} | {_reset(csr)} | {csr.meaning} |"
        for csr in CSRS
    ]
    return "\n".join(lines) + "\n"


def _values(csr: Csr) -> str:
    if csr.kind == "format":
        return "a format's word"
    if csr.kind in ENUMERATIONS:
        return ", ".join(f"`{name}`" for name in ENUMERATIONS[csr.kind][: csr.high + 1])
    return f"{csr.low}..{csr.high}"


def _reset(csr: Csr) -> str:
    if csr.kind == "format":
        return "none"
    if csr.kind in ENUMERATIONS:
        return f"`{ENUMERATIONS[csr.kind][csr.reset]}`"
    return str(csr.reset)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
