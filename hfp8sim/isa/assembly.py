"""Assembler and disassembler, both derived from the instruction table, so that each inverts the other.

    .input "x" @0 hfp8-143 64x128          # a tensor in DRAM: name, line, format, shape
    .layer "fc" fwd 12288                  # the words up to .end are this layer; compulsory bytes
        csrw  m, 64
        csrw  a.format, hfp8-143
        loop  i, 4, spread {
            ld    a, s[0]
            mm    c[0], s[0]
        }
    .end

`s[12]` is row 12 of the scratchpad, `c[3]` row 3 of the accumulators. Numbers are decimal, or
hexadecimal after `0x`. `#` starts a comment. The disassembler writes a word that is no instruction as `.word 0x…`.
"""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np

from hfp8sim.errors import InputError, unknown
from hfp8sim.formats import get_format
from hfp8sim.isa.encoding import Decoded, decode, encode
from hfp8sim.isa.format_words import format_word, word_format
from hfp8sim.isa.program import ROLES, Program, ProgramLayer, Symbol
from hfp8sim.isa.table import (
    BY_MNEMONIC,
    COUNTERS,
    CSR_BY_ADDRESS,
    CSR_BY_NAME,
    ENUMERATIONS,
    OPERANDS,
    Csr,
    Field,
    number_name,
)

_MEMORIES = {"scratchpad": "s", "accumulator": "c"}
_NAMES = {"operand": OPERANDS, "counter": COUNTERS}
_INDENT = "    "


# -- words to text ---------------------------------------------------------------------------------


def disassemble(program: Program) -> str:
    """The program as text that assembles to the same program; `InputError` for a format without a name."""
    lines = [
        f".{s.role} {json.dumps(s.name)} @{s.line} {s.format_name} {'x'.join(map(str, s.shape)) or '-'}"
        for s in program.symbols
    ]
    words = [int(word) for word in program.words]
    starts: dict[int, list[str]] = {}
    for layer in program.layers:
        head = f".layer {json.dumps(layer.name)} {json.dumps(layer.phase)} {layer.compulsory}"
        starts.setdefault(layer.start, []).append(head)
        if layer.start == layer.stop:
            starts[layer.start].append(".end")
    stops = {layer.stop for layer in program.layers if layer.start != layer.stop}
    open_loops: list[int] = []
    for index in range(len(words) + 1):
        while open_loops and open_loops[-1] == index:
            open_loops.pop()
            lines.append(_INDENT * (len(open_loops) + 1) + "}")
        if index in stops:
            lines.append(".end")
        lines += starts.get(index, [])
        if index == len(words):
            break
        decoded = _decode_assemblable(words[index])
        indent = _INDENT * (len(open_loops) + 1)
        if decoded is not None and decoded.row.opens_loop:
            stop = index + 1 + decoded.operands["body"]
            if stop > min([len(words), *open_loops]):  # Braces cannot express it.
                decoded = None
            else:
                open_loops.append(stop)
        lines.append(indent + (instruction_text(words[index]) if decoded else _word(words[index])))
    return "\n".join(lines) + "\n"


def instruction_text(word: int) -> str:
    """One word as a line of assembly; `.word 0x…` if it is no instruction."""
    decoded = _decode_assemblable(word)
    if decoded is None:
        return _word(word)
    parts = [_operand_text(decoded, field) for field in decoded.row.fields if field.name != "body"]
    parts += decoded.flags
    brace = " {" if decoded.row.opens_loop else ""
    return f"{decoded.row.mnemonic:<5} {', '.join(parts)}".rstrip() + brace


def _decode_assemblable(word: int) -> Decoded | None:
    """The instruction of a word if the assembler accepts it; None also for a value that its register cannot hold."""
    decoded = decode(word)
    if decoded is not None and decoded.row.writes_csr:
        csr = CSR_BY_ADDRESS.get(decoded.operands["csr"])
        if csr is not None and not csr.holds(decoded.operands["value"]):
            return None
    return decoded


def _word(word: int) -> str:
    return f".word 0x{word:016x}"


def _operand_text(decoded: Decoded, field: Field) -> str:
    value = decoded.operands[field.name]
    if field.kind in _MEMORIES:
        return f"{_MEMORIES[field.kind]}[{value}]"
    if field.kind in _NAMES:
        names = _NAMES[field.kind]
        return names[value] if value < len(names) else str(value)
    if field.kind == "csr":
        return CSR_BY_ADDRESS[value].name if value in CSR_BY_ADDRESS else str(value)
    if field.kind == "value":
        return value_text(CSR_BY_ADDRESS.get(decoded.operands["csr"]), value)
    return str(value)


def value_text(csr: Csr | None, value: int) -> str:
    """A register's content as the assembler writes it: by name if it has one."""
    if csr is None:
        return f"0x{value:x}"
    if csr.kind == "format":
        try:
            name = word_format(value).name
            if format_word(get_format(name)) == value:
                return name
        except InputError:
            pass
        return f"0x{value:x}"
    choice = number_name(csr.kind, value) if csr.kind in ENUMERATIONS else None
    return choice or str(csr.number(value))


# -- text to words ---------------------------------------------------------------------------------


class _Line:
    """One line of text, read from left to right. `fail` makes an error that shows line and column."""

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text, self.column = number, text.rstrip("\r\n"), 0
        self.skip()

    def skip(self) -> None:
        match = re.compile(r"[ \t]*(#.*)?").match(self.text, self.column)
        assert match is not None
        self.column = match.end()

    @property
    def done(self) -> bool:
        return self.column == len(self.text)

    def fail(self, reason: object, start_column: int | None = None) -> InputError:
        column = self.column if start_column is None else start_column
        pointer = " " * column + "^"
        return InputError(
            f"line {self.number}, column {column + 1}: {reason}\n    {self.text}\n    {pointer}"
        )

    def take(self, pattern: str, what: str) -> str:
        """The text that matches at the current column; an error that names `what` if none does."""
        match = re.compile(pattern).match(self.text, self.column)
        if match is None:
            raise self.fail(f"expected {what}")
        self.column = match.end()
        self.skip()
        return match.group()

    def number_up_to(self, limit: int, what: str, low: int = 0) -> int:
        start_column = self.column
        text = self.take(r"-?(0x[0-9a-fA-F_]+|[0-9][0-9_]*)", f"{what}, a number {low}..{limit}")
        try:
            value = int(text, 0 if "x" in text else 10)
        except ValueError:  # a stray underscore, or thousands of digits
            raise self.fail(f"{what} is not a number", start_column) from None
        if not low <= value <= limit:
            raise self.fail(f"{what} is {text}, must be {low}..{limit}", start_column)
        return value

    def string(self, what: str) -> str:
        start_column = self.column
        text = self.take(r'"([^"\\]|\\.)*"', f"{what} in double quotes")
        try:
            return str(json.loads(text))
        except ValueError:
            raise self.fail(f"{what} is not a string", start_column) from None


@dataclasses.dataclass
class _Block:
    """A loop whose closing brace has not been read yet."""

    line: _Line
    index: int
    operands: dict[str, int]
    flags: tuple[str, ...]


def assemble(text: str) -> Program:
    """Assemble a program.

    Raises:
        InputError: with line, column and the text of the wrong line.
    """
    parts = _Parts()
    for number, raw in enumerate(text.split("\n"), 1):
        line = _Line(number, raw)
        if line.done:
            continue
        if line.text[line.column] == "}":
            _close_loop(line, parts)
        elif line.text[line.column] == ".":
            _directive(line, parts)
        else:
            _instruction(line, parts.words, parts.blocks)
        if not line.done:
            raise line.fail("nothing more was expected here")
    if parts.blocks:
        raise parts.blocks[-1].line.fail("this loop is never closed with '}'", 0)
    if parts.layer is not None:
        raise parts.layer[0].fail("this layer never ends with '.end'", 0)
    return Program(np.array(parts.words, np.uint64), tuple(parts.symbols), tuple(parts.layers))


@dataclasses.dataclass
class _Parts:
    """What has been assembled so far: the parts of a program, and the loops and the layer that are open."""

    words: list[int] = dataclasses.field(default_factory=list)
    symbols: list[Symbol] = dataclasses.field(default_factory=list)
    layers: list[ProgramLayer] = dataclasses.field(default_factory=list)
    blocks: list[_Block] = dataclasses.field(default_factory=list)
    layer: tuple[_Line, ProgramLayer] | None = None


def _close_loop(line: _Line, parts: _Parts) -> None:
    """Assemble a closing brace: the length of its loop's body is known now."""
    start_column = line.column
    line.column += 1
    line.skip()
    if not parts.blocks:
        raise line.fail("no loop is open here", start_column)
    block = parts.blocks.pop()
    body = len(parts.words) - block.index - 1
    longest = next(field for field in BY_MNEMONIC["loop"].fields if field.name == "body").mask
    if body > longest:
        raise block.line.fail(f"the loop's body has {body} words, at most {longest} fit")
    parts.words[block.index] = encode("loop", *block.flags, **block.operands, body=body)


def _directive(line: _Line, parts: _Parts) -> None:
    """Assemble a directive: a word in figures, a symbol, or the beginning or end of a layer."""
    start_column = line.column
    directive = line.take(r"\.\w*", "a directive")[1:]
    if directive == "word":
        parts.words.append(line.number_up_to((1 << 64) - 1, "the word"))
    elif directive in ROLES:
        parts.symbols.append(_symbol(line, directive))
    elif directive == "layer":
        if parts.layer is not None:
            raise line.fail(f"layer {parts.layer[1].name!r} has not ended yet", start_column)
        name, phase = line.string("the layer's name"), line.string("its phase")
        bytes_ = line.number_up_to((1 << 63) - 1, "its compulsory bytes")
        start = len(parts.words)
        parts.layer = line, ProgramLayer(name, phase, start, start, bytes_)
    elif directive == "end":
        if parts.layer is None:
            raise line.fail("no layer is open here", start_column)
        parts.layers.append(dataclasses.replace(parts.layer[1], stop=len(parts.words)))
        parts.layer = None
    else:
        directives = ["word", *ROLES, "layer", "end"]
        raise line.fail(unknown("directive", directive, directives), start_column)


def _instruction(line: _Line, words: list[int], blocks: list[_Block]) -> None:
    """Assemble one instruction into `words`; a loop also opens a block."""
    start_column = line.column
    mnemonic = line.take(r"[^\s,{}#]+", "an instruction")
    row = BY_MNEMONIC.get(mnemonic.lower())
    if row is None:
        raise line.fail(unknown("instruction", mnemonic, list(BY_MNEMONIC)), start_column)
    operands: dict[str, int] = {}
    for number, field in enumerate(f for f in row.fields if f.name != "body"):
        if number:
            line.take(",", f"',' and {field.meaning}")
        operands[field.name] = _operand(line, field, operands)
    flags: list[str] = []
    flag_names = [flag.name for flag in row.flags]
    comma = bool(operands)
    while not line.done and line.text[line.column] != "{":
        if comma:
            line.take(",", "',' or the end of the line")
        start_column = line.column
        name = line.take(r"\w+", f"a flag ({', '.join(flag_names) or 'none here'})")
        if name not in flag_names:
            raise line.fail(unknown("flag", name, flag_names, of=row.mnemonic), start_column)
        flags.append(name)
        comma = True
    if row.opens_loop:
        line.take("{", "'{' after the loop")
        blocks.append(_Block(line, len(words), operands, tuple(flags)))
        words.append(0)
    else:
        words.append(encode(row.mnemonic, *flags, **operands))


def _operand(line: _Line, field: Field, before: dict[str, int]) -> int:
    """One operand, of the kind of its field."""
    start_column = line.column
    if field.kind in _MEMORIES:
        letter = _MEMORIES[field.kind]
        line.take(letter + r"\[", f"{letter}[ROW], {field.meaning}")
        row = line.number_up_to(field.mask, "the row")
        line.take(r"\]", "']'")
        return row
    if re.match(r"[0-9]", line.text[start_column:]) and field.kind != "value":
        return line.number_up_to(field.mask, field.meaning)
    if field.kind in _NAMES:
        names = _NAMES[field.kind]
        name = line.take(r"[\w.]+", f"{field.meaning} ({', '.join(names)})")
        if name not in names:
            raise line.fail(unknown(field.kind, name, names), start_column)
        return names.index(name)
    if field.kind == "csr":
        name = line.take(r"[\w.]+", "a register")
        if name not in CSR_BY_NAME:
            raise line.fail(unknown("register", name, list(CSR_BY_NAME)), start_column)
        return CSR_BY_NAME[name].address
    if field.kind == "value":
        return _value(line, CSR_BY_ADDRESS.get(before["csr"]))
    return line.number_up_to(field.mask, field.meaning)


def _value(line: _Line, csr: Csr | None) -> int:
    """A register's content: a number, or a name of its kind."""
    start_column = line.column
    low = csr.low if csr is not None else 0
    high = csr.high if csr is not None else (1 << 32) - 1
    what = csr.name if csr is not None else "the value"
    if csr is not None and csr.kind == "format" and not line.text.startswith("0x", start_column):
        name = line.take(r"[^\s,#]+", "a format")
        try:
            return format_word(get_format(name))
        except InputError as error:
            raise line.fail(error, start_column) from None
    if (
        csr is not None
        and csr.kind in ENUMERATIONS
        and not line.text[start_column : start_column + 1].isdigit()
    ):
        names = ENUMERATIONS[csr.kind]
        name = line.take(r"[\w-]+", f"one of {', '.join(names)}")
        if name not in names:
            raise line.fail(unknown(what, name, list(names)), start_column)
        return names[name]
    return line.number_up_to(high, what, low) & 0xFFFFFFFF


def _symbol(line: _Line, role: str) -> Symbol:
    name = line.string("the symbol's name")
    line.take("@", "'@' and its first DRAM line")
    start = line.number_up_to((1 << 32) - 1, "the line")
    start_column = line.column
    fmt = line.take(r"[^\s,#]+", "its format")
    shape = line.take(r"-(?!\S)|\d+(x\d+)*", "its shape, such as 64x128")
    sizes = tuple(int(size) for size in shape.split("x")) if shape != "-" else ()
    try:
        return Symbol(name, role, start, fmt, sizes)
    except InputError as error:
        raise line.fail(error, start_column) from None
