"""The C reference as an installed library: `make -C c_ref install`, then benches in C, C++ and by ctypes."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import hfp8sim as hs
from hfp8sim.formats import MODES, SPECIALS, formats, get_format
from hfp8sim.isa import format_word
from hfp8sim.network import PHASES
from hfp8sim.units import get_profile, profiles
from hfp8sim.verify.vectors import vectors
from hfp8sim.version import __version__

ROOT = Path(__file__).resolve().parents[2]
SOURCES, BENCHES = ROOT / "c_ref", ROOT / "examples" / "bench"
STRICT = ("-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
BAD_ARGUMENT = 32

if shutil.which("cc") is None or shutil.which("make") is None:
    pytest.skip("no C compiler or make", allow_module_level=True)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], env={**os.environ, **environment}, capture_output=True, text=True
    )  # fmt: skip


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library is installed."""
    folder = tmp_path_factory.mktemp("libref")
    made = run("make", "-C", SOURCES, "install", f"PREFIX={folder}", f"OUT={folder / 'build'}")
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


@pytest.fixture(scope="module")
def lib(prefix: Path) -> ctypes.CDLL:
    """The library for ctypes, with the types of its header."""
    library = ctypes.CDLL(str(prefix / "lib" / "libhfp8_ref.so"))
    types = {"int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64}
    text = (prefix / "include" / "hfp8_dpi.h").read_text("utf-8")
    for kind, name, arguments in re.findall(
        r"^(\w+(?: char \*)?)\s*(hfp8_\w+)\(([^)]*)\);", text, re.M
    ):
        function = getattr(library, name)
        function.restype = types.get(kind, ctypes.c_char_p if "char" in kind else None)
        function.argtypes = [
            ctypes.POINTER(ctypes.c_uint32) if "*" in argument else types[argument.split()[0]]
            for argument in arguments.split(",") if argument != "void"
        ]  # fmt: skip
    return library


def bench(
    prefix: Path, name: str, old: str = "", new: str = ""
) -> subprocess.CompletedProcess[str]:
    """Compile and run an example, after a change of its text."""
    text = (BENCHES / name).read_text("utf-8")
    assert text.count(old) == 1 or not old
    source, program = prefix / name, prefix / f"{name}.out"
    source.write_text(text.replace(old, new) if old else text, "utf-8")
    compiler = ("c++", "-std=c++17") if name.endswith(".cpp") else ("cc", "-std=c11")
    settings = f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib"
    built = run(*compiler, *STRICT, source, *settings, "-lhfp8_ref", "-o", program)
    assert built.returncode == 0, built.stderr
    return run(program)


# -- benches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("converter.c", "(1u << 19)", "(1u << 19) - 1"),
        ("accumulator.cpp", "std::round(", "std::rint("),
    ],
)
def test_bench_finds_wrong_unit(prefix: Path, name: str, old: str, new: str) -> None:
    """The example is right; with ties to another side it is found to be wrong."""
    if name.endswith(".cpp") and shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    good = bench(prefix, name)
    assert (good.returncode, good.stdout.splitlines()[0]) == (0, f"libhfp8_ref {__version__}")
    assert re.fullmatch(r"0 of \d{5,} wrong", good.stdout.splitlines()[-1])
    bad = bench(prefix, name, old, new)
    assert bad.returncode == 1 and not bad.stdout.splitlines()[-1].startswith("0 of")


def test_records_are_usable_from_cpp(prefix: Path) -> None:
    """hfp8_ref.h is for C++ too."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    source = prefix / "records.cpp"
    source.write_text(
        '#include "hfp8_ref.h"\n'
        "int main() {\n"
        "  const ref_format hfp8 = {4, 3, 11, 1, REF_ZERO_SIGNED, REF_LOWEST_NORMAL, REF_SPECIAL_NONE};\n"
        "  const ref_format dlf = {6, 9, 31, 1, REF_ZERO_SIGNED, REF_LOWEST_NORMAL, REF_SPECIAL_NAN_INF};\n"
        "  uint32_t flags = 9;\n"
        "  const uint32_t sum = ref_fma(&hfp8, 0x58, &hfp8, 0x60, &dlf, 0x3E00, REF_NEAREST_AWAY, REF_SPECIAL, 0, 0, &flags);\n"
        "  return !(sum == 0x4100 && flags == 0);\n"
        "}\n",
        "utf-8",
    )
    static = prefix / "lib" / "libhfp8_ref.a"
    program = prefix / "records"
    built = run("c++", "-std=c++17", *STRICT, f"-I{prefix}/include", source, static, "-o", program)
    assert built.returncode == 0, built.stderr
    assert run(program).returncode == 0


# -- installation ------------------------------------------------------------------------------------


def test_installed_files(prefix: Path) -> None:
    """pkg-config finds version and flags; the package for SystemVerilog is there."""
    text = (prefix / "lib" / "pkgconfig" / "hfp8_ref.pc").read_text("utf-8")
    assert f"Version: {__version__}\n" in text and f"prefix={prefix}\n" in text
    if shutil.which("pkg-config"):
        found = run("pkg-config", "--cflags", "--libs", "hfp8_ref", PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"))  # fmt: skip
        assert found.stdout.split() == [f"-I{prefix}/include", f"-L{prefix}/lib", "-lhfp8_ref"]
    package = (prefix / "share" / "hfp8_ref" / "hfp8_ref_pkg.sv").read_text("utf-8")
    header = (prefix / "include" / "hfp8_dpi.h").read_text("utf-8")
    declared = set(re.findall(r"\b(hfp8_\w+)\(", header.split("/* >>> dpi */")[1]))
    imported = set(re.findall(r"function [\w ]+? (hfp8_\w+)\(", package))
    assert imported == declared and len(imported) == 19


def test_library_exports_declared_functions(prefix: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    listed = run("nm", "-D", "--defined-only", prefix / "lib" / "libhfp8_ref.so").stdout
    exported = {line.split()[2] for line in listed.splitlines() if line.split()[1] == "T"}
    headers = "".join((SOURCES / name).read_text("utf-8") for name in ("hfp8_ref.h", "hfp8_dpi.h"))
    without_comments = re.sub(r"/\*.*?\*/", "", headers, flags=re.S)
    assert exported - {"_init", "_fini"} == set(
        re.findall(r"\b((?:ref|hfp8)_\w+)\(", without_comments)
    )


# -- functions ---------------------------------------------------------------------------------------


def test_format_numbers(lib: ctypes.CDLL) -> None:
    """A format's number is its word; what is no format has none."""
    for name in formats():
        fmt = get_format(name)
        facts = fmt.facts
        number = lib.hfp8_format(
            fmt.exponent_bits, fmt.fraction_bits, fmt.bias, fmt.signed, facts.zero, facts.lowest,
            SPECIALS.index(fmt.special),
        )  # fmt: skip
        assert number == format_word(fmt) and lib.hfp8_format_bits(number) == fmt.bits
        for code in (1, (1 << fmt.bits) - 2):
            value = np.uint64(lib.hfp8_decode(number, code)).view(np.float64)
            np.testing.assert_array_equal(value, fmt.decode(np.array([code]))[0])
    assert lib.hfp8_format(12, 3, 7, 1, 0, 0, 0) == 0
    assert lib.hfp8_format(4, 3, 2048, 1, 0, 0, 0) == 0
    assert lib.hfp8_format_bits(0) == 0 and lib.hfp8_format_bits(1 << 18 | 0x00B02464) == 0
    flags = ctypes.c_uint32()
    assert lib.hfp8_convert(0, 0, 0x00B02464, 0, 0, 0, 0, flags) == 0
    assert flags.value == BAD_ARGUMENT


def test_units_equal_package(lib: ctypes.CDLL) -> None:
    """Vectors of every unit, and the mask of defined bits."""
    p = get_profile("rapid").replace(sum_order="chain")
    a, b = (format_word(fmt) for fmt in p.operand_formats("dgrad"))
    acc, total = (format_word(get_format(fmt)) for fmt in (p.accumulator, p.between_chunks))
    binary32, flags = format_word(get_format("binary32")), ctypes.c_uint32()
    for unit in ("convert", "fma", "fmma", "add"):
        v = vectors(unit, p, phase="dgrad", count=900).columns
        for i in range(900):
            mode, care = int(v["mode"][i]), int(v["care"][i])
            x = {name: [int(n) for n in np.atleast_1d(column[i])] for name, column in v.items()}
            R = x["random"]
            if unit == "convert":
                code = lib.hfp8_convert(binary32, *x["x"], a, mode, 0, 13, *R, flags)
            elif unit == "fma":
                code = lib.hfp8_fma(a, *x["a"], b, *x["b"], acc, *x["acc"], mode, 1, 13, *R, flags)
            elif unit == "fmma":
                code = lib.hfp8_fmma(
                    a, *x["a"], b, *x["b"], acc, *x["acc"], 2, mode, 1, 13, *R, flags
                )
            else:
                code = lib.hfp8_add(total, *x["total"], acc, *x["chunk"], mode, 1, 13, *R, flags)
            assert ([code], [flags.value]) == (x["result"], x["flags"]), (unit, i)
            target = a if unit == "convert" else acc
            assert lib.hfp8_defined_bits(target, code) == care
    ones = np.array([0.7, -3.3]).view(np.uint64)
    codes = [
        lib.hfp8_convert64(int(x), a, MODES.index("nearest-away"), 0, 0, 0, None) for x in ones
    ]
    fmt = p.operand_formats("dgrad")[0]
    assert codes == fmt.encode(np.array([0.7, -3.3]), rounding="nearest-away").tolist()


@pytest.mark.parametrize(
    ("mode", "overflow", "bits", "word"), [(9, 0, 13, 0), (0, 3, 13, 0), (6, 0, 25, 0), (6, 0, 13, 1 << 13)]
)  # fmt: skip
def test_bad_roundings_are_flagged(lib, mode: int, overflow: int, bits: int, word: int) -> None:
    flags = ctypes.c_uint32()
    number = 0x00B02464
    calls = [
        lib.hfp8_convert(number, 1, number, mode, overflow, bits, word, flags),
        lib.hfp8_fma(number, 1, number, 1, number, 1, mode, overflow, bits, word, flags),
        lib.hfp8_add(number, 1, number, 1, mode, overflow, bits, word, flags),
        lib.hfp8_fmma(
            number, 1, 1, number, 1, 1, number, 1, 0, mode, overflow, bits, 0, word, flags
        ),
    ]
    assert calls == [0] * 4 and flags.value == BAD_ARGUMENT


def test_profiles_and_streams_equal_gemm(lib: ctypes.CDLL) -> None:
    """Each shipped profile by number; then one of the caller's own, by its fields."""
    rng, number = np.random.default_rng(3), 0
    for name in profiles("exact"):
        for phase in PHASES:
            number += 1
            fmt_a, fmt_b = get_profile(name).operand_formats(phase)
            assert lib.hfp8_profile_get(number, 0) == format_word(fmt_a)
            assert lib.hfp8_profile_get(number, 1) == format_word(fmt_b)
            assert lib.hfp8_profile_problem(number) == b""
            a, b = (rng.integers(0, 1 << fmt.bits, (1, 200)) for fmt in (fmt_a, fmt_b))
            expected = hs.gemm(a, b.T, name, a_format=fmt_a, b_format=fmt_b)[0, 0]
            assert stream(lib, number, a[0], b[0]) == expected, (name, phase)
    assert lib.hfp8_profile_problem(number + 1) == b"there is no profile of this number"
    assert lib.hfp8_profile_set(1, 4, 32) == -1  # a shipped one stays as it is
    own = lib.hfp8_profile_copy(1)
    assert lib.hfp8_profile_set(own, 4, 32) == 0 and lib.hfp8_profile_set(own, 13, 1) == -1
    for field in (8, 9):
        assert lib.hfp8_profile_set(own, field, MODES.index("stochastic-a")) == 0
    p = get_profile("hfp8").replace(chunk_length=32, rounding="stochastic")
    a, b = rng.integers(0, 256, (3, 100)), rng.integers(0, 256, (100, 2))
    expected = hs.gemm(a, b, p, seed=5, stream=6)
    assert stream(lib, own, a[2], b[:, 1], 5, 6, 2, 1) == expected[2, 1]
    assert lib.hfp8_profile_set(own, 8, 9) == 0
    assert lib.hfp8_profile_problem(own) == b"rounding modes must be 0..8"
    assert lib.hfp8_mac_open(own, 0, 0, 0, 0) == 0
    lib.hfp8_profile_free(own)
    opened = [lib.hfp8_mac_open(1, 0, 0, 0, 0) for _ in range(256)]
    assert 0 not in opened[:255] and opened[255] == 0
    flags = ctypes.c_uint32()
    for handle in opened[:255]:
        lib.hfp8_mac_close(handle, flags)
    assert lib.hfp8_mac_close(1, flags) == 0 and flags.value == BAD_ARGUMENT


def stream(lib, profile: int, a, b, *of: int) -> int:
    """A dot product, product by product."""
    handle = lib.hfp8_mac_open(profile, *(of or (0, 0, 0, 0)))
    for x, y in zip(a, b):
        lib.hfp8_mac_push(handle, int(x), int(y))
    return lib.hfp8_mac_close(handle, None)
