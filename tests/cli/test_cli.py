"""The command line: status 0 and a report, or 2 and one line; no traceback, no partly written file."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim import cli, simulation, verify
from hfp8sim.cli import workloads
from hfp8sim.network import Layer, Workload
from hfp8sim.report.columns import FLAT
from hfp8sim.report.forms import COMPARISON_FORMS, FORMS
from hfp8sim.simulation import checkpoint
from hfp8sim.verify import Check, Result
from hfp8sim.workloads import load_workload, save_trace
from hfp8sim.workloads.writers import WRITERS
from tests.damaged import mutated

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text("utf-8"))
HFP8SIM = [sys.executable, "-m", "hfp8sim"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the console script in this process: exit status, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hfp8sim", *map(str, arguments)])
        capsys.readouterr()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            cli.main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        finally:  # what an interrupted process does with signals at its end
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def gemms(tmp_path: Path) -> Path:
    """A workload that takes no time."""
    path = tmp_path / "gemms.csv"
    path.write_text("Layer, M, N, K,\nfirst, 4, 5, 6,\nmiddle, 3, 8, 70,\nlast, 2, 3, 4,\n")
    return path


# -- commands ------------------------------------------------------------------------------------


def test_run_of_a_folder_prints_a_line_for_each_file(run: Run, gemms: Path, tmp_path: Path) -> None:
    """Folders within it count, other files do not; one that cannot be read stops none of the others."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "more.csv").write_text("Layer, M, N, K,\nonly, 8, 8, 8,\n")
    (tmp_path / "notes.md").write_text("no workload")
    status, out, err = run("run", tmp_path, "--time-only")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["more", "gemms"]
    assert "util" in out and "SQNR" not in out
    (tmp_path / "broken.csv").write_text("Layer, M, N, K,\nfirst, 4, x, 6,\n")
    status, out, err = run("run", tmp_path, "digits-cnn", "--time-only")
    assert status == 2 and out.count("\n") >= 4
    assert err.startswith(f"hfp8sim: {tmp_path / 'broken.csv'}")
    assert err.endswith("hfp8sim: 1 of 4 workloads were not run\n")


def test_run_of_several_workloads_writes_each_report(run: Run, gemms: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("Layer, M, N, K,\nonly, 8, 8, 8,\n")
    folder = tmp_path / "out"
    status, out, _ = run("run", gemms, other, "--format", "json", "--out", folder)
    assert status == 0 and "sum SQNR" in out
    for path in (gemms, other):
        report = hs.Report.load(folder / f"{path.stem}.json")
        assert report.layers == hs.simulate(str(path)).layers
    for options, reason in (
        (["--format", "csv"], "--format csv of several workloads needs --out"),
        (["--timeline", tmp_path / "t.json"], "--timeline goes with one workload"),
    ):
        status, _, err = run("run", gemms, other, *options)
        assert status == 2 and reason in err
    (tmp_path / "empty").mkdir()
    status, _, err = run("run", tmp_path / "empty")
    assert status == 2 and "no file in it ends in" in err


def test_table_fits_100_characters(run: Run, gemms: Path) -> None:
    status, out, err = run("run", gemms)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "bound by" in out and any(line.startswith("total") for line in lines)
    assert sum(line.startswith(("first", "middle", "last")) for line in lines) == 9


def test_formats_option_registers_formats_of_a_file(
    run: Run, gemms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command knows them after `--formats FILE`."""
    path = tmp_path / "mine.toml"
    path.write_text("[format.mine-134]\nexponent_bits = 3\nfraction_bits = 4\nbias = 3\n")
    own = "--formats", path
    status, out, err = run(*own, "formats", "mine-134")
    assert (status, err) == (0, "") and "1-3-4" in out and "15.5" in out
    assert run(*own, "run", gemms, "--set", "a_format=mine-134", "--phase", "fwd")[0] == 0
    path.write_text("[format.other]\nexponent_bits = 3\n")
    status, out, err = run(*own, "formats")
    assert (status, out) == (2, "") and err.count("\n") == 1 and "fraction_bits is missing" in err


def test_csv(run: Run, gemms: Path) -> None:
    status, out, _ = run("run", gemms, "--format", "csv", "--phase", "fwd")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and tuple(rows[0]) == FLAT
    assert [row["layer"] for row in rows] == ["first", "middle", "last", "total"]


def test_csv_of_chosen_columns(run: Run, gemms: Path) -> None:
    status, out, _ = run("run", gemms, "--phase", "fwd", "--format", "csv", "--columns", "layer,k")
    assert (status, out) == (0, "layer,k\nfirst,6\nmiddle,70\nlast,4\ntotal,\n")


def test_command_in_json_reproduces_the_report(run: Run, gemms: Path) -> None:
    status, out, _ = run("run", gemms, "--format", "json", "--set", "chunk_length=8", "--seed", "5")
    document = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    assert status == 0 and document["profile"]["chunk_length"] == 8 and document["seed"] == 5
    import shlex

    words = shlex.split(document["command"])
    assert words[0] == "hfp8sim" and json.loads(run(*words[1:])[1]) == document


def test_output_files_are_named_after_the_workload(run: Run, gemms: Path, tmp_path: Path) -> None:
    names = {
        "table": "txt",
        "csv": "csv",
        "json": "json",
        "html": "html",
        "scalesim": "scalesim.csv",
    }
    for form, ending in names.items():
        status, out, err = run("run", gemms, "--format", form, "--out", tmp_path / "new" / "deep")
        path = tmp_path / "new" / "deep" / f"gemms.{ending}"
        assert (status, out.strip(), err) == (0, str(path), "") and path.stat().st_size > 100
    assert len(list((tmp_path / "new" / "deep").iterdir())) == len(names)


def test_scalesim_csv_for_a_scalesim_machine(run: Run, tmp_path: Path) -> None:
    """64³ on 8×8 output-stationary: 4991 cycles, as SCALE-Sim 3.0.0 prints."""
    (tmp_path / "cube.csv").write_text("Layer,M,N,K,\ncube,64,64,64,\n")
    (tmp_path / "os.cfg").write_text(
        "[general]\nrun_name = os\n[architecture_presets]\nArrayHeight: 8\nArrayWidth: 8\n"
        "IfmapSramSzkB: 64\nFilterSramSzkB: 64\nOfmapSramSzkB: 64\nDataflow: os\n"
        "[run_presets]\nInterfaceBandwidth: CALC\n"
    )
    status, out, _ = run(
        "run", tmp_path / "cube.csv", "--machine", tmp_path / "os.cfg", "--phase", "fwd",
        "--format", "scalesim",
    )  # fmt: skip
    assert status == 0
    result = out.splitlines()[1].rstrip(",").split(", ")
    assert result[:4] == ["0", "4991", "4991", "0"]
    assert round(float(result[4]), 2) == 82.07 and float(result[5]) == 100.0


def test_mapping_efficiency_counts_lanes_and_corelets(run: Run, gemms: Path) -> None:
    """`rapid-core` is 16 × 128 cells for operands of 8 bits, and 8 × 128 for wider ones; K = 70, N = 8."""
    for profile, depth in (("hfp8", 16), ("fp16", 8)):
        out = run("run", gemms, "--time-only", "--profile", profile, "--time-model", "scalesim-ws",
                  "--phase", "fwd", "--format", "scalesim")[1]  # fmt: skip
        mapped = float(out.splitlines()[2].split(", ")[5])
        assert mapped == pytest.approx(100 * 70 / (-(-70 // depth) * depth) * 8 / 128)


def test_policy_fills_the_rule_column(run: Run, gemms: Path) -> None:
    status, out, _ = run("run", gemms, "--policy", "first=fp16,la*=exact", "--format", "csv")
    fired = {r["layer"]: (r["profile"], r["rule"]) for r in csv.DictReader(io.StringIO(out))}
    assert status == 0 and fired["first"] == ("fp16", "first")
    assert fired["middle"] == ("hfp8", "") and fired["last"] == ("exact", "la*")


def test_show_renders_a_saved_report(run: Run, gemms: Path, tmp_path: Path) -> None:
    run("run", gemms, "--format", "json", "--out", tmp_path)
    for form in ("csv", "html", "scalesim"):
        assert run("show", tmp_path / "gemms.json", "--format", form)[0] == 0
    direct = run("run", gemms, "--format", "csv")[1]
    assert run("show", tmp_path / "gemms.json", "--format", "csv")[1] == direct


def test_compare_files(run: Run, gemms: Path, tmp_path: Path) -> None:
    for name, profile in (("a", "hfp8"), ("b", "fp16")):
        run("run", gemms, "--profile", profile, "--format", "json", "--out", tmp_path / name)
    paths = [tmp_path / name / "gemms.json" for name in "ab"]
    status, out, _ = run("compare", *paths)
    assert status == 0 and max(map(len, out.splitlines())) <= 100
    assert "profile=hfp8" in out and "profile=fp16" in out and "B−A" in out
    status, out, _ = run("compare", *paths, "--format", "html", "--out", tmp_path)
    assert status == 0 and "<svg" in Path(out.strip()).read_text("utf-8")
    status, out, _ = run("compare", *paths, "--columns", "swamped,macs")
    assert status == 0 and "swamped A" in out and "SQNR A" not in out


def test_compare_by_varying(run: Run, gemms: Path, tmp_path: Path) -> None:
    status, out, _ = run(
        "compare", gemms, "--vary", "chunk_length=2,64", "--vary", "machine=rapid-core,edge-8x8",
        "--phase", "fwd", "--format", "csv", "--out", tmp_path,
    )  # fmt: skip
    files = out.split()
    assert status == 0 and len(files) == 5
    runs = dict.fromkeys(
        r["run"] for r in csv.DictReader(io.StringIO(Path(files[-1]).read_text("utf-8")))
    )
    assert list(runs) == [
        f"machine={machine}, chunk_length={length}"
        for length in (2, 64)
        for machine in ("rapid-core", "edge-8x8")
    ]
    for path in files[:-1]:
        jsonschema.validate(json.loads(Path(path).read_text("utf-8")), SCHEMA)


@pytest.mark.parametrize(
    "value", ["chunk_length=8,x", "machine=edge-8x8,x", "seed=1,x", "time_model=pipelined,x"]
)
def test_compare_refuses_a_bad_value_before_the_first_run(
    run: Run, gemms: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(simulation, "simulate", lambda *a, **k: pytest.fail("a run was started"))
    refused(run("compare", gemms, "--vary", value), "x")
    refused(run("compare", gemms, "--vary", value.partition(",")[0]), "needs two values or more")


def test_theory(run: Run, gemms: Path) -> None:
    status, out, err = run("theory", gemms)
    assert (status, err) == (0, "") and max(map(len, out.splitlines())) <= 100
    rows = list(csv.DictReader(io.StringIO(run("theory", gemms, "--csv", "--phase", "fwd")[1])))
    assert [row["k"] for row in rows] == ["6", "70", "4"] and rows[1]["bits_chunked"] == "7"


def test_convert(run: Run, gemms: Path, tmp_path: Path) -> None:
    trace, again = tmp_path / "t.npz", tmp_path / "again.csv"
    assert run("convert", gemms, trace) == (0, f"{trace}: trace of 3 layers with no tensors\n", "")
    assert run("convert", trace, again) == (0, f"{again}: GEMM list of 3 rows\n", "")
    assert again.read_text() == gemms.read_text()
    csv_path = tmp_path / "mobile.csv"
    wrote = run(
        "convert", "mobilenet-v2", csv_path, "--batch", 2, "--as", "gemm", "--phase", "wgrad"
    )
    assert wrote[0] == 0 and csv_path.read_text().count("\n") == 7173


def test_calibration_on_every_way(run: Run, gemms: Path, tmp_path: Path) -> None:
    """`run`, `lower`, `compare` and `convert` choose the same biases, and a trace carries them."""
    trace, calibrated = tmp_path / "t.npz", tmp_path / "c.npz"
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(np.float32) * 100 for s in ((4, 6), (6, 5)))
    layer = Layer("fc", "linear", 4, 5, 6, phases=("fwd",), tensors={"x": x, "w": w})
    save_trace(trace, Workload("t", (layer,)))
    options = ("--format", "csv", "--columns", "scaling,saturated")
    plain, ran = run("run", trace, *options), run("run", trace, *options, "--calibrate", "max")
    biases = [max(b for b in range(16) if 1.875 * 2 ** (15 - b) >= abs(t).max()) for t in (x, w)]
    assert ran[1].splitlines()[1] == f"x@{biases[0]} w@{biases[1]},0"
    assert plain[1].splitlines()[1] == f",{np.sum(abs(x) > 31) + np.sum(abs(w) > 31)}"
    assert run("convert", trace, calibrated, "--calibrate", "max")[0] == 0
    assert run("run", calibrated, *options)[1] == ran[1]
    assert run("run", calibrated, *options, "--calibrate", "none")[1] == plain[1]
    assert run("run", trace, *options, "--calibrate", "max", "--calibrate-on", trace)[1] == ran[1]
    said = run("convert", calibrated, tmp_path / "list.csv")[2]
    assert said == "hfp8sim: a list holds no calibration; a trace (.npz) does\n"
    for arguments in ((calibrated,), (trace, "--calibrate", "max")):
        status, out, _ = run("lower", *arguments, "--out", tmp_path / "p.s")
        assert status == 0 and f"fc fwd: x@{biases[0]} w@{biases[1]}\n" in out
        text = (tmp_path / "p.s").read_text()
        assert f"csrw  a.format, hfp8-143@{biases[0]}\n" in text
        assert f"csrw  b.format, hfp8-143@{biases[1]}\n" in text
    status, out, _ = run("compare", trace, "--vary", "calibrate=none,max,mse")
    assert status == 0
    for letter, label in zip("ABC", ("none", "max", "mse")):
        assert f"{letter}  calibration={label}" in out
    refused(run("run", trace, "--calibrate", "least"), "unknown calibration 'least'")
    refused(run("compare", trace, "--vary", "calibrate=none,least"), "unknown calibration 'least'")
    refused(run("lower", trace, "--out", "x", "--calibrate-on", trace), "needs --calibrate max")
    refused(run("run", trace, "--calibrate", "max", "--time-only"), "time_only computes none")


def test_convert_runs_a_model_on_given_arrays(run: Run, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    of = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [of("x", 1, ["N", "T", 3])], [of("y", 1, ["N", "T", 4])],
        [onnx.numpy_helper.from_array(np.ones((3, 4), np.float32), "w")],
    )  # fmt: skip
    model = tmp_path / "m.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), model
    )
    refused(
        run("run", model), "free dimension 'T'; give its size, as in dims={'T': 128} or --dim T=128"
    )
    status, out, _ = run("run", model, "--batch", 2, "--dim", "T=5", "--phase", "fwd")
    assert status == 0 and "10×4×3" in out
    x = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
    np.savez(tmp_path / "in.npz", x=x)
    assert run("convert", model, tmp_path / "t", "--inputs", tmp_path / "in.npz")[0] == 0
    read = load_workload(tmp_path / "t")[0]
    assert np.array_equal(read.tensors["x"], x.reshape(10, 3)) and "a given input" in read.origin


def test_timeline(run: Run, gemms: Path, tmp_path: Path) -> None:
    status, *_ = run("run", gemms, "--phase", "fwd", "--timeline", tmp_path / "t.json")
    assert status == 0 and json.loads((tmp_path / "t.json").read_text())["traceEvents"]


def test_time_only(run: Run, gemms: Path) -> None:
    status, out, err = run("run", gemms, "--time-only")
    assert (status, err) == (0, "") and "SQNR" not in out and "kB moved" in out
    for model in ("pipelined", "scalesim-os"):
        options = ("--format", "csv", "--columns", "layer,cycles,bytes", "--time-model", model)
        assert run("run", gemms, "--time-only", *options)[1] == run("run", gemms, *options)[1]
    varied = run("compare", gemms, "--vary", "machine=rapid-core,edge-8x8", "--time-only")
    assert varied[0] == 0 and "SQNR" not in varied[1] and "B/A" in varied[1]


@pytest.mark.parametrize(
    "command", ["profiles", "recipes", "machines", "workloads", "--version", "--help"]
)
def test_lists(run: Run, command: str) -> None:
    status, out, err = run(command)
    assert status == 0 and err == "" and len(out) > 10


def test_help_imports_nothing_heavy() -> None:
    """Nothing heavy is imported for it: a fact, not a time."""
    code = (
        "import sys; sys.argv = ['hfp8sim', '--help']\n"
        "from hfp8sim.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('numpy', 'numba', 'jinja2') if m in sys.modules], file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stderr.strip() == "[]" and "Usage" in process.stdout


def test_no_arguments_print_the_help(run: Run) -> None:
    status, out, err = run()
    assert (status, err) == (2, "") and "Usage" in out


def test_every_command_has_help(run: Run) -> None:
    listed = re.findall(r"^│ ([a-z]+) ", run("--help")[1], re.MULTILINE)
    assert {"run", "show", "compare", "theory"} <= set(listed)
    for command in listed:
        status, out, _ = run(command, "--help")
        assert run(command, "-h")[1] == out
        assert status == 0 and "Usage" in out


def test_forms_are_those_of_the_registry(run: Run) -> None:
    for command, forms in (("run", FORMS), ("show", FORMS), ("compare", COMPARISON_FORMS)):
        refused(run(command, "x", "--format", "pdf"), "'pdf' is not one of " + quoted(forms))


def quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def test_kinds_of_converted_files_are_those_of_the_writers() -> None:
    assert {kind.value for kind in workloads.Kind} == set(WRITERS)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_workload_gives_a_whole_report_or_none(run: Run, tmp_path: Path, seed: int) -> None:
    """Readers have their own test; here the run continues with their result."""
    path, folder = tmp_path / "net.csv", tmp_path / "out"
    whole = b"Layer, M, N, K,\nfirst, 4, 5, 6,\nmiddle, 3, 8, 70,\nlast, 2, 3, 4,\n"
    path.write_bytes(mutated(whole, random.Random(seed)))
    options = ("--format", "json", "--max-macs", 10_000, "--allow-partial")
    run("run", path, *options, "--out", folder)
    status, out, err = run("run", path, *options)
    assert "Traceback" not in err
    assert sorted(p.name for p in folder.glob("*")) == ["net.json"] * (status == 0)
    if status == 0:
        jsonschema.validate(json.loads(out), SCHEMA)
    else:
        refused((status, out, err), "net.csv" if "max_macs" not in err else "one dot product")


# -- programs --------------------------------------------------------------------------------------


def test_lower_assemble_disassemble_and_execute(run: Run, gemms: Path, tmp_path: Path) -> None:
    text, words, back = tmp_path / "p.s", tmp_path / "p.hfp8", tmp_path / "back.s"
    assert run("lower", gemms, "middle", "--out", text)[0] == 0
    assert run("lower", gemms, "middle") == (0, text.read_text(), "")
    assert run("asm", text, "--out", words)[0] == 0
    assert run("disasm", words, "--out", back)[1].startswith(f"{back}: ")
    assert back.read_text() == text.read_text()
    assert run("disasm", words)[1] == text.read_text()
    rng = np.random.default_rng(0)
    x, w = (rng.integers(0, 100, shape, np.uint8) for shape in ((3, 70), (70, 8)))
    np.savez(tmp_path / "in.npz", x=x, w=w)
    status, out, err = run(
        "exec", words, tmp_path / "in.npz", "--out", tmp_path / "out.npz", "--log"
    )
    assert (status, err) == (0, "") and "1,680 multiply-accumulates" in out and "mm c[0], s[" in out
    with np.load(tmp_path / "out.npz") as file:
        assert np.array_equal(file["y"], hs.gemm(x, w, profile="hfp8"))
    refused(run("exec", words, tmp_path / "out.npz"), "out.npz: unknown input 'y'; known: x, w")


def test_exec_says_what_a_segment_is(run: Run, gemms: Path, tmp_path: Path) -> None:
    """A program without `.layer` names no layers; its parts are numbered."""
    path = tmp_path / "p.s"
    assert run("lower", gemms, "middle", "--out", path)[0] == 0
    meaning = "segment N: the words from one barrier (FENCE, HALT) to the next, counted from 0"
    assert meaning not in run("exec", path, "--draw", 0)[1]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(x for x in lines if x.split()[:1] not in ([".layer"], [".end"])))
    status, out, _ = run("exec", path, "--draw", 0)
    assert status == 0 and "\nsegment 0 " in out and meaning in out


def test_exec_takes_the_same_time_as_run(run: Run, gemms: Path, tmp_path: Path) -> None:
    """Every layer and phase in one program, the first one in sixteen bits, on four cores."""
    options = ("--phase", "fwd,dgrad,wgrad", "--policy", "first=fp16", "--machine", "rapid-4core")
    program, trace = tmp_path / "net.hfp8", tmp_path / "trace.json"
    assert run("lower", gemms, "--out", program, *options)[0] == 0
    answers = [
        run("exec", program, "--draw", 3, "--machine", "rapid-4core", "--threads", threads,
            "--timeline", trace)
        for threads in (1, 3)
    ]  # fmt: skip
    assert answers[0] == answers[1] and answers[0][0] == 0
    columns = "layer,phase,cycles,fill,compute,drain,weight_load,stall_in,stall_out,post,bytes"
    ran = run("run", gemms, "--time-only", "--format", "csv", "--columns", columns, *options)[1]
    timed = answers[0][1].split("\n\n")[1].splitlines()
    told = [line.replace(",", "").split()[:11] for line in timed[1:]]
    assert [row for row in told if row[0] != "total"] == [
        line.split(",") for line in ran.splitlines()[1:-1]
    ]
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    last = max(e["args"]["start"] + e["args"]["cycles"] for e in events)
    assert f"{last:,}" in timed[-1].split()


def test_split_of_a_lowered_layer(run: Run, gemms: Path) -> None:
    lower = ("lower", gemms, "first", "--machine", "spyre-32core")
    text = run(*lower, "--split", "1x2x4")[1]
    assert "split.i, 2" in text and "split.j, 3" in text  # five columns are three shares of two
    refused(run(*lower, "--split", "2x4"), "--split '2x4': write it as groups x m x n")
    refused(run(*lower, "--split", "1x64x1"), "at most 32 cores")


def test_post_options_of_a_lowered_layer(run: Run, gemms: Path, tmp_path: Path) -> None:
    post = "format=hfp8-143,bias_format=dlfloat16", "relu", "clamp=0:0x40,scale=-3"
    options = [word for text in post for word in ("--post", text)]
    assert run("lower", gemms, "first", "--out", tmp_path / "p.s", *options)[0] == 0
    text = (tmp_path / "p.s").read_text()
    assert "c[0], bias, relu, clamp" in text and "csrw  post.scale, -3" in text
    assert run("exec", tmp_path / "p.s", "--draw", 0)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["asm", "BAD", "--out", "x"], "bad.s: line 2, column 2: unknown instruction 'hlat'; did"),
        (["exec", "BAD", "--draw", "0"], "bad.s: line 2, column 2: unknown instruction"),
        (["exec", "SHORT", "--draw", "0"], "short.s: the program does not end with halt"),
        (["exec", "SHORT"], "give either the inputs' .npz or --draw SEED"),
        (["exec", "SHORT", "GEMMS"], "torn, or not an .npz file"),
        (["exec", "SHORT", "--draw", "-1"], "--draw is -1, must be 0 or more"),
        (["exec", "nowhere.s", "--draw", "0"], "nowhere.s: No such file"),
        (["exec", "GEMMS", "--draw", "0"], "gemms.csv: not a program"),
        (["disasm", "GEMMS"], "gemms.csv: not a program"),
        (["lower", "GEMMS", "lost", "--out", "x"], "unknown layer 'lost' of 'gemms'"),
        (["lower", "GEMMS", "--phase", "back", "--out", "x"], "unknown phase 'back'"),
        (["lower", "GEMMS", "--out", "x", "--post", "relu=maybe"], "relu must be true or false"),
        (["lower", "GEMMS", "--out", "x", "--post", "clamp=1"], "clamp must be LOW:HIGH"),
        (["lower", "GEMMS", "--out", "x", "--post", "format=e4m3,clamp=0x40:0x38"], "clamp is 0x40:0x38, from "),
        (["lower", "GEMMS", "--out", "x", "--post", "format=e4m3,clamp=0:0x7f"], "the first must be the smaller"),
        (["lower", "GEMMS", "--out", "x", "--post", "format=e4m3,clamp=0:0x100"], "codes must lie in 0..255"),
        (["lower", "GEMMS", "--out", "x", "--post", "scal=1"], "unknown field 'scal' of --post"),
        (["lower", "GEMMS", "--out", "x", "--post", "format=fp9"], "unknown format 'fp9'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_programs_refused(
    run: Run, gemms: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "bad.s").write_text("nop\n hlat\n")
    (tmp_path / "short.s").write_text("nop\n")
    paths = {"GEMMS": gemms, "BAD": tmp_path / "bad.s", "SHORT": tmp_path / "short.s"}
    status, out, err = run(*(paths.get(word, word) for word in arguments))
    assert status == 2 and out == "" and says in err and err.startswith("hfp8sim: ")
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["asm", "TEXT", "--out", "TEXT"],
        ["disasm", "WORDS", "--out", "WORDS"],
        ["exec", "TEXT", "--draw", "0", "--out", "TEXT"],
        ["exec", "TEXT", "--draw", "0", "--timeline", "TEXT"],
        ["exec", "TEXT", "GEMMS", "--out", "GEMMS"],
        ["lower", "GEMMS", "--out", "GEMMS"],
        ["convert", "GEMMS", "GEMMS"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_input_is_not_overwritten(
    run: Run, gemms: Path, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "p.s").write_text("halt\n")
    assert run("asm", tmp_path / "p.s", "--out", tmp_path / "p.hfp8")[0] == 0
    paths = {"GEMMS": gemms, "TEXT": tmp_path / "p.s", "WORDS": tmp_path / "p.hfp8"}
    before = {path: path.read_bytes() for path in paths.values()}
    refused(run(*(paths.get(word, word) for word in arguments)), "is the input itself; give")
    assert {path: path.read_bytes() for path in before} == before


# -- bad input -------------------------------------------------------------------------------


def refused(answer: tuple[int, str, str], says: str) -> None:
    status, out, err = answer
    assert status == 2 and out == ""
    assert err.startswith("hfp8sim: ") and err.count("\n") == 1, err
    assert says in err, err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "Missing argument"),
        (["run", "resnet5"], "unknown workload 'resnet5'; did you mean resnet50"),
        (["run", "nowhere/net.csv"], "nowhere/net.csv: no such file"),
        (
            ["run", "GEMMS", "--machine", "rapid"],
            "unknown machine 'rapid'; did you mean rapid-core",
        ),
        (["run", "GEMMS", "--machine", "nowhere.toml"], "nowhere.toml: No such file"),
        (["run", "GEMMS", "--profile", "hfp9"], "unknown profile 'hfp9'; did you mean hfp8"),
        (["run", "GEMMS", "--set", "chunk_length"], "write it as key=value"),
        (["run", "GEMMS", "--set", "chunk=8"], "unknown profile field 'chunk'; did you mean"),
        (["run", "GEMMS", "--set", "chunk_length=many"], "chunk_length must be an integer"),
        (["run", "GEMMS", "--set", "chunk_length=-1"], "chunk_length is -1"),
        (["run", "GEMMS", "--set", "random_bits=99"], "random_bits is 99, must be 1..24"),
        (["run", "GEMMS", "--set", "a_format=fp7"], "unknown format 'fp7'"),
        (["run", "GEMMS", "--set", "rounding=nearest"], "unknown rounding mode 'nearest'"),
        (["run", "GEMMS", "--policy", "first"], "write it as rule=profile"),
        (
            ["run", "GEMMS", "--policy", "frist=fp16"],
            "unknown policy rule 'frist'; did you mean first",
        ),
        (["run", "GEMMS", "--phase", "forward"], "unknown phase 'forward'"),
        (["run", "GEMMS", "--phase", ","], "no phase given"),
        (["run", "GEMMS", "--time-model", "magic"], "unknown time model 'magic'"),
        (["run", "GEMMS", "--seed", "-1"], "seed is -1"),
        (["run", "GEMMS", "--seed", "one"], "Input should be a valid integer"),
        (["run", "GEMMS", "--threads", "0"], "threads is 0"),
        (["run", "GEMMS", "--max-macs", "-5"], "--max-macs is -5, must be 0 or more"),
        (["run", "GEMMS", "--max-macs", "3"], "one dot product of length"),
        (["run", "GEMMS", "--format", "pdf"], "'pdf' is not one of"),
        (["run", "GEMMS", "--out", "/proc/none"], "cannot write into /proc/none"),
        (["run", "GEMMS", "--out", "GEMMS"], "cannot write into"),
        (["run", "GEMMS", "--timeline", "/proc/t.json"], "cannot write into /proc"),
        (["run", "GEMMS", "--timeline", "/"], "cannot write /: it is a folder"),
        (["exec", "x.s", "--draw", "1", "--timeline", "/"], "cannot write /: it is a folder"),
        (["exec", "x.s", "--draw", "1", "--out", "/"], "cannot write /: it is a folder"),
        (["verify", "--junit", "/"], "cannot write /: it is a folder"),
        (["verify", "--fresh", "--state", "/"], "cannot write /: it is a folder"),
        (["run", "GEMMS", "--events", str(1 << 70)], "events_every is 1180591620717411303424"),
        (
            ["run", "GEMMS", "--timeline", "t.json", "--time-model", "scalesim-os"],
            "time model scalesim-os has no timeline; use pipelined",
        ),
        (["run", "GEMMS", "--resume"], "--resume needs --out"),
        (["run", "GEMMS", "--sed", "1"], "No such option: --sed"),
        (["rum", "GEMMS"], "No such command 'rum'. Did you mean"),
        (["digits-cnn"], "No such command 'digits-cnn'. `hfp8sim --help` lists the commands"),
        (["show", "nowhere.json"], "nowhere.json: No such file"),
        (["show", "GEMMS"], "not a JSON file"),
        (["compare", "GEMMS", "GEMMS"], "not a JSON file"),
        (["compare", "digits-cnn"], "what to vary, as in digits-cnn --vary chunk_length=16,64"),
        (["compare", "a", "b", "--vary", "seed=1,2"], "--vary takes one workload"),
        (["compare", "GEMMS", "--vary", "seed"], "write it as key=value,value,…"),
        (["compare", "GEMMS", "--vary", "seed=1,x"], "seed must be an integer"),
        (["compare", "GEMMS", "--vary", "chunks=1,2"], "unknown profile field 'chunks'"),
        (["compare", "GEMMS", "--vary", "machine=rapid-core,raptor"], "unknown machine 'raptor'"),
        (
            ["compare", "GEMMS", "--vary", "profile.chunks=1,2"],
            "unknown profile field 'chunks'; did you mean",
        ),
        (["run", "GEMMS", "--time-only", "--events", "4"], "events_every=4 needs values"),
        (["compare", "GEMMS", "--vary", "seed=1"], "needs two values or more"),
        (["compare", "GEMMS", "--vary", "seed=1,2", "--columns", "sqnr"], "unknown column 'sqnr'"),
        (["run", "GEMMS", "--columns", "macs"], "--columns goes with --format csv, not table"),
        (["run", "GEMMS", "--format", "csv", "--columns", "mac"], "unknown column 'mac'"),
        (["theory", "GEMMS", "--phase", "back"], "unknown phase 'back'"),
        (["run", "GEMMS", "--batch", "2"], "batch and dims are for ONNX models"),
        (["run", "alexnet", "--dim", "T=2"], "alexnet has no free dimension"),
        (["run", "alexnet", "--dim", "T"], "--dim 'T': write it as name=size"),
        (["verify", "--only", "magic"], "no check's name contains 'magic'; --list shows them"),
        (["convert", "GEMMS", "/proc/x.csv"], "cannot write /proc/x.csv"),
        (["convert", "GEMMS", "x.json"], "no writer for '.json' files"),
        (["convert", "GEMMS", "x.csv", "--as", "csv"], "'csv' is not one of"),
        (["convert", "GEMMS", "x.npz", "--inputs", "y.npz"], "--inputs goes with an ONNX model"),
        (["convert", "x.onnx", "x.npz", "--inputs", "GEMMS"], "torn, or not an .npz file"),
        (["convert", "alexnet@2", "x.csv", "--as", "conv"], "has a batch of 2"),
    ],
    ids=lambda value: " ".join(value[:6]) if isinstance(value, list) else "",
)
def test_refused_in_one_line(run: Run, gemms: Path, arguments: list[str], says: str) -> None:
    refused(run(*(str(gemms) if word == "GEMMS" else word for word in arguments)), says)


def write_trace(path: Path, **changed: np.ndarray) -> None:
    tensors = {
        "x": np.ones((2, 3), np.float32),
        "w": np.ones((3, 4), np.float32),
        "dy": np.ones((2, 4), np.float32),
    }
    layer = Layer("fc", "linear", 2, 4, 3, tensors=tensors)
    save_trace(path, Workload("trace", (layer,)))
    if changed:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files if name != "manifest.json"}
            manifest = archive["manifest.json"]
        import zipfile

        (name,) = (n for n in arrays if n.endswith(".x"))
        arrays[name] = changed["x"]
        with zipfile.ZipFile(path, "w") as archive_:
            archive_.writestr("manifest.json", bytes(manifest))
            for key, value in arrays.items():
                held = io.BytesIO()
                np.save(held, value)
                archive_.writestr(f"{key}.npy", held.getvalue())


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.full((2, 3), np.nan, np.float32), "nan at index (0, 0); every value must be finite"),
        (np.ones((2, 3), np.float64), "float64"),
        (np.ones((2, 3), np.int32), "int32"),
        (np.ones((3, 2), np.float32), "shape is (3, 2); it must be (2, 3)"),
    ],
    ids=["nan", "float64", "int32", "shape"],
)
def test_bad_tensors(run: Run, tmp_path: Path, x: np.ndarray, says: str) -> None:
    write_trace(tmp_path / "t.npz", x=x)
    refused(run("run", tmp_path / "t.npz"), says)


def test_truncated_trace_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    write_trace(path)
    assert run("run", path)[0] == 0
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        refused(run("run", path), "t.npz")


@pytest.mark.parametrize("row", ["a,0,4,4", "a,-3,4,4", "a,x,4,4", "a,4,4", "a,4.5,4,4"])
def test_workload_without_a_valid_row_is_refused(run: Run, tmp_path: Path, row: str) -> None:
    """Invalid rows are warnings; a list with no other row is an error."""
    path = tmp_path / "odd.csv"
    path.write_text(f"Layer,M,N,K\n{row}\n")
    status, out, err = run("run", path)
    assert status == 2 and out == "" and err.count("\n") == 1 and "odd.csv" in err


def test_skipped_rows_are_warnings_on_stderr(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("Layer,M,N,K\na,2,3,4\nEncoder\nc,4,4,4\n")
    status, out, err = run("run", path, "--format", "csv", "--phase", "fwd", "--columns", "layer")
    assert (status, out) == (0, "layer\na\nc\ntotal\n")
    assert err.startswith("hfp8sim: ") and err.count("\n") == 1 and "3" in err


def test_rows_that_are_missing_need_allow_partial(run: Run, tmp_path: Path) -> None:
    """The list of them is in the report, in the trace that convert writes, and on stderr."""
    path, trace = tmp_path / "odd.csv", tmp_path / "t.npz"
    path.write_text("Layer,M,N,K\na,2,3,4\nb,2,3\nc,4,4,4\n")
    missing = f"{path}:3: 'b, 2, 3' is no layer: k is missing"
    command = ("run", path, "--format", "json", "--phase", "fwd")
    refused(run(*command), f"{missing}; 1 product missing, --allow-partial runs the others")
    status, out, err = run(*command, "--allow-partial")
    assert status == 0 and f"missing: {missing}" in json.loads(out)["notes"]
    assert err == f"hfp8sim: missing: {missing}\n"
    status, _, err = run("convert", path, trace)
    assert status == 0 and err == f"hfp8sim: missing: {missing}\n"
    assert load_workload(trace).missing == (missing,)
    # Programs and comparisons are of the layers that are left; both say so.
    program = ("lower", path, "--out", tmp_path / "p.s")
    assert run(*program)[0::2] == (0, f"hfp8sim: missing: {missing}\n")
    compared = ("compare", path, "--vary", "seed=0,1", "--allow-partial", "--phase", "fwd")
    status, out, _ = run(*compared)
    assert status == 0 and " ".join(out.split()).startswith(f"missing: {missing}")
    status, out, err = run(*compared, "--format", "csv")
    assert status == 0 and err == f"hfp8sim: missing: {missing}\n"
    refused(run("run", trace), missing)


def test_bad_machine_file(run: Run, gemms: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    for content, says in (
        ("name = ", "not a TOML file"),
        ('name = "x"\nspeed = 3\n', "unknown key 'speed'"),
        ('name = "x"\n', "is missing"),
    ):
        path.write_text(content)
        refused(run("run", gemms, "--machine", path), says)


# -- disks, signals, terminals ---------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("form", ["table", "csv", "json", "html"])
def test_full_disk_behind_the_output(gemms: Path, form: str) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [*HFP8SIM, "run", str(gemms), "--format", form],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert process.returncode == 2
    assert process.stderr == "hfp8sim: cannot write: No space left on device\n"


def test_full_disk_behind_a_file(
    run: Run, gemms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old report stays, and no temporary file is left."""
    out = tmp_path / "reports"
    assert run("run", gemms, "--format", "json", "--out", out)[0] == 0
    before = (out / "gemms.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = run("run", gemms, "--seed", "1", "--format", "json", "--out", out)
    refused(answer, "gemms.json: No space left on device")
    assert [p.name for p in out.iterdir()] == ["gemms.json"]
    assert (out / "gemms.json").read_bytes() == before


def test_closed_pipe_is_no_error(gemms: Path) -> None:
    process = subprocess.run(
        f"'{sys.executable}' -m hfp8sim run '{gemms}' --format json | head -c 10",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.stdout == '{\n  "schem' and process.stderr == ""


def interrupt_in(monkeypatch: pytest.MonkeyPatch, row: int, times: int = 1) -> None:
    """Ctrl-C arrives while this row, counted from 1, is measured; a second one ends the process."""
    from hfp8sim.simulation import run as module

    measure, rows = module.measure, itertools.count(1)

    def pressed(*arguments: object) -> object:
        if next(rows) == row:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return measure(*arguments)  # type: ignore[arg-type]

    def left(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(module, "measure", pressed)
    monkeypatch.setattr(os, "_exit", left)


def test_interrupt_leaves_a_resumable_report(
    run: Run, gemms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = json.loads(run("run", gemms, "--format", "json")[1])
    out = tmp_path / "out"
    command = ["run", gemms, "--format", "json", "--out", out, "--resume"]
    with monkeypatch.context() as patched:
        interrupt_in(patched, 4)
        status, said, err = run(*command)
    assert (status, said) == (130, "")
    first, second = err.splitlines()
    assert "stopping after this layer" in first
    assert "interrupted after 4 of 9 rows" in second and "--resume continues" in second
    (path,) = out.iterdir()
    part = json.loads(path.read_text("utf-8"))
    assert path.name == "gemms.partial.json" and part["partial"]
    jsonschema.validate(part, SCHEMA)
    assert part["layers"] == whole["layers"][:4]

    shown = run("show", path)
    assert shown[0] == 0 and "partial: 4 of 9 rows" in shown[1]
    refused(run(*command, "--seed", "9"), "cannot resume: seed is 0 in the partial report and 9")

    assert run(*command)[0] == 0
    assert [p.name for p in out.iterdir()] == ["gemms.json"]
    resumed = json.loads((out / "gemms.json").read_text("utf-8"))
    assert resumed | {"command": ""} == whole | {"command": ""}


def test_interrupt_without_out_prints_the_partial_report(
    run: Run, gemms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_in(monkeypatch, 2)
    status, out, err = run("run", gemms, "--format", "json")
    document = json.loads(out)
    assert status == 130 and document["partial"] and len(document["layers"]) == 2
    assert "2 of 9 rows" in err.splitlines()[1]


def test_second_interrupt_leaves_the_finished_rows(
    run: Run, gemms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_in(monkeypatch, 3, times=2)
    status, out, err = run("run", gemms, "--out", tmp_path / "out")
    assert (status, out) == (130, "") and "2 of 9 rows" in err
    part = json.loads((tmp_path / "out" / "gemms.partial.json").read_text("utf-8"))
    assert len(part["layers"]) == 2


def test_interrupt_before_the_first_row_writes_nothing(
    run: Run, gemms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_in(monkeypatch, 1, times=2)
    status, out, err = run("run", gemms, "--out", tmp_path / "out")
    assert (status, out) == (130, "") and "nothing was written" in err
    assert not list((tmp_path / "out").iterdir())


def test_interrupt_in_the_last_row_gives_the_whole_report(
    run: Run, gemms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_in(monkeypatch, 9)
    status, out, _ = run("run", gemms, "--format", "json")
    assert status == 0 and not json.loads(out)["partial"]


def test_interrupt_of_a_comparison_writes_nothing(
    run: Run, gemms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_in(monkeypatch, 12)
    status, out, err = run("compare", gemms, "--vary", "seed=1,2")
    assert (status, out) == (130, "") and err.splitlines()[1].endswith("nothing was written")


def test_truncated_partial_report_is_refused(run: Run, gemms: Path, tmp_path: Path) -> None:
    (tmp_path / "gemms.partial.json").write_text('{"schema": 1, "layers"')
    refused(run("run", gemms, "--out", tmp_path, "--resume"), "gemms.partial.json: not a JSON file")


def test_checkpoints_survive_a_kill(
    run: Run, gemms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each row the file holds all rows so far."""
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    seen: list[int] = []
    write = checkpoint.PartialReport.write

    def spied(self: checkpoint.PartialReport, report: object) -> None:
        write(self, report)  # type: ignore[arg-type]
        assert self.path is not None
        seen.append(len(json.loads(self.path.read_text("utf-8"))["layers"]))

    monkeypatch.setattr(checkpoint.PartialReport, "write", spied)
    assert run("run", gemms, "--out", tmp_path / "o", "--format", "csv")[0] == 0
    assert seen == list(range(1, 9))
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["gemms.csv"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("computing", [False, True])
@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_real_signals(tmp_path: Path, number: int, computing: bool, seconds: float) -> None:
    """A run that would take minutes, stopped from outside at any moment: while it is loading, compiling
    or computing."""
    if computing and not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells when a process has taken over its signals")
    process = subprocess.Popen(
        [*HFP8SIM, "run", "resnet18@64", "--out", str(tmp_path), "--phase", "fwd"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while computing and not catches(process.pid, signal.SIGTERM):
        time.sleep(0.05)
    time.sleep(seconds)
    process.send_signal(number)
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    if computing:
        assert process.returncode == 130 and out == ""
        assert "Traceback" not in err and "hfp8sim: interrupted" in err
    assert process.returncode != 0
    for path in tmp_path.iterdir():
        assert path.name == "resnet18.partial.json"
        jsonschema.validate(json.loads(path.read_text("utf-8")), SCHEMA)


def catches(process: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text("utf-8"))
    assert caught, "the process has ended"
    return bool(int(caught[1], 16) >> (number - 1) & 1)


def test_progress_bar_shows_the_time_left(tmp_path: Path) -> None:
    """On a terminal; a pipe gets none."""
    import pty

    gemms = (
        tmp_path / "gemms.csv"
    )  # large enough for the bar to be drawn again while it is computed
    sizes = "1024, 1024, 1024,\n"
    gemms.write_text(f"Layer, M, N, K,\nfirst, {sizes}middle, {sizes}last, {sizes}")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [*HFP8SIM, "run", str(gemms), "--format", "csv"],
        stdout=subprocess.DEVNULL, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # the other end closed
        pass
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode("utf-8", "replace")
    assert "gemms" in text and "%" in text and re.search(r"\d+:\d\d|-:--", text)
    assert re.search(r"(first|middle|last) (fwd|dgrad|wgrad) \(\d of 9\)", text)


def test_interrupted_verify_names_its_state_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def part(i: int) -> Result:
        seen.append(i)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return Result(10)

    def checks(exhaustive: bool = False) -> list[Check]:
        return [Check("adder", "all pairs", "A = B", 40, part, exhaustive=exhaustive)]

    monkeypatch.setattr(verify, "checks", checks)
    state = tmp_path / "state.json"
    command = ["verify", "--exhaustive", "--threads", 1, "--state", state]
    status, out, err = run(*command)
    assert (status, out) == (130, "")
    assert err == f"hfp8sim: interrupted; {state} holds the results so far\n"
    assert 0 < len(seen) < 40
    status, out, err = run(*command)
    assert (status, err) == (0, "") and " 400 " in out
    assert set(seen) == set(range(40))
