"""The table of checks: a fast tier, and the input spaces that can be exhausted."""

from __future__ import annotations

import itertools

import numpy as np

from hfp8sim.errors import InputError
from hfp8sim.formats import MODES, FloatFormat, formats, get_format
from hfp8sim.formats.vocabulary import mode_number, overflow_number
from hfp8sim.network import PHASES
from hfp8sim.ops import gemm
from hfp8sim.testing import boundary_values
from hfp8sim.units import get_profile, profiles, random
from hfp8sim.verify import c_reference as reference
from hfp8sim.verify import sweeps
from hfp8sim.verify.check import Check, Result, differences
from hfp8sim.verify.convert import ConvertSweep, convert_check
from hfp8sim.verify.half import half_check, half_target
from hfp8sim.verify.mac import AddSweep, MacSweep, add_check, mac_check
from hfp8sim.verify.update import exhaustive_checks, update_sample

#: The operand pairs of HFP8's three GEMMs.
HFP8_PAIRS = (("hfp8-143", "hfp8-143"), ("hfp8-143", "hfp8-152"), ("hfp8-152", "hfp8-152"))
#: Modes in which every triple is compared.
MAC_MODES = ("nearest-away", "nearest-even", "toward-zero", "stochastic-a")

#: Modes that lanes of binary16 have bits enough for.
HALF_MODES = ("nearest-away", "toward-zero")


def eight_bit_formats() -> list[FloatFormat]:
    """The registered formats of 8 bits."""
    return [fmt for fmt in map(get_format, formats()) if fmt.bits == 8]


def checks(exhaustive: bool = False) -> list[Check]:
    """The checks of the fast tier, and with `exhaustive` all others. `InputError` without the C reference."""
    if not reference.available():
        raise InputError(reference.NOT_BUILT)
    fast = [
        _gemm_check(),
        _mac_sample(),
        _add_sample(),
        _convert_sample(),
        _random_check(),
        update_sample(),
    ]
    return fast + (_exhaustive() if exhaustive else [])


def _exhaustive() -> list[Check]:
    dlfloat, ieee = get_format("dlfloat16"), get_format("ieee-169")
    rows = [
        mac_check(MacSweep(get_format(a), get_format(b), dlfloat, mode))
        for (a, b), mode in itertools.product(HFP8_PAIRS, MAC_MODES)
    ]
    rows += [
        add_check(AddSweep(dlfloat, "nearest-away")),
        add_check(AddSweep(ieee, "nearest-even")),
    ]
    if (target := half_target()) is not None:
        rows += [
            half_check(get_format(a), get_format(b), dlfloat, mode, target)
            for (a, b), mode in itertools.product(HFP8_PAIRS, HALF_MODES)
        ]
    for fmt in eight_bit_formats():
        mode = "nearest-away" if fmt.lowest == "normal" else "nearest-even"
        policy = "special" if fmt.has_nan else "saturate"
        rows.append(convert_check(ConvertSweep(fmt, mode, policy)))
    return rows + exhaustive_checks()


# -- the fast tier ---------------------------------------------------------------------------------


def _gemm_check() -> Check:
    cases = list(itertools.product(profiles("exact"), PHASES, ("numbers", "any", "edges")))

    def part(i: int) -> Result:
        name, phase, kind = cases[i]
        profile = get_profile(name)
        if kind != "numbers":  # these cases test the random source as well
            source = random.SOURCES[i % len(random.SOURCES)]
            profile = profile.replace(rounding="stochastic", random_source=source)
        fmt_a, fmt_b = profile.operand_formats(phase)
        rng = np.random.default_rng([7, i])
        a, b = _codes(rng, fmt_a, (9, 150), kind), _codes(rng, fmt_b, (150, 18), kind)
        options = {"a_format": fmt_a, "b_format": fmt_b, "seed": i, "stream": 1}
        expected, counts, _ = reference.gemm(a, b, profile, **options)  # type: ignore[arg-type]
        where = f"{name} {phase}, {kind} operands, seed {i}"
        product = gemm(a, b, profile, **options, threads=1)  # type: ignore[call-overload]
        result = differences(lambda j: f"{where}, output {divmod(j, 18)}", (product, expected))
        if kind != "numbers" or name == "hfp8":  # kernels that count are compiled separately
            counted, events = gemm(a, b, profile, **options, threads=1, events=True)  # type: ignore[call-overload]
            result += differences(lambda j: f"{where}, output {divmod(j, 18)}", (counted, expected))
            if events != counts:
                result += Result(0, 1, f"{where}: {events} ≠ {counts}")
        return result

    return Check(
        "GEMM of every profile", f"{len(cases)} products of 9×150×18", "hs.gemm = C",
        len(cases), part,
    )  # fmt: skip


def _codes(
    rng: np.random.Generator, fmt: FloatFormat, shape: tuple[int, int], kind: str
) -> np.ndarray:
    """Operand codes: uniform ones (any), boundary values (edges), or normally distributed numbers."""
    if kind == "any":
        return rng.integers(0, 1 << fmt.bits, shape).astype(fmt.dtype)
    if kind == "edges":
        values = fmt.decode(fmt.encode(boundary_values(fmt, limit=40)))
        return fmt.encode(rng.choice(values[~np.isnan(values)], shape))
    return fmt.encode(rng.standard_normal(shape))


def _mac_sample() -> Check:
    cases = list(itertools.product(HFP8_PAIRS, MODES))

    def part(i: int) -> Result:
        (a, b), mode = cases[i]
        sweep = MacSweep(
            get_format(a), get_format(b), get_format("dlfloat16"), mode, constant=False
        )
        rng = np.random.default_rng([8, i])
        result = Result()
        for code in rng.integers(0, 256, 3):
            result += sweep.part(int(code), columns=rng.integers(0, 256, 4))
        return result

    return Check(
        "multiply-accumulate of every HFP8 pair in every mode",
        f"{12 * len(cases)} (a, b) drawn × all accumulators",
        "plain loop and float kernels = C",
        len(cases),
        part,
    )


def _add_sample() -> Check:
    cases = list(itertools.product(("dlfloat16", "ieee-169"), MODES))

    def part(i: int) -> Result:
        name, mode = cases[i]
        totals = np.random.default_rng([9, i]).integers(0, 1 << 16, 16)
        return AddSweep(get_format(name), mode, constant=False).part(0, totals)

    return Check(
        "addition of 16-bit formats in every mode", f"{16 * len(cases)} totals drawn × all addends",
        "plain loop = C", len(cases), part,
    )  # fmt: skip


def _convert_sample() -> Check:
    names = formats()

    def part(i: int) -> Result:
        fmt = get_format(names[i])
        values = boundary_values(fmt, limit=2000)
        bits = values.view(np.int64)
        result = Result()
        for mode, policy in itertools.product(MODES, ("saturate", "special")):
            if policy == "special" and not (fmt.has_nan or fmt.has_inf):
                continue
            codes, flags = np.empty(bits.size, np.uint32), np.empty(bits.size, np.uint8)
            word = np.int64(5003)
            sweeps.encode_row_any(
                bits, word, fmt.facts, mode_number(mode), overflow_number(policy), 13, codes, flags
            )
            random_bits = np.full(values.shape, word) if mode.startswith("stochastic") else None
            expected, expected_flags = reference.encode(values, fmt, mode, policy, random_bits, 13)
            result += differences(
                lambda j, m=mode, p=policy: f"{float(values[j]).hex()} to {fmt.name}, {m}, {p}",  # type: ignore[misc]
                (codes, expected),
                (flags, expected_flags),
            )
        return result

    return Check(
        "conversion to every format in every mode", "every number, midpoint and their neighbours",
        "plain loop = C", len(names), part,
    )  # fmt: skip


def _random_check() -> Check:
    def part(i: int) -> Result:
        ffi, lib = reference.library()
        n = 1 << 16
        words, expected = np.empty(n, np.uint32), np.empty(n, np.uint32)
        key = np.uint64(random.key(np.uint64(i), np.uint64(2 * i + 1), np.uint64(random.CONVERT)))
        start = (1 << 32) - n // 2
        random.fill_words(key, np.uint64(start), words)
        lib.ref_convert_random(
            i, 2 * i + 1, 24, start, n, ffi.cast("uint32_t *", expected.ctypes.data)
        )
        result = differences(lambda j: f"word {start + j} of seed {i}", (words >> 8, expected))
        registers = np.empty((n, 2), np.uint32)
        x = y = 1 + i
        for j in range(1000):
            x, y = int(random.lfsr_step(np.uint64(x))), int(lib.ref_lfsr_step(y))
            registers[j] = x, y
        return result + differences(
            lambda j: f"step {j}", (registers[:1000, 0], registers[:1000, 1])
        )

    return Check("random source", "8 × (65536 words, 1000 steps)", "Numba = C", 8, part)
