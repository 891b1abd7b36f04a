"""Planted bugs, and the test that must find each: `make mutants`, or `python -m tests.mutants`.

Every mutant is a change of one place in a copy of the project; the copy's own tests, named beside it, must
each fail there. Before that, all those tests must pass in a copy without a change. Kernels run uncompiled (the
same text), which saves compiling each mutant; where the compiler or a C reference is the point, they do not.

    python -m tests.mutants [--only TEXT ...] [--jobs N]
    python -m tests.mutants --write docs/proofs.md      # the table between its two markers
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("hfp8sim", "tests", "docs", "examples", "c_ref", "pyproject.toml", "setup.py")
MARKERS = "<!-- mutants -->", "<!-- end of mutants -->"
#: Seconds a mutant's tests get; an endless loop counts as found.
TIME_LIMIT = 600
OUT_OF_TIME = "out of time"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One planted bug."""

    what: str  #: the mistake, in words
    file: str
    old: str  #: occurs once in the file
    new: str
    test: str  #: pytest's name of what must fail (without its parameters: for some of them)
    also: tuple[str, ...] = ()  #: more of them
    compiled: bool = False  #: with Numba's compiler
    c: bool = False  #: the C reference is built anew

    @property
    def tests(self) -> tuple[str, ...]:
        """All that must fail."""
        return self.test, *self.also


CODEC = "tests/formats/test_codec.py"
GEMM = "tests/units/test_gemm.py"
SMALL = "tests/units/test_mutation.py"
RANDOM = "tests/units/test_random.py"
VERIFY = "tests/verify/test_verify.py"
ARRAY = "tests/units/test_mac_array.py"
IN_MODE = CODEC + "::test_encoding_in_every_mode"
ANY = GEMM + "::test_any_problem[1]"
ROUNDING = "hfp8sim/formats/rounding.py"
ACCUMULATOR = "hfp8sim/units/accumulator.py"

MUTANTS = (
    # -- formats
    Mutant("ties to even go away", ROUNDING, "return nu == 1 and (rest or odd)", "return nu == 1", IN_MODE + "[saturate-e5m2]"),
    Mutant("ties away go to even", ROUNDING, "if mode == NEAREST_AWAY:\n        return nu == 1", "if mode == NEAREST_AWAY:\n        return nu == 1 and (rest or odd)", IN_MODE + "[saturate-hfp8-143]"),
    Mutant("stochastic A one word late", ROUNDING, "return nu + random >= 1 << r", "return nu + random > 1 << r", CODEC + "::test_every_random_word_near_a_boundary[stochastic-a-dlfloat16]"),
    Mutant("stochastic B without its half", ROUNDING, "return nu + 2 * random + 1 >= 1 << (r + 1)", "return nu + 2 * random >= 1 << (r + 1)", CODEC + "::test_every_random_word_near_a_boundary[stochastic-b-hfp8-143]"),
    Mutant("stochastic C ties not to even", ROUNDING, "(int(rest) | (nu >> 1))", "int(rest)", IN_MODE + "[saturate-ieee-169]"),
    Mutant("to-odd and away exchanged for odd numbers", ROUNDING, "return inexact and not odd", "return inexact and odd", IN_MODE + "[saturate-e4m3fn]"),
    Mutant("toward positive forgets the sign", ROUNDING, "return inexact and sign == 0", "return inexact", IN_MODE + "[saturate-e4m3]"),
    Mutant("what lies below the smallest number becomes it", ROUNDING, "            mag, inexact = 0, True", "            mag, inexact = fmt.min_mag, True", "tests/formats/test_golden.py::test_dlfloat16_of_ibm"),
    Mutant("no probability below the smallest number", ROUNDING, "nu = wide // fmt.min_sig", "nu = 0", CODEC + "::test_every_random_word_near_a_boundary[stochastic-a-hfp8-143]"),
    Mutant("the largest number overflows", ROUNDING, "if mag > fmt.max_mag:\n            toward_zero", "if mag >= fmt.max_mag:\n            toward_zero", "tests/formats/test_golden.py::test_nearest_even_of_ml_dtypes[float8_e4m3fn]"),
    Mutant("to-odd overflows to infinity", ROUNDING, "mode in (TOWARD_ZERO, TO_ODD)", "mode == TOWARD_ZERO", IN_MODE + "[special-e5m2]"),
    Mutant("underflow flagged at the smallest normal number", ROUNDING, "if mag < fmt.normal_mag else INEXACT", "if mag <= fmt.normal_mag else INEXACT", IN_MODE + "[saturate-dlfloat16]"),
    Mutant("a format with one zero gets two", ROUNDING, "    if mag == 0 and fmt.zero == UNSIGNED_ZERO:\n        return 0\n", "", IN_MODE + "[saturate-e4m3fnuz]"),
    Mutant("bits cut off leave no trace", ROUNDING, "sticky or (sig & ((1 << -shift) - 1)) != 0", "sticky", GEMM + "::test_tiny_and_huge_addends[toward-positive]"),
    Mutant("infinity saturates by its direction", ROUNDING, "return pack_overflow(sign, False, fmt, policy)", "return pack_overflow(sign, sign == 0, fmt, policy)", IN_MODE + "[special-e4m3fn]"),
    Mutant("subnormal inputs one binade too small", "hfp8sim/formats/codec.py", "max(e, 1) - 1075", "e - 1075", IN_MODE + "[saturate-low-exponent]"),
    Mutant("scalars become arrays", "hfp8sim/formats/codec.py", 'np.asarray(array, dtype=np.float64, order="C")', "np.ascontiguousarray(array, dtype=np.float64)", CODEC + "::test_shapes_and_types_are_kept"),
    Mutant("the last offender is named, not the first", "hfp8sim/formats/codec.py", "np.argwhere(where)[0]", "np.argwhere(where)[-1]", CODEC + "::test_error_policy_names_the_first_index"),
    Mutant("HFP8's bias read as 7", "hfp8sim/formats/registry.py", '_ship("hfp8-143", 4, 3, 11,', '_ship("hfp8-143", 4, 3, 7,', "tests/formats/test_registry.py::test_ranges_as_the_papers_print_them"),
    Mutant("P3109's bias one too small", "hfp8sim/formats/registry.py", "bias=1 << (exponent_bits - 1),", "bias=(1 << (exponent_bits - 1)) - 1,", "tests/formats/test_registry.py::test_p3109_by_construction"),
    Mutant("another format may take a name", "hfp8sim/formats/registry.py", "if known is not None and known != fmt:", "if False:", "tests/formats/test_registry.py::test_a_format_of_ones_own_works_everywhere"),
    Mutant("unsigned P3109 numbers reach NaN", "hfp8sim/formats/record.py", "else (top - 1, -1, top),", "else (top, -1, top),", IN_MODE + "[saturate-binary8p7uf]"),
    Mutant("IEEE's NaN is the signalling one", "hfp8sim/formats/record.py", "infinity | 1 << max(f - 1, 0)", "infinity | 1", IN_MODE + "[special-binary16]"),
    Mutant("block scales one binade too large", "hfp8sim/formats/mx.py", "np.frexp(largest)[1] - 1 - top_exponent(fmt)", "np.frexp(largest)[1] - top_exponent(fmt)", "tests/formats/test_mx.py::test_blocks_of_gfloat[mxfp4]"),
    Mutant("a NaN does not spoil its block", "hfp8sim/formats/mx.py", "exponent + _SCALE_BIAS, _SCALE_NAN", "exponent + _SCALE_BIAS, 0", "tests/formats/test_mx.py::test_odd_blocks"),
    Mutant("fixed point floors negative numbers twice", "hfp8sim/formats/fixed.py", "np.where(negative, rest < 0.5, rest > 0.5)", "rest > 0.5", "tests/formats/test_fixed.py::test_conversion"),
    Mutant("stochastic fixed point rounds magnitudes", "hfp8sim/formats/fixed.py", "np.where(negative & inexact, top - np.ceil(part), np.floor(part))", "np.floor(part)", "tests/formats/test_fixed.py::test_stochastic_conversion_is_unbiased"),
    Mutant("a binade too many on the number line", "hfp8sim/formats/facts.py", "counts[field - f.bias] = here", "counts[field - f.bias + 1] = here", "tests/formats/test_show.py::test_binades_count_every_positive_number"),
    # -- units
    Mutant("a sum keeps too few bits", "hfp8sim/units/sums.py", "_WIDTH = 61", "_WIDTH = 40", GEMM + "::test_addends_at_every_distance[stochastic-c]"),
    Mutant("three terms always from the largest", "hfp8sim/units/sums.py", "if sig2 == 0 or top(sig1, exp1) - min(exp1, exp2) < _WIDTH:", "if True:", SMALL + "::test_three_terms_that_cancel"),
    Mutant("a negative sum's tail counts twice", "hfp8sim/units/sums.py", "(-sig - 1 if sticky else -sig)", "-sig", GEMM + "::test_tiny_and_huge_addends[toward-zero]"),
    Mutant("sums keep −0", "hfp8sim/units/sums.py", "and code != fmt.nan_code:\n        code = 0", "and code != fmt.nan_code:\n        pass", SMALL + "::test_what_underflows_is_a_positive_zero[nearest-away]"),
    Mutant("the exact register loses a limb", "hfp8sim/units/exact.py", "    limbs[i + 2] += sign * (high >> 32)\n", "", SMALL + "::test_exact_sums_of_wide_products"),
    Mutant("the exact register forgets what lies below", "hfp8sim/units/exact.py", "            sticky = sticky or limbs[i] != 0\n", "            pass\n", SMALL + "::test_exact_sums_with_a_distant_tail"),
    Mutant("0·∞ is 0", "hfp8sim/units/mac.py", "if sig_a == 0 or sig_b == 0 or exp_a >= NAN_EXP or exp_b >= NAN_EXP:", "if exp_a >= NAN_EXP or exp_b >= NAN_EXP:", ANY),
    Mutant("∞ − ∞ is ∞", "hfp8sim/units/mac.py", "and (sig1 < 0) != (sig2 < 0):\n        return 1, NAN_EXP", "and False:\n        return 1, NAN_EXP", "tests/units/test_golden.py::test_all_pairs_of_sums_and_products[e5m2]"),
    Mutant("aligned terms floored", "hfp8sim/units/mac.py", "return -(-sig >> -shift) if sig < 0 else sig >> -shift", "return sig >> -shift", GEMM + "::test_every_order_in_every_mode[toward-zero-aligned 32]"),
    Mutant("subnormal operands aligned by their leading bit", "hfp8sim/units/mac.py", "return max(exp + bit_length(abs(sig)) - 1, lowest)", "return exp + bit_length(abs(sig)) - 1", SMALL + "::test_a_subnormal_operand_aligns_as_if_it_were_normal"),
    Mutant("a chunk starts with the last one's sum", ACCUMULATOR, "                    acc, c = 0, c + 1", "                    c = c + 1", "tests/units/test_golden.py::test_dlfloat16_chunks[143x143_b11-hfp8-143-hfp8-143-64]"),
    Mutant("both roundings of a step draw one word", ACCUMULATOR, "m, n, k + 1, facts, lfsr)", "m, n, k, facts, lfsr)", GEMM + "::test_every_order_in_every_mode[stochastic-a-chain]"),
    Mutant("the counter source is not hashed", ACCUMULATOR, "        bits = mix32(bits)\n", "        pass\n", GEMM + "::test_every_order_in_every_mode[stochastic-b-fma]"),
    Mutant("lanes stand still at roundings that draw nothing", ACCUMULATOR, "if facts.mode >= STOCHASTIC_A or facts.source == LFSR:", "if facts.mode >= STOCHASTIC_A:", GEMM + "::test_mixed_modes_of_the_lane_registers"),
    Mutant("swamped steps of zeros are counted", ACCUMULATOR, "events[SWAMPED] += not products_vanish(", "events[SWAMPED] += 1 + 0 * products_vanish(", GEMM + "::test_every_profile_on_every_kind_of_operand[hfp8-fwd]"),
    Mutant("an infinite product swamps", ACCUMULATOR, "[0] == 0 or not finite", "[0] == 0", SMALL + "::test_an_infinite_product_swamps_nothing"),
    Mutant("words forget where their tile lies", "hfp8sim/units/gemm.py", "chunk, total, lfsr, m0, n0, k0, depth", "chunk, total, lfsr, 0, 0, k0, depth", GEMM + "::test_tiles_and_threads_change_nothing[counter]", compiled=True),
    Mutant("pieces of K cut chunks", "hfp8sim/units/gemm.py", "piece = max(_TILE_K // length, 1) * length", "piece = _TILE_K", GEMM + "::test_pieces_of_k_cut_no_step[2]"),
    Mutant("another golden ratio", "hfp8sim/units/random.py", "_G = np.uint64(0x9E3779B97F4A7C15)", "_G = np.uint64(0x9E3779B97F4A7C17)", RANDOM + "::test_known_words"),
    Mutant("another feedback polynomial", "hfp8sim/units/random.py", "0x80200003", "0x80200007", RANDOM + "::test_lane_register_has_the_full_period"),
    Mutant("lane registers start odd, so their first word is large", "hfp8sim/units/random.py", "    return start if start else _ONE", "    return start | _ONE", "tests/units/test_statistics.py::test_lane_registers_are_correlated_and_fair"),
    Mutant("element numbers wrap at 2^32", "hfp8sim/units/random.py", "words[t] = word(key, index >> _S32, index & _LOW32)", "words[t] = word(key, 0, index & _LOW32)", RANDOM + "::test_converted_element_numbers_beyond_32_bits"),
    Mutant("conversions draw the low bits", "hfp8sim/units/convert.py", "(words >> np.uint32(32 - r))", "(words & np.uint32((1 << r) - 1))", RANDOM + "::test_conversions_draw_by_element"),
    Mutant("dgrad takes activations", "hfp8sim/units/profile.py", '"dgrad": (self.error_format, self.b_format),', '"dgrad": (self.a_format, self.b_format),', "tests/units/test_docs.py::test_the_page_is_current"),
    Mutant("decoding only works compiled", "hfp8sim/formats/codec.py", "math.ldexp(float(sig), int(exp))", "math.ldexp(float(sig), exp)", "tests/units/test_uncompiled.py::test_uncompiled_twin", compiled=True),
    Mutant("chunks are left out of the profile", "hfp8sim/units/profile.py", '"DLFloat16 operands and sums, as the papers use for first and last layers",\n        a_format="dlfloat16"', '"DLFloat16 operands and sums, as the papers use for first and last layers",\n        chunk_length=0, a_format="dlfloat16"', "tests/units/test_swamping.py::test_swamped_steps_are_counted", compiled=True),
    # -- the kit, the vectors, verify
    Mutant("equal values are called different", "hfp8sim/testing/laws.py", 'once == twice, "', 'once != twice, "', "tests/testing/test_laws.py::test_every_format_obeys[e2m1]"),
    Mutant("a law that accepts all", "hfp8sim/testing/laws.py", "    bad = np.flatnonzero(~flat)", "    bad = np.flatnonzero(~flat)[:0]", "tests/testing/test_laws.py::test_the_law_catches_its_bug[monotone]"),
    Mutant("no midpoints among the boundaries", "hfp8sim/testing/boundaries.py", "        values[:-1] + gaps / 2,\n", "", "tests/testing/test_laws.py::test_boundaries_hold_every_number_and_midpoint"),
    Mutant("the strategy never draws NaN", "hfp8sim/testing/strategies.py", "    assume(nan or x == x)", "    assume(x == x)", "tests/testing/test_strategies.py::test_what_is_asked_for_is_drawn"),
    Mutant("vectors keep only one rounding's flags", "hfp8sim/vectors.py", "codes[i], flags[i] = code, first | second", "codes[i], flags[i] = code, first", "tests/vectors/test_vectors.py::test_fmma"),
    Mutant("fields swapped in the text", "hfp8sim/vectors.py", "top = self.width\n", "top = self.width - 4\n", "tests/vectors/test_vectors.py::test_text_says_what_the_arrays_say"),
    Mutant("verify compares codes, not flags", "hfp8sim/verify/mac.py", "    digest.update(flags.data)\n", "", VERIFY + "::test_wrong_flags_are_found"),
    Mutant("verify skips the kernels", "hfp8sim/verify/mac.py", "for general in (False, True):", "for general in ():", VERIFY + "::test_a_wrong_kernel_is_found", compiled=True),
    Mutant("verify forgets the last part", "hfp8sim/verify/run.py", "return [i for i in range(check.parts) if i not in done]", "return [i for i in range(check.parts - 1) if i not in done]", VERIFY + "::test_an_interrupted_run_goes_on"),
    Mutant("verify trusts results of other sources", "hfp8sim/verify/run.py", 'if stored["sources"] != self.sources:', "if False:", VERIFY + "::test_state_of_other_sources_is_not_used"),
    Mutant("the C wrapper forgets the random bits", "hfp8sim/reference.py", "record.random_bits = profile.random_bits", "record.random_bits = 13", GEMM + "::test_every_order_in_every_mode[stochastic-a-fma]"),
    # -- the float kernels
    Mutant("kernels trust every float32 sum", "hfp8sim/units/mac_array/plan.py", "safe = narrow and p <= (held - 2) // 2", "safe = True", ARRAY + "::test_accumulators_of_every_width", compiled=True),
    Mutant("kernels do not watch for overflow", "hfp8sim/units/mac_array/plan.py", "        if chunk <= self.acc.max and whole <= self.total.max:", "        if True:", ARRAY + "::test_overflow_and_underflow", compiled=True),
    Mutant("hashed words go the wrong way in wide accumulators", "hfp8sim/units/mac_array/plan.py", "numbers[at.HASH_SHIFT] = bits - d", "numbers[at.HASH_SHIFT] = 32 - d", ARRAY + "::test_random_bits_of_wide_accumulators[23-counter]", compiled=True),
    # -- C
    Mutant("C: ties away go to even", "c_ref/rounding.c", "    case REF_NEAREST_AWAY:\n        return scaled == 1;", "    case REF_NEAREST_AWAY:\n        return scaled == 1 && (left || lower_is_odd);", IN_MODE + "[saturate-hfp8-143]", c=True),
    Mutant("C: jammed bits vanish", "c_ref/internal.h", "return (significand >> distance) | ((significand << (64 - distance)) != 0);", "return significand >> distance;", GEMM + "::test_tiny_and_huge_addends[to-odd]", c=True),
    Mutant("C: the first chunk is added, not copied, to a wrong start", "c_ref/gemm.c", "        acc = 0;\n        for (int64_t first", "        for (int64_t first", GEMM + "::test_k_beside_the_chunk[hfp8-130]", c=True),
)  # fmt: skip


def mutate(folder: Path, mutant: Mutant) -> None:
    """Change the copy; the old text must be there exactly once."""
    path = folder / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant.what}: {mutant.old!r} is {text.count(mutant.old)} times in {mutant.file}"
        )
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def copy_to(folder: Path) -> Path:
    """A copy of what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".out*")
            )
        else:
            shutil.copy(source, folder / name)
    return folder


def pytest(
    folder: Path, tests: Iterable[str], compiled: bool, limit: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run tests in a copy, in one process, exhaustive ones too."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "HFP8SIM_CACHE_DIR": str(folder / "cache"),
        "NUMBA_DISABLE_JIT": "0" if compiled else "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", ""]
    command += ["--no-header", "--tb=line", "-W", "ignore::RuntimeWarning", *tests]
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, OUT_OF_TIME, "")


def run_one(mutant: Mutant) -> tuple[Mutant, bool, str, float]:
    """(mutant, whether its test failed, the end of the output, seconds)."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = copy_to(Path(name))
        mutate(folder, mutant)
        if mutant.c:
            built = subprocess.run(
                [sys.executable, "c_ref/build.py"], cwd=folder, capture_output=True, text=True
            )
            if built.returncode:
                return mutant, False, built.stderr, time.monotonic() - begun
        done = pytest(folder, mutant.tests, mutant.compiled, TIME_LIMIT)
        # 1: tests failed. Anything else but 0 is a mistake of the table, not a find.
        passed = [test for test in mutant.tests if not failed(test, done.stdout)]
        return (
            mutant,
            done.returncode == 1 and not passed,
            "".join(f"passed: {test}\n" for test in passed)
            + done.stdout[-2000:]
            + done.stderr[-500:],
            time.monotonic() - begun,
        )


def failed(test: str, output: str) -> bool:
    """Whether pytest's summary names the test, or one of its parameters."""
    return output == OUT_OF_TIME or any(
        line.startswith((f"FAILED {test} ", f"FAILED {test}[", f"ERROR {test.split('::')[0]} "))
        or line == f"FAILED {test}"
        for line in output.splitlines()
    )


def baseline(mutants: Iterable[Mutant]) -> None:
    """All tests of the table pass without a mutant."""
    for compiled in (False, True):
        tests = sorted({test for m in mutants if m.compiled == compiled for test in m.tests})
        if not tests:
            continue
        with tempfile.TemporaryDirectory(prefix="mutant-") as name:
            done = pytest(copy_to(Path(name)), tests, compiled)
        if done.returncode:
            raise SystemExit(
                f"the tests fail without a mutant:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
            )


def table() -> str:
    """The table of docs/proofs.md."""
    lines = ["| planted bug | in | found by |", "|---|---|---|"]
    lines += [
        f"| {m.what} | `{m.file}` | {' '.join(f'`{test}`' for test in m.tests)} |" for m in MUTANTS
    ]
    return "\n".join(lines)


def with_table(page: str) -> str:
    """A page with the table between its markers."""
    head, rest = page.split(MARKERS[0])
    return f"{head}{MARKERS[0]}\n{table()}\n{MARKERS[1]}{rest.split(MARKERS[1])[1]}"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="planted bugs, and the test that must find each")
    parser.add_argument(
        "--only",
        action="append",
        help="mutants whose description or file contains this; repeatable",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, and run nothing"
    )
    arguments = parser.parse_args()
    if arguments.write:
        text = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(with_table(text), encoding="utf-8")
        return 0
    only = arguments.only or [""]
    chosen = [m for m in MUTANTS if any(text in m.what or text in m.file for text in only)]
    begun = time.monotonic()
    baseline(chosen)
    print(
        f"{len(chosen)} mutants; their tests pass without them ({time.monotonic() - begun:.0f} s)"
    )
    survived = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, found, output, seconds in pool.map(run_one, chosen):
            print(
                f"{'found   ' if found else 'SURVIVED'} {seconds:5.1f} s  {mutant.what}", flush=True
            )
            if not found:
                survived += 1
                print(output)
    print(f"{len(chosen) - survived} of {len(chosen)} found in {time.monotonic() - begun:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
