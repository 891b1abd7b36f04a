"""The table itself: no two rows, fields or registers get in each other's way."""

import itertools
from pathlib import Path

from docs.pages.isa import page
from hfp8sim.isa.table import (
    BY_OPCODE,
    CSR,
    CSR_BY_ADDRESS,
    CSRS,
    ENUMERATIONS,
    FLAG,
    FLAGS_LOW,
    INSTRUCTIONS,
    LOW,
    MASK,
    OP,
    OPCODE_LOW,
)

_DOCS = Path(__file__).parents[2] / "docs" / "isa.md"


def test_no_two_instructions_share_an_opcode_or_a_name():
    assert len(BY_OPCODE) == len(INSTRUCTIONS) == len({row.mnemonic for row in INSTRUCTIONS})
    assert all(0 <= row.opcode < 128 for row in INSTRUCTIONS)  # words stay positive as int64


def test_fields_of_an_instruction_do_not_overlap():
    for row in INSTRUCTIONS:
        bits = [bit for f in row.fields for bit in range(f.low, f.low + f.width)]
        bits += [FLAGS_LOW + flag.bit for flag in row.flags]
        assert len(bits) == len(set(bits)), row.mnemonic
        assert all(bit < FLAGS_LOW for f in row.fields for bit in (f.low, f.low + f.width - 1))
        assert all(0 <= flag.bit < OPCODE_LOW - FLAGS_LOW for flag in row.flags)


def test_field_names_have_one_place():
    places = {}
    for row in INSTRUCTIONS:
        for field in row.fields:
            assert places.setdefault(field.name, field) == field


def test_reset_values_are_allowed():
    assert len(CSR_BY_ADDRESS) == len(CSRS) == len({csr.name for csr in CSRS})
    for csr in CSRS:
        assert csr.low <= csr.reset <= csr.high
        if csr.kind in ENUMERATIONS:
            assert csr.high < len(ENUMERATIONS[csr.kind])


def test_kernel_constants_match_the_table():
    assert all(getattr(OP, row.mnemonic) == row.opcode for row in INSTRUCTIONS)
    assert all(getattr(CSR, csr.name.replace(".", "_")) == csr.address for csr in CSRS)
    for row in INSTRUCTIONS:
        for field in row.fields:
            assert getattr(LOW, field.name) == field.low
            assert getattr(MASK, field.name) == (1 << field.width) - 1
        for flag in row.flags:
            assert getattr(FLAG, flag.name) == 1 << (FLAGS_LOW + flag.bit)


def test_every_row_is_documented():
    for row, field in itertools.chain.from_iterable(
        ((r, f) for f in (*r.fields, *r.flags)) for r in INSTRUCTIONS
    ):
        assert field.meaning, (row.mnemonic, field.name)
    assert all(row.summary and row.semantics.endswith(".") for row in INSTRUCTIONS)


def test_reference_page_is_current():
    hint = "python -m docs.pages isa.md"
    assert _DOCS.read_text(encoding="utf-8") == page(), f"docs/isa.md is stale: run {hint}"
