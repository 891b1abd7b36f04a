"""A unit's netlist as C code that computes 512 cases at once: for benches that try every input.

Yosys synthesises the unit to gates. Each net is a vector of 512 bits, one for each case, and each gate is one
operation on such vectors.
"""

from __future__ import annotations

import graphlib
import hashlib
import json
import os
from pathlib import Path

from tests.rtl.tools import BENCHES, OUT, REFERENCE, RTL, YOSYS, digest, locked, run

#: Yosys' cells as expressions in C.
GATES = {
    "$_NOT_": "~{A}",
    "$_AND_": "{A} & {B}",
    "$_NAND_": "~({A} & {B})",
    "$_OR_": "{A} | {B}",
    "$_NOR_": "~({A} | {B})",
    "$_XOR_": "{A} ^ {B}",
    "$_XNOR_": "~({A} ^ {B})",
    "$_ANDNOT_": "{A} & ~{B}",
    "$_ORNOT_": "{A} | ~{B}",
    "$_MUX_": "({A} & ~{S}) | ({B} & {S})",
}
#: The gates that Yosys' command `abc` maps to; it always uses inverters.
ABC_GATES = "AND,NAND,OR,NOR,XOR,XNOR,ANDNOT,ORNOT,MUX"


def build_netlist(bench: str, wrapper: str, definitions: tuple[str, ...]) -> Path:
    """The program of `bench`.c, with the gates of the module `unit` in a Verilog text.

    Args:
        definitions: of C macros, as `NAME=VALUE`.
    """
    own = Path(__file__).read_text("utf-8")
    key = hashlib.sha256("\0".join([own, wrapper, *definitions]).encode()).hexdigest()[:8]
    folder = OUT / f"{bench}-{digest(RTL, BENCHES, REFERENCE)}-{key}"
    with locked(folder):
        if not (folder / "bench").exists():
            folder.mkdir(exist_ok=True)
            source, netlist = folder / "unit.v", folder / "unit.json"
            source.write_text(wrapper)
            files = " ".join(str(path) for path in sorted(RTL.glob("*.v")))
            run(
                YOSYS, "-q", "-p",
                f"read_verilog -I{RTL} {files} {source}; synth -flatten -top unit; "
                f"abc -g {ABC_GATES}; opt_clean; write_json {netlist}",
            )  # fmt: skip
            (folder / "unit.h").write_text(to_c(netlist))
            run(
                "gcc", "-std=gnu11", "-O3", "-march=native", *(f"-D{each}" for each in definitions),
                f"-I{folder}", f"-I{REFERENCE}", BENCHES / f"{bench}.c", "-o", folder / "linking",
            )  # fmt: skip
            os.replace(folder / "linking", folder / "bench")
    return folder / "bench"


def to_c(netlist: Path) -> str:
    """The C function `unit` of a combinational netlist. Its arguments are the ports, arrays with lowest bit first."""
    module = json.loads(netlist.read_text("utf-8"))["modules"]["unit"]
    names = {"0": "ZEROS", "1": "ONES"}
    arguments = []
    for port, content in module["ports"].items():
        is_input = content["direction"] == "input"
        arguments.append(f"{'const ' if is_input else ''}plane *{port}")
        if is_input:
            names |= {bit: f"{port}[{i}]" for i, bit in enumerate(content["bits"])}
    cells = {cell["connections"]["Y"][0]: cell for cell in module["cells"].values()}
    graph = {net: _inputs(cell).values() for net, cell in cells.items()}
    lines = []
    for net in graphlib.TopologicalSorter(graph).static_order():
        if net in cells:
            operands = {pin: names[bit] for pin, bit in _inputs(cells[net]).items()}
            expression = GATES[cells[net]["type"]].format(**operands)
            names[net] = f"n{net}"
            lines.append(f"    const plane n{net} = {expression};")
    for port, content in module["ports"].items():
        if content["direction"] == "output":
            lines += [f"    {port}[{i}] = {names[bit]};" for i, bit in enumerate(content["bits"])]
    return "\n".join([f"static void unit({', '.join(arguments)})", "{", *lines, "}", ""])


def _inputs(cell: dict) -> dict[str, int | str]:
    """The net at each input of a gate."""
    return {pin: bits[0] for pin, bits in cell["connections"].items() if pin != "Y"}
