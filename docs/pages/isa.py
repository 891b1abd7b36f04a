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

An instruction is one 64-bit word. Its meaning depends on all instructions before it and on none after it,
on every machine. The time models ([machine](machine.md)) read the same words and define how long an
instruction takes.

Bits 63..56 of a word are the opcode, bits 55..48 its flags. All bits without a meaning must be zero.
Scratchpad and accumulators are addressed in rows of array width. The places of fields in the word do not
depend on that width. DRAM is addressed in lines of 64 bytes.

The machine works on *tiles*. Control registers hold the sizes of the GEMM and of a tile. Loops select the
current tile. LD, ST, LDW, MM, CV, CLR and POST work on the current tile. So a layer is a few dozen words,
whatever its size. A buffer rotates through its slots (`.slots`, `.slot_rows`): LD, CLR and POST rotate their
buffer to the next slot before they fill it. An instruction that reads a buffer reads the slot that was
filled last. With two slots (double buffering), the next tile loads while the current one computes.

A *segment* is what is between two barriers (FENCE, HALT), as a rule a layer in one phase. Times are given by segment.
One that no `.layer` names is called `segment N`, counted from 0.
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
    notations = {"scratchpad": "s[{}]", "accumulator": "c[{}]"}
    fields = [notations.get(f.kind, "{}").format(f.name) for f in row.fields if f.name != "body"]
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
