"""Cells and depth of the units of rtl/ after synthesis by Yosys: written to rtl/area.json, which docs/rtl.md shows.

    python -m benchmarks.area

The numbers are those of generic gates, without a library: two-input NAND and NOR gates, inverters, and flip-flops.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hfp8sim.files import write_text
from hfp8sim.formats import get_format
from hfp8sim.formats.vocabulary import MODES
from hfp8sim.isa.format_words import format_word

ROOT = Path(__file__).parents[1]
RTL = ROOT / "rtl"
FILE = RTL / "area.json"
FORMAT_KEYS = {
    "hfp8_convert": ("SOURCE", "TARGET"),
    "hfp8_add": ("TOTAL_FORMAT", "ADDEND_FORMAT"),
    "hfp8_fma": ("A_FORMAT", "B_FORMAT", "ACC_FORMAT"),
    "hfp8_fmma": ("A_FORMAT", "B_FORMAT", "ACC_FORMAT"),
    "hfp8_mac": ("A_FORMAT", "B_FORMAT", "ACC_FORMAT", "BETWEEN_FORMAT"),
    "hfp8_mac_lfsr": ("A_FORMAT", "B_FORMAT", "ACC_FORMAT", "BETWEEN_FORMAT"),
    "hfp8_element": ("A_FORMAT", "B_FORMAT", "ACC_FORMAT"),
    "hfp8_lfsr": (),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A unit with its parameters and with constants at some ports."""

    unit: str
    formats: tuple[str, ...]
    modes: tuple[
        str, ...
    ]  #: one is a constant; of two, a wire selects; `()` is a port for all nine
    random_bits: int = 13
    products: int = 1

    @property
    def name(self) -> str:
        """The key of the variant in rtl/area.json."""
        modes = " or ".join(self.modes) if self.modes else "all nine modes"
        more = f", {self.products} products" if self.unit in _WITH_PRODUCTS else ""
        bits = f", r = {self.random_bits}" if self.is_stochastic else ""
        return f"{self.unit} {' '.join(self.formats)}, {modes}{bits}{more}"

    @property
    def is_stochastic(self) -> bool:
        """Whether a mode takes random bits."""
        return not self.modes or any(mode.startswith("stochastic") for mode in self.modes)


_WITH_PRODUCTS = ("hfp8_mac", "hfp8_mac_lfsr", "hfp8_element")
_143, _152, _FP9, _169 = "hfp8-143", "hfp8-152", "fp9-153", "dlfloat16"
_AWAY, _SR = ("nearest-away",), ("stochastic-a",)

#: What docs/rtl.md compares, in its order.
VARIANTS = (
    *(Variant("hfp8_fma", (_143, _143, _169), modes) for modes in (
        ("toward-zero",), _AWAY, ("nearest-even",), _SR, ("nearest-away", "stochastic-a"), ())),
    *(Variant("hfp8_fma", (_143, _143, _169), _SR, bits) for bits in (4, 8, 24)),
    *(Variant("hfp8_fma", (a, b, _169), _AWAY) for a, b in ((_143, _152), (_152, _152), (_FP9, _FP9))),
    *(Variant("hfp8_fma", (_143, _143, acc), ("nearest-even",)) for acc in (
        "ieee-169", "binary16", "bfloat16", "binary32")),
    *(Variant("hfp8_fmma", (a, b, _169), _AWAY) for a, b in ((_143, _143), (_143, _152), (_152, _152), (_FP9, _FP9))),
    Variant("hfp8_fmma", (_143, _143, _169), _SR),
    *(Variant("hfp8_add", (total, _169), modes) for total, modes in (
        (_169, _AWAY), (_169, _SR), ("binary32", ("nearest-even",)))),
    *(Variant("hfp8_convert", (source, target), modes) for source in ("binary32", _169) for target, modes in (
        (_143, _AWAY), (_143, _SR), (_152, _AWAY), ("e4m3fn", ("nearest-even",)))),
    Variant("hfp8_lfsr", (), _SR),
    *(Variant("hfp8_mac", (_143, _143, _169, _169), _AWAY, products=products) for products in (1, 2)),
    Variant("hfp8_mac_lfsr", (_143, _143, _169, _169), _SR),
    *(Variant("hfp8_element", (_143, _143, _169), _AWAY, products=products) for products in (1, 2)),
)  # fmt: skip


def digest() -> str:
    """A digest of the sources in rtl/, without their comments and spaces."""
    content = hashlib.sha256()
    for path in sorted([*RTL.glob("*.v"), *RTL.glob("*.vh")]):
        text = re.sub(r"//.*", "", path.read_text("utf-8"))
        content.update(" ".join([path.name, *text.split()]).encode())
    return content.hexdigest()


def stored() -> dict[str, object]:
    """The contents of rtl/area.json: `tool`, `sources`, `variants`."""
    content: dict[str, object] = json.loads(FILE.read_text("utf-8"))
    return content


def measure(variant: Variant) -> dict[str, int]:
    """Synthesise a variant. Returns `gates`, `flip_flops` and `depth`, the gates on the longest path."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name) / "top.v"
        top.write_text(_top(variant))
        sources = " ".join(str(path) for path in sorted(RTL.glob("*.v")))
        script = f"read_verilog -I{RTL} {sources} {top}; synth -flatten -top top; abc -g cmos2; opt_clean; stat; ltp -noff"
        process = subprocess.run(
            ["yosys", "-p", script], capture_output=True, text=True, check=True
        )
    return _numbers(process.stdout)


def _numbers(log: str) -> dict[str, int]:
    """The last statistics in Yosys' log, and the last longest path."""
    cells = dict(re.findall(r"^ +(\$_\w+_) +(\d+)$", log.rpartition("Number of cells")[2], re.M))
    flip_flops = sum(int(count) for name, count in cells.items() if "DFF" in name)
    unknown = [
        name for name in cells if "DFF" not in name and name not in ("$_NAND_", "$_NOR_", "$_NOT_")
    ]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} among the cells")
    depths = re.findall(r"Longest topological path in top \(length=(\d+)\)", log)
    gates = sum(map(int, cells.values())) - flip_flops
    return {"gates": gates, "flip_flops": flip_flops, "depth": int(depths[-1])}


def _top(variant: Variant) -> str:
    """A module `top` around a variant; its ports are those of the unit that are no constants."""
    ports = _ports(variant)
    mode = "mode"
    if len(variant.modes) == 1:
        mode = f"4'd{MODES.index(variant.modes[0])}"
    elif variant.modes:
        mode = f"(choice ? 4'd{MODES.index(variant.modes[1])} : 4'd{MODES.index(variant.modes[0])})"
    constants = {"mode": mode, "between_mode": mode, "saturate": "1'b0"}
    if not variant.is_stochastic:
        constants |= dict.fromkeys(("random", "between_random", "row_word"), "1'd0")
        constants["column_word"] = constants["row_word"]
    outer = [
        f"    {direction} [{width - 1}:0] {port};"
        for port, (direction, width) in ports.items()
        if port not in constants
    ]
    names = [port for port in ports if port not in constants]
    if "mode" in ports and not variant.modes:
        names.append("mode")
        outer.append("    input [3:0] mode;")
    if len(variant.modes) > 1:
        names.append("choice")
        outer.append("    input choice;")
    inner = [f"        .{port}({constants.get(port, port)})" for port in ports]
    lines = [f"module top ({', '.join(names)});", *outer]
    values = ", ".join(f".{key}({value})" for key, value in _values(variant).items())
    lines += [
        f"    {variant.unit} {f'#({values}) ' if values else ''}unit (",
        ",\n".join(inner),
        "    );",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


def _values(variant: Variant) -> Mapping[str, str]:
    values = {
        key: f"32'h{format_word(get_format(name)):08x}"
        for key, name in zip(FORMAT_KEYS[variant.unit], variant.formats)
    }
    if variant.unit != "hfp8_lfsr":
        values["RANDOM_BITS"] = str(variant.random_bits if variant.is_stochastic else 1)
    if variant.unit in _WITH_PRODUCTS:
        values["PRODUCTS"] = str(variant.products)
    return values


def _ports(variant: Variant) -> dict[str, tuple[str, int]]:
    """The ports of a unit: direction and width, as Yosys elaborates them."""
    sources = " ".join(str(path) for path in sorted(RTL.glob("*.v")))
    chosen = "".join(f" -chparam {key} {value}" for key, value in _values(variant).items())
    script = (
        f"read_verilog -I{RTL} {sources}; hierarchy -top {variant.unit}{chosen}; proc; write_json"
    )
    process = subprocess.run(
        ["yosys", "-q", "-p", script], capture_output=True, text=True, check=True
    )
    modules = json.loads(process.stdout)["modules"]
    top = next(module for module in modules.values() if "top" in module["attributes"])
    return {name: (port["direction"], len(port["bits"])) for name, port in top["ports"].items()}


def tool() -> str:
    """Yosys and its version."""
    version = subprocess.run(["yosys", "-V"], capture_output=True, text=True, check=True).stdout
    return " ".join(version.split()[:2])


def main() -> int:
    """The command."""
    variants = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for variant, numbers in zip(VARIANTS, pool.map(measure, VARIANTS)):
            variants[variant.name] = numbers
            print(f"{variant.name}: {numbers}", file=sys.stderr, flush=True)
    content = {"tool": tool(), "sources": digest(), "variants": variants}
    write_text(FILE, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
