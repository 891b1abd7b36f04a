"""The static checks refuse programs with the instruction's index, its text and the reason."""

import numpy as np
import pytest

from hfp8sim.errors import InputError
from hfp8sim.isa import Program, assemble, encode
from hfp8sim.machine import check, execute, get_machine

HEAD = """
.input "x" @0 hfp8-143 8x32
.input "w" @4 hfp8-143 32x16
.output "y" @12 dlfloat16 8x16
csrw m, 8
csrw n, 16
csrw k, 32
csrw tile.m, 4
csrw tile.k, 16
csrw a.pitch, 32
csrw a.format, hfp8-143
csrw b.base, 4
csrw b.pitch, 16
csrw b.format, hfp8-143
csrw c.base, 12
csrw c.pitch, 16
csrw c.format, dlfloat16
csrw acc.format, dlfloat16
csrw total.format, dlfloat16
csrw chunk, 8
"""
BODY = """
loop i, 2 {
ld a, s[0]
clr c[0]
loop k, 2 {
ld b, s[10]
ldw s[10]
mm c[0], s[0]
}
post s[20], c[0]
st s[20]
}
halt
"""


def refused(text, machine="rapid-core"):
    with pytest.raises(InputError) as error:
        check(assemble(text), get_machine(machine))
    return str(error.value)


def test_example_is_accepted():
    check(assemble(HEAD + BODY), get_machine())
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.integers(0, 256, (8, 32), np.uint8), "w": rng.integers(0, 256, (32, 16), np.uint8)
    }  # fmt: skip
    assert execute(assemble(HEAD + BODY), inputs).instructions == 16 + 1 + 2 * (5 + 2 * 3) + 1


@pytest.mark.parametrize(
    ("registers", "reason"),
    [
        ("split.i, 2\ncsrw split.g, 2", "st s[20]: 2 cores would store this: it must be in a spread loop over g"),
        ("split.j, 2", "loop i, 2, spread: register split.i is not set, but others of the grid are"),
        ("split.j, 1\ncsrw split.i, 2", ""),
    ],
)  # fmt: skip
def test_grid_of_cores_shares_its_stores(registers, reason):
    text = HEAD.replace("csrw chunk, 8", f"csrw chunk, 8\ncsrw {registers}")
    text += BODY.replace("loop i, 2", "loop i, 2, spread")
    if reason:
        assert reason in refused(text)
    else:
        check(assemble(text), get_machine())


def test_csrw_of_k_before_post_is_refused():
    """Register k must not shrink between the tiles and POST."""
    head = HEAD.replace("csrw tile.m, 4", "csrw tile.m, 8")
    half = "ld a, s[0]\nclr c[0]\nloop k, 1 {\nld b, s[10]\nldw s[10]\nmm c[0], s[0]\n}\n"
    end = "post s[20], c[0]\nst s[20]\nhalt\n"
    reason = "post s[20], c[0]: register k has been written since the accumulators were cleared"
    assert reason in refused(head + half + "csrw k, 16\n" + end)
    assert "the sums are not finished" in refused(head + half + end)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ld a, s[0]\n", "", "mm c[0], s[0]: no operand a has been loaded"),
        ("ldw s[10]\n", "", "mm c[0], s[0]: no weights have been selected by ldw"),
        ("ld b, s[10]\n", "", "ldw s[10]: the tile is not within what was loaded of operand b"),
        ("clr c[0]\n", "", "mm c[0], s[0]: no accumulators have been cleared"),
        ("post s[20], c[0]\n", "", "st s[20]: no result of post is waiting"),
        ("mm c[0], s[0]", "mm c[0], s[1]", "reads s[...] at another row than operand a"),
        ("mm c[0], s[0]", "mm c[1], s[0]", "uses c[...] at another row than the accumulators"),
        ("ldw s[10]", "ldw s[11]", "reads s[...] at another row than operand b"),
        ("st s[20]", "st s[0]", "reads s[...] at another row than post wrote"),
        ("mm c[0], s[0]", "cv c[0], s[0]", "operand a was loaded as a matrix: cv reads images"),
        ("ld a, s[0]", "ld a, s[0], image", "operand a was loaded as an image: cv reads images"),
        ("loop i, 2", "loop i, 3", "the loop runs too often"),
        ("loop k, 2", "loop k, 1", "the sums are not finished"),
        ("mm c[0], s[0]", "mm c[0], s[0]\nmm c[0], s[0]", "tiles of k must follow one another"),
        ("csrw chunk, 8", "csrw chunk, 12\ncsrw step, 0", "does not start where a step may start"),
        ("csrw chunk, 8", "csrw chunk, 0\ncsrw step, 2\ncsrw tile.k, 15", "does not start where a step may start"),
        ("st s[20]\n}", "}\nloop i, 1 {\nst s[20]\n}", "st s[20]: the result of post is that of another tile"),
        ("csrw c.base, 12", "csrw c.base, 13", "st s[20]: moves bytes beyond the end of DRAM"),
        ("csrw b.pitch, 16", "csrw b.pitch, 99", "ld b, s[10]: moves bytes beyond the end of DRAM"),
        ("csrw a.format, hfp8-143\n", "", "mm c[0], s[0]: register a.format is not set"),
        ("csrw c.format, dlfloat16\n", "", "post s[20], c[0]: register c.format is not set"),
        ("csrw acc.format, dlfloat16", "csrw acc.format, e8m0", "e8m0 cannot accumulate"),
        ("csrw a.format, hfp8-143", "csrw a.format, 0x3ffff", "0x0003ffff is not the word of a format"),
        ("csrw chunk, 8", "csrw 999, 8", "there is no register 0x3e7"),
        ("csrw chunk, 8", ".word 0x0200008600000009", "acc.rounding is"),
        ("halt", "halt\nnop", "is behind halt"),
        ("halt", "", "the program does not end with halt"),
        ("halt", ".word 0xee00000000000000", "0xee00000000000000: no instruction has opcode 0xee"),
        ("halt", "nop\n.word 0x0100000000000001\nhalt", "halt gives no meaning to bits 0x1"),
        ("clr c[0]", "csrw chunk, 8\nclr c[0]", "registers are written outside loops only"),
        ("clr c[0]", "fence\nclr c[0]", "fence must not be in a loop"),
        ("loop k, 2", "loop i, 2", "counter i already runs"),
        ("loop k, 2", "loop k, 2, spread", "a loop over k cannot be spread"),
        ("loop k, 2 {\nld b", "loop k, 2 {\nloop j, 1, spread {\n}\nld b", "can be spread only outside loops over k"),
        ("halt", "loop j, 1, spread {\n}\nhalt", "every core would store this"),
        ("ld b, s[10]", "ld 3, s[10]", "operand 3 does not exist"),
        ("ld a, s[0]", "ld a, s[32767]", "scratchpad rows 32767..32768 are touched, the machine has 32768"),
        ("clr c[0]", "clr c[2047]", "uses c[...] at another row"),
        ("post s[20], c[0]", "post s[20], c[0], bias", "register d.format is not set"),
        ("csrw chunk, 8", "csrw chunk, 8\ncsrw groups, 2", "needs one group: a loop over g must be open"),
        ("csrw chunk, 8", "csrw chunk, 8\ncsrw post.high, 65536", "post.high is 65536, which is no code"),
    ],
)  # fmt: skip
def test_fault_is_named(old, new, reason):
    text = HEAD + BODY
    assert old in text
    message = refused(text.replace(old, new, 1))
    assert reason in message
    if "does not end" not in message:
        assert message.startswith("instruction ")


def test_shares_are_bounded_by_their_register():
    message = refused(
        (HEAD + BODY).replace("csrw chunk, 8", "csrw chunk, 8\ncsrw split.j, 1025", 1)
    )
    assert "split.j is 1025, must be 0..1024" in message


def test_error_names_index_text_and_layer():
    text = (
        HEAD
        + '.layer "fc" "fwd" 0\n'
        + BODY.replace("clr c[0]\n", "").replace("halt", ".end\nhalt")
    )
    assert refused(text) == (
        "instruction 21 of layer 'fc' (fwd): mm c[0], s[0]: no accumulators have been cleared"
    )


def test_unwritten_rows_are_refused():
    """A box that a later register value makes larger reaches into rows that LD did not fill."""
    text = HEAD + "csrw a.slots, 2\ncsrw a.slot_rows, 5\n" + BODY
    check(assemble(text), get_machine())
    stale = text.replace(
        "halt", "csrw image.width, 99\nhalt"
    )  # geometry after the fact is harmless
    check(assemble(stale), get_machine())
    grown = """
csrw image.width, 4
csrw image.pixel_pitch, 1
csrw image.line_pitch, 4
csrw grid.width, 4
csrw m, 4
csrw a.format, e5m2
csrw b.format, e5m2
csrw b.pitch, 1
csrw acc.format, binary32
csrw total.format, binary32
csrw k, 1
csrw tile.m, 4
.input "x" @0 e5m2 400
ld a, s[0], image
ld b, s[9]
csrw image.width, 400
clr c[0]
ldw s[9]
cv c[0], s[0]
halt
"""
    assert "scratchpad row 1 is read before anything wrote it" in refused(grown)


def test_small_machine_lacks_accumulators():
    small = get_machine().replace(**{"memory.accumulators": 64})
    check(assemble(HEAD + BODY), small)
    text = HEAD.replace("csrw tile.m, 4", "csrw tile.m, 8") + BODY.replace("loop i, 2", "loop i, 1")
    with pytest.raises(InputError, match=r"accumulator rows 0\.\.1 are touched, the machine has 1"):
        check(assemble(text), small)


def test_overlapping_loops_are_refused():
    words = [encode("loop", counter=1, count=1, body=1), encode("loop", counter=2, count=1, body=3)]
    words += [encode("nop")] * 3 + [encode("halt")]
    with pytest.raises(
        InputError, match="instruction 1: loop j, 1: the body reaches beyond the loop"
    ):
        check(Program(np.array(words, np.uint64)), get_machine())
