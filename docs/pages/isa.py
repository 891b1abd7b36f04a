"""docs/isa.md: instructions, control registers, assembly and program files, from `hfp8sim/isa/`."""

from __future__ import annotations

from docs.pages.markdown import table
from hfp8sim.isa import assembly, format_words, program
from hfp8sim.isa.table import (
    CSRS,
    ENUMERATIONS,
    FLAGS_LOW,
    INSTRUCTIONS,
    OPCODE_LOW,
    Csr,
    Instruction,
    number_name,
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
    rows = [(f"`0x{row.opcode:02x}`", f"`{_syntax(row)}`", row.summary) for row in INSTRUCTIONS]
    return table(("opcode", "instruction", "meaning"), rows)


def _syntax(row: Instruction) -> str:
    shown = {"scratchpad": "s[{}]", "accumulator": "c[{}]"}
    fields = [shown.get(f.kind, "{}").format(f.name) for f in row.fields if f.name != "body"]
    text = f"{row.mnemonic} {', '.join(fields)}".strip()
    text += "".join(f" [, {flag.name}]" for flag in row.flags)
    return text + (" { … }" if row.mnemonic == "loop" else "")


def _instruction(row: Instruction) -> str:
    rows = [(f"{OPCODE_LOW + 7}..{OPCODE_LOW}", "opcode", f"`0x{row.opcode:02x}`")]
    rows += [(f"{FLAGS_LOW + f.bit}", f"flag `{f.name}`", f.meaning) for f in row.flags]
    for field in sorted(row.fields, key=lambda f: -f.low):
        high = field.low + field.width - 1
        rows.append((f"{high}..{field.low}", f"`{field.name}`", field.meaning))
    head = f"### `{row.mnemonic}`: {row.summary}\n\n{row.semantics}\n\n"
    return head + table(("bits", "field", "meaning"), rows)


def _registers() -> str:
    rows = [
        (f"`0x{csr.address:02x}`", f"`{csr.name}`", _values(csr), _reset(csr), csr.meaning)
        for csr in CSRS
    ]
    return table(("number", "name", "values", "reset", "meaning"), rows)


def _values(csr: Csr) -> str:
    if csr.kind == "format":
        return "a format's word"
    if csr.kind in ENUMERATIONS:
        return ", ".join(f"`{name}`" for name in ENUMERATIONS[csr.kind])
    return f"{csr.low}..{csr.high}"


def _reset(csr: Csr) -> str:
    if csr.kind == "format":
        return "none"
    if csr.kind in ENUMERATIONS:
        return f"`{number_name(csr.kind, csr.reset)}`"
    return str(csr.reset)
