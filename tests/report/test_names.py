"""Layer names are data: any text comes out as it went in, in every form of a report."""

import csv
import io
import json
import re
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest

from hfp8sim.errors import printable
from hfp8sim.isa import Program, ProgramLayer, assemble, disassemble
from hfp8sim.network import Layer, Workload
from hfp8sim.report.comparison_table import render as render_comparison
from hfp8sim.report.names import shortened_names
from hfp8sim.report.record import file_name
from hfp8sim.report.report import Report, compare
from hfp8sim.report.table import render
from hfp8sim.units import get_profile
from hfp8sim.units.policy import assign, parse
from hfp8sim.workloads import load_trace, save_trace
from tests.report.samples import sample

NAMES = (
    "[red]x[/red]", "[/]", "a:b:c", "tab\tline\nreturn\r", "esc\x1b[31m", "nul\x00", "x" * 300,
    "x" * 150 + "z" + "x" * 149, "<script>&\"'</script>", "]]>", "\u202ertl", "漢字" * 30, "=cmd()",
    "a,b;c#d", 'say "hi"', "🧨", "a=b", "*", "[x]", "a.b.c" * 20, "line\u2028end", ":smile:", " x ",
)  # fmt: skip


@pytest.fixture(scope="module")
def report() -> Report:
    return sample(NAMES)


def phases(report: Report) -> list[str]:
    return [row["layer"] for row in report.layers]


def test_machine_forms_have_names_as_they_are(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_csv(), newline="")))
    assert [row["layer"] for row in rows[:-1]] == phases(report)
    assert [row["layer"] for row in json.loads(report.to_json())["layers"]] == phases(report)
    assert phases(Report.from_json(report.to_json(), "r.json")) == phases(report)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_table_has_a_line_for_each_name(report: Report, width: int) -> None:
    lines = render(report, width).splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("layer")) + 1
    shown = {line.split("  ")[0] or line for line in lines[first : first + len(report.layers)]}
    assert len(shown) == len(NAMES)
    assert all(line.isprintable() for line in lines)
    assert {"[red]x[/red]", ":smile:"} <= shown or width == 80


def test_comparison_has_a_line_for_each_name(report: Report) -> None:
    text = render_comparison(compare([report, report], ["[b]a", "b\x1b"]))
    assert text.count(" fwd ") % len(NAMES) == 0 and "\x1b" not in text and "[b]a" in text


def test_pages_are_well_formed(report: Report) -> None:
    for page in (report.to_html(), compare([report, sample(NAMES)]).to_html()):
        assert {c for c in page if not c.isprintable()} <= {"\n", "\u00a0"}
        assert "<script>&" not in page
        drawings = re.findall("<svg.*?</svg>", page, re.DOTALL)
        assert drawings
        for drawing in drawings:
            minidom.parseString(drawing)


def test_shortened_names_stay_distinct() -> None:
    names = [f"{'encoder.' * 40}{n}{'.projection' * 40}" for n in range(500)]
    for width in (10, 16, 28):
        short = shortened_names([*names, "x…x~2", "~2"], width)
        assert len(set(short.values())) == len(names) + 2
        assert max(map(len, short.values())) <= width


def test_printable_text_is_one_line() -> None:
    assert printable("µs × 2\u00a0%") == "µs × 2\u00a0%"
    assert printable("a\tb\x1b\u2028\ud800") == "a\\tb\\x1b\\u2028\\ud800"


def test_file_names_stay_distinct() -> None:
    names = {file_name(name) for name in ("漢" * 90 + "a", "漢" * 90 + "b", "x" * 300, "x" * 299)}
    assert len(names) == 4
    assert max(len(name.encode()) for name in names) <= 100
    assert file_name("resnet18@32") == "resnet18@32"


def test_traces_and_programs_keep_names(tmp_path: Path) -> None:
    names = (*NAMES, "half \ud800")
    workload = Workload("\udce9", tuple(Layer(name, "gemm", 1, 2, 3) for name in names))
    for path in (tmp_path / "t.npz", tmp_path / "t"):
        save_trace(path, workload)
        assert [layer.name for layer in load_trace(path)] == list(names)
        assert load_trace(path).name == "\udce9"
    layers = [ProgramLayer(name, "fwd", 0, 0) for name in names]
    program = Program(np.zeros(0, np.uint64), (), tuple(layers))
    assert assemble(disassemble(program)) == program
    program.save(tmp_path / "p")
    assert Program.load(tmp_path / "p") == program


@pytest.mark.parametrize("name", [name for name in NAMES if name != "*"], ids=ascii)
def test_policy_names_any_layer(name: str) -> None:
    workload = Workload("w", tuple(Layer(name, "gemm", 1, 2, 3) for name in NAMES))
    quoted = '"' + name.replace('"', '""') + '"'
    for policy in ({name: "fp16"}, f"{quoted}=fp16, last=exact"):
        chosen = assign(workload, get_profile("hfp8"), parse(policy))
        assert chosen[NAMES.index(name)][0].name == "fp16"
