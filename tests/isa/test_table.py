"""The instruction table: unique opcodes, fields and registers that do not overlap, fixed numbers."""

import itertools
from pathlib import Path

from docs.pages.isa import page
from hfp8sim.formats.vocabulary import MODES, OVERFLOW
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
from hfp8sim.units.mac import SUM_ORDERS
from hfp8sim.units.random import SOURCES

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
            assert csr.holds(csr.reset) and csr.high == max(ENUMERATIONS[csr.kind].values())


def test_enumeration_numbers_never_change():
    """Saved programs hold these numbers. A new name takes a free number and is added here."""
    assert ENUMERATIONS == {
        "rounding": {
            "nearest-even": 0,
            "nearest-away": 1,
            "toward-zero": 2,
            "toward-positive": 3,
            "toward-negative": 4,
            "to-odd": 5,
            "stochastic-a": 6,
            "stochastic-b": 7,
            "stochastic-c": 8,
        },
        "overflow": {"saturate": 0, "special": 1},
        "order": {"fused": 0, "pair-first": 1, "chain": 2, "aligned": 3},
        "source": {"row-column": 0, "counter": 1, "lfsr": 2},
    }


def test_enumerations_have_every_choice_of_a_profile():
    assert list(ENUMERATIONS["rounding"]) == list(MODES)
    assert ["error", *ENUMERATIONS["overflow"]] == sorted(OVERFLOW)
    assert set(ENUMERATIONS["order"]) == set(SUM_ORDERS)
    assert set(ENUMERATIONS["source"]) == set(SOURCES)


def test_opcodes_never_change():
    """Saved programs hold these numbers."""
    assert {row.mnemonic: row.opcode for row in INSTRUCTIONS} == {
        "nop": 0x00, "halt": 0x01, "csrw": 0x02, "loop": 0x03, "fence": 0x04, "ld": 0x10, "st": 0x11,
        "ldw": 0x20, "mm": 0x21, "cv": 0x22, "clr": 0x23, "post": 0x30,
    }  # fmt: skip


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
