"""The assembler inverts the disassembler for every word; errors name line and column."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfp8sim.errors import InputError
from hfp8sim.formats import formats, get_format
from hfp8sim.isa import (
    Program,
    ProgramLayer,
    Symbol,
    assemble,
    decode,
    disassemble,
    encode,
    format_word,
    word_format,
)
from hfp8sim.isa.table import CSRS, INSTRUCTIONS

TEXT = """
.input "x" @0 hfp8-143 64x128       # activations
.output "y" @128 dlfloat16 64x32
.layer "fc 1" "fwd" 12288
    csrw  m, 64
    csrw  a.format, hfp8-143@7
    csrw  acc.rounding, nearest-away
    csrw  pad.height, -3
    loop  i, 4, spread {
        ld    a, s[0], image, t
        ldw   s[0x10]
        cv    c[0], s[0]
        post  s[128], c[0], bias, relu
    }
    fence
.end
    .word 0xff00000000000001
    halt
"""


@st.composite
def instruction_words(draw):
    row = draw(st.sampled_from(INSTRUCTIONS))
    operands = {f.name: draw(st.integers(0, f.mask)) for f in row.fields}
    if row.mnemonic == "csrw":
        csr = draw(st.sampled_from(CSRS))
        operands = {"csr": csr.address, "value": draw(st.integers(csr.low, csr.high)) & 0xFFFFFFFF}
    if row.mnemonic == "loop":
        operands["body"] = draw(st.integers(0, 6))
    flags = (
        draw(st.lists(st.sampled_from([f.name for f in row.flags]), unique=True))
        if row.flags
        else ()
    )
    return encode(row.mnemonic, *flags, **operands)


_words = st.one_of(instruction_words(), st.integers(0, 2**64 - 1))


@given(instruction_words())
def test_decode_undoes_encode(word):
    decoded = decode(word)
    assert decoded is not None
    assert encode(decoded.row.mnemonic, *decoded.flags, **decoded.operands) == word


@given(st.integers(0, 2**64 - 1))
def test_reserved_bits_are_refused(word):
    decoded = decode(word)
    if decoded is not None:
        assert encode(decoded.row.mnemonic, *decoded.flags, **decoded.operands) == word
    else:
        assert word >> 56 not in {r.opcode for r in INSTRUCTIONS} or _clean(word) != word


def _clean(word):
    """The word with all bits cleared that have no meaning for its opcode."""
    row = next(r for r in INSTRUCTIONS if r.opcode == word >> 56)
    mask = 0xFF << 56
    for field in row.fields:
        mask |= field.mask << field.low
    for flag in row.flags:
        mask |= 1 << (48 + flag.bit)
    return word & mask


@given(st.lists(_words, max_size=40))
def test_disassembly_assembles_to_the_program(words):
    program = Program(np.array(words, np.uint64))
    assert assemble(disassemble(program)) == program


@given(
    st.lists(_words, max_size=12),
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3, unique=True),
    st.data(),
)
def test_symbols_and_layers_round_trip(words, names, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(words)), min_size=6, max_size=6)))
    layers = [
        ProgramLayer(n, "fwd", a, b, 7)
        for n, a, b in zip(names, cuts[::2], cuts[1::2], strict=False)
    ]
    symbols = [Symbol(n, "input", 3, "hfp8-152", (2, 3)) for n in names]
    program = Program(np.array(words, np.uint64), tuple(symbols), tuple(layers))
    assert assemble(disassemble(program)) == program


def test_example_assembles():
    program = assemble(TEXT)
    assert program["y"] == Symbol("y", "output", 128, "dlfloat16", (64, 32))
    assert program.layers == (ProgramLayer("fc 1", "fwd", 0, 10, 12288),)
    assert program.words[4] == encode("loop", "spread", counter=1, count=4, body=4)
    assert program.words[3] == encode("csrw", csr=0x6C, value=2**32 - 3)
    assert decode(int(program.words[10])) is None
    assert assemble(disassemble(program)) == program


@pytest.mark.parametrize("name", formats())
def test_format_word_round_trips(name):
    fmt = get_format(name)
    for bias in {fmt.bias, fmt.bias - 3}:
        moved = fmt.with_bias(bias)
        back = word_format(format_word(moved))
        assert back.facts == moved.facts
        assert get_format(back.name) == back


@pytest.mark.parametrize("word", [0, 0xFFFFFFFF, 31, format_word(get_format("e5m2")) | 1 << 18])
def test_invalid_format_words_are_refused(word):
    with pytest.raises(InputError, match="not the word of a format"):
        word_format(word)


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("csrw chunkk, 64", 1, 6, "unknown register 'chunkk'; did you mean chunk?"),
        ("nop\n  mn c[0], s[1]", 2, 3, "unknown instruction 'mn'; did you mean mm?"),
        ("ld a, s[65536]", 1, 9, "the row is 65536, must be 0..65535"),
        ("ld a, c[0]", 1, 7, r"expected s\[ROW\]"),
        ("ld q, s[0]", 1, 4, "unknown operand 'q'"),
        ("ld a, s[0], imago", 1, 13, "unknown flag 'imago' of ld; did you mean image?"),
        ("ld a s[0]", 1, 6, "expected ','"),
        ("csrw step, 65", 1, 12, "step is 65, must be 0..64"),
        ("csrw acc.rounding, up", 1, 20, "unknown acc.rounding 'up'"),
        ("csrw a.format, hfp8-134", 1, 16, "unknown format 'hfp8-134'; did you mean"),
        ("loop i, 4", 1, 10, "expected '{' after the loop"),
        ("loop i, 4 {\nnop", 1, 1, "this loop is never closed"),
        ("}", 1, 1, "no loop is open here"),
        ("halt now", 1, 6, "unknown flag 'now' of halt"),
        (".layer \"a\" \"fwd\" 0", 1, 1, "this layer never ends"),
        (".end", 1, 1, "no layer is open here"),
        (".inputs", 1, 1, "unknown directive 'inputs'; did you mean input"),
        ('.input "x" @0 hfp9 2x2', 1, 15, "unknown format 'hfp9'"),
        ("csrw m, many", 1, 9, "expected m, a number 1..2147483647"),
        ("csrw m, 1__0", 1, 9, "m is not a number"),
        ("csrw m, " + "9" * 5000, 1, 9, "m is not a number"),
        ("} }", 1, 1, "no loop is open here"),
    ],
)  # fmt: skip
def test_error_shows_line_and_column(text, line, column, reason):
    with pytest.raises(InputError, match=rf"^line {line}, column {column}: {reason}") as error:
        assemble(text)
    quoted, pointer = str(error.value).split("\n")[1:]
    assert quoted[4:] == text.split("\n")[line - 1]
    assert pointer.index("^") - 4 == column - 1
