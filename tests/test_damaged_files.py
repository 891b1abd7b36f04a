"""Files and texts of every kind, damaged at random: each is read, or refused in one line, and no other exception.

Every kind is damaged `SHARE` times, some 300 in all; the exhaustive tier adds 5,000.
"""

from __future__ import annotations

import importlib.util
import json
import random
import warnings
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.cli.common import read_arrays, read_text
from hfp8sim.cli.options import sizes
from hfp8sim.errors import InputError
from hfp8sim.formats import load_formats
from hfp8sim.formats.registry import FORMATS
from hfp8sim.isa import Program, assemble, disassemble
from hfp8sim.lowering import lower_workload
from hfp8sim.machine import check, get_machine
from hfp8sim.network import PHASES, Conv, Layer, Workload
from hfp8sim.recipes import load_recipe
from hfp8sim.report.report import Report
from hfp8sim.simulation.tasks import list_tasks
from hfp8sim.simulation.variants import changed_profile, combinations
from hfp8sim.units.policy import assign, parse
from hfp8sim.verify.run import State
from hfp8sim.workloads import load_workload, save_trace
from tests.damaged import mutated
from tests.report.samples import sample
from tests.workloads.readers.test_damaged_files import TIMELOOP, ZIGZAG, onnx_model

DATA = Path(__file__).parent / "workloads" / "readers" / "data"
#: How often each kind is damaged, in the two tiers.
SHARE, MORE = 15, 250


def network() -> Workload:
    x = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2) / 3
    conv = Conv(1, 4, 4, 2, 3, (3, 3), padding=(1, 1, 1, 1))
    layers = Layer.from_conv("c", conv, tensors={"x": x}), Layer("f [1]", "linear", 2, 3, 4)
    return Workload("w", layers, ("note",), missing=("a product",))


def program() -> Program:
    tasks = list_tasks(network(), ("fwd",), hs.get_profile("hfp8"), ())
    return lower_workload([task.lowering() for task in tasks], "rapid-core")


# -- how each kind is read, and what is done with it ---------------------------------------------------


def read_workload(path: Path) -> None:
    workload = load_workload(path)
    assert workload.macs(PHASES) > 0
    for line in (*workload.notes, *workload.warnings, *workload.missing, *workload.alerts):
        assert "\n" not in line
    load_workload(path, weights=False)


def read_report(path: Path) -> None:
    report = Report.load(path)
    for form in (report.to_csv, report.to_json, report.to_html, report.to_text):
        form()
    hs.compare([report, report]).to_text()


def use_program(code: Program) -> None:
    assert assemble(disassemble(code)) == code
    check(code, get_machine("rapid-core"))


def read_formats(path: Path) -> None:
    before = dict(FORMATS.records)
    try:
        load_formats(path)
    finally:
        FORMATS.records.clear()
        FORMATS.records.update(before)


def read_policy(path: Path) -> None:
    assign(network(), hs.get_profile("hfp8"), parse(read_text(path)))


def read_options(path: Path) -> None:
    lines = read_text(path).split("\n")
    changed_profile("hfp8", lines[:1])
    list(combinations(lines[1:2]))
    sizes(lines[2:3], lines[3:4])


def read_included(path: Path) -> None:
    """A Timeloop problem that includes the damaged file."""
    outer = path.with_name("outer.yaml")
    outer.write_text("{{include_text('inner.yaml')}}\nproblem: {<<<: *base, instance: {C: 5}}\n")
    try:
        read_workload(outer)
    finally:
        outer.unlink()


# -- files that are not damaged --------------------------------------------------------------------------


def saved(save: Callable[[Path], object]) -> Callable[[Path], bytes]:
    """The contents of the file that `save` writes."""

    def contents(path: Path) -> bytes:
        save(path)
        data = path.read_bytes()
        path.unlink()
        return data

    return contents


def constant(data: bytes | str) -> Callable[[Path], bytes]:
    return lambda _: data.encode() if isinstance(data, str) else data


QUOTED = 'Layer;M;N;K\n"conv; 1";64;"1,024";16\n"say ""hi""";1;2;3\n'
TYPED = (
    "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,Type,\n"
    "a,18,18,3,3,3,16,1,Conv,\nb,8,64,64,12,1,1,1,Gemm,\nc,2,2,2,2,1,1,1,Pool,\n"
)
INNER = "x: &base\n" + "\n".join("  " + line for line in TIMELOOP.decode().split("\n")[1:])
FORMATS_TOML = "[format.mine]\nexponent_bits = 4\nfraction_bits = 3\nbias = 7\nspecial = 'none'\n"
RECIPE = "base = 'fp32'\nprofile = 'hfp8'\npolicy = 'first=fp16'\n[loss_scale]\nkind = 'static'\n"
OPTIONS = "chunk_length=32,rounding=nearest-even\nseed=1,2\nx:2=48\nx=1x3x48x320"
STATE = '{"sources": "SOURCES", "checks": {"a": {"parts": [[0, 9]], "tried": 5, "differed": 0, "first": ""}}}'

Reader = Callable[[Path], object]
KINDS: dict[str, tuple[Callable[[Path], bytes], Reader]] = {
    "conv.csv": (constant((DATA / "conv_odd_rows.csv").read_bytes()), read_workload),
    "gemm.csv": (constant("Layer, M, N, K,\na, 19, 23, 7,\nb, 9, 8, 7,\n"), read_workload),
    "quoted.csv": (constant(QUOTED), read_workload),
    "utf16.csv": (constant(QUOTED.encode("utf-16")), read_workload),
    "typed.csv": (constant(TYPED), read_workload),
    "zigzag.yaml": (constant(ZIGZAG), read_workload),
    "timeloop.yaml": (constant(TIMELOOP), read_workload),
    "inner.yaml": (constant(INNER), read_included),
    "model.onnx": (lambda _: onnx_model(), read_workload),
    "trace.npz": (saved(lambda path: save_trace(path, network())), read_workload),
    "arrays.npz": (
        saved(lambda path: np.savez(path, x=np.arange(5), y=np.ones((2, 3)))),
        read_arrays,
    ),
    "core.toml": (
        constant((resources.files("hfp8sim.machine") / "presets" / "rapid-core.toml").read_bytes()),
        get_machine,
    ),
    "formats.toml": (constant(FORMATS_TOML), read_formats),
    "recipe.toml": (constant(RECIPE), load_recipe),
    "policy.txt": (constant('first=fp16,"f [1]"=exact, [a-c]=hfp8'), read_policy),
    "options.txt": (constant(OPTIONS), read_options),
    "program.bin": (
        saved(lambda path: program().save(path)),
        lambda path: use_program(Program.load(path)),
    ),
    "program.s": (
        lambda _: disassemble(program()).encode(),
        lambda path: use_program(assemble(read_text(path))),
    ),
    "report.json": (lambda _: sample(("c",)).to_json().encode(), read_report),
    "state.json": (
        lambda _: STATE.replace("SOURCES", State(None).sources).encode(),
        lambda path: State(path),
    ),
}


def edited(data: bytes, rng: random.Random) -> bytes:
    """A document of JSON with one value changed, so that damage is not caught by the parser; else `mutated`."""
    prefix = data[: data.find(b"{")] if data.startswith(b"hfp8prog") else b""
    try:
        text, end = json.JSONDecoder().raw_decode(data[len(prefix) :].decode("latin-1"))
    except ValueError:
        return mutated(data, rng)
    rest = data[len(prefix) + end :]
    holders: list[Any] = [text]
    for holder in holders:
        values = holder.values() if isinstance(holder, dict) else holder
        holders += [value for value in values if isinstance(value, dict | list)]
    holder = rng.choice([holder for holder in holders if holder])
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key] = rng.choice(
        [None, True, -1, 0, 1.5, 2**31, 2**64, 10**30, "", "x", [], [[]], {}, {"a": 1}, "\ud800"]
    )
    document = json.dumps(text).encode()
    if prefix:
        prefix = prefix[:12] + len(document).to_bytes(4, "little")
    return prefix + document + rest


def damage(folder: Path, kind: str, seeds: range) -> None:
    """Read the kind's file once for each seed, damaged in another way."""
    if kind == "model.onnx" or kind.endswith(".yaml"):
        pytest.importorskip("onnx" if kind == "model.onnx" else "yaml")
    contents, read = KINDS[kind]
    path = folder / kind
    whole = contents(path)
    path.write_bytes(whole)
    read(path)  # what is not damaged can be read
    structured = kind.endswith(".json") or kind == "program.bin"
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, on headers of Python 2
        for seed in seeds:
            rng = random.Random(f"{kind}:{seed}")
            path.write_bytes((edited if structured and seed % 2 else mutated)(whole, rng))
            try:
                read(path)
            except InputError as error:
                refused += 1
                # The assembler shows the line that is wrong, and marks the place in it.
                lines = (0, 2) if kind == "program.s" else (0,)
                assert str(error).count("\n") in lines, f"seed {seed}: {error!r}"
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            assert [file.name for file in folder.iterdir()] == [kind]
    assert refused, "some damage should be noticed"


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    damage(tmp_path, kind, range(SHARE))


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_exhaustively(tmp_path: Path, kind: str) -> None:
    damage(tmp_path, kind, range(SHARE, SHARE + MORE))


def test_counts() -> None:
    assert SHARE * len(KINDS) >= 300 and MORE * len(KINDS) >= 5000
    assert importlib.util.find_spec("yaml") and importlib.util.find_spec("onnx")
