"""Answers of somebody's unit are compared in the bits that are defined, and reported with their operands."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.formats import MODES
from hfp8sim.verify import Result
from hfp8sim.verify.answers import compare, read_vectors, with_answers
from hfp8sim.verify.junit import write_junit
from hfp8sim.verify.vectors import UNITS, vectors, write_set

#: What version 0.1.0 wrote: without a version, masks or the list of modes.
OLD = """\
// fma: {"profile": "hfp8", "phase": "fwd", "overflow": "special", "random_bits": 13, "count": 2, "seed": 0}
// reg [79:0] vectors [0:1];
// [79:76] mode: 0 nearest-even, 1 nearest-away, 2 toward-zero, 3 toward-positive, 4 toward-negative
// [75:52] random: the 13 random bits of a stochastic rounding, else 0
// [51:44] a: hfp8-143 code
// [43:36] b: hfp8-143 code
// [35:20] acc: dlfloat16 code
// [19:4] result: dlfloat16 code
// [3:0] flags: 8 invalid, 4 underflow, 2 overflow, 1 inexact
0_000000_4d_7f_3d0a_453d_1
1_000000_7c_ce_489e_47ec_0
"""


def written(tmp_path: Path, unit: str, profile: str = "hfp8", count: int = 300) -> Path:
    return write_set(vectors(unit, profile, count=count), tmp_path)[0]


def changed(path: Path, row: int, old: str, new: str) -> Path:
    """The file with a change at the end of a vector's line."""
    lines = path.read_text("utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("//"))
    assert lines[first + row].endswith(old), lines[first + row]
    lines[first + row] = lines[first + row].removesuffix(old) + new
    path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("profile", ["hfp8", "rapid"])
def test_written_vectors_pass(tmp_path: Path, unit: str, profile: str) -> None:
    vector_set = vectors(unit, profile, count=200)
    for path in write_set(vector_set, tmp_path):
        file = read_vectors(path)
        found = compare(file)
        assert not found.differed and sum(result.tried for _, result in found.results) == 200
        for name, column in vector_set.columns.items():
            assert np.array_equal(file.columns[name], column)
        assert found.coverage.groups == vector_set.coverage.groups


def test_vectors_of_older_version_pass(tmp_path: Path) -> None:
    path = tmp_path / "fma.hex"
    path.write_text(OLD, "utf-8")
    assert compare(read_vectors(path)).differed == 0
    wrong = compare(read_vectors(changed(path, 1, "47ec_0", "47eb_0")))
    assert wrong.differed == 1 and dict(wrong.results)["fma nearest-away"].differed == 1


def test_wrong_answer_is_reported_with_its_operands(tmp_path: Path) -> None:
    path = changed(written(tmp_path, "fma"), 0, "b2b6_0", "b2b7_0")
    results = dict(compare(read_vectors(path)).results)
    assert results["fma nearest-even"].differed == 1 and len(results) == len(MODES)
    assert results["fma nearest-even"].first == (
        "vector 0: mode 0, random 000000, a 40, b 1d, acc b2d0, result b2b7 ≠ b2b6, flags 0 ≠ 0"
    )
    assert sum(result.differed for result in results.values()) == 1


def test_flags_are_compared_on_request(tmp_path: Path) -> None:
    path = changed(written(tmp_path, "add"), 0, "_1", "_0")
    assert compare(read_vectors(path)).differed == 1
    assert compare(read_vectors(path), flags=False).differed == 0


def test_undefined_bits_are_not_compared(tmp_path: Path) -> None:
    """The sign of a NaN-Infinity; but an unknown digit is a wrong answer."""
    vector_set = vectors("fma", count=300)
    row = int(np.flatnonzero(vector_set.columns["result"] == 0x7FFF)[0])
    flags = vector_set.columns["flags"][row]
    path = changed(written(tmp_path, "fma"), row, f"7fff_{flags:x}", f"ffff_{flags:x}")
    assert compare(read_vectors(path)).differed == 0
    found = compare(read_vectors(changed(path, row, f"ffff_{flags:x}", f"xfff_{flags:x}")))
    assert found.differed == 1
    assert any("result unknown ≠ 7fff" in result.first for _, result in found.results)


def test_answers_alone(tmp_path: Path) -> None:
    """A line for each vector, with or without flags, as `$fdisplay` writes them."""
    vector_set = vectors("fma", count=300)
    file = read_vectors(written(tmp_path, "fma"))
    rows = list(zip(vector_set.columns["result"], vector_set.columns["flags"]))
    answers = tmp_path / "answers.txt"
    answers.write_text("# mine\n" + "".join(f"{r:04X} {f:X}\n" for r, f in rows), "utf-8")
    assert compare(with_answers(file, answers)).differed == 0
    answers.write_text("".join(f"{r:04x}\n" for r, _ in rows), "utf-8")
    assert compare(with_answers(file, answers)).differed == 0
    answers.write_text("".join(f"{r ^ 1:04x}\n" for r, _ in rows), "utf-8")
    assert compare(with_answers(file, answers)).differed == 300 - int(
        (vector_set.columns["care"] & 1 == 0).sum()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 must be the comment"),
        ("// div: {}\n", "line 1 must be the comment"),
        ("// fma: {}\n", "must be a JSON object with profile and phase"),
        (OLD.replace('"hfp8"', '"hpf8"'), "unknown profile 'hpf8'"),
        (OLD.replace("] acc:", "] sum:"), r"has no field sum \[35:20\]"),
        (OLD.replace("[51:44] a", "[55:44] a"), r"has no field a \[55:44\]"),
        (OLD.replace("4d_7f", "4d7"), "vector 0 has 19 digits; must be 20"),
        (OLD.replace("4d_7f", "4d_7g"), "vector 0: .* is not hexadecimal"),
        (OLD.replace("4d_7f", "4d_7x"), "vector 0: b has a digit x"),
        (OLD.replace("1_000000", "9_000000"), "vector 1: mode must be 0..0x8"),
        (OLD[: OLD.rindex("0_000000")], "it has no vectors"),
    ],
)
def test_damaged_vectors_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "fma.hex"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message) as raised:
        read_vectors(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": np.full(4, -1)}, r"vector 0: mode must be 0\.\.0x8"),
        ({"a": np.array([1, 2, 256, 3])}, r"vector 2: a must be 0\.\.0xff"),
        ({"result": np.full(4, 1 << 40)}, r"vector 0: result must be 0\.\.0xffffffff"),
        ({"acc": np.ones(4)}, r"it must have whole numbers of shape \(4,\) for acc"),
        ({"b": np.ones((4, 2), int)}, r"it must have whole numbers of shape \(4,\) for b"),
        ({"result": np.uint32(3)}, "it must have whole numbers of shape"),
        ({"unit": np.array("div")}, "is not a file of vectors"),
        ({"about": np.array('{"profile": "hfp8", "phase": []}')}, "with profile and phase"),
    ],
)
def test_npz_with_other_numbers_is_refused(
    tmp_path: Path, changes: dict[str, np.ndarray], message: str
) -> None:
    """C takes a rounding mode for a number of a table: a wrong one would end the process."""
    path = write_set(vectors("fma", count=4), tmp_path, ["npz"])[0]
    with np.load(path) as stored:
        columns = dict(stored) | changes
    np.savez(path, **columns)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as raised:
        read_vectors(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


@pytest.mark.parametrize("size", [0, 10, 500])
def test_torn_npz_is_refused(tmp_path: Path, size: int) -> None:
    path = write_set(vectors("fma", count=4), tmp_path, ["npz"])[0]
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match="torn, or not"):
        read_vectors(path)


def test_answers_of_another_count_are_refused(tmp_path: Path) -> None:
    file = read_vectors(written(tmp_path, "fma", count=3))
    (tmp_path / "answers").write_text("0000\n0000\n", "utf-8")
    with pytest.raises(InputError, match=r"2 answers; .* has 3 vectors"):
        with_answers(file, tmp_path / "answers")


def test_junit_lists_failures(tmp_path: Path) -> None:
    results = [("a", Result(5)), ("b <&>", Result(7, 2, "vector 1: x ≠ y"))]
    path = write_junit(tmp_path / "junit.xml", "suite", results, {"seed": "3"})
    suite = ElementTree.parse(path).getroot()
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "2", "1")
    good, bad = suite.findall("testcase")
    assert good.find("failure") is None and bad.get("name") == "b <&>"
    assert bad.find("failure").get("message") == "2 of 7 differ"
    assert bad.find("failure").text == "vector 1: x ≠ y"
    assert suite.find("properties/property").attrib == {"name": "seed", "value": "3"}
