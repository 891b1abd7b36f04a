"""Instruction sets: their kernels give the same bits, and leave the processor as it was."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding, ir

from hfp8sim import kernels
from hfp8sim.formats import get_format
from hfp8sim.kernels import (
    TARGETS,
    Plan,
)
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.microkernel import build
from hfp8sim.units import accumulator as acc
from tests.kernels.cases import HFP8, MODES, PROCESSORS, ROOT, numbers, run, same


def with_model(plan: Plan) -> Plan:
    """The plan with the plain loops of `model.py` in place of vector code."""
    kernel = Kernel.of(plan.kernel.form, plan.kernel.counting, TARGETS["model"])
    return dataclasses.replace(plan, kernel=kernel, window=None)


def compare_with_model(case: dict, pair: tuple[str, str], events: bool) -> int:
    """Vector code and plain loops leave the same floats and counts. How many operands had a kernel."""
    rng = np.random.default_rng(11)
    profile = HFP8.replace(**case)
    fmt_a, fmt_b = map(get_format, pair)
    facts = acc.gemm_facts(profile, fmt_a, fmt_b, 6, 0)
    m, k, n = 3, 70, 4
    seen = 0
    for kind in ("normal", "numbers", "wide"):
        a, b = numbers(rng, fmt_a, (m, k), kind), numbers(rng, fmt_b, (k, n), kind)
        scans = kernels.scan(a, fmt_a), kernels.scan(b, fmt_b)
        plan = kernels.plan(profile, fmt_a, fmt_b, *scans, k, events)
        if plan.kernel is None:
            continue
        seen += 1
        keys = (facts.row_key, facts.between_row_key), (facts.column_key, facts.between_column_key)
        left = kernels.pack_operand(plan, a, fmt_a, keys[0], of_a=True)
        right = kernels.pack_operand(plan, b.T, fmt_b, keys[1], of_a=False)
        results = []
        for each in (plan, with_model(plan)):
            state = kernels.allocate_accumulators(each, m, n)
            counts = kernels.accumulate(each, left, right, state, last=True)
            results.append((state.total, tuple(counts)))
        np.testing.assert_array_equal(results[0][0], results[1][0], err_msg=str(plan))
        assert results[0][1] == results[1][1], plan
    return seen


@pytest.mark.parametrize("case", [
    {"rounding": "nearest-away"}, {"rounding": "nearest-even"}, {"rounding": "toward-zero"},
    {"rounding": "stochastic"}, {"rounding": "stochastic-b", "random_bits": 10},
    {"rounding": "stochastic", "random_source": "counter"},
    {"rounding": "nearest-away", "products_per_step": 2},
    {"rounding": "nearest-even", "products_per_step": 2, "chunk_length": 7},
    {"rounding": "stochastic", "products_per_step": 2},
    {"rounding": "stochastic", "products_per_step": 2, "random_source": "counter"},
    {"products_per_step": 0, "between_chunks": "binary32", "between_rounding": "nearest-even"},
    {"chunk_length": 0}, {"overflow": "saturate"}, {"accumulator": "binary16", "random_bits": 10},
    {"products_per_step": 8, "sum_order": "aligned", "guard_bits": 9, "rounding": "toward-zero"},
    {"rounding": "nearest-even", "between_rounding": "toward-zero"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("pair", [("hfp8-143", "hfp8-143"), ("hfp8-152", "hfp8-143"),
                                  ("dlfloat16", "dlfloat16"), ("e5m2", "e5m2")], ids=str)  # fmt: skip
def test_kernel_equals_model(pair: tuple[str, str], case: dict) -> None:
    """The same floats, before anything is encoded: a sum off the accumulator's grid would show."""
    assert compare_with_model(case, pair, events=False) or pair[0] != "hfp8-143"


@pytest.mark.parametrize("case", [
    {"rounding": "nearest-even"}, {"rounding": "stochastic", "products_per_step": 2},
    {"products_per_step": 0, "between_chunks": "binary32", "between_rounding": "nearest-even"},
    {"accumulator": "binary16", "between_chunks": "binary16", "random_bits": 10},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("pair", [("hfp8-143", "hfp8-143"), ("e5m2", "e5m2")], ids=str)
def test_model_counts_events(pair: tuple[str, str], case: dict) -> None:
    assert compare_with_model(case, pair, events=True)


@pytest.mark.parametrize("events", [False, True], ids=["quiet", "events"])
def test_gemm_on_the_model(events: bool) -> None:
    """The target `model` computes whole GEMMs without vector code."""
    rng = np.random.default_rng(3)
    a, b = (
        numbers(rng, "hfp8-143", (19, 70), "normal"),
        numbers(rng, "hfp8-143", (70, 21), "normal"),
    )
    for mode in ("nearest-away", "stochastic"):
        profile = HFP8.replace(rounding=mode)
        plan = same(profile, "hfp8-143", "hfp8-143", a, b, on=TARGETS["model"], events=events)
        assert plan.kernel.name.endswith("__model")


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("mode", MODES)
def test_every_target_equals_the_plain_loop(processor: str, mode: str) -> None:
    rng = np.random.default_rng(17)
    on = PROCESSORS[processor]
    for fmt, accumulator in (
        ("hfp8-143", "dlfloat16"),
        ("e5m2", "ieee-169"),
        ("dlfloat16", "dlfloat16"),
    ):
        a, b = numbers(rng, fmt, (19, 100), "normal"), numbers(rng, fmt, (100, 17), "normal")
        for products in (1, 2):
            profile = HFP8.replace(
                rounding=mode, accumulator=accumulator, between_chunks=accumulator,
                products_per_step=products, overflow="saturate",
            )  # fmt: skip
            if run(profile, fmt, fmt, a, b, on=on)[0] is None:
                assert not on.directed and mode in ("toward-zero", "stochastic-a")
                continue
            plan = same(profile, fmt, fmt, a, b, on=on)
            assert plan.kernel.lanes * plan.kernel.form.lane == on.lanes * 32
            assert on.directed or not plan.kernel.strict


_SCRIPT = """
import zlib, numpy as np
from hfp8sim.formats import get_format
from hfp8sim import kernels
from hfp8sim.ops import gemm
from hfp8sim.units import get_profile
from hfp8sim.ops import explain
from tests.kernels.cases import HFP8, MODES, numbers, run
rng = np.random.default_rng(19)
crc = 0
cases = [HFP8.replace(rounding=mode, products_per_step=p) for mode in MODES for p in (1, 2)]
cases += [get_profile("hopper-fp8"), get_profile("aiu"), HFP8.replace(rounding="stochastic", random_source="counter")]
for profile in cases:
    for kind in ("normal", "half wide"):
        fmt = get_format(profile.a_format)
        a, b = numbers(rng, fmt, (20, 140), kind), numbers(rng, fmt, (140, 52), kind)
        result, _, plan = run(profile, fmt, fmt, a, b)
        assert result is not None, plan
        crc = zlib.crc32(result.tobytes(), crc)
print(kernels.host_target().lanes, crc)
"""


#: Instruction sets by Numba's own settings; every processor that runs these tests has the first.
_SETS = {
    "baseline": ("x86-64", "", 4),
    "avx2": ("haswell", "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+movbe", 8),
    "avx512": (
        "skylake-avx512",
        "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+movbe,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd",
        16,
    ),
}


def test_instruction_sets_give_equal_bits(tmp_path: Path) -> None:
    from llvmlite import binding

    have = kernels.host_target()
    if not have.directed:
        pytest.skip("an x86 processor's instruction sets")
    host = binding.get_host_cpu_features()
    crcs = {}
    running = {}
    for name, (cpu, features, lanes) in _SETS.items():
        if all(host.get(f[1:], False) for f in features.split(",") if f):
            settings = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
            environment = os.environ | settings | {"HFP8SIM_CACHE_DIR": str(tmp_path / name)}
            command = [sys.executable, "-c", _SCRIPT]
            running[name, lanes] = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
            )
    for (name, lanes), process in running.items():
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0, name
        seen_lanes, crcs[name] = map(int, out.split())
        assert seen_lanes == lanes
    assert len(crcs) >= 1
    assert len(set(crcs.values())) == 1, crcs


def direction() -> tuple[float, ...]:
    """Results that tell the rounding direction of this thread, and whether it flushes to zero."""
    one, tiny = np.float32(1), np.float32(1e-40)
    third = np.float32(1) / np.float32(3)
    return (
        float(one + np.float32(2**-24) * np.float32(1.5)), float(-one - np.float32(2**-25)),
        float(third), float(-third), float(tiny * one),
    )  # fmt: skip


def test_rounding_direction_is_restored() -> None:
    rng = np.random.default_rng(23)
    a, b = (
        numbers(rng, "hfp8-152", (16, 64), "numbers"),
        numbers(rng, "hfp8-143", (64, 16), "numbers"),
    )
    b[0], a[:, 0] = 1, 1  # so that a sum can underflow, and the processor is asked to flush

    before = direction()
    assert before[0] > 1 and before[4] > 0

    def work() -> None:
        for mode in MODES:
            profile = HFP8.replace(rounding=mode)
            codes, _, plan = run(profile, "hfp8-152", "hfp8-143", a, b)
            assert codes is not None, plan
            assert direction() == before, plan

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def aarch64_code(kernel: Kernel) -> str:
    """The assembly text of a kernel for AArch64."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    triple = "aarch64-unknown-linux-gnu"
    try:
        target = binding.Target.from_triple(triple)
    except RuntimeError as error:
        pytest.skip(f"this LLVM has no AArch64 target: {error}")
    machine = target.create_target_machine("neoverse-n1", opt=3)
    module = ir.Module()
    module.triple, module.data_layout = triple, str(machine.target_data)
    build(module, kernel).linkage = "external"
    compiled = binding.parse_assembly(str(module))
    compiled.verify()
    return machine.emit_assembly(compiled)


@pytest.mark.parametrize("mode", MODES)
def test_neon_kernels_compile(mode: str) -> None:
    """LLVM has AArch64 instructions for all of a kernel: multiply-adds of vectors, and a rounding direction."""
    fmt = get_format("hfp8-143")
    scan = kernels.Scan(30.0, -14, False)
    profile = HFP8.replace(rounding=mode, accumulator="ieee-169", between_chunks="ieee-169")
    plan = kernels.plan(profile, fmt, fmt, scan, scan, 1 << 30, on=TARGETS["neon"])
    text = aarch64_code(plan.kernel)
    assert "fmla" in text and "\tbl\t" not in text
    assert ("FPCR" in text) == plan.kernel.strict


@pytest.mark.parametrize(
    "name, directions",
    [
        ("f16_away_chop_8x2v_lag5__neonfp16", {3}),
        ("f32_random_chop_8x1v_replace__neon", {3}),
        ("f32_away_odd_then_away_near_8x1v_replace__neon", {0, 2}),
    ],
    ids=["binary16", "chop", "odd"],
)
def test_aarch64_kernels_write_and_restore_fpcr(name: str, directions: set[int]) -> None:
    """All of FPCR is written before any arithmetic: the caller's FZ and FZ16 would flush sums to zero.

    Args:
        directions: values of bits 22 and 23 that the kernel writes. All other bits are zero.
    """
    text = aarch64_code(Kernel.parse(name))
    code = [line.split(maxsplit=1) for line in text.splitlines() if re.match("\t[a-z]", line)]
    (read,) = (i for i, line in enumerate(code) if line[0] == "mrs")
    writes = [i for i, line in enumerate(code) if line[0] == "msr"]
    written = [moved(code[:i], code[i][1].removeprefix("FPCR, ")) for i in writes]
    assert set(written[:-1]) == {f"#{direction << 22}" for direction in directions}
    assert written[-1] == "FPCR"
    arithmetic = [i for i, line in enumerate(code) if re.match("f(mla|add|sub|mul|cvt)", line[0])]
    assert read < writes[0] < arithmetic[0] and arithmetic[-1] < writes[-1]
    (end,) = (i for i, line in enumerate(code) if line[0] == "ret")
    assert writes[-1] < end


def moved(code: list[list[str]], register: str) -> str:
    """What the last of these instructions of AArch64 to write a register moves into it."""
    if register == "xzr":
        return "#0"
    for name, operands in reversed(code):
        target, _, source = operands.partition(", ")
        if target[1:] == register[1:] and not name.startswith("st"):
            assert name in ("mov", "mrs"), (name, operands)
            return "#0" if source in ("wzr", "xzr") else source
    raise AssertionError(f"nothing writes {register}")


def test_second_process_compiles_nothing(tmp_path: Path) -> None:
    """Kernels are found in the disk cache again (an intrinsic made for each would never be), and what only a
    compiler needs is not imported for them."""
    script = (
        "import sys\n"
        "from tests.kernels.cases import *\n"
        "rng = np.random.default_rng(0)\n"
        "a, b = numbers(rng, 'hfp8-143', (20, 70), 'normal'), numbers(rng, 'hfp8-143', (70, 20), 'normal')\n"
        "assert run(HFP8, 'hfp8-143', 'hfp8-143', a, b)[0] is not None\n"
        "assert ('numba.np.arraymath' in sys.modules) == (sys.argv[1] == 'first')\n"
    )
    environment = os.environ | {"HFP8SIM_CACHE_DIR": str(tmp_path)}

    def files() -> dict[str, int]:
        return {f.name: f.stat().st_mtime_ns for f in tmp_path.rglob("*.nb?")}

    for turn in ("first", "second"):
        command = [sys.executable, "-c", script, turn]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        if turn == "first":
            first = files()
    assert any("microkernel.locals" in name for name in first)
    assert files() == first
