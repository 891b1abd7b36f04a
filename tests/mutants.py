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
#: A copy's conftest.py: to have failed is enough, hypothesis need not look for the smallest case.
CONFTEST = """
from hypothesis import Phase, settings
settings.register_profile("first", phases=[Phase.explicit, Phase.generate])
settings.load_profile("first")
"""


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
GEMM = "tests/ops/test_products.py"
SMALL = "tests/units/test_mutation.py"
GOLDEN = "tests/units/test_golden.py"
STATISTICS = "tests/units/test_statistics.py"
PEERS = "tests/formats/test_peers.py"
REGISTRY = "tests/formats/test_registry.py"
SHOW = "tests/formats/test_show.py"
MX = "tests/formats/test_mx.py"
FIXED = "tests/formats/test_fixed.py"
CONVERT_FAST = "tests/kernels/test_convert.py"
LAWS = "tests/testing/test_laws.py"
STRATEGIES = "tests/testing/test_strategies.py"
VECTORS = "tests/verify/test_vectors.py"
C_REF = "tests/c_ref/test_c_ref.py"
RANDOM = "tests/units/test_random.py"
VERIFY = "tests/verify/test_verify.py"
ARRAY = "tests/kernels/test_products.py"
ZEROS = "tests/kernels/test_zero_products.py"
BITS = "tests/lowering/test_bits.py"
EXECUTOR = "tests/machine/test_executor.py"
IN_MODE = CODEC + "::test_encoding_in_every_mode"
ANY = GEMM + "::test_any_problem[1]"
ROUNDING = "hfp8sim/formats/rounding.py"
ACCUMULATOR = "hfp8sim/units/accumulator.py"

MUTANTS = (
    # -- formats
    Mutant("ties to even go away", ROUNDING, "return nu == 1 and (rest or odd)", "return nu == 1", IN_MODE + "[saturate-e5m2]", also=(PEERS + "::test_ml_dtypes_on_all_16_bit_floats[e5m2]", PEERS + "::test_gfloat_in_every_mode[e5m2-saturate]", PEERS + "::test_apytypes_conversion[e4m3]", PEERS + "::test_apytypes_on_all_pairs_of_sums_and_products[e4m3-nearest-even]", PEERS + "::test_apytypes_matrix_product[nearest-even]", GOLDEN + "::test_ieee_169_of_apytypes[fwd-e4m3-RNE-64]", STRATEGIES + "::test_values_are_rounded_as_the_oracle_says", LAWS + "::test_every_format_obeys[e5m2]")),
    Mutant("ties away go to even", ROUNDING, "if mode == NEAREST_AWAY:\n        return nu == 1", "if mode == NEAREST_AWAY:\n        return nu == 1 and (rest or odd)", IN_MODE + "[saturate-hfp8-143]"),
    Mutant("stochastic A one word late", ROUNDING, "return nu + random >= 1 << r", "return nu + random > 1 << r", CODEC + "::test_every_random_word_near_a_boundary[stochastic-a-dlfloat16]"),
    Mutant("stochastic B without its half", ROUNDING, "return nu + 2 * random + 1 >= 1 << (r + 1)", "return nu + 2 * random >= 1 << (r + 1)", CODEC + "::test_every_random_word_near_a_boundary[stochastic-b-hfp8-143]"),
    Mutant("stochastic C ties not to even", ROUNDING, "(int(rest) | (nu >> 1))", "int(rest)", IN_MODE + "[saturate-ieee-169]"),
    Mutant("to-odd and away exchanged for odd numbers", ROUNDING, "return inexact and not odd", "return inexact and odd", IN_MODE + "[saturate-e4m3fn]"),
    Mutant("toward positive forgets the sign", ROUNDING, "return inexact and sign == 0", "return inexact", IN_MODE + "[saturate-e4m3]"),
    Mutant("what lies below the smallest number becomes it", ROUNDING, "            mag, inexact = 0, True", "            mag, inexact = fmt.min_mag, True", "tests/formats/test_golden.py::test_dlfloat16_of_ibm", also=(STRATEGIES + "::test_formats_obey_the_laws",)),
    Mutant("no probability below the smallest number", ROUNDING, "nu = wide // fmt.min_sig", "nu = 0", CODEC + "::test_every_random_word_near_a_boundary[stochastic-a-hfp8-143]", also=(LAWS + "::test_as_a_user_writes_it",)),
    Mutant("the largest number overflows", ROUNDING, "if mag > fmt.max_mag:\n            toward_zero", "if mag >= fmt.max_mag:\n            toward_zero", "tests/formats/test_golden.py::test_nearest_even_of_ml_dtypes[float8_e4m3fn]"),
    Mutant("to-odd overflows to infinity", ROUNDING, "mode in (TOWARD_ZERO, TO_ODD)", "mode == TOWARD_ZERO", IN_MODE + "[special-e5m2]"),
    Mutant("underflow flagged at the smallest normal number", ROUNDING, "if mag < fmt.normal_mag else INEXACT", "if mag <= fmt.normal_mag else INEXACT", IN_MODE + "[saturate-dlfloat16]"),
    Mutant("a format with one zero gets two", ROUNDING, "    if mag == 0 and fmt.zero == UNSIGNED_ZERO:\n        return 0\n", "", IN_MODE + "[saturate-e4m3fnuz]"),
    Mutant("bits cut off leave no trace", ROUNDING, "sticky or (sig & ((1 << -shift) - 1)) != 0", "sticky", GEMM + "::test_tiny_and_huge_addends[toward-positive]"),
    Mutant("infinity saturates by its direction", ROUNDING, "return pack_overflow(sign, False, fmt, policy)", "return pack_overflow(sign, sign == 0, fmt, policy)", IN_MODE + "[special-e4m3fn]"),
    Mutant("subnormal inputs one binade too small", "hfp8sim/formats/codec.py", "max(e, 1) - 1075", "e - 1075", IN_MODE + "[saturate-low-exponent]"),
    Mutant("scalars become arrays", "hfp8sim/formats/codec.py", 'np.asarray(array, dtype=np.float64, order="C")', "np.ascontiguousarray(array, dtype=np.float64)", CODEC + "::test_shapes_and_types_are_kept"),
    Mutant("the last offender is named, not the first", "hfp8sim/formats/codec.py", "np.argwhere(where)[0]", "np.argwhere(where)[-1]", CODEC + "::test_error_policy_names_the_first_index"),
    Mutant("HFP8's bias read as 7", "hfp8sim/formats/registry.py", '_ship("hfp8-143", 4, 3, 11,', '_ship("hfp8-143", 4, 3, 7,', "tests/formats/test_registry.py::test_ranges_as_the_papers_print_them", also=("tests/formats/test_golden.py::test_known_codes", REGISTRY + "::test_bias_is_a_register")),
    Mutant("P3109's bias one too small", "hfp8sim/formats/registry.py", "bias=1 << (exponent_bits - 1),", "bias=(1 << (exponent_bits - 1)) - 1,", "tests/formats/test_registry.py::test_p3109_by_construction"),
    Mutant("another format may take a name", "hfp8sim/formats/registry.py", "if known is not None and known != fmt:", "if False:", "tests/formats/test_registry.py::test_a_format_of_ones_own_works_everywhere"),
    Mutant("unsigned P3109 numbers reach NaN", "hfp8sim/formats/record.py", "else (top - 1, -1, top),", "else (top, -1, top),", IN_MODE + "[saturate-binary8p7uf]"),
    Mutant("IEEE's NaN is the signalling one", "hfp8sim/formats/record.py", "infinity | 1 << max(f - 1, 0)", "infinity | 1", IN_MODE + "[special-binary16]"),
    Mutant("block scales one binade too large", "hfp8sim/formats/mx.py", "np.frexp(largest)[1] - 1 - top_exponent(fmt)", "np.frexp(largest)[1] - top_exponent(fmt)", "tests/formats/test_mx.py::test_blocks_of_gfloat[mxfp4]"),
    Mutant("a NaN does not spoil its block", "hfp8sim/formats/mx.py", "exponent + _SCALE_BIAS, _SCALE_NAN", "exponent + _SCALE_BIAS, 0", "tests/formats/test_mx.py::test_odd_blocks"),
    Mutant("fixed point floors negative numbers twice", "hfp8sim/formats/fixed.py", "np.where(negative, rest < 0.5, rest > 0.5)", "rest > 0.5", "tests/formats/test_fixed.py::test_conversion"),
    Mutant("stochastic fixed point rounds magnitudes", "hfp8sim/formats/fixed.py", "np.where(negative & inexact, top - np.ceil(part), np.floor(part))", "np.floor(part)", "tests/formats/test_fixed.py::test_stochastic_conversion_is_unbiased"),
    Mutant("a binade too many on the number line", "hfp8sim/formats/describe.py", "counts[field - f.bias] = here", "counts[field - f.bias + 1] = here", "tests/formats/test_show.py::test_binades_count_every_positive_number"),
    Mutant("subnormal numbers get a leading one", ROUNDING, "return FINITE, sign, f, 1 - fmt.bias", "return FINITE, sign, one + f, 1 - fmt.bias", CODEC + "::test_every_code_decodes_as_the_oracle_and_c_say[e5m2]", also=("tests/formats/test_golden.py::test_code_tables", PEERS + "::test_gfloat_decodes_all_of_p3109[4]", LAWS + "::test_every_kind_of_record_obeys[one-bit]")),
    Mutant("random integers of any size are taken", "hfp8sim/formats/codec.py", "if random.size and (int(random.min()) < 0 or int(random.max()) >> r):", "if False:", CODEC + "::test_bad_arguments"),
    Mutant("codes of any size are taken", "hfp8sim/formats/codec.py", "if array.size and (int(array.min()) < 0 or int(array.max()) >> fmt.bits):", "if False:", CODEC + "::test_bad_arrays"),
    Mutant("the bias register is not written", "hfp8sim/formats/record.py", "@{bias}\", bias=bias)", "@{bias}\", bias=self.bias)", REGISTRY + "::test_bias_is_a_register", also=(GOLDEN + "::test_dlfloat16_chunks[143x143_b7-hfp8-143@7-hfp8-143@7-64]",)),
    Mutant("the multiplier's operands are 1-5-2", "hfp8sim/formats/registry.py", '_ship("fp9-153", 5, 3,', '_ship("fp9-153", 5, 2,', REGISTRY + "::test_operands_widen_to_fp9_without_loss"),
    Mutant("DLFloat16 is 1-6-5", "hfp8sim/formats/registry.py", '_ship("dlfloat16", 6, 9,', '_ship("dlfloat16", 6, 5,', REGISTRY + "::test_products_of_hfp8_fit_dlfloat16", also=("tests/units/test_swamping.py::test_a_long_sum_stalls_at_4096",)),
    Mutant("P3109 has 17 bits", "hfp8sim/formats/registry.py", "if not 3 <= k <= 16", "if not 2 <= k <= 17", REGISTRY + "::test_p3109_limits"),
    Mutant("a bias may be any word", "hfp8sim/formats/registry.py", 'if not re.fullmatch(r"-?\\d+", bias):', "if False:", REGISTRY + "::test_unknown_names"),
    Mutant("TOML facts may have any type", "hfp8sim/formats/registry.py", "if type(value) is not kinds[key]:", "if False:", REGISTRY + "::test_torn_toml"),
    Mutant("TOML's lowest binade is not read", "hfp8sim/formats/registry.py", "yield FloatFormat(name=name, **table)", 'yield FloatFormat(name=name, **{**table, "lowest": "subnormal"})', REGISTRY + "::test_formats_from_toml"),
    Mutant("numbers beyond float64 are taken", "hfp8sim/formats/record.py", "if top > 1023 or", "if", REGISTRY + "::test_records_that_make_no_sense"),
    Mutant("blocks of no numbers", "hfp8sim/formats/mx.py", "if block < 1:", "if False:", MX + "::test_bad_input"),
    Mutant("emax one too large", "hfp8sim/formats/mx.py", "int(np.frexp(element.max)[1]) - 1", "int(np.frexp(element.max)[1])", MX + "::test_top_exponents", also=(MX + "::test_every_element_is_rounded_once", MX + "::test_any_format_and_block")),
    Mutant("fixed point has no negative numbers", "hfp8sim/formats/fixed.py", "(integers - (integers >> (self.bits - 1) << self.bits))", "integers", FIXED + "::test_codes", also=(MX + "::test_int8",)),
    Mutant("fixed point overflows in silence", "hfp8sim/formats/fixed.py", 'overflow == "error"\n', 'overflow == "never"\n', FIXED + "::test_bad_input"),
    Mutant("a format of unknown origin", "hfp8sim/formats/describe.py", '    "binary16": "IEEE 754",\n', "", SHOW + "::test_every_format_says_where_it_is_from"),
    Mutant("powers of two are printed as 1·2^e", "hfp8sim/formats/describe.py", 'if head == "1"', 'if head == "-"', SHOW + "::test_numbers"),
    Mutant("ticks a binade off", "hfp8sim/formats/describe.py", "at = i // per * cells", "at = i // per", SHOW + "::test_number_line"),
    Mutant("a code is left out of each row", "hfp8sim/formats/describe.py", "values[i : i + COLUMNS]", "values[i : i + COLUMNS - 1]", SHOW + "::test_code_tables"),
    Mutant("no bars on the number line", "hfp8sim/formats/show.py", "in facts.number_line(fmt)))", "in facts.number_line(fmt)[1:]))", SHOW + "::test_a_format_on_the_terminal"),
    Mutant("a format is missing in the list", "hfp8sim/formats/show.py", "for row in facts.overview():", "for row in facts.overview()[1:]:", SHOW + "::test_the_listing"),
    Mutant("ties to even go away, compiled", ROUNDING, "return nu == 1 and (rest or odd)", "return nu == 1", "tests/formats/test_peers_exhaustively.py::test_ml_dtypes_on_all_binary32[e5m2]", also=("tests/formats/test_peers_exhaustively.py::test_gfloat_on_all_16_bit_floats[e5m2-saturate]",), compiled=True),
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
    Mutant("a chunk starts with the last one's sum", ACCUMULATOR, "                    acc, c = 0, c + 1", "                    c = c + 1", "tests/units/test_golden.py::test_dlfloat16_chunks[143x143_b11-hfp8-143-hfp8-143-64]", also=(STRATEGIES + "::test_gemm_problems_come_out_as_the_oracle_says", "tests/units/test_swamping.py::test_chunks_of_64_land_within_one_percent[nearest-away]", LAWS + "::test_gemm_as_a_user_writes_it", LAWS + "::test_every_profile_obeys[hfp8]")),
    Mutant("both roundings of a step draw one word", ACCUMULATOR, "m, n, k + 1, facts, lfsr)", "m, n, k, facts, lfsr)", GEMM + "::test_every_order_in_every_mode[stochastic-a-chain]"),
    Mutant("the counter source is not hashed", ACCUMULATOR, "        bits = mix32(bits)\n", "        pass\n", GEMM + "::test_every_order_in_every_mode[stochastic-b-fma]"),
    Mutant("lanes stand still at roundings that draw nothing", ACCUMULATOR, "if facts.mode >= STOCHASTIC_A or facts.source == LFSR:", "if facts.mode >= STOCHASTIC_A:", GEMM + "::test_mixed_modes_of_the_lane_registers"),
    Mutant("swamped steps of zeros are counted", ACCUMULATOR, "events[SWAMPED] += not products_vanish(", "events[SWAMPED] += 1 + 0 * products_vanish(", GEMM + "::test_every_profile_on_every_kind_of_operand[hfp8-fwd]"),
    Mutant("an infinite product swamps", ACCUMULATOR, "[0] == 0 or not finite", "[0] == 0", SMALL + "::test_an_infinite_product_swamps_nothing"),
    Mutant("words forget where their tile lies", "hfp8sim/ops/products.py", "chunk, total, lfsr, m0, n0, k0, depth", "chunk, total, lfsr, 0, 0, k0, depth", GEMM + "::test_tiles_and_threads_change_nothing[counter]", compiled=True),
    Mutant("pieces of K cut chunks", "hfp8sim/ops/products.py", "piece = max(_TILE_K // length, 1) * length", "piece = _TILE_K", GEMM + "::test_pieces_of_k_cut_no_step[2]"),
    Mutant("another golden ratio", "hfp8sim/units/random.py", "_G = np.uint64(0x9E3779B97F4A7C15)", "_G = np.uint64(0x9E3779B97F4A7C17)", RANDOM + "::test_known_words"),
    Mutant("another feedback polynomial", "hfp8sim/units/random.py", "0x80200003", "0x80200007", RANDOM + "::test_lane_register_has_the_full_period", also=(RANDOM + "::test_lane_registers",)),
    Mutant("lane registers start odd, so their first word is large", "hfp8sim/units/random.py", "    return start if start else _ONE", "    return start | _ONE", "tests/units/test_statistics.py::test_lane_registers_are_correlated_and_fair"),
    Mutant("element numbers wrap at 2^32", "hfp8sim/units/random.py", "words[t] = word(key, index >> _S32, index & _LOW32)", "words[t] = word(key, 0, index & _LOW32)", RANDOM + "::test_converted_element_numbers_beyond_32_bits"),
    Mutant("conversions draw the low bits", "hfp8sim/ops/conversions.py", "(words >> np.uint32(32 - r))", "(words & np.uint32((1 << r) - 1))", RANDOM + "::test_conversions_draw_by_element"),
    Mutant("dgrad takes activations", "hfp8sim/units/profile.py", '"dgrad": (self.error_format, self.b_format),', '"dgrad": (self.a_format, self.b_format),', "tests/units/test_docs.py::test_the_page_is_current"),
    Mutant("decoding only works compiled", "hfp8sim/formats/codec.py", "math.ldexp(float(sig), int(exp))", "math.ldexp(float(sig), exp)", "tests/units/test_uncompiled.py::test_uncompiled_twin", compiled=True),
    Mutant("chunks are left out of the profile", "hfp8sim/units/profile.py", '"DLFloat16 operands and sums, as the papers use for first and last layers",\n        a_format="dlfloat16"', '"DLFloat16 operands and sums, as the papers use for first and last layers",\n        chunk_length=0, a_format="dlfloat16"', "tests/units/test_swamping.py::test_swamped_steps_are_counted", compiled=True),
    Mutant("vectors round ties by the wrong bit", "hfp8sim/kernels/convert.py", 'odd = (sig >> n) & how["even"]', 'odd = (sig >> (n + 1)) & how["even"]', CONVERT_FAST + "::test_every_8_bit_format[e5m2-nearest-even]", also=(CONVERT_FAST + "::test_wider_formats[dlfloat16-nearest-even]", CONVERT_FAST + "::test_every_float32_that_rounding_can_tell_apart[e5m2-nearest-even]"), compiled=True),
    Mutant("every block of a conversion draws the same words", "hfp8sim/kernels/convert.py", "number = np.uint64(first + t)", "number = np.uint64(t)", CONVERT_FAST + "::test_sizes_and_drawn_words", compiled=True),
    Mutant("tensors are converted in the order of memory", "hfp8sim/kernels/convert.py", "values = np.ascontiguousarray(x, np.float32).reshape(-1)", 'values = np.asarray(x, np.float32).ravel(order="K")', CONVERT_FAST + "::test_layouts", compiled=True),
    Mutant("NaN becomes some number", "hfp8sim/ops/conversions.py", "return None if result.nan and not fmt.has_nan else result", "return result", CONVERT_FAST + "::test_nan_into_a_format_without_one_is_named", compiled=True),
    Mutant("vectors take any overflow policy", "hfp8sim/kernels/convert.py", "if policy not in (SATURATE, SPECIAL) or not fmt.signed", "if not fmt.signed", CONVERT_FAST + "::test_what_the_integer_path_does"),
    Mutant("streams are all the same", "hfp8sim/units/random.py", "return absorb(absorb(h, np.uint64(stream)), np.uint64(site))", "return absorb(h, np.uint64(site))", RANDOM + "::test_keys_and_words", also=(GEMM + "::test_seed_and_stream_matter", STATISTICS + "::test_neighbours_do_not_correlate[streams-row-column]")),
    Mutant("another shift in the mixer", "hfp8sim/units/random.py", "np.uint64(27), np.uint64(30)", "np.uint64(26), np.uint64(30)", RANDOM + "::test_mixers", also=(STATISTICS + "::test_these_are_the_words_of_the_emulator",)),
    Mutant("conversions ignore the seed", "hfp8sim/ops/conversions.py", "site = np.uint64(key(np.uint64(seed),", "site = np.uint64(key(np.uint64(0),", RANDOM + "::test_convert_rounds_with_those_bits"),
    Mutant("the top bit of every word is set", "tests/units/test_statistics.py", "return ((z ^ z >> np.uint64(31)) >> np.uint64(32)).astype(np.uint32)", "return ((z ^ z >> np.uint64(31)) >> np.uint64(32)).astype(np.uint32) | np.uint32(1 << 31)", STATISTICS + "::test_bias_of_rounding_for_every_residue[row-column]", also=(STATISTICS + "::test_every_bit_is_fair[row-column]",)),
    Mutant("the counter source has row-column's law", "tests/units/test_statistics.py", 'return mix32(w) if kind == "counter" else w', "return w", STATISTICS + "::test_four_corners"),
    Mutant("words are half as large", ACCUMULATOR, "    return np.int64(bits >> np.uint64(32 - facts.r)), lfsr", "    return np.int64(bits >> np.uint64(33 - facts.r)), lfsr", STATISTICS + "::test_sums_are_unbiased[stochastic-a-row-column]"),
    Mutant("matrices of any shapes are multiplied", "hfp8sim/ops/products.py", "if a.shape[1] != b.shape[0]:", "if False:", GEMM + "::test_bad_input"),
    Mutant("Hopper keeps 14 fraction bits", "hfp8sim/units/profile.py", "guard_bits=13,", "guard_bits=14,", GOLDEN + "::test_hopper_silicon"),
    Mutant("guard bits are not a choice", ACCUMULATOR, "profile.guard_bits, mode_number", "13, mode_number", GOLDEN + "::test_the_silicon_tells_profiles_apart"),
    # -- the kit, the vectors, verify
    Mutant("the last offender is named, not the first, in the kit", "hfp8sim/testing/laws.py", "first = int(bad[0])", "first = int(bad[-1])", LAWS + "::test_the_worked_example"),
    Mutant("any tie is good", "hfp8sim/testing/laws.py", "even = ~(tie & (down > 0)) | (codes % 2 == 0)", "even = tie | True", LAWS + "::test_messages_name_law_mode_and_input"),
    Mutant("codes need not come back", "hfp8sim/testing/laws.py", "            back == every, ", "            back == back, ", LAWS + "::test_a_wrong_decoder_is_caught"),
    Mutant("seeds may do what they like", "hfp8sim/testing/laws.py", '_equal(s.run(fmt_a, fmt_b, a, b, 5), s.run(fmt_a, fmt_b, a, b, 5), "seed 5, twice")', "pass", LAWS + "::test_the_gemm_law_catches_its_bug[seeded]"),
    Mutant("accumulators without a NaN are drawn", "hfp8sim/testing/strategies.py", 'and fmt.zero != "none" and fmt.has_nan]', 'and fmt.zero != "none"]', STRATEGIES + "::test_limits_are_kept"),
    Mutant("K one too long", "hfp8sim/testing/strategies.py", "k = draw(st.integers(0, max_k))", "k = draw(st.integers(0, max_k + 1))", STRATEGIES + "::test_sizes_are_kept"),
    Mutant("problems run with the formats exchanged", "hfp8sim/testing/strategies.py", '"a_format": self.a_format,', '"a_format": self.b_format,', STRATEGIES + "::test_a_problem_runs"),
    Mutant("programs end where they like", "hfp8sim/testing/strategies.py", '[*words, encode("halt")]', "[*words, 2**64 - 1]", STRATEGIES + "::test_programs_survive_the_assembler"),
    Mutant("vectors of fma draw nothing", "hfp8sim/verify/vectors.py", "fma(acc[i], sig, exp, fmt, modes[i], policy, r, random[i])", "fma(acc[i], sig, exp, fmt, modes[i], policy, r, 0)", VECTORS + "::test_fma"),
    Mutant("vectors of dot exchange the formats", "hfp8sim/verify/vectors.py", "gemm(a, b, q.profile, a_format=q.a, b_format=q.b, seed=0)", "gemm(a, b, q.profile, a_format=q.b, b_format=q.a, seed=0)", VECTORS + "::test_dot"),
    Mutant("vectors take a chunk for a total", "hfp8sim/verify/vectors.py", "operand(chunks[i], chunk_fmt)", "operand(chunks[i], fmt)", VECTORS + "::test_add[aiu]"),
    Mutant("vectors of conversions overflow as sums do", "hfp8sim/verify/vectors.py", "values[at], fmt, MODES[mode], q.profile.operand_overflow, words, r", "values[at], fmt, MODES[mode], q.profile.overflow, words, r", VECTORS + "::test_convert[rapid]"),
    Mutant("vectors in one mode", "hfp8sim/verify/vectors.py", "np.resize(numbers, self.count)", "np.full(self.count, numbers[0])", VECTORS + "::test_vectors_meet_every_case"),
    Mutant("files do not say what they are", "hfp8sim/verify/vectors.py", '"about": json.dumps(self.about),', '"about": "{}",', VECTORS + "::test_files"),
    Mutant("vectors ignore the seed", "hfp8sim/verify/vectors.py", "key(np.uint64(seed), np.uint64(0), np.uint64(site))", "key(np.uint64(7), np.uint64(0), np.uint64(site))", VECTORS + "::test_equal_requests_give_equal_vectors_and_others_do_not", also=(VECTORS + "::test_vectors_stay_what_they_were",)),
    Mutant("no vectors are as good as some", "hfp8sim/verify/vectors.py", "if count < 1:", "if False:", VECTORS + "::test_bad_requests"),
    Mutant("verify believes every row", "hfp8sim/verify/mac.py", "if _digest(rows[i], flags) == self._digest(a, b):", "if True:", VERIFY + "::test_a_wrong_unit_is_found", compiled=True),
    Mutant("verify sees no difference", "hfp8sim/verify/check.py", "if all(np.array_equal(x, y) for x, y in pairs):", "if pairs:", VERIFY + "::test_a_wrong_adder_and_converter_are_found", compiled=True),
    Mutant("verify leaves a format out", "hfp8sim/verify/catalog.py", "for fmt in eight_bit_formats():", "for fmt in eight_bit_formats()[1:]:", VERIFY + "::test_exhaustive_tier_covers_what_it_says", compiled=True),
    Mutant("verify leaves a total out", "hfp8sim/verify/mac.py", "range(number * 256, number * 256 + 256)", "range(number * 256, number * 256 + 255)", "tests/verify/test_verify_exhaustively.py::test_all_inputs[addition dlfloat16, nearest-away]", compiled=True),
    Mutant("verify tries every second random word", "hfp8sim/verify/mac.py", "numbers * 2731 %", "numbers * 2732 %", VERIFY + "::test_every_random_word_is_met"),
    Mutant("a torn state file is a traceback", "hfp8sim/verify/run.py", "except (ValueError, KeyError, TypeError):", "except ValueError:", VERIFY + "::test_a_torn_state_file"),
    Mutant("verify runs without C", "hfp8sim/verify/catalog.py", "if not reference.available():", "if False:", VERIFY + "::test_without_the_c_reference"),
    Mutant("the summary says nothing of differences", "hfp8sim/verify/run.py", 'made.add_row("", f"[red]first: {result.first}[/]")', "pass", VERIFY + "::test_summary_states_what_was_tried_and_what_differed"),
    Mutant("equal values are called different", "hfp8sim/testing/laws.py", 'once == twice, "', 'once != twice, "', "tests/testing/test_laws.py::test_every_format_obeys[e2m1]"),
    Mutant("a law that accepts all", "hfp8sim/testing/laws.py", "    bad = np.flatnonzero(~flat)", "    bad = np.flatnonzero(~flat)[:0]", "tests/testing/test_laws.py::test_the_law_catches_its_bug[monotone]"),
    Mutant("no midpoints among the boundaries", "hfp8sim/testing/boundaries.py", "        values[:-1] + gaps / 2,\n", "", "tests/testing/test_laws.py::test_boundaries_hold_every_number_and_midpoint"),
    Mutant("the strategy never draws NaN", "hfp8sim/testing/strategies.py", "    assume(nan or x == x)", "    assume(x == x)", "tests/testing/test_strategies.py::test_what_is_asked_for_is_drawn"),
    Mutant("vectors keep only one rounding's flags", "hfp8sim/verify/vectors.py", "codes[i], flags[i] = code, first | second", "codes[i], flags[i] = code, first", "tests/verify/test_vectors.py::test_fmma"),
    Mutant("fields swapped in the text", "hfp8sim/verify/vectors.py", "top = self.width\n", "top = self.width - 4\n", "tests/verify/test_vectors.py::test_text_says_what_the_arrays_say"),
    Mutant("verify compares codes, not flags", "hfp8sim/verify/mac.py", "    digest.update(flags.data)\n", "", VERIFY + "::test_wrong_flags_are_found"),
    Mutant("verify skips the kernels", "hfp8sim/verify/mac.py", "for meeting in self.meetings:", "for meeting in ():", VERIFY + "::test_a_wrong_kernel_is_found", compiled=True),
    Mutant("verify skips the kernels of left-over columns", "hfp8sim/verify/mac.py", "dict.fromkeys((plan.kernel, plan.kernel.narrow))", "dict.fromkeys((plan.kernel,))", VERIFY + "::test_kernels_of_left_over_columns_stand_trial", compiled=True),
    Mutant("verify forgets the last part", "hfp8sim/verify/run.py", "return [i for i in range(check.parts) if i not in done]", "return [i for i in range(check.parts - 1) if i not in done]", VERIFY + "::test_an_interrupted_run_goes_on"),
    Mutant("verify trusts results of other sources", "hfp8sim/verify/run.py", 'if stored["sources"] != self.sources:', "if False:", VERIFY + "::test_state_of_other_sources_is_not_used"),
    Mutant("the C wrapper forgets the random bits", "hfp8sim/verify/c_reference.py", "record.random_bits = profile.random_bits", "record.random_bits = 13", GEMM + "::test_every_order_in_every_mode[stochastic-a-fma]"),
    # -- the float kernels
    Mutant("kernels trust every float32 sum", "hfp8sim/kernels/select.py", "safe = narrow and p <= (held - 2) // 2", "safe = True", ARRAY + "::test_accumulators_of_every_width", also=(ARRAY + "::test_paths_change_where_float32_stops_being_exact",), compiled=True),
    Mutant("kernels do not watch for overflow", "hfp8sim/kernels/select.py", "        if chunk <= self.acc.max and whole <= self.total.max:", "        if True:", ARRAY + "::test_overflow_and_underflow", compiled=True),
    Mutant("hashed words go the wrong way in wide accumulators", "hfp8sim/kernels/select.py", "numbers[at.HASH_SHIFT] = bits - d", "numbers[at.HASH_SHIFT] = 32 - d", ARRAY + "::test_random_bits_of_wide_accumulators[23-counter]", compiled=True),
    Mutant("kernels cut where they should round", "hfp8sim/kernels/rounding.py", "            bits = b.add(bits, self.kept[at.HALF])\n", "            pass\n", ARRAY + "::test_every_pair_and_kind_of_operand[nearest-away-1-quiet]", also=(ARRAY + "::test_shapes_threads_and_layouts[shape1]", ARRAY + "::test_pieces_of_m_n_and_k[nearest-away-1-64]", ARRAY + "::test_twin[('hfp8-143', 'hfp8-143')-{'rounding': 'nearest-away'}]", ARRAY + "::test_all_accumulators_with_distinct_products[hfp8-143\\xd7hfp8-143-nearest-away-40]", ARRAY + "::test_two_products_on_adversarial_sums[hfp8-143\\xd7hfp8-143-nearest-away]", ARRAY + "::test_between_chunks_another_format_and_mode[modes0-binary32]", ARRAY + "::test_processors_in_name[nearest-away-baseline]"), compiled=True),
    Mutant("aligned products are taken away", "hfp8sim/kernels/microkernel.py", "result.append(b.add(total, step.truncated(step.mul(product, scale))))", "result.append(b.sub(total, step.truncated(step.mul(product, scale))))", ARRAY + "::test_hopper_is_fast", also=(ARRAY + "::test_aligned_sums[1-5-toward-zero]",), compiled=True),
    Mutant("the rounding direction stays", "hfp8sim/kernels/microkernel.py", "            self._load_control(self.saved)\n", "            pass\n", ARRAY + "::test_the_rounding_direction_is_put_back", compiled=True),
    Mutant("panels hold halves", "hfp8sim/kernels/pack.py", "base=((127 - fmt.bias + scale) << 23)", "base=((126 - fmt.bias + scale) << 23)", ARRAY + "::test_panels_hold_the_values", compiled=True),
    Mutant("accumulators lose their sign", "hfp8sim/kernels/pack.py", "usual = b.or_(moved, b.select(negative, sign, _lanes(0)))", "usual = moved", ARRAY + "::test_encode_takes_every_number[0-dlfloat16]", compiled=True),
    Mutant("subnormal operands are finer than they are", "hfp8sim/kernels/pack.py", "        field = 1\n", "        field = 0\n", ARRAY + "::test_scan"),
    Mutant("operands are coarser than they are", "hfp8sim/kernels/pack.py", "return field - fmt.bias - fmt.fraction_bits", "return field - fmt.bias - fmt.fraction_bits + 1", ARRAY + "::test_pairs_of_products_are_exact_in_float64[hfp8-143\\xd7hfp8-143]"),
    Mutant("no rounding gains more than half a unit", "hfp8sim/kernels/select.py", 'gain = 2.0**-precision if kind in ("even", "away") else 2.0 ** (1 - precision)', "gain = 2.0**-precision", ARRAY + "::test_bounds_hold"),
    Mutant("kernels for any order of sums", "hfp8sim/kernels/select.py", 'if profile.sum_order not in ("fused", "aligned"):', "if False:", ARRAY + "::test_reasons_for_the_plain_loop", compiled=True),
    Mutant("kernels for operands that are no numbers", "hfp8sim/kernels/select.py", "if a.special or b.special or chunk.special or total.special:", "if chunk.special or total.special:", ARRAY + "::test_codes_that_are_not_numbers_take_the_plain_loop", compiled=True),
    Mutant("every thread draws the first rows' words", "hfp8sim/kernels/stream.py", "together, m.start, first,", "together, 0, first,", ARRAY + "::test_threads_give_the_same_bits[hfp8-hfp8-143-True]", compiled=True),
    Mutant("panels that are made together draw the first rows' words", "hfp8sim/kernels/stream.py", "b.shape[1], first + row, 0, 0)", "b.shape[1], first, 0, 0)", ARRAY + "::test_threads_give_the_same_bits[hfp8-hfp8-143-True]", compiled=True),
    Mutant("nobody asks whether helpers failed", "hfp8sim/kernels/stream.py", "        helper.result()\n", "        pass\n", ARRAY + "::test_a_failure_of_a_helper_is_told"),
    Mutant("memory is new each time", "hfp8sim/kernels/memory.py", "self._kept[what] = memory", "pass", ARRAY + "::test_memory_is_used_again_for_the_same_purpose_only"),
    Mutant("AVX-512 is not seen", "hfp8sim/kernels/select.py", 'lanes = 16 if "+avx512f" in features else 8', 'lanes = 8 if "+avx512f" in features else 8', ARRAY + "::test_instruction_sets_give_the_same_bits", compiled=True),
    Mutant("compiled kernels are not kept", "hfp8sim/_numba/jit.py", 'if _CACHE and compiled is not function:', 'if False:', ARRAY + "::test_a_second_process_compiles_nothing", compiled=True),
    Mutant("vectors add no random bits", "hfp8sim/kernels/convert.py", 'kept = (kept + random) >> how["r"]', 'kept = kept >> how["r"]', CONVERT_FAST + "::test_random_bits", compiled=True),
    Mutant("words for kernels are half as large", "hfp8sim/kernels/select.py", "row = Words(fold=0, down=32 - r,", "row = Words(fold=0, down=33 - r,", ARRAY + "::test_random_bits[13-row-column]", compiled=True),
    Mutant("words of conversions are half as large", "hfp8sim/ops/conversions.py", "return (words >> np.uint32(32 - r))", "return (words >> np.uint32(33 - r))", STATISTICS + "::test_conversions"),
    Mutant("compiled kernels wait for the compiler", "hfp8sim/_numba/jit.py", "        rtsys.initialize(target_context)\n", "        target_context.refresh()\n", ARRAY + "::test_a_second_process_compiles_nothing", compiled=True),
    Mutant("processes that compile at once exchange kernels", "hfp8sim/_numba/jit.py", 'f"{uuid.uuid4().hex[:16]}.{number}"', "number", "tests/_numba/test_jit.py::test_processes_that_compile_at_once_do_not_exchange_kernels", compiled=True),
    Mutant("a chunk may be longer than K", "hfp8sim/kernels/select.py", "self.length = min(profile.chunk_length or depth, depth) or 1", "self.length = profile.chunk_length or max(depth, 1)", ARRAY + "::test_chunks_longer_than_k[288230376151711745]", compiled=True),
    Mutant("the largest number is a multiple of any quantum", "hfp8sim/kernels/select.py", "            if reached > fmt.max:\n", "            if False:\n", ARRAY + "::test_a_largest_number_off_the_quantum", compiled=True),
    Mutant("the smallest number is a multiple of any quantum", "hfp8sim/kernels/select.py", 'if one in ("random", "hash") and _underflow(fmt, self.unrounded) != "free":', "if False:", ARRAY + "::test_a_smallest_number_off_the_quantum", compiled=True),
    Mutant("infinite sums are aligned", "hfp8sim/kernels/select.py", 'if over == "replace" and self.profile.sum_order == "aligned":', "if False:", ARRAY + "::test_infinite_aligned_sums", compiled=True),
    Mutant("what is not rounded is cut", "hfp8sim/kernels/select.py", 'if cut and one == "none":', "if False:", ARRAY + "::test_24_bit_accumulators_underflow", compiled=True),
    Mutant("an infinite chunk becomes the largest number", "hfp8sim/kernels/rounding.py", "            over = b.and_(over, b.fcmp_ordered(\"<\", lanes.absolute(s), lanes.infinity()))\n", "            pass\n", ARRAY + "::test_infinite_chunks", compiled=True),
    Mutant("exact chunks swamp nothing", "hfp8sim/kernels/microkernel.py", "            tally.add(at.SWAMPED, step, lost)\n", "            pass\n", ARRAY + "::test_exact_chunks_that_vanish_are_swamped", compiled=True),
    Mutant("tiles of three panels read one of them twice", "hfp8sim/kernels/microkernel.py", "self.b.mul(self.strides[name], _I64(panel))", "self.b.mul(self.strides[name], _I64(1))", ARRAY + "::test_every_pair_and_kind_of_operand[nearest-away-1-quiet]", compiled=True),
    Mutant("a product goes on from what was there before", "hfp8sim/kernels/microkernel.py", "            self.total.store(self.total.zero(), self.p[\"total\"], self._cell(r, v))\n", "            pass\n", ARRAY + "::test_a_whole_product_begins_with_zeros", compiled=True),
    Mutant("a product begins with zeros at every block", "hfp8sim/kernels/macrokernel.py", "t[FRESH] if first == 0 else 0,", "t[FRESH],", ARRAY + "::test_a_whole_product_begins_with_zeros", compiled=True),
    Mutant("panels that are left over are forgotten", "hfp8sim/kernels/macrokernel.py", "j += panels if wide else 1", "j += panels", ARRAY + "::test_shapes_threads_and_layouts[shape6]", compiled=True),
    Mutant("the last steps' events are forgotten", "hfp8sim/kernels/counts.py", "        for slot in range(self.SLOTS):\n", "        for slot in range(0):\n", ARRAY + "::test_every_pair_and_kind_of_operand[nearest-even-1-events]", compiled=True),
    Mutant("what is beside zero is a number", "hfp8sim/kernels/select.py", "- (1 << (fraction - fmt.fraction_bits)) - (1 << fraction)", "- (1 << (fraction - fmt.fraction_bits))", ARRAY + "::test_overflow_and_underflow[special-nearest-away]", compiled=True),
    Mutant("upright directions point up or down", "hfp8sim/kernels/zero_products.py", "return np.where(np.isinf(slopes), np.inf, slopes) + 0.0", "return slopes + 0.0", ZEROS + "::test_all_pairs_of_pairs_of_tiny_formats[e2m1-normal]", also=(ZEROS + "::test_directions_of_all_pairs_of_codes[hfp8-143-hfp8-152]",)),
    Mutant("parallel pairs are orthogonal", "hfp8sim/kernels/zero_products.py", "_slopes(-b[:, None], b[None, :])", "_slopes(b[:, None], b[None, :])", ZEROS + "::test_all_pairs_of_pairs_of_tiny_formats[unsigned-e2m1]", also=(ZEROS + "::test_directions_of_all_pairs_of_codes[signed-signed]",)),
    Mutant("slopes that are close are one", "hfp8sim/kernels/zero_products.py", "    slopes = x / y\n", "    slopes = (x / y).astype(np.float16).astype(np.float64)\n", ZEROS + "::test_directions_of_all_pairs_of_codes[integers-signed]"),
    Mutant("what is orthogonal to nothing is so to all of its kind", "hfp8sim/kernels/zero_products.py", "numbers(columns, OF_COLUMNS_ONLY)", "numbers(columns, OF_ROWS_ONLY)", ZEROS + "::test_all_pairs_of_pairs_of_tiny_formats[unsigned-normal]"),
    Mutant("two zeros have a direction", "hfp8sim/kernels/zero_products.py", "np.where(np.isnan(slopes), ALL, found)", "np.where(False, ALL, found)", ZEROS + "::test_the_code_of_what_is_missing_is_zero"),
    Mutant("rows of zeros meet one panel of columns", "hfp8sim/kernels/zero_products.py", "count += np.int64(zeros) * columns.shape[0] * PANEL", "count += np.int64(zeros) * PANEL", ZEROS + "::test_many_rows_and_columns_of_zeros"),
    Mutant("a chunk's odd product adds zero", "hfp8sim/kernels/zero_products.py", "second[codes[row + i, k]]", "second[0 if last else codes[row + i, k]]", ZEROS + "::test_steps_that_add_zero_swamp_nothing[hfp8-143-hfp8-143-nearest-away]", also=(ZEROS + "::test_pieces_count_their_own_zeros[2]", ZEROS + "::test_layouts_and_threads_count_the_same[columns]"), compiled=True),
    Mutant("beyond the edge there is something to add", "hfp8sim/kernels/zero_products.py", "            panels[p] = ALL\n", "            panels[p] = OF_ROWS_ONLY\n", ZEROS + "::test_steps_that_add_zero_swamp_nothing[e2m1-hfp8-143-nearest-even]", compiled=True),
    Mutant("a step that adds zero is swamped", "hfp8sim/kernels/stream.py", "        counts[SWAMPED] -= _all_zero_steps(plan, a, b, threads)\n", "        pass\n", ZEROS + "::test_layouts_and_threads_count_the_same[rows]", compiled=True),
    Mutant("codes of 16 bits have directions of 8", "hfp8sim/kernels/select.py", "narrow = max(fmt.bits for fmt in self.formats) <= TABLE_BITS", "narrow = True", ZEROS + "::test_where_each_step_is_looked_at[pair0-change0-no table of 16 bits]", compiled=True),
    Mutant("an infinite sum is swamped", "hfp8sim/kernels/select.py", 'if known and over == "free" else "count"', 'if known else "count"', ZEROS + "::test_where_each_step_is_looked_at[pair2-change2-no numbers any more]", compiled=True),
    Mutant("rows that stay close draw the first rows' words", "hfp8sim/kernels/stream.py", "depth, first_a + i, 0, 0)", "depth, first_a, 0, 0)", ARRAY + "::test_parts_of_a_product_are_that", compiled=True),
    Mutant("every accumulator holds every product", "hfp8sim/kernels/select.py", "fits = self.width <= self.acc.precision and self.largest", "fits = self.largest", ARRAY + "::test_the_first_product_of_a_chunk[nearest-away]", compiled=True),
    Mutant("no product is too large for an accumulator", "hfp8sim/kernels/select.py", " and self.largest <= self.acc.max and under", " and under", ARRAY + "::test_the_first_product_of_a_chunk[nearest-away]", compiled=True),
    Mutant("no product is too small for an accumulator", "hfp8sim/kernels/select.py", ' and under == "free"\n', "\n", ARRAY + "::test_the_first_product_of_a_chunk[stochastic-a]", compiled=True),
    Mutant("every number has a scaled one", "hfp8sim/kernels/select.py", "return low and self.a.largest * 2.0**scale < 2.0**128", "return True", ARRAY + "::test_the_first_product_of_a_chunk[toward-zero]", compiled=True),
    Mutant("float32 has one more binade of normal numbers", "hfp8sim/kernels/select.py", '(0 if fmt.lowest == "normal" else 1) - fmt.bias < _LOWEST_NORMAL', "-fmt.bias < _LOWEST_NORMAL - 1", ARRAY + "::test_a_binade_below_float32s[normal]", compiled=True),
    Mutant("a NaN needs no fraction", "hfp8sim/kernels/select.py", 'if over in ("nan", "replace") and 0 in', "if False and 0 in", ARRAY + "::test_a_nan_without_a_fraction[nearest-away]", compiled=True),
    Mutant("float32 scales every subnormal sum", "hfp8sim/kernels/select.py", "127 - out.fraction_bits < out.bias - 1 < 126", "False", ARRAY + "::test_subnormal_sums_that_float32_cannot_scale", compiled=True),
    Mutant("helpers work on after an interrupt", "hfp8sim/kernels/stream.py", "        wait(late)\n", "        pass\n", ARRAY + "::test_nobody_works_on_after_an_interrupt"),
    Mutant("what failed is gone on with", "hfp8sim/kernels/stream.py", "            _WORKSPACE.forget()\n", "            pass\n", ARRAY + "::test_memory_of_a_product_that_failed_is_not_used_again", compiled=True),
    Mutant("helpers keep what their callers had", "hfp8sim/kernels/stream.py", 'keep("jobs", weakref.ref(self), size', 'keep("jobs", self, size', ARRAY + "::test_helpers_keep_nothing_of_callers_that_have_ended", compiled=True),
    Mutant("sums that lag are left as they are", "hfp8sim/kernels/microkernel.py", "for i in range(len(sums) - self.k.lag * self.k.vectors, len(sums)):", "for i in range(0):", ARRAY + "::test_every_pair_and_kind_of_operand[nearest-even-1-quiet]", compiled=True),
    Mutant("an operand's panels are another product's", "hfp8sim/kernels/stream.py", "key = plan, shape, formats, keys, threads", "key = plan, shape, formats, threads", ARRAY + "::test_products_of_one_shape_draw_their_own_words", compiled=True),
    # -- tiles of the machine
    Mutant("a pause is not taken", "hfp8sim/machine/executor.py", "                return _PAUSE\n", "                pass\n", EXECUTOR + "::test_long_work_comes_back_for_interrupts", compiled=True),
    Mutant("sums begin anew with every range of k", "hfp8sim/machine/tiles.py", "= start == 0, not (start == 0 and last)", "= True, not (start == 0 and last)", BITS + "::test_sums_that_are_carried_from_range_to_range[linear-fwd-hfp8-1]", also=(EXECUTOR + "::test_ranges_of_k_count_their_own_events[hfp8]",), compiled=True),
    Mutant("open chunks share their place", "hfp8sim/machine/tiles.py", "= start == 0, not (start == 0 and last)", "= start == 0, False", BITS + "::test_sums_that_are_carried_from_range_to_range[linear-fwd-hfp8-1]", compiled=True),
    Mutant("rows that have panels have all rows' panels", "hfp8sim/machine/tiles.py", "held[_H_GROUP] == group and held[_H_FIRST] == first", "held[_H_GROUP] == group", BITS + "::test_long_sums_in_chunks[fwd-64]", compiled=True),
    Mutant("an image's rows become the first panels again", "hfp8sim/machine/tiles.py", "part, place = jobs.from_row(job, i), (", "part, place = jobs.from_row(job, 0), (", BITS + "::test_every_geometry_in_every_phase[plain-fwd]", compiled=True),
    Mutant("threads that split a tile do its first rows", "hfp8sim/machine/tiles.py", "scratchpad, row_bytes, first, rows, spare)\n    if not", "scratchpad, row_bytes, 0, rows, spare)\n    if not", BITS + "::test_threads_that_split_a_tile[linear-fwd-hfp8]", compiled=True),
    Mutant("whole windows may leave the image", "hfp8sim/machine/movement.py", "0 <= y0 <= height - lines:", "0 <= y0:", BITS + "::test_every_geometry_in_every_phase[plain-fwd]", compiled=True),
    Mutant("a register that is written changes nothing for tiles", "hfp8sim/machine/executor.py", "            done[_WRITES] += 1\n            table[tiles.ALONE] = 0\n", "            done[_WRITES] += 1\n", EXECUTOR + "::test_registers_that_are_written_between_tiles", compiled=True),
    Mutant("a tile that is split leaves the loop alone with another's table", "hfp8sim/machine/executor.py", "        self.table[tiles.ALONE] = 0  # until", "        pass  # until", BITS + "::test_threads_that_split_some_tiles[6]", compiled=True),
    Mutant("operands that are loaded in two ways are the same", "hfp8sim/machine/check.py", "spoilt[-1] |= ways[port] >= 0 and ways[port] != way", "spoilt[-1] |= False", EXECUTOR + "::test_an_operand_that_is_loaded_in_two_ways[b]", compiled=True),
    Mutant("sums may end before they are finished", "hfp8sim/machine/sequencer.py", "return OK if state[ACC_K] == regs[CSR.k] else OTHER_DEPTH", "return OK", "tests/machine/test_check.py::test_sums_of_another_depth"),
    # -- C
    Mutant("C: ties away go to even, and verify is told", "c_ref/rounding.c", "    case REF_NEAREST_AWAY:\n        return scaled == 1;", "    case REF_NEAREST_AWAY:\n        return scaled == 1 && (left || lower_is_odd);", VERIFY + "::test_fast_tier_finds_no_difference", compiled=True, c=True),
    Mutant("C: a binade too many at the low end", "c_ref/rounding.c", "d.lowest_exponent = -format->bias;", "d.lowest_exponent = 1 - format->bias;", C_REF + "::test_largest_and_smallest_values", c=True),
    Mutant("C: stochastic A one word late", "c_ref/rounding.c", "case REF_STOCHASTIC_A:\n        return whole + how.random >=", "case REF_STOCHASTIC_A:\n        return whole + how.random >", C_REF + "::test_stochastic_modes_at_a_quarter", also=(C_REF + "::test_stochastic_rounding_is_unbiased_down_to_zero",), c=True),
    Mutant("C: directed modes are nearest below the smallest number", "c_ref/rounding.c", "return rounds_away(how, 0, true, false, x.negative);", "return false;", C_REF + "::test_lowest_binade_of_the_directed_modes", c=True),
    Mutant("C: overflow clamps in the other direction", "c_ref/rounding.c", "if (policy == REF_SATURATE || clamps)", "if (policy == REF_SATURATE || !clamps)", C_REF + "::test_overflow_policies", c=True),
    Mutant("C: any bias is good", "c_ref/rounding.c", "if (format->bias < -4095 || format->bias > 4095)", "if (format->bias == -9999)", C_REF + "::test_a_wrong_format_is_named", c=True),
    Mutant("C: any number of random bits is good", "c_ref/mac.c", "(profile->random_bits < 1 || profile->random_bits > 24)", "profile->random_bits < 1", C_REF + "::test_a_wrong_profile_is_named", c=True),
    Mutant("C: another shift in the mixer", "c_ref/random.c", "z ^= z >> 27;", "z ^= z >> 26;", C_REF + "::test_the_words_are_the_specified_ones", also=(C_REF + "::test_counter_and_row_column_words_in_a_gemm",), c=True),
    Mutant("C: chain adds the other product first", "c_ref/mac.c", "const number inner[2] = {p0, chain ? start : p1};", "const number inner[2] = {p0, chain ? p1 : p1};", C_REF + "::test_the_order_of_a_step", c=True),
    Mutant("C: products aligned by their leading bit", "c_ref/exact.c", "p.anchor = a.anchor + b.anchor;", "p.anchor = p.exponent + bit_length(p.significand) - 1;", C_REF + "::test_alignment_goes_by_the_sum_of_the_operands_exponents", c=True),
    Mutant("C: sums keep -0", "c_ref/rounding.c", "return negative_zero ? 0 : code;", "return negative_zero ? code : code;", C_REF + "::test_zero_sums_are_positive_in_every_mode", c=True),
    Mutant("C: 0 * infinity is infinite", "c_ref/exact.c", "        (a.kind == INFINITE && b.kind == ZERO) || (a.kind == ZERO && b.kind == INFINITE))", "        (a.kind == INFINITE && b.kind == NAN_KIND))", C_REF + "::test_exceptional_terms", c=True),
    Mutant("C: a shift by the word's width", "c_ref/internal.h", "    if (distance >= 64)\n        return significand != 0;\n", "", C_REF + "::test_the_self_test_passes_under_the_sanitizers"),
    Mutant("C: a floating-point type", "c_ref/random.c", "#define GOLDEN", "typedef double never;\n#define GOLDEN", C_REF + "::test_the_sources_name_no_floating_point_type"),
    Mutant("C: ties away go to even", "c_ref/rounding.c", "    case REF_NEAREST_AWAY:\n        return scaled == 1;", "    case REF_NEAREST_AWAY:\n        return scaled == 1 && (left || lower_is_odd);", IN_MODE + "[saturate-hfp8-143]", also=(C_REF + "::test_conversion_to_hfp8_143", C_REF + "::test_conversion_to_dlfloat16", C_REF + "::test_conversion_to_dlfloat16_is_the_nnp1_routine", C_REF + "::test_ones_stall_without_chunks_and_not_with_them", C_REF + "::test_fma_in_dlfloat16"), c=True),
    Mutant("C: jammed bits vanish", "c_ref/internal.h", "return (significand >> distance) | ((significand << (64 - distance)) != 0);", "return significand >> distance;", GEMM + "::test_tiny_and_huge_addends[to-odd]", c=True),
    Mutant("C: the first chunk is added, not copied, to a wrong start", "c_ref/gemm.c", "        acc = 0;\n        for (int64_t first", "        for (int64_t first", GEMM + "::test_k_beside_the_chunk[hfp8-130]", c=True),
)  # fmt: skip

#: Where every test must be named above …
ROOMS = ("formats", "units", "kernels", "ops", "verify", "testing", "c_ref")
#: … but for those that hold pages and lists to the code, or plant their own bugs.
BOOKKEEPING = (
    "test_a_bad_source_would_fail", "test_every_field_has_a_meaning", "test_every_gemm_law_has_a_bug",
    "test_every_law_has_a_bug", "test_every_table_is_compared", "test_the_page_is_current",
    "test_the_page_lists_every_law", "test_the_readme_lists_every_function",
    "test_zz_no_more_statistics_than_the_false_alarm_rate_counts_on",
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
    (folder / "tests" / "conftest.py").write_text(CONFTEST, encoding="utf-8")
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
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-rfE", "--tb=line"]
    command += ["-p", "no:cacheprovider", "--no-header", "-W", "ignore::RuntimeWarning", *tests]
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


def short(test: str) -> str:
    """A test as the page names it: file and function."""
    path, _, name = test.split("[")[0].partition("::")
    return f"`{Path(path).stem}::{name}`"


def table() -> str:
    """The table of docs/proofs.md."""
    lines = ["| planted bug | in | found by |", "|---|---|---|"]
    lines += [
        f"| {m.what} | `{m.file.removeprefix('hfp8sim/')}` | {' '.join(map(short, m.tests))} |"
        for m in MUTANTS
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
