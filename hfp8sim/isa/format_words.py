"""A number format as one 32-bit word, the content of a control register.

From the top: 12 bits of bias (two's complement), 2 zero bits, 3 bits of `special`, 2 of `lowest`, 2 of
`zero`, 1 of `signed`, 5 of fraction bits, 5 of exponent bits. Rules are given by their numbers in the tables
of docs/numerics.md, section 1.
"""

from __future__ import annotations

import functools

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, formats, get_format
from hfp8sim.formats.vocabulary import LOWEST, SPECIALS, ZEROS


def format_word(fmt: FloatFormat) -> int:
    """The word of a format. The name is not part of it."""
    return (
        (fmt.bias & 0xFFF) << 20
        | SPECIALS.index(fmt.special) << 15
        | LOWEST.index(fmt.lowest) << 13
        | ZEROS.index(fmt.zero) << 11
        | int(fmt.signed) << 10
        | fmt.fraction_bits << 5
        | fmt.exponent_bits
    )


def word_format(word: int) -> FloatFormat:
    """The format of a word, with its registered name if it has one; `InputError` if it is undefined."""
    return _word_format(word, len(formats()))


@functools.lru_cache(maxsize=256)
def _word_format(word: int, _: int) -> FloatFormat:
    # The number of registered formats is part of the cache's key: a new format may give the word its name.
    bias = (word >> 20) - (0x1000 if word >> 31 else 0)
    special, lowest, zero = word >> 15 & 7, word >> 13 & 3, word >> 11 & 3
    reserved = word >> 18 & 3
    if reserved or special >= len(SPECIALS) or lowest >= len(LOWEST) or zero >= len(ZEROS):
        raise InputError(f"0x{word:08x} is not the word of a format")
    try:
        fmt = FloatFormat(
            f"format-{word:08x}", word & 31, word >> 5 & 31, bias, bool(word >> 10 & 1),
            ZEROS[zero], LOWEST[lowest], SPECIALS[special],
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"0x{word:08x} is not the word of a format: {error}") from None
    registered = [get_format(name) for name in formats()]
    for candidate in registered + [record.with_bias(bias) for record in registered]:
        if format_word(candidate) == word:
            return candidate
    return fmt
