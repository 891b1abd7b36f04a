"""Program files, DRAM images and joined programs."""

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.isa import (
    LINE,
    Program,
    ProgramLayer,
    Symbol,
    assemble,
    disassemble,
    encode,
    image,
    outputs,
)

SYMBOLS = (
    Symbol("x", "input", 0, "hfp8-143", (3, 30)),
    Symbol("w", "input", 2, "dlfloat16", (5,)),
    Symbol("y", "output", 3, "binary32", (2, 2)),
)


def _program() -> Program:
    words = [encode("csrw", csr=0, value=5), encode("fence"), encode("halt")]
    return Program(np.array(words, np.uint64), SYMBOLS, (ProgramLayer("fc", "fwd", 0, 2, 9),))


def test_file_round_trips(tmp_path):
    program = _program()
    program.save(tmp_path / "p.hfp8")
    assert Program.load(tmp_path / "p.hfp8") == program
    assert [f.name for f in tmp_path.iterdir()] == ["p.hfp8"]


def test_truncated_file_is_refused(tmp_path):
    path = tmp_path / "p.hfp8"
    _program().save(path)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"p\.hfp8: .*(not a program|torn)"):
            Program.load(path)
    path.write_bytes(content[:-1] + b"\x80")
    with pytest.raises(InputError, match="torn"):
        Program.load(path)
    path.write_bytes(content[:8] + b"\x02\0\0\0" + content[12:])
    with pytest.raises(InputError, match="version 2"):
        Program.load(path)


def test_missing_or_unwritable_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        Program.load(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        _program().save(tmp_path / "file" / "p.hfp8")


def test_image_places_inputs_at_their_lines():
    x = np.arange(90, dtype=np.uint8).reshape(3, 30)
    dram = image(_program(), {"x": x, "w": np.arange(5, dtype=np.uint16) << 8})
    assert dram.size == 4 * LINE
    assert (dram[:90] == x.ravel()).all() and not dram[90:128].any()
    assert dram[128:138].tolist() == [0, 0, 0, 1, 0, 2, 0, 3, 0, 4]  # little-endian
    dram[3 * LINE : 3 * LINE + 4] = [0, 0, 128, 63]
    assert outputs(_program(), dram)["y"].view(np.float32).tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "input 'x' is missing: hfp8-143 codes of shape"),
        ({"z": 1}, "unknown input 'z'"),
        ({"x": np.zeros((3, 30))}, "must hold hfp8-143 codes, not float64"),
        ({"x": np.zeros((3, 31), np.uint8)}, r"has shape \(3, 31\), must be \(3, 30\)"),
        ({"x": np.full((3, 30), 256)}, r"outside 0\.\.255"),
    ],
)
def test_wrong_inputs_are_refused(inputs, reason):
    with pytest.raises(InputError, match=reason):
        image(_program(), {"w": np.zeros(5, np.uint16), **inputs} if inputs else {})


@pytest.mark.parametrize(
    ("symbols", "layers", "reason"),
    [
        ((SYMBOLS[0], SYMBOLS[0]), (), "two symbols are named 'x'"),
        ((), (ProgramLayer("a", "fwd", 0, 4),), "must follow"),
        ((), (ProgramLayer("a", "fwd", 0, 2), ProgramLayer("b", "fwd", 1, 3)), "must follow"),
    ],
)
def test_inconsistent_programs_are_refused(symbols, layers, reason):
    with pytest.raises(InputError, match=reason):
        Program(np.zeros(3, np.uint64), symbols, layers)


def test_joined_programs_are_independent():
    one = assemble(
        '.output "y" @1 binary32 4\n.layer "l1" "fwd" 0\ncsrw k, 7\ncsrw a.base, 2\n.end\nhalt'
    )
    two = assemble('.input "x" @0 e5m2 64\n.layer "l2" "fwd" 0\ncsrw a.base, 1\nfence\n.end\nhalt')
    text = disassemble(Program.join([one, two]))
    assert text == disassemble(
        assemble(
            '.output "l1.fwd.y" @1 binary32 4\n.input "l2.fwd.x" @2 e5m2 64\n'
            '.layer "l1" "fwd" 0\ncsrw k, 7\ncsrw a.base, 2\n.end\n'
            '.layer "l2" "fwd" 0\ncsrw k, 0\ncsrw b.base, 2\n'
            "csrw d.base, 2\ncsrw c.base, 2\ncsrw a.base, 3\nfence\n.end\nhalt"
        )
    )
